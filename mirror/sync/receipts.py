"""Receipts on their way back: sealed on the isolated side, opened and added up on the connected one.

A sealed receipt is a receipt of ``push`` with four more fields: ``sync`` and ``site`` say whose it is, ``serial``
counts up on the site, ``seal`` is the SHA-256 of all the rest, so that a damaged one confirms nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror.bundle import Since
from mirror.errors import BundleError
from mirror.push.receipt import Receipt, State
from mirror.sync.files import explained
from mirror.sync.state import read_json, write_json

ENDING = ".receipt.json"
_THERE = (State.UPLOADED, State.PRESENT)


@dataclass(frozen=True, slots=True)
class SealedReceipt:
    """A receipt, and the site whose ``serial``-th it is."""

    sync: str
    site: str
    serial: int
    receipt: Receipt

    def to_bytes(self) -> bytes:
        """The receipt as it crosses the gap."""
        document = json.loads(self.receipt.to_json())
        document |= {"sync": self.sync, "site": self.site, "serial": self.serial}
        document["seal"] = _seal(document)
        return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> SealedReceipt:
        """Open a receipt; a BundleError where it is damaged or none."""
        try:
            document = json.loads(data)
            seal = document.pop("seal")
            if seal != _seal(document):
                raise BundleError("The receipt is damaged: its seal is another.")
            return cls(
                str(document["sync"]),
                str(document["site"]),
                int(document["serial"]),
                Receipt.from_json(json.dumps(document)),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"Not a receipt of a sync: {error!r}.") from error


def read_sealed(path: Path) -> SealedReceipt:
    """Open the receipt at *path*."""
    with explained(path):
        data = path.read_bytes()
    return SealedReceipt.from_bytes(data)


@dataclass
class Site:
    """What a site's receipts say: file name → SHA-256 → (bundle, when, whether it is there).

    ``when`` is the receipt's ``(finished, serial)``: what is known later counts, however the receipts arrive.
    """

    name: str
    newest: int = 0
    files: dict[str, dict[str, tuple[str, tuple[str, int], bool]]] = field(default_factory=dict)

    def learn(self, sealed: SealedReceipt) -> None:
        """Add what *sealed* says."""
        self.newest = max(self.newest, sealed.serial)
        when = sealed.receipt.finished, sealed.serial
        for file in sealed.receipt.files:
            known = self.files.setdefault(file.filename, {})
            before = known.get(file.sha256)
            if before is None or before[1] <= when:
                there = file.state in _THERE
                bundle = before[0] if before and before[2] and there else sealed.receipt.bundle
                known[file.sha256] = bundle, when, there

    def confirmed(self) -> dict[tuple[str, str], str]:
        """The identity of the bundle by ``(file name, SHA-256)`` of every file that is there."""
        return {
            (filename, sha256): bundle
            for filename, digests in self.files.items()
            for sha256, (bundle, _, there) in digests.items()
            if there
        }


def load_sites(folder: Path) -> dict[str, Site]:
    """Every site that ever sent a receipt."""
    found: dict[str, Site] = {}
    for path in sorted((folder / "sites").glob("*.json")):
        document = read_json(path) or {}
        files: Mapping[str, Mapping[str, Any]] = document.get("files", {})
        found[path.stem] = Site(
            path.stem,
            int(document.get("newest", 0)),
            {
                name: {sha256: (bundle, (when[0], when[1]), there) for sha256, (bundle, when, there) in digests.items()}
                for name, digests in files.items()
            },
        )
    return found


def save_site(folder: Path, site: Site) -> None:
    """Remember what *site* said."""
    write_json(folder / "sites" / f"{site.name}.json", {"newest": site.newest, "files": site.files})


def common(sites: Mapping[str, Site], wanted: Collection[str], names: Mapping[str, str]) -> Since:
    """What every site of *wanted* has, or, where none is named, every site that ever sent a receipt."""
    chosen: Iterable[Site | None] = [sites.get(name) for name in wanted] if wanted else list(sites.values())
    carriers: dict[tuple[str, str], str] | None = None
    for site in chosen:
        confirmed = site.confirmed() if site else {}
        carriers = confirmed if carriers is None else {key: carriers[key] for key in carriers if key in confirmed}
    return Since(carriers or {}, names)


def _seal(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
