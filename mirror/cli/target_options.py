"""Options that say which machines will install."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mirror.config import Config
    from mirror.models import Target

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Machines:
    """What the options said."""

    names: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    pythons: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    implementation: str = "cp"
    abis: tuple[str, ...] = ()

    def targets(self, config: Config) -> tuple[Target, ...]:
        """The machines themselves; nothing said is the one at hand."""
        from mirror.ops.machines import machines

        return machines(
            config,
            names=self.names,
            files=self.files,
            pythons=self.pythons,
            platforms=self.platforms,
            implementation=self.implementation,
            abis=self.abis,
        )


_NAMES = click.option(
    "--target",
    "names",
    multiple=True,
    metavar="NAME",
    help="A machine that will install: 'this', a [targets.NAME] of airgap.toml, or a name such as "
    "cp312-manylinux_2_28_x86_64. Repeatable.",
)
_OTHERS = (
    click.option(
        "--target-file",
        "files",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="What the script of airgap targets --describe-script printed on the machine that installs. Repeatable.",
    ),
    click.option(
        "--python-version", "pythons", multiple=True, metavar="VERSION", help="As pip: 3.12 or 3.12.4. Repeatable."
    ),
    click.option(
        "--platform",
        "platforms",
        multiple=True,
        metavar="TAG",
        help="As pip: manylinux_2_28_x86_64, win_amd64, macosx_11_0_arm64; or linux, windows, macos. Repeatable; "
        "every Python version is combined with every platform.",
    ),
    click.option(
        "--implementation",
        type=click.Choice(["cp", "pp", "py"]),
        default="cp",
        show_default=True,
        help="Of every --python-version: CPython, PyPy, or pure Python wheels only.",
    ),
    click.option(
        "--abi", "abis", multiple=True, metavar="ABI", help="As pip: in place of the usual ABI, cp312 say. Repeatable."
    ),
)


def target_options(command: F) -> F:
    """Add the options and collect their values into one ``machines`` argument."""
    return _collecting((_NAMES, *_OTHERS), command)


def target_options_but_names(command: F) -> F:
    """The same without ``--target``, for a command that takes names as arguments, called ``names``."""
    return _collecting(_OTHERS, command)


def _collecting(options: tuple[Callable[[Any], Any], ...], command: F) -> F:
    @wraps(command)
    def collected(*args: Any, **kwargs: Any) -> Any:
        keys = ("names", "files", "pythons", "platforms", "implementation", "abis")
        return command(*args, machines=Machines(**{key: kwargs.pop(key) for key in keys}), **kwargs)

    for option in reversed(options):
        collected = option(collected)
    return collected  # type: ignore[return-value]
