"""Which program this is: what one came to, another must not take for its own. Nothing is imported for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import packaging

from mirror import __version__

_ROOT = Path(__file__).parent.parent


def program() -> list[object] | None:
    """What tells this program from every other one, for :func:`~mirror.ops.spelled.spell`; None where nothing does.

    Builds of one version differ in what their files are, so those count too: their names, sizes, and times.
    """
    try:
        files = sorted(_sources(_ROOT))
        spec = find_spec("resolvelib")
        # The file that says the version, for a few lines: looking it up in its metadata loads a dozen modules.
        resolver = Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
    except (OSError, ValueError):  # it is in an archive, or frozen
        return None
    return [__version__, files, resolver, packaging.__version__, sys.version] if files and resolver else None


def _sources(folder: str | os.PathLike[str]) -> Iterator[tuple[str, int, int]]:
    """Path, bytes and nanoseconds since 1970 of every ``.py`` file below *folder*."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                found = entry.stat()
                yield entry.path, found.st_size, found.st_mtime_ns
            elif entry.is_dir() and entry.name != "__pycache__":
                yield from _sources(entry.path)
