"""``airgap unpack``."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from mirror.cli.options import base_option
from mirror.cli.progress import progress


@click.command()
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@base_option("a bundle that it builds on; what the delta leaves out is taken from there.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more about what is happening.")
def unpack(bundle: Path, folder: Path, bases: tuple[Path, ...], quiet: bool, verbose: bool) -> None:
    """Unpack BUNDLE, verified, into the new folder DIR.

    pip and uv install what a target needs with -r DIR/locks/TARGET.txt: every version and its digest is in it. For
    single projects there are --no-index --find-links DIR/packages, and --index-url with DIR/simple as a file: URL.
    A delta alone is only part of its set; with --base for each bundle that it builds on, the folder holds all of it.
    """
    from mirror.bundle import BundleReader, hashed_path
    from mirror.bundle import unpack as run
    from mirror.ops.delta import complete

    with ExitStack() as stack:
        report = stack.enter_context(progress(quiet=quiet, verbose=verbose))
        reader = stack.enter_context(BundleReader(bundle))
        others = [stack.enter_context(BundleReader(path)) for path in bases]
        rest = partial(complete, reader.manifest, others) if others else None
        run(reader, folder, report, complete=rest)
    if not quiet:
        for target in reader.manifest.targets:
            click.echo(f"pip install -r {_word(folder / hashed_path(target.name))}", err=True)
        click.echo(f"pip install --no-index --find-links {_word(folder / 'packages')} PROJECT", err=True)
        click.echo(f"pip install --index-url {(folder / 'simple').resolve().as_uri()}/ PROJECT", err=True)


def _word(path: Path) -> str:
    """*path* as a shell of this system takes it for one word."""
    if sys.platform == "win32":
        return f'"{path}"' if " " in str(path) else str(path)
    return shlex.quote(str(path))
