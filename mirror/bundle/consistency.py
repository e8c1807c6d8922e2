"""Whether all parts of a manifest agree with each other and with the layout of format 1. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby, pairwise
from operator import attrgetter

from mirror.bundle import manifest as layout
from mirror.bundle.manifest import (
    LEADING_FRAMES,
    MANIFEST,
    MANIFEST_LIMIT,
    Manifest,
    frames_of,
    required_members,
)
from mirror.errors import BundleError

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_path = attrgetter("path")


def check(manifest: Manifest) -> None:
    """Raise a BundleError unless all parts agree with each other and with the layout of format 1."""
    _check_order((member.path for member in manifest.members), "members")
    _check_order((target.name for target in manifest.targets), "targets")
    _check_order(
        (project for project, _ in groupby(manifest.files, key=lambda file: file.project)), "projects of files"
    )
    _check_unique(lambda: chain([MANIFEST], (m.path for m in manifest.members), (file.path for file in manifest.files)))
    if manifest.member_section.size > layout.FRAME_LIMIT:
        raise BundleError("The manifest names more members than fit into their frame.")
    if manifest.size > MANIFEST_LIMIT:
        raise BundleError(f"The manifest has more than {MANIFEST_LIMIT} bytes.")
    frame = LEADING_FRAMES
    for section in manifest.project_sections.values():
        if any(file.frame != frame for file in manifest.carried_of(section.name)):
            raise BundleError(f"The manifest does not place the files of {section.name} into frame {frame}.")
        frame += frames_of(section.size)
    _check_since(manifest)
    _check_members(manifest)
    _check_targets(manifest)


def _check_since(manifest: Manifest) -> None:
    for file in manifest.expected:
        if file.frame:
            raise BundleError(f"The manifest places {file.filename} into a frame, but says that it is not carried.")
    if set(manifest.since) != {file.carrier for file in manifest.expected}:
        raise BundleError("The manifest contradicts itself about the bundles that it builds on.")
    for identity, name in manifest.since.items():
        if not _SHA256.match(identity) or not name.isprintable():
            raise BundleError(f"The manifest builds on something that is no bundle: {identity[:80]!r}.")


def _check_members(manifest: Manifest) -> None:
    members = manifest.members
    accounted = bytearray(not member.path.startswith(("packages/", "simple/")) for member in members)

    def account(path: str) -> str | None:
        """The digest of the member at *path*, which belongs to something; None where there is none."""
        position = bisect_left(members, path, key=_path)  # sorted, as was checked; a dictionary takes more memory
        if position == len(members) or (member := members[position]).path != path:
            return None
        accounted[position] = True
        return member.sha256

    for path in required_members(manifest.project_sections, [target.name for target in manifest.targets]):
        if account(path) is None:
            raise BundleError(f"The manifest names no {path}.")
    for file in manifest.files:
        if not file.version.isprintable():  # it is shown in terminals
            raise BundleError(f"{file.filename} has a version that can't be printed.")
        path = f"{file.path}.metadata"
        if account(path) != (file.metadata_sha256 if file.carried else None):
            raise BundleError(f"The manifest contradicts itself about {path}.")
    for member, known in zip(members, accounted, strict=True):
        if not known:
            raise BundleError(f"The manifest names {member.path}, which belongs to nothing that the bundle holds.")


def _check_targets(manifest: Manifest) -> None:
    pins = {target.name: target.pins for target in manifest.targets}
    builds = {target.name: target.build_versions() for target in manifest.targets}
    installed: set[tuple[str, str]] = set()
    built_with: set[tuple[str, str, str]] = set()
    for file in manifest.files:
        for name in file.targets:
            if pins.get(name, {}).get(file.project) != file.version:
                raise BundleError(f"{file.filename} is for {name}, which does not install {file.version}.")
            if (name, file.project) in installed:
                raise BundleError(f"The manifest has two files of {file.project} for {name}.")
            installed.add((name, file.project))
        for name in file.builds:
            if (file.project, file.version) not in builds.get(name, ()):
                raise BundleError(f"{file.filename} is for builds on {name}, where none needs {file.version}.")
            built_with.add((name, file.project, file.version))
    releases = {pin for versions in pins.values() for pin in versions.items()}.union(*builds.values())
    for file in manifest.files:
        if not file.targets and not file.builds and (file.project, file.version) not in releases:
            raise BundleError(f"{file.filename} is of a release that no target of the manifest needs.")
    for name, versions in pins.items():
        for project, version in versions.items():
            if (name, project) not in installed:
                raise BundleError(f"The manifest has no file of {project} {version} for {name}.")
        for project, version in builds[name]:
            if (name, project, version) not in built_with:
                raise BundleError(f"The manifest has no file of {project} {version} for builds on {name}.")


def _check_order(names: Iterable[str], what: str) -> None:
    if any(first >= second for first, second in pairwise(names)):
        raise BundleError(f"The manifest's {what} are not sorted or not unique.")


def _check_unique(paths: Callable[[], Iterator[str]]) -> None:
    """Two names that a file system may take for one are a duplicate."""
    # Equal names have equal hashes: only where two hashes are equal must the names be held and compared.
    if len({hash(path.casefold()) for path in paths()}) == sum(1 for _ in paths()):
        return
    seen: dict[str, str] = {}
    for path in paths():
        other = seen.setdefault(path.casefold(), path)
        if other is not path:
            raise BundleError(f"The manifest names {path} twice.", hint=f"The other one is {other}.")
