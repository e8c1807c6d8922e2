"""Options that say which files may be chosen, and which go along besides."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from functools import wraps
from typing import Any, Literal, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--pre-for",
        "--all-releases",
        "pre_for",
        multiple=True,
        metavar="NAMES",
        help="Allow pre-releases of these projects only, as pip's --all-releases. Repeatable.",
    ),
    click.option(
        "--exclude-newer",
        metavar="DATE|7d",
        help="Only files uploaded until then: a date (that day included, UTC), an RFC 3339 time, or how long ago "
        "(12h, 7d, 2w). Needs an index that shows upload times.",
    ),
    click.option(
        "--exclude-newer-missing",
        type=click.Choice(["error", "skip", "allow"]),
        help="What becomes of a file whose index shows no upload time; default: error.",
    ),
    click.option(
        "--all-wheels", is_flag=True, help="Every wheel of the chosen versions that any target takes, not one a target."
    ),
    click.option("--with-sdists", is_flag=True, help="The sdist of every chosen version too; no target installs it."),
)


def selection_options(command: F) -> F:
    """Add them to *command* and collect their values into one ``selection`` argument."""

    @wraps(command)
    def collected(
        *args: Any,
        pre_for: tuple[str, ...],
        exclude_newer: str | None,
        exclude_newer_missing: Literal["error", "skip", "allow"] | None,
        all_wheels: bool,
        with_sdists: bool,
        **kwargs: Any,
    ) -> Any:
        from packaging.utils import canonicalize_name

        from mirror.errors import UsageError
        from mirror.models import Selection

        names = [name.strip() for value in pre_for for name in value.split(",") if name.strip()]
        if any(name.startswith(":") for name in names):
            raise UsageError("--pre-for takes names of projects.", hint="--pre allows pre-releases of all of them.")
        if exclude_newer_missing is not None and exclude_newer is None:
            raise UsageError("--exclude-newer-missing says nothing without --exclude-newer.")
        before: datetime | None = None
        if exclude_newer is not None:
            from mirror.resolver.times import cutoff

            before = cutoff(exclude_newer, datetime.now(timezone.utc))
        selection = Selection(
            before=before,
            missing_time=exclude_newer_missing or "error",
            pre=frozenset(map(canonicalize_name, names)),
            all_wheels=all_wheels,
            with_sdists=with_sdists,
        )
        return command(*args, selection=selection, **kwargs)

    decorated: Any = collected
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]
