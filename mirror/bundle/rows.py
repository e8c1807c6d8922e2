"""Reading a manifest that is not trusted, line by line: strictly, and without holding what nobody asks for. Pure."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from mirror.bundle.canonical import LIST, Fields, SpellingError, parse, read, spell
from mirror.bundle.consistency import check
from mirror.bundle.manifest import FORMAT, MEMBER_FILES, VERSION, BundledFile, BundledTarget, Manifest, Member
from mirror.bundle.table import MemberTable
from mirror.errors import BundleError
from mirror.models import is_safe_filename

_PROJECT = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_MEMBER_FOLDERS = frozenset({"simple", "packages", "locks", "requirements"})


class Rows:
    """A manifest that is read once, from its first line to its last, and not held: one file after the other.

    One of :meth:`files`, :meth:`digests` and :meth:`grouped` reads it; ``targets``, ``since``, ``identity`` and, where
    they are kept, ``members`` are there when that has come to its end. What only holds of the whole is not checked; see
    :func:`read_manifest`.
    """

    def __init__(self, lines: Iterable[bytes], *, members: bool = False) -> None:
        self.targets: tuple[BundledTarget, ...] = ()
        self._table = MemberTable()
        self.members: Sequence[Member] = self._table
        self.since: Mapping[str, str] = {}
        self.identity = ""
        self._lines = lines
        self._keep_members = members
        self._shared: dict[Any, Any] = {}

    def files(self) -> Iterator[BundledFile]:
        """Every file in archive order; a BundleError where a line is not one of a manifest."""
        for text, where in self._files():
            # What is not held is not worth sharing: that would hold it.
            yield _read_file(Fields(parse(text), where, self._shared if self._keep_members else {}))

    def digests(self) -> Iterator[tuple[str, str, str | None]]:
        """File name, SHA-256 and carrier of every file; what else its line says is not looked at."""
        for text, where in self._files():
            fields = self._fields(text, where)
            yield fields.text("filename"), fields.digest("sha256"), _carrier(fields)

    def grouped(self) -> Iterator[tuple[str, tuple[BundledFile, ...]]]:
        """Every project with its files, sorted."""
        last = ""
        for project, files in groupby(self.files(), key=lambda file: file.project):
            if project <= last:
                raise BundleError("The manifest's projects of files are not sorted or not unique.")
            yield project, tuple(files)
            last = project

    def _files(self) -> Iterator[tuple[bytes, str]]:
        """The JSON of every file and what to call it; the rest of the manifest is read on the way."""
        digest = hashlib.sha256()
        found: dict[str, object] = {}
        position = 0
        for key, text in read(_hashed(self._lines, digest)):
            if text is LIST:
                found[key] = []
                position = 0
                continue
            if key not in found:
                found[key] = parse(text)
            elif key == "files":
                yield text, f"files[{position}]."
            elif key == "targets":
                self.targets += (_read_target(self._fields(text, f"targets[{position}].")),)
            elif key == "members" and self._keep_members:
                self._table.add(_read_member(self._fields(text, f"members[{position}].")))
            position += 1
        self.identity = digest.hexdigest()
        self._finish(Fields(found, "", self._shared))

    def _fields(self, text: bytes, where: str) -> Fields:
        return Fields(parse(text), where, self._shared)

    def _finish(self, fields: Fields) -> None:
        for key in ("files", "members", "targets"):
            fields.list_(key)
        if fields.text("format") != FORMAT or fields.integer("version") != VERSION:
            raise SpellingError("The manifest is not one of format 1.")
        self.since = fields.mapping("since") if fields.has("since") else {}
        fields.done()


def parse_manifest(data: bytes) -> Manifest:
    """Parse, and check all that can be checked without the archive; a BundleError says which field is wrong."""
    return read_manifest(lambda: io.BytesIO(data))


def read_manifest(opened: Callable[[], Iterable[bytes]]) -> Manifest:
    """As :func:`parse_manifest`, of the lines that *opened* yields, each time from the first one."""
    with reading(opened, members=True) as rows:
        files = tuple(rows.files())
        manifest = Manifest(rows.targets, files, rows.members, since=rows.since)
        check(manifest)
        if manifest.identity != rows.identity:
            raise SpellingError("The manifest is not in canonical form.")
        return manifest


@contextmanager
def reading(opened: Callable[[], Iterable[bytes]], *, members: bool = False) -> Iterator[Rows]:
    """Read the manifest whose lines *opened* yields; an error then says what is wrong with all of it."""
    try:
        yield Rows(opened(), members=members)
    except BundleError as error:
        _explain(b"".join(opened()), error)
        raise


def _explain(data: bytes, error: BundleError) -> None:
    """Raise what is to be said of the manifest *data*, in which *error* was found, if there is more to say."""
    document = parse(data)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BundleError("The manifest is not one of an airgap bundle.") from error
    if document.get("version") != VERSION:
        raise BundleError(
            f"The bundle has format version {str(document.get('version'))[:40]}; this airgap reads {VERSION}.",
            hint="Install the airgap version that wrote the bundle, or a later one.",
        ) from error
    if isinstance(error, SpellingError):
        respelled = b"".join(spell(document))
        if respelled != data:
            parse_manifest(respelled)
        raise BundleError(
            "The manifest is not in canonical form.", hint="It was edited or written by another tool."
        ) from error


def _hashed(lines: Iterable[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for line in lines:
        digest.update(line)
        yield line


def _read_file(fields: Fields) -> BundledFile:
    file = BundledFile(
        filename=fields.text("filename"),
        project=fields.matching("project", _PROJECT),
        version=fields.text("version"),
        size=fields.integer("size"),
        sha256=fields.digest("sha256"),
        index=fields.text("index"),
        requires_python=fields.text_or_none("requires-python"),
        yanked=fields.text_or_none("yanked"),
        upload_time=fields.text_or_none("upload-time"),
        targets=fields.texts("targets"),
        builds=fields.texts("builds"),
        chain=fields.texts("chain"),
        requires=fields.texts("requires"),
        encoding=fields.text("encoding"),
        frame=fields.integer("frame"),
        metadata_sha256=fields.digest_or_none("metadata-sha256"),
        carrier=_carrier(fields),
        origin=tuple(sorted(fields.mapping("origin").items())) if fields.has("origin") else (),
    )
    if not is_safe_filename(file.filename):
        raise fields.error("filename", "is not a plain file name")
    if not file.version:
        raise fields.error("version", "is empty")
    if file.origin and not dict(file.origin).get("kind"):
        raise fields.error("origin", "has no kind")
    if file.encoding != "identity":
        raise BundleError(
            f"{file.filename} is encoded as {file.encoding[:40]!r}, which this airgap can't read.",
            hint="Install the airgap version that wrote the bundle, or a later one.",
        )
    return file


def _carrier(fields: Fields) -> str | None:
    return fields.digest("carrier") if fields.has("carrier") else None


def _read_member(fields: Fields) -> Member:
    member = Member(path=fields.text("path"), size=fields.integer("size"), sha256=fields.digest("sha256"))
    folder, *rest = member.path.split("/")
    known = folder in _MEMBER_FOLDERS if rest else folder in MEMBER_FILES
    if not known or len(rest) > 2 or not all(map(is_safe_filename, rest)):
        raise fields.error("path", f"has no place in a bundle: {member.path[:200]!r}")
    return member


def _read_target(fields: Fields) -> BundledTarget:
    target = BundledTarget(
        name=fields.matching("name", _TARGET),
        tags=fields.texts("tags"),
        markers=fields.mapping("markers"),
        pins=fields.mapping("pins"),
        builds=fields.mappings("builds"),
    )
    if not all(map(_PROJECT.match, target.pins)):
        raise fields.error("pins", "names a project that is not normalised")
    if not all(_PROJECT.match(project) for project, _ in target.build_versions()):
        raise fields.error("builds", "name a project that is not normalised")
    return target
