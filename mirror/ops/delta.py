"""What a delta builds on, read from what the user has: a bundle, its manifest, or a receipt from beyond the gap."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mirror.bundle import BundleReader, Manifest, Rows, Since, bundle_rows, reading
from mirror.errors import BundleError, StorageError
from mirror.push.receipt import Receipt, State

#: What a bundle's file name may end with; the rest is its name for people.
_ENDINGS = (".receipt.json", ".manifest.json", ".json", ".tar.zst", ".zst")
#: What every manifest of format 1 begins with.
_MANIFEST = b'{"files":['
_THERE = (State.UPLOADED, State.PRESENT)


def read_since(path: Path) -> Since:
    """Read the bundle, manifest or receipt at *path*; a BundleError where it is none of them.

    A receipt confirms what was seen in the repository; a bundle or manifest says what was sent, and is believed.
    """
    if _is_receipt(path):
        return since_receipts([(_receipt(path), _name_beside(path))])
    with open_rows(path) as rows:
        carriers = {(filename, sha256): carrier or "" for filename, sha256, carrier in rows.digests()}
    for file, carrier in carriers.items():
        if not carrier:
            carriers[file] = rows.identity
    return Since(carriers, {**rows.since, rows.identity: bundle_name(path)})


@contextmanager
def open_rows(path: Path) -> Iterator[Rows]:
    """Read the manifest of the bundle at *path*, or the one that *path* itself is, without holding it."""
    if _read(path, 1) != b"{":
        with bundle_rows(path) as rows:
            yield rows
        return
    if _is_receipt(path):
        raise BundleError(f"{path} is a receipt, not a bundle or a manifest.")

    def lines() -> Iterator[bytes]:
        with path.open("rb") as stream:
            yield from stream

    try:
        with reading(lines) as rows:
            yield rows
    except BundleError as error:
        raise BundleError(f"{path}: {error}", hint=error.hint) from error


def since_receipts(receipts: Iterable[tuple[Receipt, str]]) -> Since:
    """What *receipts*, each with its bundle's name, confirm together; a later one takes back what it does not see."""
    carriers: dict[tuple[str, str], str] = {}
    names: dict[str, str] = {}
    for receipt, name in receipts:
        names[receipt.bundle] = name
        for file in receipt.files:
            key = file.filename, file.sha256
            if file.state in _THERE:
                carriers.setdefault(key, receipt.bundle)
            else:
                carriers.pop(key, None)
    return Since(carriers, names)


def check_bases(manifest: Manifest, bases: Iterable[Manifest]) -> None:
    """Raise a BundleError unless *bases* together carry every file that the delta *manifest* expects."""
    carried = {(file.filename, file.sha256) for base in bases for file in base.carried}
    absent = [file for file in manifest.expected if (file.filename, file.sha256) not in carried]
    if absent:
        carriers = sorted({file.carrier or "" for file in absent})
        raise BundleError(
            f"{len(absent)} files that the delta builds on are in none of the given bundles: "
            f"{', '.join(file.filename for file in absent[:5])}{' …' if len(absent) > 5 else ''}.",
            hint="They came with: "
            + ", ".join(f"{manifest.since.get(carrier) or 'a bundle'} (identity {carrier})" for carrier in carriers),
        )


def complete(manifest: Manifest, bases: Sequence[BundleReader], packages: Path) -> None:
    """Put what the delta *manifest* expects beside its own files in *packages*, from *bases*, each file verified.

    Raises a BundleError where they do not hold all of it.
    """
    check_bases(manifest, [base.manifest for base in bases])
    wanted = {(file.filename, file.sha256) for file in manifest.expected}
    for base in bases:
        found = {file.filename for file in base.manifest.carried if (file.filename, file.sha256) in wanted}
        wanted -= {(file.filename, file.sha256) for file in base.manifest.carried}
        documents = {f"packages/{name}.metadata" for name in found}
        with tempfile.TemporaryDirectory(prefix=".", dir=packages) as folder:
            for project in base.manifest.project_sections:
                if any(file.filename in found for file in base.manifest.carried_of(project)):
                    for path in base.spool(project, Path(folder)):
                        if path.name in found:
                            path.rename(packages / path.name)
                        else:
                            path.unlink()
            for name, stream in base.members():
                if name in documents:
                    (packages / name.rpartition("/")[2]).write_bytes(stream.read())


def bundle_name(path: Path) -> str:
    """The name of a bundle, without what its file name, its manifest's or its receipt's ends with."""
    name = path.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return "".join(letter for letter in name if letter.isprintable())


def _name_beside(path: Path) -> str:
    """The name of the bundle that the receipt at *path* lies beside, as push names it; no other name tells one."""
    beside = path.name.removesuffix(".receipt.json")
    return bundle_name(path) if beside != path.name and beside.endswith(".zst") else ""


def _is_receipt(path: Path) -> bool:
    """Whether *path* is JSON, but no manifest; a BundleError where it only begins as if it were JSON."""
    head = _read(path, len(_MANIFEST))
    if head[:1] != b"{" or head == _MANIFEST:
        return False
    try:
        return "format" not in json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON: {error}.") from error


def _receipt(path: Path) -> Receipt:
    try:
        return Receipt.from_json(_read(path))
    except BundleError as error:
        raise BundleError(f"{path}: {error}", hint=error.hint) from error


def _read(path: Path, size: int = -1) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(size)
    except OSError as error:
        raise StorageError(f"{path} can't be read: {error.strerror or error}.") from error
