"""Options that several commands share, spelled as pip and twine spell them, and what they become."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)


def output_options(command: F) -> F:
    """Add ``--json``, ``--quiet`` and ``--verbose``."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Say more about what is happening."),
        click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors."),
        click.option("as_json", "--json", is_flag=True, help="Print the result as JSON on standard output."),
    ):
        command = option(command)
    return command


def base_option(meaning: str) -> Callable[[F], F]:
    """``--base BUNDLE``, repeatable, as ``bases``; *meaning* is its help."""
    kind = click.Path(exists=True, dir_okay=False, path_type=Path)
    return click.option(
        "--base", "bases", multiple=True, type=kind, metavar="BUNDLE", help=f"Of a delta: {meaning} Repeatable."
    )


def number_or_all(_: click.Context, param: click.Parameter, value: str) -> int:
    """A callback for ``N|all``: ``all`` becomes -1."""
    if value == "all":
        return -1
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a number nor 'all'.", param=param)
    return int(value)


_CONNECTION: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("cert", click.option("--cert", type=_PATH, help="CA bundle (PEM) to trust instead of the system's.")),
    ("client_cert", click.option("--client-cert", type=_PATH, help="Client certificate and key in one PEM file.")),
    ("proxy", click.option("--proxy", metavar="URL", help="scheme://[user:password@]host:port")),
    ("timeout", click.option("--timeout", type=float, metavar="SECONDS", help="Per connection and read; default 15.")),
    ("retries", click.option("--retries", type=int, metavar="N", help="Tries after a transient failure; default 5.")),
    (
        "trusted_hosts",
        click.option("--trusted-host", "trusted_hosts", multiple=True, metavar="HOST[:PORT]", help="Skip TLS checks."),
    ),
)
_INDEX: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("index_url", click.option("-i", "--index-url", metavar="URL", help="Index to use; default: what pip uses.")),
    (
        "extra_index_urls",
        click.option("--extra-index-url", "extra_index_urls", multiple=True, metavar="URL", help="Further index."),
    ),
    (
        "find_links",
        click.option("-f", "--find-links", multiple=True, metavar="URL|PATH", help="Page or folder with files."),
    ),
    (
        "index_strategy",
        click.option(
            "--index-strategy",
            type=click.Choice(["first-index", "unsafe-best-match"]),
            help="first-index (default): a project comes only from the first index that has it. unsafe-best-match: the "
            "best version of any index, as pip does, which lets a public index replace a private project.",
        ),
    ),
    ("no_index", click.option("--no-index", is_flag=True, default=None, help="Ignore indexes; use --find-links.")),
    ("pre", click.option("--pre", is_flag=True, default=None, help="Allow pre-releases.")),
    (
        "no_binary",
        click.option(
            "--no-binary", multiple=True, metavar="NAMES", help="No wheels of these; :all: for every project."
        ),
    ),
    (
        "only_binary",
        click.option("--only-binary", multiple=True, metavar="NAMES", help="No sdists of these; :all: for every one."),
    ),
)


def _overriding(options: tuple[tuple[str, Callable[[Any], Any]], ...]) -> Callable[[F], F]:
    """Add *options* and collect their values into one ``overrides`` argument."""

    def decorate(command: F) -> F:
        @wraps(command)
        def collected(*args: Any, **kwargs: Any) -> Any:
            from mirror.config import Overrides

            values = {name: kwargs.pop(name) for name, _ in options}
            return command(*args, overrides=Overrides(**values), **kwargs)

        for _, option in reversed(options):
            collected = option(collected)
        return collected  # type: ignore[return-value]

    return decorate


#: TLS, proxy, timeouts: for commands that only talk to a repository.
connection_options = _overriding(_CONNECTION)
#: The same and which index, which files.
index_options = _overriding((*_INDEX, *_CONNECTION))
