"""Receipts on their way back: sealed on the isolated side, opened and added up on the connected one.

A sealed receipt is a receipt of ``push`` with four more fields: ``sync`` and ``site`` say whose it is, ``serial``
counts up on the site, and ``seal``, which comes last, is the SHA-256 of the file with zeros in its place: a damaged one
confirms nothing.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from mirror.bundle import BundledFile, Since
from mirror.errors import BundleError, StorageError
from mirror.push.receipt import Receipt, Sign, State
from mirror.signing import verify
from mirror.spelling import spelled
from mirror.sync.files import explained, write_whole

ENDING = ".receipt.json"
_SAID = ".jsonl"
_THERE = (State.UPLOADED, State.PRESENT)
_SEAL = re.compile(rb'"seal": "([0-9a-f]{64})"\n}\n\Z')
_NO_SEAL = "0" * 64


@dataclass(frozen=True, slots=True)
class SealedReceipt:
    """A receipt, and the site whose ``serial``-th it is."""

    sync: str
    site: str
    serial: int
    receipt: Receipt

    def to_bytes(self, sign: Sign = dict) -> bytes:
        """The receipt as it crosses the gap, *sign*ed."""
        document = self.receipt.document()
        document |= {"sync": self.sync, "site": self.site, "serial": self.serial}
        document = sign(document)
        return b"".join(_sealed(lambda seal: spelled({**document, "seal": seal})))

    @classmethod
    def from_bytes(cls, data: bytes) -> SealedReceipt:
        """Open a receipt; a BundleError where it is damaged or none."""
        found = _SEAL.search(data, len(data) - 80)
        if found is None:
            raise BundleError("Not a receipt of a sync: it does not end with a seal.")
        digest = hashlib.sha256(memoryview(data)[: found.start(1)])
        digest.update(_NO_SEAL.encode())
        digest.update(memoryview(data)[found.end(1) :])
        if digest.hexdigest().encode() != found[1]:
            raise BundleError("The receipt is damaged: its seal is another.")
        try:
            document = json.loads(data)
            return cls(
                str(document["sync"]), str(document["site"]), int(document["serial"]), Receipt.from_document(document)
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BundleError(f"Not a receipt of a sync: {error!r}.") from error


def sealed(draft: Path, sync: str, site: str, serial: int, sign: Sign = dict) -> Iterator[bytes]:
    """Yield what :meth:`SealedReceipt.to_bytes` returns, of the unsigned receipt that a push left in the file *draft*.

    Unless it is to be *sign*ed, it is copied, not parsed: it is never held whole.
    """
    if sign is not dict:
        with explained(draft):
            receipt = Receipt.from_json(draft.read_bytes())
        yield SealedReceipt(sync, site, serial, receipt).to_bytes(sign)
        return

    def pieces(seal: str) -> Iterator[bytes]:
        with explained(draft), draft.open("rb") as lines:
            last = b""
            for line in lines:
                if line == b"}\n":
                    break
                yield last
                last = line
        yield last.rstrip(b"\n")
        added = {"sync": sync, "site": site, "serial": serial, "seal": seal}
        yield b"," + b"".join(spelled(added)).removeprefix(b"{")

    yield from _sealed(pieces)


def _sealed(pieces: Callable[[str], Iterator[bytes]]) -> Iterator[bytes]:
    """Yield *pieces* with the right seal; those with zeros in its place have the digest that it is."""
    digest = hashlib.sha256()
    for piece in pieces(_NO_SEAL):
        digest.update(piece)
    return pieces(digest.hexdigest())


def read_sealed(path: Path, trusted: Mapping[str, Path] = {}) -> SealedReceipt:
    """Open the receipt at *path*; where there are *trusted* keys, a BundleError unless its site's has signed it."""
    with explained(path):
        data = path.read_bytes()
    sealed = SealedReceipt.from_bytes(data)
    if trusted:
        if sealed.site not in trusted:
            raise BundleError(f"The receipt is of a site whose key is not known here: {sealed.site[:80]!r}.")
        verify(json.loads(data), trusted[sealed.site])
    return sealed


@dataclass(frozen=True, slots=True)
class Said:
    """What a site said last of one file, and when: of receipts, the one that was written later counts.

    Later is what was ``finished`` later and has a higher ``serial``. Where these disagree, since the site's clock was
    set or its state lost, nobody knows: the file is there only if both say so. Carrying it once more does no harm.

    ``bundle`` is the identity of the bundle that brought it, ``there`` whether the repository has it.
    """

    filename: str
    sha256: str
    bundle: str
    finished: str
    serial: int
    there: bool

    @property
    def file(self) -> tuple[str, str]:
        return self.filename, self.sha256


class Site:
    """What a site's receipts say, in a file with a line for each of its files, sorted; it is never held whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._learned: list[list[Said]] = []

    @property
    def name(self) -> str:
        return self._path.stem

    def learn(self, sealed: SealedReceipt) -> None:
        """Add what *sealed* says; :meth:`save` keeps it."""
        receipt = sealed.receipt
        self._learned.append(
            sorted(
                (
                    Said(
                        file.filename,
                        file.sha256,
                        receipt.bundle,
                        receipt.finished,
                        sealed.serial,
                        file.state in _THERE,
                    )
                    for file in receipt.files
                ),
                key=_file,
            )
        )

    def save(self) -> None:
        """Keep what was learned, all of it or nothing."""
        fields = Said.__slots__
        rows = ([getattr(said, field) for field in fields] for said in self.said())
        write_whole(self._path, (f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows))
        self._learned.clear()

    def said(self) -> Iterator[Said]:
        """What is known of every file, sorted by name and SHA-256."""
        for _, each in groupby(heapq.merge(self._saved(), *self._learned, key=_file), _file):
            yield _last(each)

    def _saved(self) -> Iterator[Said]:
        with explained(self._path):
            if not self._path.exists():
                return
            try:
                with self._path.open("rb") as lines:
                    for line in lines:
                        yield Said(*json.loads(line))
            except (ValueError, TypeError) as error:
                raise StorageError(
                    f"{self._path} can't be used: {error}.",
                    hint="Move it away: what this site has confirmed so far is then carried once more.",
                ) from error


def load_sites(folder: Path) -> dict[str, Site]:
    """Every site that ever sent a receipt."""
    return {path.stem: Site(path) for path in sorted((folder / "sites").glob(f"*{_SAID}"))}


def new_site(folder: Path, name: str) -> Site:
    """A site that never sent a receipt."""
    return Site(folder / "sites" / f"{name}{_SAID}")


def common(
    sites: Mapping[str, Site], wanted: Collection[str], files: Iterable[BundledFile], names: Mapping[str, str]
) -> Since:
    """What of *files* every site of *wanted* has, or, where none is named, every site that ever sent a receipt."""
    chosen: Iterable[Site | None] = [sites.get(name) for name in wanted] if wanted else list(sites.values())
    asked = {(file.filename, file.sha256) for file in files}
    carriers: dict[tuple[str, str], str] | None = None
    for site in chosen:
        there = {said.file: said.bundle for said in site.said() if said.there and said.file in asked} if site else {}
        carriers = there if carriers is None else {file: carriers[file] for file in carriers if file in there}
    return Since(carriers or {}, names)


def _file(said: Said) -> tuple[str, str]:
    return said.file


def _last(said: Iterable[Said]) -> Said:
    """The one that counts; a file that was there already keeps the bundle that brought it."""
    known, *later = said
    for each in later:
        both = known.there and each.there
        if known.finished <= each.finished and known.serial <= each.serial:
            known = replace(each, bundle=known.bundle if both else each.bundle)
        elif known.finished < each.finished or known.serial < each.serial:
            finished, serial = min(known.finished, each.finished), min(known.serial, each.serial)
            known = replace(known, finished=finished, serial=serial, there=both)  # what comes next is later than either
    return known
