"""``airgap unpack``."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from mirror.cli.progress import progress


@click.command()
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--base",
    "bases",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="BUNDLE",
    help="Of a delta: a bundle that it builds on; what the delta leaves out is taken from there. Repeatable.",
)
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more about what is happening.")
def unpack(bundle: Path, folder: Path, bases: tuple[Path, ...], quiet: bool, verbose: bool) -> None:
    """Unpack BUNDLE, verified, into the new folder DIR.

    pip installs from it with --no-index --find-links DIR/packages, or with --index-url and DIR/simple as a file: URL.
    A delta alone is only part of its set; with --base for each bundle that it builds on, the folder holds all of it.
    """
    from mirror.bundle import BundleReader
    from mirror.bundle import unpack as run
    from mirror.ops.delta import complete

    with ExitStack() as stack:
        report = stack.enter_context(progress(quiet=quiet, verbose=verbose))
        reader = stack.enter_context(BundleReader(bundle))
        others = [stack.enter_context(BundleReader(path)) for path in bases]
        rest = partial(complete, reader.manifest, others) if others else None
        run(reader, folder, report, complete=rest)
    if not quiet:
        click.echo(f"pip install --no-index --find-links {folder / 'packages'} PROJECT", err=True)
        click.echo(f"pip install --index-url {(folder / 'simple').resolve().as_uri()}/ PROJECT", err=True)
