"""``pylock.toml`` (PEP 751), read by :mod:`packaging.pylock`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from packaging.pylock import (
    Package,
    PackageSdist,
    PackageWheel,
    Pylock,
    PylockUnsupportedVersionError,
    PylockValidationError,
)
from packaging.utils import canonicalize_name

from mirror.errors import RequirementsError
from mirror.lockfiles.lock import (
    Entry,
    Lock,
    Locked,
    MarkedLock,
    check_known,
    git_reference,
    locked_file,
    read_hashes,
)
from mirror.lockfiles.toml import Table
from mirror.models import File


def read_pylock(document: Table, folder: PurePath, *, extras: Sequence[str], groups: Sequence[str]) -> Lock:
    """Read a lock that stands in *folder*, which its paths are relative to. Without *groups*: its default ones."""
    try:
        lock = Pylock.from_dict(document.values)
    except (PylockValidationError, PylockUnsupportedVersionError) as error:
        raise RequirementsError(f"this is not a lock (PEP 751): {error}.", file=document.file) from error
    asked = check_known("group", groups, lock.dependency_groups or (), document)
    return MarkedLock(
        name=PurePath(document.file).name,
        entries=tuple(
            _entry(package, Table({}, document.file, f"packages[{number}]"), folder)
            for number, package in enumerate(lock.packages)
        ),
        extras=check_known("extra", extras, lock.extras or (), document),
        groups=asked or tuple(lock.default_groups or ()),
        requires_python=str(lock.requires_python) if lock.requires_python else None,
        environments=tuple(lock.environments or ()),
    )


def _entry(package: Package, at: Table, folder: PurePath) -> Entry:
    elsewhere = ""
    if package.vcs or package.directory or package.archive or package.version is None:
        elsewhere = "a repository" if package.vcs else "a folder" if package.directory else "an archive by its URL"
    project, version = canonicalize_name(package.name), str(package.version or "")
    distributions: list[PackageWheel | PackageSdist] = list(package.wheels or ())
    if package.sdist is not None:
        distributions.append(package.sdist)

    def file(distribution: PackageWheel | PackageSdist) -> File:
        url = distribution.url
        if not url and distribution.path:
            url = (folder / distribution.path).as_uri()
        return locked_file(
            at,
            distribution.filename,
            project,
            version,
            url=url or "",
            hashes=read_hashes([f"{name}:{digest}" for name, digest in distribution.hashes.items()], at),
            index=package.index or "",
            size=distribution.size,
            upload_time=_utc(distribution),
        )

    requires = {canonicalize_name(str(other.get("name", ""))) for other in package.dependencies or ()}
    return Entry(
        Locked(
            project,
            version,
            tuple(map(file, distributions)),
            requires=tuple(sorted(requires - {project})),
            elsewhere=elsewhere,
            reference=_git(package, folder),
        ),
        conditions=((None, package.marker),),
        requires_python=str(package.requires_python) if package.requires_python else None,
    )


def _git(package: Package, folder: PurePath) -> str:
    vcs = package.vcs
    if vcs is None or vcs.type != "git":
        return ""
    url = vcs.url or ((folder / vcs.path).as_uri() if vcs.path else "")
    return git_reference(url, vcs.commit_id, vcs.subdirectory) if url else ""


def _utc(distribution: PackageWheel | PackageSdist) -> str | None:
    return distribution.upload_time.isoformat().replace("+00:00", "Z") if distribution.upload_time else None
