"""Core metadata: METADATA of a wheel, PKG-INFO of an sdist (PEP 566, 643, 685). Pure."""

from __future__ import annotations

import re
import sys
from functools import lru_cache, partial

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidName, NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from mirror.errors import MetadataError
from mirror.models import Metadata

# A field name is what RFC 5322 allows, or (ignored) nothing; a line that is neither a field nor a continuation ends the
# headers, as it does for the e-mail parser that every installer uses.
_FIELD = re.compile(r"([!-9;-~]*):[ \t]*(.*)\Z", re.DOTALL)
_BLANK_LINE = re.compile(rb"\n\r?\n|\r\r")
_WANTED = frozenset(
    {"metadata-version", "name", "version", "requires-dist", "requires-python", "provides-extra", "dynamic"}
)
#: Fields whose value a resolver relies on; an sdist that calls one of them dynamic promises nothing about it.
_RELIED_ON = frozenset({"requires-dist", "requires-python", "provides-extra"})


def parse(raw: bytes, *, filename: str) -> Metadata:
    """Read the fields that a resolver needs; *filename* is for messages.

    A missing or malformed field is a MetadataError that names it, except that Requires-Python is what it is: as for
    pip, one that can't be read (``>=3.6.*``, of which there are many) excludes nobody. ``version`` comes out normalised
    (PEP 440).
    """
    fields = _headers(raw)
    name, version = _single(fields, "name", filename), _single(fields, "version", filename)
    requires_python = next(iter(fields.get("requires-python", ())), "").strip()
    try:
        return Metadata(
            name=canonicalize_name(name, validate=True),
            version=str(Version(version)),
            requires_dist=tuple(map(_requirement, fields.get("requires-dist", ()))),
            requires_python=sys.intern(requires_python) if requires_python else None,
            provides_extra=_extras(tuple(fields.get("provides-extra", ()))),
            text=partial(bytes, raw),
        )
    except InvalidName:
        raise _malformed(filename, "Name", name) from None
    except InvalidVersion:
        raise _malformed(filename, "Version", version) from None
    except InvalidRequirement as error:
        reason = str(error).partition("\n")[0]
        broken = next(text for text in fields["requires-dist"] if not _is_requirement(text))
        raise _malformed(filename, "Requires-Dist", broken, reason) from None


def identity(raw: bytes, *, filename: str) -> tuple[NormalizedName, Version]:
    """Read only which project and version it is, however broken the rest may be; else as :func:`parse`."""
    fields = _headers(raw)
    name, version = _single(fields, "name", filename), _single(fields, "version", filename)
    try:
        return canonicalize_name(name, validate=True), Version(version)
    except InvalidName:
        raise _malformed(filename, "Name", name) from None
    except InvalidVersion:
        raise _malformed(filename, "Version", version) from None


def trusted(raw: bytes) -> bool:
    """Whether an sdist's PKG-INFO may be believed without building it (PEP 643).

    That is from metadata version 2.2 on, where none of Requires-Dist, Requires-Python and Provides-Extra is Dynamic.
    """
    fields = _headers(raw)
    match = re.match(r"(\d+)\.(\d+)\Z", next(iter(fields.get("metadata-version", ())), "").strip())
    if match is None or (int(match[1]), int(match[2])) < (2, 2):
        return False
    return not any(field.strip().lower() in _RELIED_ON for field in fields.get("dynamic", ()))


def _headers(raw: bytes) -> dict[str, list[str]]:
    """The wanted fields by lower-case name, folded lines joined with a space. The description costs nothing."""
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    end = _BLANK_LINE.search(raw)
    block = (raw[: end.start()] if end else raw).decode("utf-8", errors="replace")
    if "\r" in block:
        block = block.replace("\r\n", "\n").replace("\r", "\n")
    fields: dict[str, list[str]] = {}
    values: list[str] = []
    for line in block.split("\n"):
        if line[:1] in (" ", "\t"):
            if values:
                values[-1] = f"{values[-1]} {line.strip()}"
            continue
        match = _FIELD.match(line)
        if match is None:
            if line.startswith("From "):  # an mbox envelope; the e-mail parser skips it too
                values = []
                continue
            break
        key = match[1].lower()
        values = fields.setdefault(key, []) if key in _WANTED else []
        values.append(match[2])
    return fields


def _single(fields: dict[str, list[str]], field: str, filename: str) -> str:
    values = fields.get(field)
    if not values or not values[0].strip():
        raise MetadataError(f"{filename}: its metadata has no {field.title()}.")
    return values[0].strip()


def _malformed(filename: str, field: str, value: str, reason: str = "") -> MetadataError:
    told = f" ({reason})" if reason else ""
    return MetadataError(f"{filename}: {value[:200]!r} is not a valid {field}{told}.")


# The same few thousand strings come again in every version of a project and for every target. More than those are of
# files that are read once, each of another project: 300 bytes a string.
@lru_cache(maxsize=8192)
def _requirement(text: str) -> Requirement:
    """Parse *text*; specifiers and markers, which are most of it, are objects that all share who say the same."""
    head, _, marker = text.partition(";")
    try:
        # What comes after "@" is a URL, which may have a semicolon of its own.
        if "@" in head or not marker.strip():
            found = Requirement(text)
        else:
            found = Requirement(head)
            found.marker = _marker(marker.strip())
    except (InvalidRequirement, InvalidMarker):
        found = Requirement(text)  # says what is wrong with all of it
    found.specifier = _specifiers(str(found.specifier))
    found.extras = _asked(frozenset(found.extras))
    return found


@lru_cache(maxsize=65536)
def _marker(text: str) -> Marker:
    return Marker(text)


@lru_cache(maxsize=65536)
def _specifiers(text: str) -> SpecifierSet:
    return SpecifierSet(text)


@lru_cache(maxsize=4096)
def _asked(extras: frozenset[str]) -> set[str]:
    return set(extras)


@lru_cache(maxsize=4096)
def _extras(texts: tuple[str, ...]) -> frozenset[NormalizedName]:
    return frozenset(canonicalize_name(text.strip()) for text in texts)


def _is_requirement(text: str) -> bool:
    try:
        _requirement(text)
    except InvalidRequirement:
        return False
    return True
