"""What a delta builds on, read from what the user has: a bundle, its manifest, or a receipt from beyond the gap."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from mirror.bundle import BundleReader, Manifest, Since
from mirror.bundle.manifest import MANIFEST_LIMIT
from mirror.errors import BundleError, StorageError
from mirror.push.receipt import Receipt, State

#: What a bundle's file name may end with; the rest is its name for people.
_ENDINGS = (".receipt.json", ".manifest.json", ".json", ".tar.zst", ".zst")
#: What every manifest of format 1 begins with; a large one is not parsed only to find out.
_MANIFEST = b'{"files":['
_THERE = (State.UPLOADED, State.PRESENT)


def read_since(path: Path) -> Since:
    """Read the bundle, manifest or receipt at *path*; a BundleError where it is none of them.

    A receipt confirms what was seen in the repository; a bundle or manifest says what was sent, and is believed.
    """
    document = _document(path)
    if document is None:
        with BundleReader(path) as reader:
            return Since.of(reader.manifest, bundle_name(path))
    if isinstance(document, Manifest):
        return Since.of(document, bundle_name(path))
    return since_receipts([(document, bundle_name(path))])


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle at *path*, or the one that *path* itself is."""
    document = _document(path)
    if isinstance(document, Receipt):
        raise BundleError(f"{path} is a receipt, not a bundle or a manifest.")
    if document is not None:
        return document
    with BundleReader(path) as reader:
        return reader.manifest


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


def _document(path: Path) -> Manifest | Receipt | None:
    """The manifest or receipt that *path* is, or None where it is no JSON and so may be a bundle."""
    try:
        with path.open("rb") as stream:
            if stream.read(1) != b"{":
                return None
            stream.seek(0)
            data = stream.read(MANIFEST_LIMIT + 1)
    except OSError as error:
        raise StorageError(f"{path} can't be read: {error.strerror or error}.") from error
    try:
        is_manifest = data.startswith(_MANIFEST) or "format" in json.loads(data)
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: {error}.") from error
    try:
        return Manifest.from_bytes(data) if is_manifest else Receipt.from_json(data)
    except BundleError as error:
        raise BundleError(f"{path}: {error}", hint=error.hint) from error
