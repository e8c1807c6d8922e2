"""``airgap unpack``."""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli.progress import progress


@click.command()
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more about what is happening.")
def unpack(bundle: Path, folder: Path, quiet: bool, verbose: bool) -> None:
    """Unpack BUNDLE, verified, into the new folder DIR.

    pip installs from it with --no-index --find-links DIR/packages, or with --index-url and DIR/simple as a file: URL.
    """
    from mirror.bundle import BundleReader
    from mirror.bundle import unpack as run

    with progress(quiet=quiet, verbose=verbose) as report, BundleReader(bundle) as reader:
        run(reader, folder, report)
    if not quiet:
        click.echo(f"pip install --no-index --find-links {folder / 'packages'} PROJECT", err=True)
        click.echo(f"pip install --index-url {(folder / 'simple').resolve().as_uri()}/ PROJECT", err=True)
