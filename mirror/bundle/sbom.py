"""``sbom.cdx.json``: the bundle as a CycloneDX 1.6 bill of materials. Pure.

No serial number and no time, both of which the standard lets out: the same content gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from urllib.parse import quote

from mirror.bundle.manifest import BundledFile, BundledTarget
from mirror.spelling import spelled

# A free-text licence field sometimes holds the whole licence; a name is what the reader of an SBOM looks for.
_LICENSE_LENGTH = 120


def render_sbom(
    targets: Iterable[BundledTarget], files: Iterable[BundledFile], metadata: Mapping[str, bytes]
) -> Iterator[bytes]:
    """Yield the SBOM: one component a release, with its files as external references, and who depends on whom.

    *metadata* is core metadata by file name; only licences are read from it.
    """
    releases = sorted(files, key=_release)
    pins = {target.name: target.pins for target in targets}
    return spelled(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {"tools": {"components": [{"type": "application", "name": "airgap"}]}},
            "components": (_component(released, metadata) for released in _grouped(releases)),
            "dependencies": (_dependencies(released, pins) for released in _grouped(releases)),
        }
    )


def _grouped(files: Sequence[BundledFile]) -> Iterator[list[BundledFile]]:
    return (list(group) for _, group in groupby(files, key=lambda file: (file.project, file.version)))


def _component(released: Sequence[BundledFile], metadata: Mapping[str, bytes]) -> dict[str, object]:
    """One release: its files are *released*."""
    first = released[0]
    reference = _purl(first.project, first.version)
    component: dict[str, object] = {
        "type": "library",
        "bom-ref": reference,
        "name": first.project,
        "version": first.version,
        "purl": reference,
        "externalReferences": [_reference(file) for file in released],
    }
    licenses = next((found for file in released if (found := read_license(metadata.get(file.filename, b"")))), None)
    if licenses:
        component["licenses"] = [{"license": {"name": licenses}}]
    if len(released) == 1:
        component["hashes"] = [{"alg": "SHA-256", "content": first.sha256}]
    return component


def _dependencies(released: Sequence[BundledFile], pins: Mapping[str, Mapping[str, str]]) -> dict[str, object]:
    reference = _purl(released[0].project, released[0].version)
    needs: set[str] = set()
    for file in released:
        for target in file.targets:
            versions = pins[target]
            needs.update(_purl(name, versions[name]) for name in file.requires if name in versions)
    return {"ref": reference, "dependsOn": sorted(needs - {reference})}


def read_license(metadata: bytes) -> str:
    """Return the licence that core metadata names, or an empty text: expression, field, or classifiers."""
    found: dict[str, list[str]] = {}
    for line in metadata.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("utf-8", "replace").splitlines():
        key, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            found.setdefault(key.lower(), []).append(value.strip())
    for key in ("license-expression", "license"):
        value = found.get(key, [""])[0]
        if value and value.upper() != "UNKNOWN":
            return _shortened(value)
    classifiers = [value.rpartition("::")[2].strip() for value in found.get("classifier", ()) if _is_license(value)]
    return _shortened(", ".join(classifiers))


def _is_license(classifier: str) -> bool:
    return classifier.startswith("License ::") and classifier.count("::") > 1


def _shortened(text: str) -> str:
    return text if len(text) <= _LICENSE_LENGTH else text[: _LICENSE_LENGTH - 1] + "…"


def _release(file: BundledFile) -> tuple[str, str, str]:
    return file.project, file.version, file.filename


def _purl(project: str, version: str) -> str:
    return f"pkg:pypi/{project}@{quote(version, safe='')}"


def _reference(file: BundledFile) -> dict[str, object]:
    reference: dict[str, object] = {
        "type": "distribution",
        "url": quote(file.path),
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
    }
    if file.source:
        reference["comment"] = f"from {file.source}"
    return reference
