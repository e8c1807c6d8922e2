"""The receipt: what a repository holds after a push, as JSON that goes back to the connected side.

Schema, format version 1::

    {
      "version": 1,
      "tool": "airgap 0.1.0",
      "repository": "https://nexus.example/repository/pypi-hosted/",      without credentials
      "bundle": "<sha256 of the bundle's manifest>",
      "started": "2026-01-31T02:00:00Z",  "finished": "2026-01-31T02:03:07Z",      UTC
      "counts": {"uploaded": 140, "present": 5, "conflict": 0, "failed": 0},
      "files": [                                                                  sorted by file name
        {"filename": "…", "project": "…", "version": "…", "size": 1234, "sha256": "…",
         "state": "uploaded", "reason": ""}
      ]
    }

Where a key is configured, it has a ``signature``, too: see :mod:`mirror.signing`.

``state`` is one of

- ``uploaded``: sent by this push, and seen in the repository's index afterwards;
- ``present``: these very bytes were there already;
- ``conflict``: the repository holds other bytes under this name, and they were left alone;
- ``failed``: not there, as far as this push can tell; ``reason`` says why, also where it was not even tried.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from mirror.durable import write_whole
from mirror.errors import BundleError, StorageError
from mirror.spelling import spelled

FORMAT_VERSION = 1

#: Adds a signature to a document; ``dict`` adds none.
Sign = Callable[[Mapping[str, Any]], dict[str, Any]]


class State(str, Enum):
    """What became of one file."""

    UPLOADED = "uploaded"
    PRESENT = "present"
    CONFLICT = "conflict"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ReceiptFile:
    """One file of the bundle; ``reason`` is for people and empty where there is nothing to explain."""

    filename: str
    project: str
    version: str
    size: int
    sha256: str
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the repository holds after a push. ``started`` and ``finished`` are UTC, to the second."""

    tool: str
    repository: str
    bundle: str
    started: str
    finished: str
    files: tuple[ReceiptFile, ...]

    @property
    def counts(self) -> dict[State, int]:
        """How many files are in each state; every state is there."""
        counted = Counter(file.state for file in self.files)
        return {state: counted[state] for state in State}

    @property
    def complete(self) -> bool:
        """Whether every file of the bundle is in the repository."""
        return all(file.state in (State.UPLOADED, State.PRESENT) for file in self.files)

    def to_json(self, sign: Sign = dict) -> str:
        """The receipt in the format that this module's docstring shows, *sign*ed, with a newline at its end."""
        return b"".join(self.spelled(sign)).decode()

    def spelled(self, sign: Sign = dict) -> Iterator[bytes]:
        """Yield :meth:`to_json` in pieces; one that is signed is held as a whole while that is done."""
        if sign is dict:
            return spelled({**self._head(), "files": map(_entry, self.files)})
        return spelled(sign(self.document()))

    def document(self) -> dict[str, Any]:
        """What :meth:`to_json` spells."""
        return {**self._head(), "files": [_entry(file) for file in self.files]}

    def _head(self) -> dict[str, Any]:
        return {
            "version": FORMAT_VERSION,
            "tool": self.tool,
            "repository": self.repository,
            "bundle": self.bundle,
            "started": self.started,
            "finished": self.finished,
            "counts": {state.value: count for state, count in self.counts.items()},
        }

    @classmethod
    def from_json(cls, text: str | bytes) -> Receipt:
        """Read a receipt; a BundleError says what is wrong with one that can't be used."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise BundleError(f"Not a receipt of airgap: {error}.") from error
        return cls.from_document(document)

    @classmethod
    def from_document(cls, document: Any) -> Receipt:
        """As :meth:`from_json`, of what was parsed already; fields that a receipt does not have are passed over."""
        try:
            if document["version"] != FORMAT_VERSION:
                raise BundleError(
                    f"This receipt has format {document['version']!r}; this airgap reads format {FORMAT_VERSION}."
                )
            files = tuple(ReceiptFile(**{**entry, "state": State(entry["state"])}) for entry in document["files"])
            return cls(
                tool=document["tool"],
                repository=document["repository"],
                bundle=document["bundle"],
                started=document["started"],
                finished=document["finished"],
                files=files,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"Not a receipt of airgap: {error}.") from error

    def write(self, path: Path, sign: Sign = dict) -> None:
        """Write the receipt to *path*, *sign*ed, whole or not at all."""
        try:
            write_whole(path, self.spelled(sign))
        except OSError as error:
            raise StorageError(f"Can't write the receipt {path}: {error.strerror}.") from error


def _entry(file: ReceiptFile) -> dict[str, object]:
    return {
        "filename": file.filename,
        "project": file.project,
        "version": file.version,
        "size": file.size,
        "sha256": file.sha256,
        "state": file.state.value,
        "reason": file.reason,
    }
