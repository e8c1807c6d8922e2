"""``pdm.lock`` with ``inherit_metadata``, where every package says for which groups and machines it is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from mirror import urls
from mirror.lockfiles.lock import (
    Entry,
    Lock,
    Locked,
    MarkedLock,
    check_known,
    git_reference,
    locked_file,
    read_hashes,
    read_marker,
    read_version,
)
from mirror.lockfiles.toml import Table
from mirror.models import File

_DEFAULT = "default"
_ELSEWHERE = ("git", "hg", "svn", "bzr", "url", "path")


def read_pdm(document: Table, *, extras: Sequence[str], groups: Sequence[str]) -> Lock:
    """Read a lock: its default group, and *extras* and *groups*, which PDM does not tell apart."""
    metadata = document.table("metadata")
    format_ = metadata.text("lock_version")
    if not format_.startswith("4."):
        raise document.error(f"format {format_} of PDM's lock is not known here.", "Lock again with PDM 2: pdm lock")
    if "inherit_metadata" not in metadata.texts("strategy"):
        raise document.error(
            "it does not say which package is for which group.",
            "Lock again with: pdm lock --strategy inherit_metadata",
        )
    known = metadata.texts("groups")
    targets = metadata.tables("targets")
    pythons = [target.optional("requires_python") for target in targets]
    return MarkedLock(
        name=PurePath(document.file).name,
        entries=tuple(_entry(table) for table in document.tables("package")),
        groups=(
            _DEFAULT,
            *check_known("extra", extras, known, document),
            *check_known("group", groups, known, document),
        ),
        requires_python=pythons[0] if len(pythons) == 1 else metadata.optional("requires_python"),
    )


def _entry(at: Table) -> Entry:
    project, version = canonicalize_name(at.text("name")), read_version(at)
    kind = next((kind for kind in _ELSEWHERE if at.optional(kind)), "")
    files = () if kind else tuple(_file(table, project, version) for table in at.tables("files"))
    marker = read_marker(at.optional("marker"), at)
    return Entry(
        Locked(
            project,
            version,
            files,
            extras=tuple(sorted(map(canonicalize_name, at.texts("extras")))),
            requires=tuple(sorted({_name(text, at) for text in at.texts("dependencies")} - {project})),
            elsewhere=f"{kind}, not an index" if kind else "",
            reference=_git(at) if kind == "git" else "",
        ),
        conditions=tuple((canonicalize_name(group), marker) for group in at.texts("groups")),
    )


def _git(at: Table) -> str:
    return git_reference(at.text("git"), at.text("revision"), at.optional("subdirectory"))


def _name(text: str, at: Table) -> NormalizedName:
    try:
        return canonicalize_name(Requirement(text).name)
    except InvalidRequirement as error:
        raise at.error(f"{text!r} is not a requirement (PEP 508).") from error


def _file(at: Table, project: NormalizedName, version: str) -> File:
    """One file: by its name, or by its URL where the lock was made with ``static_urls``."""
    url = at.optional("url") or ""
    return locked_file(
        at,
        urls.basename(url) if url else at.text("file"),
        project,
        version,
        url=url,
        hashes=read_hashes([at.text("hash")], at),
    )
