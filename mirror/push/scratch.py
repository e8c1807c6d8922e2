"""Folders for files on their way. What a killed run left in one is removed by the next run that needs one."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mirror.errors import StorageError
from mirror.store import locked_if_free

_PREFIX = "airgap-push-"
_LOCK = ".lock"


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty folder, for its owner only, that is removed at the end; TMPDIR says where.

    A lock file beside it tells a live run from a dead one: it is there before the folder is, and longer. Raises
    StorageError where there is no room.
    """
    place = Path(tempfile.gettempdir())
    sweep()
    folder = place / f"{_PREFIX}{secrets.token_hex(8)}"
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_if_free(folder.with_name(folder.name + _LOCK)))
            folder.mkdir(mode=0o700)
        except (OSError, StorageError) as error:
            raise StorageError(
                f"No room for temporary files in {place}: {error}",
                hint="Set TMPDIR to a folder that can be written to.",
            ) from error
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def sweep() -> None:
    """Remove the folders of runs that ended without doing it. Those of other users are theirs to remove."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*{_LOCK}"):
        with suppress(StorageError), locked_if_free(path) as dead:
            if dead:
                shutil.rmtree(path.with_name(path.name.removesuffix(_LOCK)), ignore_errors=True)
