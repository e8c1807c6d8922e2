"""``airgap repo``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mirror.cli.units import count, human_bytes

if TYPE_CHECKING:
    from mirror.serve.home import Home

_JSON = click.option("as_json", "--json", is_flag=True, help="Print the result as JSON on standard output.")


@click.group()
def repo() -> None:
    """Create, list, change and check the embedded repositories.

    pypi-hosted, pypi-proxy (of the index that pip uses) and pypi-all (both) always exist. Others come from
    [serve.repositories.NAME] in airgap.toml or from "airgap repo create".
    """


@contextmanager
def _home() -> Iterator[Home]:
    from mirror.config import load
    from mirror.serve import open_home
    from mirror.urls import with_slash, without_credentials

    config = load()
    remote = with_slash(without_credentials(config.index_url.value))
    with open_home(config.home.value, config.serve, remote=remote) as home:
        yield home


@repo.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """List the repositories."""
    with _home() as home:
        found = home.repositories()
    if as_json:
        click.echo(json.dumps({name: _shown(served.table()) for name, served in found.items()}, indent=2))
        return
    for name, served in found.items():
        what = {"proxy": f"of {served.remote}", "group": f"of {', '.join(served.members)}"}.get(served.kind, "")
        click.echo(f"{name:<24} {served.kind:<7} {what}".rstrip())


@repo.command()
@click.argument("name")
@_JSON
def show(name: str, as_json: bool) -> None:
    """Show the settings of NAME and where they come from."""
    with _home() as home:
        served = home.get(name)
        held = sum(1 for _ in home.stored_projects(home.holders(name)))
    table = _shown(served.table())
    if as_json:
        click.echo(json.dumps({"name": name, **table, "source": served.source, "projects": held}, indent=2))
        return
    for key, value in ({"name": name} | table | {"projects": held, "source": served.source}).items():
        click.echo(f"{key:<18} {', '.join(value) if isinstance(value, list | tuple) else value}")


@repo.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(["hosted", "proxy", "group"]), default="hosted", show_default=True)
@click.option("--write-policy", type=click.Choice(["allow", "allow-once", "deny"]), help="Hosted. Default: allow.")
@click.option("--version-policy", type=click.Choice(["release", "snapshot", "mixed"]), help="Hosted. Default: mixed.")
@click.option("--remote", metavar="URL", help="Proxy: the simple index that it is for.")
@click.option("--max-age", type=float, metavar="SECONDS", help="Proxy: when to ask again for a page. Default: 600.")
@click.option("--negative-max-age", type=float, metavar="SECONDS", help="Proxy: the same for a 404. Default: 60.")
@click.option(
    "--keep-days", type=float, metavar="DAYS", help="Proxy: what gc forgets unless asked for. Default: never."
)
@click.option("--offline", is_flag=True, default=None, help="Proxy: never ask; serve only what is cached.")
@click.option("--username", help="Proxy: user at the remote.")
@click.option("--password-env", metavar="NAME", help="Proxy: the environment variable that holds the password.")
@click.option("--ca-cert", type=click.Path(exists=True, dir_okay=False, resolve_path=True), help="Proxy: CA bundle.")
@click.option(
    "--client-cert", type=click.Path(exists=True, dir_okay=False, resolve_path=True), help="Proxy: certificate and key."
)
@click.option("--member", "members", multiple=True, metavar="NAME", help="Group: a member; repeat it, in their order.")
@click.option("--deploy-to", metavar="NAME", help="Group: the member that takes uploads.")
def create(name: str, **settings: Any) -> None:
    """Create the repository NAME."""
    from mirror.config.serving import read_served

    table = {key.replace("_", "-"): value for key, value in settings.items() if value not in (None, ())}
    with _home() as home:
        home.create(read_served(name, table, f"airgap repo create {name}", folder=Path()))


@repo.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Also where it holds files.")
def delete(name: str, force: bool) -> None:
    """Delete the repository NAME. The bytes go with the next "airgap repo gc"."""
    with _home() as home:
        home.delete(name, force=force)


@repo.command("delete-file")
@click.argument("name")
@click.argument("filename")
def delete_file(name: str, filename: str) -> None:
    """Take FILENAME out of the hosted repository NAME."""
    from mirror.serve.audit import local_actor

    with _home() as home:
        home.hosted(name).remove(filename, actor=local_actor())


@repo.command()
@click.argument("name")
@click.argument("filename")
@click.option("--reason", default="", help="What installers show to those who pinned it.")
def yank(name: str, filename: str, reason: str) -> None:
    """Yank FILENAME in NAME: installers then take it only where it is pinned (PEP 592)."""
    from mirror.serve.audit import local_actor

    with _home() as home:
        home.hosted(name).yank(filename, reason, actor=local_actor())


@repo.command()
@click.argument("name")
@click.argument("filename")
def unyank(name: str, filename: str) -> None:
    """Take back the yanking of FILENAME in NAME."""
    from mirror.serve.audit import local_actor

    with _home() as home:
        home.hosted(name).yank(filename, None, actor=local_actor())


@repo.command()
def gc() -> None:
    """Remove bytes that no repository needs any more and that are older than a day.

    A younger blob may belong to an upload whose entry in the catalog is just being written. Proxies with keep-days
    forget first what nobody asked for in so many days; an offline one never does.
    """
    from mirror.serve.maintain import collect

    with _home() as home:
        found = collect(home)
    if found.forgotten:
        click.echo(f"{count(found.forgotten, 'proxied file')} forgotten: nobody asked for them.", err=True)
    click.echo(f"{count(found.blobs, 'blob')} removed, {human_bytes(found.size)}.", err=True)


@repo.command()
@_JSON
def check(as_json: bool) -> None:
    """Prove that catalog and blobs agree: read every byte and compare digests (exit code 5 if not)."""
    from mirror.errors import IntegrityError
    from mirror.serve.maintain import check as run

    with _home() as home:
        found = run(home)
    if as_json:
        click.echo(json.dumps({"blobs": found.blobs, "problems": found.problems}, indent=2))
    for problem in found.problems:
        click.echo(problem, err=True)
    if found.problems:
        raise IntegrityError(
            f"{count(len(found.problems), 'blob')} of {found.blobs} are missing or damaged.",
            hint="Restore them from a backup, or delete the files and push them again.",
        )
    click.echo(f"{count(found.blobs, 'blob')}: all are as the catalog says.", err=True)


def _shown(table: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in table.items()}
