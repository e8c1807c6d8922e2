"""What a round found and did, for log, monitoring and exit code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mirror.config import SyncSettings
from mirror.errors import AirgapError, StorageError
from mirror.sync.files import REASON, numbered
from mirror.sync.state import read_json, write_json

#: Takes a line for the log: ``info`` or ``warning``, and the text.
Say = Callable[[str, str], object]


@dataclass
class Outcome:
    """One round of one job.

    ``exit_code`` is one of airgap's. ``bundle`` is what was written, ``pushed``, ``pending`` and ``quarantined`` are
    names of bundles or receipts; ``asked`` are the bundles that the pending ones need, ``unconfirmed`` is the number of
    files that have no receipt yet. ``message`` sums it up.
    """

    name: str
    side: str
    message: str = ""
    exit_code: int = 0
    bundle: str = ""
    pushed: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    unconfirmed: int = 0
    quarantined: tuple[str, ...] = ()
    dry_run: bool = False

    @classmethod
    def of(cls, error: AirgapError, settings: SyncSettings, *, dry_run: bool) -> Outcome:
        """A round that ended with *error*."""
        told = "\n".join(filter(None, (str(error), error.hint)))
        return cls(settings.name, settings.side, told, error.exit_code, dry_run=dry_run)


def write_status(folder: Path, outcome: Outcome, inbox: Path | None) -> None:
    """Write what monitoring reads; ``last-success`` stays where this round was none."""
    path = folder / "status.json"
    before: dict[str, Any] = {}
    with suppress(StorageError):  # one that can't be read is written anew
        before = read_json(path) or {}
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    document: dict[str, Any] = {**asdict(outcome), "last-run": now}
    document["last-success"] = before.get("last-success") if outcome.exit_code else now
    document["in-quarantine"] = quarantine_of(inbox)
    write_json(path, document)


def read_status(folder: Path) -> dict[str, Any] | None:
    """The status of the last round, with the age of the last success in seconds; None before the first round."""
    document = read_json(folder / "status.json")
    if document is not None:
        success = document.get("last-success")
        age: float | None = None
        if success:
            then = datetime.strptime(success, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
            age = (datetime.now(timezone.utc) - then).total_seconds()
        document["age"] = age
    return document


def quarantine_of(inbox: Path | None) -> list[str]:
    """What waits in the quarantine for somebody to look at it."""
    folder = inbox / "quarantine" if inbox else None
    try:
        if folder is None or not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if not path.name.endswith(REASON))
    except OSError:  # the round has said what is wrong with it
        return []


def next_number(folder: Path, name: str, ending: str, *known: int) -> int:
    """The number after *known* and after those of the files in *folder*, which a killed run may have left."""
    return max([*known, *(number for number, _ in numbered(folder, name, ending))], default=0) + 1
