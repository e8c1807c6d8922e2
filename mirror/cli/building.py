"""Options of ``airgap pack`` that let code run here, and that bring own packages along."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--include",
        multiple=True,
        type=click.Path(exists=True, path_type=Path),
        metavar="PATH",
        help="Own wheels and sdists, or a folder of them such as dist/, with what they require. Repeatable.",
    ),
    click.option(
        "--allow-build",
        multiple=True,
        metavar="NAME",
        help="Let code of this project run here, isolated, where only a build tells what it requires. Repeatable.",
    ),
    click.option(
        "--build-wheels",
        multiple=True,
        metavar="NAME",
        help="Build this project's sdist here and pack the wheel instead, for targets like this machine. Repeatable.",
    ),
)


def building_options(command: F) -> F:
    """Add ``--include`` as it is, and ``--allow-build`` and ``--build-wheels`` as one ``building`` argument."""

    @wraps(command)
    def collected(*args: Any, allow_build: tuple[str, ...], build_wheels: tuple[str, ...], **kwargs: Any) -> Any:
        from mirror.ops.building import Building

        return command(*args, building=Building.of(allow_build, build_wheels), **kwargs)

    decorated: Any = collected
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]
