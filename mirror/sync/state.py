"""What a side remembers between rounds, in ``HOME/sync/NAME``; written last, whole or not at all.

::

    lock                     held by the run that is under way
    state.json               the numbers, see :class:`ConnectedState` and :class:`IsolatedState`
    status.json              for monitoring
    manifests/000007.json    connected: what each bundle in the outbox names
    sites/SITE.jsonl         connected: what the site's receipts say about every file
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mirror.config import Config
from mirror.errors import StorageError
from mirror.sync.files import explained, numbered, write_whole

_VERSION = 1


@dataclass
class Sighting:
    """A file in the inbox that can't be used as it is: size in bytes, times in seconds since the epoch."""

    size: int
    changed: float
    since: float


@dataclass
class Round:
    """A bundle that was written: its name without ending, its identity, whether it carries all that it names.

    ``since`` are the identities of the bundles that it builds on.
    """

    number: int
    name: str
    identity: str
    full: bool
    since: list[str]


@dataclass
class ConnectedState:
    """``closure`` stands for the set of files that the last bundle names; ``quiet`` counts the rounds since then.

    ``asked`` is set when a receipt came that says that files are missing, until the next bundle is written.
    """

    number: int = 0
    last_full: int = 0
    closure: str = ""
    quiet: int = 0
    asked: bool = False
    rounds: list[Round] = field(default_factory=list)
    seen: dict[str, Sighting] = field(default_factory=dict)


@dataclass
class IsolatedState:
    """``serial`` counts receipts, ``number`` is the newest bundle that was pushed; ``refused`` are identities."""

    serial: int = 0
    number: int = 0
    seen: dict[str, Sighting] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


_StateT = TypeVar("_StateT", ConnectedState, IsolatedState)


def has_settled(seen: dict[str, Sighting], path: Path, settle: int) -> bool:
    """Whether *path* is what it was *settle* seconds ago, by this machine's clock: nobody is copying it still."""
    with explained(path):
        found = path.stat()
    now = time.time()
    known = seen.get(path.name)
    if known is None or (known.size, known.changed) != (found.st_size, found.st_mtime) or known.since > now:
        known = seen[path.name] = Sighting(found.st_size, found.st_mtime, now)
    return now - known.since >= settle


def folder_of(config: Config, name: str) -> Path:
    """Where the job *name* keeps its state."""
    return config.home.value / "sync" / name


def load_state(folder: Path, kind: type[_StateT]) -> _StateT:
    """The state in *folder*, or a new one; a StorageError where it can't be read."""
    path = folder / "state.json"
    document = read_json(path)
    if document is None:
        return kind()
    try:
        if (document.pop("version"), document.pop("side")) != (_VERSION, kind.__name__):
            raise StorageError(
                f"{path} is of another side or of another version of airgap.",
                hint="Give the job another name, or move the file away.",
            )
        for key, item in (("rounds", Round), ("seen", Sighting)):
            if key in document:
                values = document[key]
                document[key] = (
                    [item(**value) for value in values]
                    if isinstance(values, list)
                    else {name: item(**value) for name, value in values.items()}
                )
        return kind(**document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{path} can't be used: {error}.",
            hint="Move it away: the next round then begins anew, with a full bundle on the connected side.",
        ) from error


def save_state(folder: Path, state: ConnectedState | IsolatedState) -> None:
    """Write *state*; the last thing that a round does."""
    write_json(folder / "state.json", {"version": _VERSION, "side": type(state).__name__, **asdict(state)})


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in *path*, or None where there is no such file."""
    try:
        with explained(path):
            data = path.read_bytes() if path.exists() else None
        document = json.loads(data) if data is not None else None
    except ValueError as error:
        raise StorageError(f"{path} is not JSON: {error}.") from error
    if document is not None and not isinstance(document, dict):
        raise StorageError(f"{path} is not a JSON object.")
    return document


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write *document* to *path*, whole or not at all."""
    write_whole(path, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def manifest_path(folder: Path, number: int) -> Path:
    """Where the manifest of bundle *number* is kept."""
    return folder / "manifests" / f"round-{number:06}.json"


def newest_manifests(config: Config) -> list[Path]:
    """The last manifest of every connected job: the next delta needs its files in the store."""
    found: list[Path] = []
    for name, settings in config.syncs.items():
        if settings.connected:
            kept = numbered(folder_of(config, name) / "manifests", "round", ".json")
            found += [path for _, path in kept[-1:]]
    return found


def last_manifest(folder: Path, state: ConnectedState) -> Path | None:
    """The manifest of the last bundle that was written; None before the first."""
    path = manifest_path(folder, state.number)
    return path if state.number and path.exists() else None
