"""``airgap verify``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mirror.cli.options import output_options
from mirror.cli.progress import progress
from mirror.cli.units import count, human_bytes


@click.command()
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@output_options
def verify(bundle: Path, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Check every digest in BUNDLE and every promise of its format. Exit code 0: it is whole; 5: it is not."""
    from mirror.bundle import BundleReader

    with progress(quiet=quiet, verbose=verbose) as report, BundleReader(bundle) as reader:
        reader.verify(report=report)
        manifest = reader.manifest
    size = sum(file.size for file in manifest.files)
    if as_json:
        document = {"bundle": str(bundle), "identity": manifest.identity, "files": len(manifest.files), "size": size}
        click.echo(json.dumps(document, indent=2))
    elif not quiet:
        click.echo(f"{bundle}: {count(len(manifest.files), 'file')}, {human_bytes(size)}, all as promised.", err=True)
        click.echo(f"identity  {manifest.identity}", err=True)
