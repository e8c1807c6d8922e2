"""From a plan to everything that a bundle holds besides the distribution files themselves."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Protocol

from packaging.utils import canonicalize_name

from mirror.bundle.consistency import check
from mirror.bundle.frames import archive_order
from mirror.bundle.manifest import (
    LEADING_FRAMES,
    BundledFile,
    BundledTarget,
    Manifest,
    Member,
    Section,
    frames_of,
    lock_path,
    page_paths,
)
from mirror.bundle.members import Members
from mirror.bundle.pylock import render_lock
from mirror.bundle.report import render_report, report_of_delta
from mirror.bundle.sbom import render_sbom
from mirror.bundle.static import index_pages
from mirror.errors import HashMismatchError, IncompleteError
from mirror.models import Pin, Plan, is_safe_filename
from mirror.store import Scratch
from mirror.urls import redact, without_credentials

_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")
_SOURCE_NAME_LENGTH = 80
_REPORT = "report.html"


class Fetched(Protocol):
    """A file in the store; ``size`` is in bytes."""

    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class BundleContent:
    """What goes into a bundle.

    ``fetched`` says which blob every file of the plan is, by file name; ``metadata`` is its core metadata as it is in
    the file. ``sources`` are the requirements files that were read, ``(name, text)``, without credentials. ``origins``
    says of a file that no index published where it is from.
    """

    plan: Plan
    fetched: Mapping[str, Fetched]
    metadata: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    sources: tuple[tuple[str, str], ...] = ()
    origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Since:
    """What a delta builds on: for every confirmed file, by name and SHA-256, the identity of its bundle.

    ``names`` are the names of those bundles for people, by identity.
    """

    carriers: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False)
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A manifest and the bytes of every member that it names besides the distribution files."""

    manifest: Manifest
    members: Members = field(repr=False)


def prepare(content: BundleContent, scratch: Scratch | None = None) -> Prepared:
    """Work out everything that a bundle says; its documents are kept in *scratch*, or in a temporary file anywhere.

    Raises an IncompleteError where a file of the plan was not fetched, a HashMismatchError where it is not the one that
    the index promised, a BundleError where the plan contradicts itself.
    """
    targets = tuple(
        BundledTarget(
            name=plan.target.name,
            tags=plan.target.tags,
            markers=plan.target.environment,
            pins={pin.project: pin.version for pin in plan.pins},
            builds={
                f"{build.project} {build.version}": {pin.project: pin.version for pin in build.pins}
                for build in plan.builds
            },
        )
        for plan in sorted(content.plan.targets, key=lambda plan: plan.target.name)
    )
    members = Members(scratch or Scratch(Path(tempfile.gettempdir())))
    documents = _offered(content, members)
    files = _placed(_files(content, documents))
    named = list(documents.values())
    pages = index_pages(groupby(files, key=lambda file: file.project))
    named += [members.put(path, [page]) for path, page in pages]
    named += [members.put(lock_path(target.name), render_lock(target, files)) for target in targets]
    named += [
        members.put(f"requirements/{position:02}-{_source_name(name)}", [text.encode("utf-8", "surrogateescape")])
        for position, (name, text) in enumerate(content.sources, 1)
    ]
    named.append(members.put("sbom.cdx.json", render_sbom(targets, files, content.metadata)))
    named.append(members.put(_REPORT, render_report(targets, files, content.metadata)))
    manifest = Manifest(targets, files, tuple(sorted(named, key=lambda member: member.path)))
    check(manifest)
    return Prepared(manifest, members)


def as_delta(prepared: Prepared, since: Since) -> Prepared:
    """Leave out what *since* confirms; manifest and documents go on naming the whole set.

    A project of which nothing is left has no index pages: they follow from the manifest.
    """
    carriers = ((file, since.carriers.get((file.filename, file.sha256))) for file in prepared.manifest.files)
    files = _placed(file if carrier is None else replace(file, carrier=carrier, frame=0) for file, carrier in carriers)
    absent = {f"{file.path}.metadata" for file in files if not file.carried}
    left = {file.project for file in files if file.carried}
    absent |= {path for project in prepared.manifest.projects if project not in left for path in page_paths(project)}
    used = sorted({file.carrier for file in files if file.carrier is not None})
    if not used:
        return prepared
    left_over = [member for member in prepared.manifest.members if member.path not in absent]
    members = prepared.members.only(member.path for member in left_over)
    report = members.put(_REPORT, report_of_delta(prepared.members.chunks(_REPORT), files))
    manifest = replace(
        prepared.manifest,
        files=files,
        members=tuple(report if member.path == _REPORT else member for member in left_over),
        since={identity: since.names.get(identity, "") for identity in used},
    )
    return Prepared(manifest, members)


def _offered(content: BundleContent, members: Members) -> dict[str, Member]:
    """Put what PEP 658 offers of each file among *members*, by file name.

    It is about wheels; and a name that leaves no room for ``.metadata`` goes without.
    """
    return {
        filename: members.put(f"packages/{filename}.metadata", [content.metadata[filename]])
        for filename, file in content.plan.files().items()
        if file.is_wheel and filename in content.metadata and is_safe_filename(f"{filename}.metadata")
    }


def _files(content: BundleContent, documents: Mapping[str, Member]) -> list[BundledFile]:
    """Every file of the plan, in archive order, not yet placed into frames."""
    installed: dict[str, list[tuple[str, Pin]]] = {}
    built_with: dict[str, list[tuple[str, Pin]]] = {}
    to_build: dict[str, set[str]] = {}
    for plan in sorted(content.plan.targets, key=lambda plan: plan.target.name):
        for pin in plan.pins:
            installed.setdefault(pin.file.filename, []).append((plan.target.name, pin))
        sdists = {(pin.project, pin.version): pin.file.filename for pin in plan.every_pin() if not pin.file.is_wheel}
        for build in plan.builds:
            sdist = sdists[build.project, build.version]
            asked = {canonicalize_name(requirement.name) for requirement in build.requires}
            to_build.setdefault(sdist, set()).update(asked & {pin.project for pin in build.pins})
            for pin in build.pins:
                built_with.setdefault(pin.file.filename, []).append((plan.target.name, pin))
    releases = {(pin.project, pin.version): pin for plan in content.plan.targets for pin in plan.every_pin()}
    missing = sorted(name for name in content.plan.files() if name not in content.fetched)
    if missing:
        raise IncompleteError(f"{missing[0]} was not fetched.", missing=missing)
    files: list[BundledFile] = []
    for filename, file in content.plan.files().items():
        blob = content.fetched[filename]
        if file.hashes.sha256 not in (None, blob.sha256):
            raise HashMismatchError(f"{filename} should have the sha256 {file.hashes.sha256}, but has {blob.sha256}.")
        wanted = [*installed.get(filename, ()), *built_with.get(filename, ())]
        # An extra is of no target: it goes with the release that some target installs.
        pin = wanted[0][1] if wanted else releases[file.project, file.version]
        siblings = [other for _, other in wanted] or [pin]
        files.append(
            BundledFile(
                filename=filename,
                project=pin.project,
                version=pin.version,
                size=blob.size,
                sha256=blob.sha256,
                index=redact(without_credentials(file.index)),
                requires_python=file.requires_python,
                yanked=file.yanked,
                upload_time=file.upload_time,
                targets=tuple(name for name, _ in installed.get(filename, ())),
                builds=tuple(dict.fromkeys(name for name, _ in built_with.get(filename, ()))),
                chain=pin.chain,
                requires=tuple(sorted(to_build.get(filename, set()).union(*(other.requires for other in siblings)))),
                metadata_sha256=documents[filename].sha256 if filename in documents else None,
                origin=tuple(sorted(content.origins.get(filename, {}).items())),
            )
        )
    return sorted(files, key=lambda file: (file.project, archive_order(file.filename)))


def _placed(files: Iterable[BundledFile]) -> tuple[BundledFile, ...]:
    placed: list[BundledFile] = []
    frame = LEADING_FRAMES
    for project, group in groupby(files, key=lambda file: file.project):
        mine = [replace(file, frame=frame) if file.carried and file.frame != frame else file for file in group]
        placed += mine
        carried = [file for file in mine if file.carried]
        if carried:
            frame += frames_of(Section(project, frame, carried).size)
    return tuple(placed)


def _source_name(name: str) -> str:
    """The last part of a path or URL, harmless as a file name; folders of this machine are nobody's business."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2].partition("?")[0]
    return _UNUSUAL.sub("_", last).strip("._")[-_SOURCE_NAME_LENGTH:] or "requirements"
