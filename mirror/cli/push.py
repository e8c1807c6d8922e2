"""``airgap push``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli.options import connection_options, number_or_all, output_options
from mirror.cli.progress import progress, undisturbed
from mirror.cli.repositories import embedded_names, unknown_repository
from mirror.cli.units import count, human_bytes
from mirror.errors import ConflictError, StorageError, UsageError
from mirror.filenames import SDIST_ENDINGS

if TYPE_CHECKING:
    from mirror.config import Config, Overrides
    from mirror.config.credentials import Ask
    from mirror.models import Reporter
    from mirror.push.plan import PushPlan
    from mirror.push.publisher import Publisher, SourceFile
    from mirror.push.receipt import Receipt


@click.command()
@click.argument(
    "paths",
    metavar="BUNDLE | FILES... | -",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
)
@click.option(
    "-r",
    "--repo",
    "--repository",
    "--repository-url",
    "repository",
    metavar="NAME|URL",
    help="A repository in .pypirc or airgap.toml, an embedded one, or an upload URL. Default: TWINE_REPOSITORY.",
)
@click.option("-i", "--index-url", metavar="URL", help="Where the repository is read, if not below its upload URL.")
@click.option(
    "--config-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Instead of ~/.pypirc."
)
@click.option(
    "--receipt",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the receipt (JSON). Default: BUNDLE.receipt.json; none for FILES.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be uploaded.")
@click.option(
    "-y", "--yes", is_flag=True, help="Don't ask before the first upload; without a terminal nobody is asked."
)
@click.option(
    "--skip-conflicts",
    is_flag=True,
    help="Upload the rest where the repository holds other bytes under some of the names. The exit code stays 7.",
)
@click.option(
    "--verify-download",
    callback=number_or_all,
    metavar="N|all",
    default="0",
    help="Afterwards, fetch the N largest files, or all, and compare their bytes.",
)
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 64), default=16, show_default=True, help="Uploads at a time, at most."
)
@connection_options
@output_options
def push(
    paths: tuple[Path, ...],
    repository: str | None,
    index_url: str | None,
    config_file: Path | None,
    receipt: Path | None,
    dry_run: bool,
    yes: bool,
    skip_conflicts: bool,
    verify_download: int,
    jobs: int,
    overrides: Overrides,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Upload what the repository does not have yet, dependencies first; then read it back.

    Takes one BUNDLE, a bundle from a pipe (-), or wheels, sdists and folders of them. Nothing is sent that was not
    verified. Files that are there already are left alone; another file under the same name stops the push before the
    first upload (exit code 7). Running the same command again goes on where the last one stopped. Credentials come
    from the URL, TWINE_USERNAME and TWINE_PASSWORD, .pypirc, keyring or netrc.
    """
    from mirror.ops.source import opened

    with (
        progress(quiet=quiet, verbose=verbose) as report,
        opened(paths, report, stdin=sys.stdin.buffer) as source,
    ):
        # Only now: the bundle is being hashed while these are loaded.
        from mirror.cli.settings import configured
        from mirror.ops.push import PushOptions, plan_push, push_source
        from mirror.signing import signer

        config = configured(overrides, config_file=config_file, report=report)
        sign = signer(config.receipts.sign_key)
        # As for cron, nobody is asked with --yes; a bundle from a pipe leaves nobody to be asked.
        asking = sys.stdin.isatty() and sys.stderr.isatty() and not yes
        ask = partial(_login, report) if asking else None
        with open_publisher(repository, config, index_url=index_url, ask=ask, report=report) as publisher:
            if dry_run:
                plan = plan_push(source, publisher, report=report)
            else:
                path = receipt or _receipt_path(paths, source.manifest.identity)
                _check_place(path, paths)
                approve: Callable[[PushPlan[SourceFile]], None] = (
                    partial(_ask, report, publisher.url) if asking else _agree
                )
                result = push_source(
                    source,
                    publisher,
                    PushOptions(jobs, skip_conflicts, verify_download, path, sign),
                    approve=approve,
                    report=report,
                )
            url = publisher.url
    if dry_run:
        _show_plan(plan, url, as_json=as_json, quiet=quiet, verbose=verbose)
        sys.exit(ConflictError.exit_code if plan.conflicts and not skip_conflicts else 0)
    if as_json:
        click.echo(result.to_json(sign), nl=False)
    elif not quiet:
        click.echo("\n".join(_summary(result, path)), err=True)


@contextmanager
def open_publisher(
    name_or_url: str | None,
    config: Config,
    *,
    index_url: str | None = None,
    ask: Ask | None = None,
    report: Reporter,
) -> Iterator[Publisher]:
    """Open what --repo names: configured repositories first, then embedded ones; a ConfigError lists those known."""
    from mirror.ops.push import find_repository, remote_publisher
    from mirror.serve import DEFAULT_HOSTED, embedded_publisher

    wanted = name_or_url or config.default_repository.value
    if not wanted:
        raise UsageError("No repository is named.", hint="Name one with --repo NAME or --repo URL.")
    found = find_repository(wanted, config)
    if found is not None:
        with remote_publisher(found, config, index_url=index_url, ask=ask, report=report) as publisher:
            yield publisher
        return
    if wanted != DEFAULT_HOSTED and wanted not in embedded_names(config):
        raise unknown_repository(wanted, config)
    with embedded_publisher(config.home.value, wanted, config.serve) as publisher:
        yield publisher


def _receipt_path(paths: Sequence[Path], identity: str) -> Path | None:
    """Beside the bundle; in the working folder for one from a pipe; nowhere for plain files, as with twine."""
    first = paths[0]
    if str(first) == "-":
        return Path(f"bundle-{identity[:12]}.receipt.json")
    plain = len(paths) > 1 or first.is_dir() or first.name.endswith((".whl", *SDIST_ENDINGS))
    return None if plain else first.with_name(f"{first.name}.receipt.json")


def _check_place(receipt: Path | None, paths: Sequence[Path]) -> None:
    """Raise a StorageError where the receipt could not be written once everything is uploaded: beside a disc's file.

    A UsageError where it would take the place of what is pushed.
    """
    from mirror.durable import check_writable, is_device

    if receipt is None or is_device(receipt):
        return
    if receipt.exists() and any(path.exists() and receipt.samefile(path) for path in paths):
        raise UsageError(
            f"The receipt would take the place of {receipt}, which is to be pushed.",
            hint="--receipt names a file to write. Nothing was uploaded.",
        )
    try:
        check_writable(receipt.parent)
    except OSError as error:
        raise StorageError(
            f"Can't write the receipt {receipt}: {error.strerror}. Nothing was uploaded.",
            hint="Say with --receipt where it is to be.",
        ) from error


def _login(report: Reporter, url: str, user: str | None) -> tuple[str, str]:
    """Ask for what the configuration does not tell, as twine does."""
    with undisturbed(report):
        if user is None:
            user = str(click.prompt(f"User name for {url}", err=True))
        password = click.prompt(f"Password of {user}", hide_input=True, default="", show_default=False, err=True)
    return user, str(password)


def _agree(_: PushPlan[SourceFile]) -> None:
    """Nobody is there to be asked, or asked not to be."""


def _ask(report: Reporter, url: str, plan: PushPlan[SourceFile]) -> None:
    with undisturbed(report):  # the bundle may still be being read
        click.echo("\n".join(_plan_lines(plan, url)), err=True)
        agreed = click.confirm("Upload?", default=True, err=True)
    if not agreed:
        click.echo("Nothing was uploaded.", err=True)
        raise click.exceptions.Exit(0)


def _plan_lines(plan: PushPlan[SourceFile], url: str) -> list[str]:
    return [
        f"{url}:",
        *(
            f"  {label:<14} {count(len(files), 'file'):>12}  {human_bytes(sum(file.size for file in files)):>10}"
            for label, files in (
                ("to upload", plan.new),
                ("already there", plan.present),
                ("in conflict", plan.conflicts),
            )
        ),
    ]


def _show_plan(plan: PushPlan[SourceFile], url: str, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    if as_json:
        groups = {"new": plan.new, "present": plan.present, "conflicts": plan.conflicts}
        document: dict[str, object] = {"repository": url}
        for name, files in groups.items():
            rows = [{"filename": file.filename, "size": file.size, "sha256": file.sha256} for file in files]
            document[name] = {"count": len(files), "size": sum(file.size for file in files), "files": rows}
        click.echo(json.dumps(document, indent=1))
    elif not quiet:
        lines = _plan_lines(plan, url)
        lines += [f"conflict  {file.filename}" for file in plan.conflicts]
        lines += [f"new       {file.filename}" for file in plan.new] if verbose else []
        click.echo("\n".join(lines), err=True)


def _summary(receipt: Receipt, path: Path | None) -> list[str]:
    states = [file.state.value for file in receipt.files]
    sent = sum(file.size for file in receipt.files if file.state.value == "uploaded")
    uploaded = f"{count(states.count('uploaded'), 'file')} uploaded ({human_bytes(sent)})"
    present = f"{states.count('present')} already there"
    held = f"All {len(states)} files are" if len(states) != 1 else "It is"
    lines = [f"{receipt.repository}: {uploaded}, {present}. {held} in the repository."]
    return [*lines, f"receipt  {path}"] if path is not None else lines
