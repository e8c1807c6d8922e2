"""``airgap search``."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("-r", "--repo", "repository", default="pypi-all", show_default=True, help="Where to search.")
@click.option("as_json", "--json", is_flag=True, help="Print the result as JSON on standard output.")
def search(words: tuple[str, ...], repository: str, as_json: bool) -> None:
    """Search names and summaries of what an embedded repository holds, without a server.

    A group shows what its members hold; a proxy shows what was fetched through it. Over HTTP, "pip search --index
    URL/repository/NAME/pypi" finds the same.
    """
    from mirror.config import load
    from mirror.serve import open_home
    from mirror.serve.search import find

    config = load()
    with open_home(config.home.value, config.serve) as home:
        hits = find(home.catalog, home.holders(repository), names=words, summaries=words)
    if as_json:
        click.echo(json.dumps([{"name": hit.name, "version": hit.version, "summary": hit.summary} for hit in hits]))
        return
    for hit in hits:
        click.echo(f"{hit.name} ({hit.version})".ljust(32) + (f" - {hit.summary}" if hit.summary else ""))
    if not hits:
        click.echo(f"Nothing in {repository} matches.", err=True)
