"""``airgap cache``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mirror.cli.options import output_options
from mirror.cli.progress import progress
from mirror.cli.units import count, human_bytes, table


@click.group()
def cache() -> None:
    """Look after the folder of downloaded files (AIRGAP_CACHE)."""


@cache.command()
@click.option("as_json", "--json", is_flag=True, help="Print the result as JSON on standard output.")
def info(as_json: bool) -> None:
    """Show where the cache is and what it takes."""
    from mirror.config import load
    from mirror.store import Store

    store = Store(load().cache.value)
    usage = store.usage()
    if as_json:
        document = {"path": str(store.root), "files": usage.blobs, "size": usage.size}
        click.echo(json.dumps({**document, "unfinished": usage.parts, "notes": usage.notes}, indent=2))
        return
    rows = [
        ("cache", str(store.root)),
        ("files", f"{usage.blobs:,}, {human_bytes(usage.size)}"),
        ("unfinished", human_bytes(usage.parts)),
        ("index pages", human_bytes(usage.notes)),
    ]
    click.echo("\n".join(table(rows)))


@cache.command()
@click.option("--max-size", metavar="SIZE", help="Drop files, oldest first, until they take no more: 500M, 20GB.")
@click.option("--all", "everything", is_flag=True, help="Drop every file that nothing below keeps.")
@click.option(
    "--keep",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="BUNDLE|MANIFEST",
    help="Never drop what this one names. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@click.option("as_json", "--json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
def gc(
    max_size: str | None,
    everything: bool,
    keep: tuple[Path, ...],
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Drop downloaded files and what killed runs left.

    What the next delta of any [sync.NAME] in airgap.toml needs is kept. Nothing is dropped while another airgap uses
    the cache (exit code 8). Without --max-size or --all, only leftovers go.
    """
    from mirror.config import load
    from mirror.errors import UsageError
    from mirror.ops.cache import collect, parse_size
    from mirror.store import Store
    from mirror.sync.state import newest_manifests

    if max_size is not None and everything:
        raise UsageError("--max-size and --all contradict each other.")
    config = load()
    store = Store(config.cache.value)
    limit = 0 if everything else parse_size(max_size) if max_size is not None else store.usage().size
    dropped = collect(store, limit, [*keep, *newest_manifests(config)], dry_run=dry_run)
    if as_json:
        document = {"dropped": dropped.blobs, "freed": dropped.freed, "leftovers": dropped.leftovers}
        click.echo(json.dumps({**document, "dry-run": dry_run}, indent=2))
    elif not quiet:
        would = "Would drop" if dry_run else "Dropped"
        rest = f", and {human_bytes(dropped.leftovers)} of unfinished ones" if dropped.leftovers else ""
        click.echo(f"{would} {count(dropped.blobs, 'file')}, {human_bytes(dropped.freed)}{rest}.", err=True)


@cache.command()
@output_options
@click.pass_context
def verify(context: click.Context, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Hash every file and drop the damaged ones, which will be fetched again. Exit code 5 where there were any."""
    from mirror.config import load
    from mirror.errors import IntegrityError
    from mirror.ops.cache import verify as run
    from mirror.store import Store

    store = Store(load().cache.value)
    with progress(quiet=quiet, verbose=verbose) as report:
        damaged = run(store, report)
    if as_json:
        click.echo(json.dumps({"damaged": damaged}, indent=2))
    elif damaged:
        click.echo(f"Dropped {count(len(damaged), 'damaged file')}: {', '.join(damaged)}", err=True)
    elif not quiet:
        click.echo("Every file is what its name says.", err=True)
    context.exit(IntegrityError.exit_code if damaged else 0)
