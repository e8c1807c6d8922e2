"""The command line. Each command lives in a module of its own, imported only when it is called."""

from __future__ import annotations

import gc
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING

import click

from mirror import __version__
from mirror.errors import AirgapError, StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_COMMANDS = {
    "cache": "Look after the folder of downloaded files.",
    "config": "Show the merged configuration and where each value comes from.",
    "diff": "Show what changed between two bundles.",
    "doctor": "Check everything between here and a repository, and say what to do.",
    "inspect": "Show what a bundle holds, without unpacking it.",
    "key": "Make keys that sign receipts, and check what they signed.",
    "pack": "Resolve requirements for every target and write one bundle.",
    "push": "Upload a bundle into a repository, and prove that it is there.",
    "repo": "Create, list, change and check the embedded repositories.",
    "search": "Search the embedded repositories or another index.",
    "serve": "Serve the embedded repositories over HTTP.",
    "sync": "Run the periodic jobs of airgap.toml, on either side of the gap.",
    "targets": "Show what targets mean: wheel tags and marker values.",
    "unpack": "Unpack a bundle into a folder that pip can install from.",
    "user": "Add and remove users of the embedded repositories.",
    "verify": "Check every digest and every promise of a bundle.",
    "why": "Say who brought a project into a bundle.",
}


class _Lazy(click.Group):
    """Lists its commands without importing them: ``--help`` must feel instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"mirror.cli.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"mirror.cli.{cmd_name}.{cmd_name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="airgap")
def airgap() -> None:
    """Move Python packages across an air gap: pack, carry, push.

    Exit codes: 0 done, 1 unexpected error, 2 usage or configuration, 3 no resolution or an incomplete closure,
    4 network, 5 integrity, 6 push not finished, 7 conflict in the repository, 8 storage, 130 interrupted.
    """


class _Log(io.FileIO):
    """Standard error in a file, a pipe or a journal: where its disk is full, the work goes on without being told of."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:  # somebody read it, and has gone
            raise
        except OSError:
            return memoryview(data).nbytes


def main() -> None:
    """Run the command line and exit with a documented code; see :mod:`mirror.errors`."""
    # Modules and plans stay to the end: looking through them for garbage every 700 objects takes a twentieth of a run.
    gc.set_threshold(50_000)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # whoever started this closed it
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - to the end
    if isinstance(sys.stderr, io.TextIOWrapper) and not sys.stderr.isatty():
        log = io.BufferedWriter(_Log(sys.stderr.fileno(), "wb", closefd=False))
        sys.stderr = io.TextIOWrapper(log, sys.stderr.encoding, sys.stderr.errors, line_buffering=True)
    if isinstance(sys.stdout, io.TextIOWrapper):  # into a file or pipe, Windows writes what its code page has
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = airgap.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AirgapError as error:
        click.echo(f"error: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("Interrupted. Run the same command again to go on.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; Python would complain once more at exit
        sys.exit(1)
    except OSError as error:  # a folder that may not even be looked into, for one
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {place}{error.strerror or error}.", err=True)
        sys.exit(StorageError.exit_code)
