"""``airgap push``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli.options import connection_options, output_options
from mirror.cli.progress import progress
from mirror.cli.units import count, human_bytes

if TYPE_CHECKING:
    from mirror.config import Config, Overrides
    from mirror.models import Reporter
    from mirror.push.publisher import Publisher
    from mirror.push.receipt import Receipt


@click.command()
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-r",
    "--repo",
    "--repository",
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
    help="Where to write the receipt (JSON). Default: BUNDLE.receipt.json.",
)
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Projects to upload at a time."
)
@connection_options
@output_options
def push(
    bundle: Path,
    repository: str | None,
    index_url: str | None,
    config_file: Path | None,
    receipt: Path | None,
    jobs: int,
    overrides: Overrides,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Verify BUNDLE and upload what the repository does not have yet, dependencies first; then read it back.

    Files that are there already are left alone; another file under the same name stops the push before the first
    upload (exit code 7). Running the same command again goes on where the last one stopped. Credentials come from
    the URL, TWINE_USERNAME and TWINE_PASSWORD, .pypirc, keyring or netrc.
    """
    from mirror.config import load
    from mirror.ops.push import push_bundle

    config = load(overrides=overrides, config_file=config_file)
    path = receipt or bundle.with_name(f"{bundle.name}.receipt.json")
    with (
        progress(quiet=quiet, verbose=verbose) as report,
        open_publisher(repository, config, index_url=index_url, report=report) as publisher,
    ):
        result = push_bundle(bundle, publisher, workers=jobs, receipt=path, report=report)
    if as_json:
        click.echo(result.to_json(), nl=False)
    elif not quiet:
        click.echo("\n".join(_summary(result, path)), err=True)


@contextmanager
def open_publisher(
    name_or_url: str | None, config: Config, *, index_url: str | None = None, report: Reporter
) -> Iterator[Publisher]:
    """Open what --repo names: configured repositories first, then embedded ones; a ConfigError lists those known."""
    from mirror.errors import ConfigError, MissingExtraError, UsageError
    from mirror.ops.push import find_repository, remote_publisher
    from mirror.serve import embedded_publisher, repository_names

    wanted = name_or_url or config.default_repository.value
    home = config.home.value
    if not wanted:
        raise UsageError("No repository is named.", hint="Name one with --repo NAME or --repo URL.")
    found = find_repository(wanted, config)
    if found is not None:
        with remote_publisher(found, config, index_url=index_url, report=report) as publisher:
            yield publisher
        return
    try:
        embedded = repository_names(home)
    except MissingExtraError:
        if wanted == "pypi-hosted":
            raise
        embedded = []
    if wanted not in embedded:
        known = [f"{name} ({repository.source})" for name, repository in sorted(config.repositories.items())]
        known += [f"{name} (embedded in {home})" for name in embedded]
        raise ConfigError(
            f"There is no repository called {wanted}.", hint=f"Known are: {', '.join(known)}; a URL will also do."
        )
    with embedded_publisher(home, wanted) as publisher:
        yield publisher


def _summary(receipt: Receipt, path: Path) -> list[str]:
    states = [file.state.value for file in receipt.files]
    sent = sum(file.size for file in receipt.files if file.state.value == "uploaded")
    uploaded = f"{count(states.count('uploaded'), 'file')} uploaded ({human_bytes(sent)})"
    present = f"{states.count('present')} already there"
    return [
        f"{receipt.repository}: {uploaded}, {present}. All {count(len(states), 'file')} of the bundle are in it.",
        f"receipt  {path}",
    ]
