"""Care for the store of downloaded files: how large it is, what may go, whether it is whole."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from mirror.errors import ConfigError
from mirror.models import Event, Reporter, Stage, silent
from mirror.ops.delta import open_rows
from mirror.store import Collected, Store

_SIZE = re.compile(r"(\d{1,18}(?:\.\d+)?)\s*([kmgt]?)(i?)b?\Z", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """Bytes that *text* means: ``500M`` and ``1.5 GB`` in powers of 1000, ``20GiB`` in powers of 1024."""
    match = _SIZE.match(text.strip())
    if match is None or (match[3] and not match[2]):
        raise ConfigError(f"{text[:40]!r} is not a size.", hint="Write it like 500M, 20GB or 20GiB.")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()])


def collect(store: Store, limit: int, keep: Iterable[Path], *, dry_run: bool = False) -> Collected:
    """Bring *store* down to *limit* bytes, oldest files first; those that *keep*, bundles or manifests, name stay."""
    wanted: set[str] = set()
    for path in keep:
        with open_rows(path) as rows:
            wanted.update(sha256 for _, sha256, _ in rows.digests())
    return store.collect(wanted, limit=limit, dry_run=dry_run)


def verify(store: Store, report: Reporter = silent) -> list[str]:
    """Hash every blob of *store*, drop the damaged ones and return their SHA-256; they will be fetched again."""
    usage = store.usage()
    report(Event("begin", Stage.VERIFY, items=usage.blobs, bytes=usage.size))
    damaged = store.verify(
        report=lambda blob: report(Event("advance", Stage.VERIFY, blob.sha256[:12], items=1, bytes=blob.size))
    )
    report(Event("end", Stage.VERIFY))
    return damaged
