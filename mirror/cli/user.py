"""``airgap user``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mirror.serve.users import Users

_STDIN = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")


@click.group()
def user() -> None:
    """Add and remove users of the embedded repositories.

    Without users everybody may read, and write over a loopback address. From the first user on, writing needs a user.
    """


def _users() -> Users:
    from mirror.config import load
    from mirror.serve import open_users

    return open_users(load().home.value)


def _password(*, stdin: bool) -> str:
    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


@user.command()
@click.argument("name")
@click.option(
    "rights",
    "--right",
    multiple=True,
    metavar="[REPOSITORY=]RIGHT",
    help="none, read, write or admin, in one repository or, without a name, in all. Repeatable. Default: write.",
)
@_STDIN
def add(name: str, rights: tuple[str, ...], password_stdin: bool) -> None:
    """Add the user NAME."""
    from mirror.config import load
    from mirror.serve import open_home

    given: dict[str, str] = {}
    for text in rights or ("write",):
        repository, _, right = text.rpartition("=")
        given[repository or "*"] = right
    _users().add(name, _password(stdin=password_stdin), given)
    config = load()
    with open_home(config.home.value, config.serve) as home:
        known = home.names()
    for repository in sorted(given.keys() - {"*", *known}):  # it may be made later
        click.echo(f"warning: there is no repository {repository} now; there are {', '.join(known)}.", err=True)


@user.command()
@click.argument("name")
@_STDIN
def passwd(name: str, password_stdin: bool) -> None:
    """Change the password of NAME."""
    _users().set_password(name, _password(stdin=password_stdin))


@user.command()
@click.argument("name")
@click.option("--revoke", is_flag=True, help="Make all tokens of NAME useless instead.")
@click.option("as_json", "--json", is_flag=True, help="Print the token as JSON.")
def token(name: str, revoke: bool, as_json: bool) -> None:
    """Make a user token: a name code and a pass code for .pypirc and pip.conf. It is shown once."""
    if revoke:
        click.echo(f"{_users().drop_tokens(name)} revoked.", err=True)
        return
    name_code, pass_code = _users().make_token(name)
    if as_json:
        click.echo(json.dumps({"username": name_code, "password": pass_code}))
    else:
        click.echo(f"username = {name_code}\npassword = {pass_code}")


@user.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the user NAME with all tokens."""
    _users().remove(name)


@user.command("list")
def list_() -> None:
    """List the users and their rights."""
    for name, found in sorted(_users().all().items()):
        rights = ", ".join(f"{repository}={right}" for repository, right in sorted(found.rights.items()))
        click.echo(f"{name:<24} {rights}  {len(found.tokens)} token(s)")
