"""``poetry.lock``, from format 2.1 on, where every package says for which groups and machines it is. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from packaging.markers import Marker
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

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

_MAIN = "main"
_CARET = re.compile(r"\^\s*(?P<low>(?P<major>\d+)(?:\.\d+)*)\Z")
_TILDE = re.compile(r"~\s*(?P<low>(?P<major>\d+)\.(?P<minor>\d+)(?:\.\d+)*)\Z")


def read_poetry(document: Table, *, extras: Sequence[str], groups: Sequence[str]) -> Lock:
    """Read a lock: its main group, and *extras* and *groups*. It names files, and not where they are."""
    metadata = document.table("metadata")
    format_ = metadata.text("lock-version")
    try:
        old = Version(format_) < Version("2.1")
        if Version(format_) >= Version("3"):
            raise document.error(f"format {format_} of Poetry's lock is not known here.", "Update airgap.")
    except InvalidVersion as error:
        raise document.error(f"{format_!r} is not the version of a lock.") from error
    if old:
        raise document.error(
            f"format {format_} of Poetry's lock does not say which package is for which group.",
            "Lock again with Poetry 2: poetry lock",
        )
    packages = document.tables("package")
    known = {group for table in packages for group in table.texts("groups")}
    return MarkedLock(
        name=PurePath(document.file).name,
        entries=tuple(_entry(table) for table in packages),
        extras=check_known("extra", extras, list(document.table("extras").values), document),
        groups=(_MAIN, *check_known("group", groups, known, document)),
        requires_python=_specifier(metadata.optional("python-versions")),
    )


def _specifier(text: str | None) -> str | None:
    """What Poetry's older spelling of a range of Pythons, ``^3.10`` or ``~3.10``, is in PEP 440's.

    Alternatives (``||``) have no such spelling, and each package has its own ``python-versions`` and markers.
    """
    if text is None or text == "*" or "||" in text:
        return None
    parts = []
    for part in text.split(","):
        caret, tilde = _CARET.match(part.strip()), _TILDE.match(part.strip())
        if caret:
            parts.append(f">={caret['low']},<{int(caret['major']) + 1}")
        elif tilde:
            parts.append(f">={tilde['low']},<{tilde['major']}.{int(tilde['minor']) + 1}")
        else:
            parts.append(part)
    return ",".join(parts)


def _entry(at: Table) -> Entry:
    project, version = canonicalize_name(at.text("name")), read_version(at)
    source = at.table("source")
    kind = source.optional("type") or ""
    elsewhere = "" if kind in ("", "legacy") else f"{kind}, not an index"
    index = source.optional("url") or ""
    files = () if elsewhere else tuple(_file(table, project, version, index) for table in at.tables("files"))
    reference = ""
    if kind == "git":
        reference = git_reference(index, source.text("resolved_reference"), source.optional("subdirectory"))
    return Entry(
        Locked(
            project,
            version,
            files,
            requires=tuple(sorted(map(canonicalize_name, at.table("dependencies").values))),
            elsewhere=elsewhere,
            reference=reference,
        ),
        conditions=_conditions(at),
    )


def _conditions(at: Table) -> tuple[tuple[str | None, Marker | None], ...]:
    """For each group of the package the marker that goes with it: one for all of them, or a table of them."""
    groups = [canonicalize_name(name) for name in at.texts("groups")]
    if isinstance(at.values.get("markers"), dict):
        markers = at.table("markers")
        by_group = {canonicalize_name(name): markers.optional(name) for name in markers.values}
        return tuple((group, read_marker(by_group.get(group), markers)) for group in groups)
    marker = read_marker(at.optional("markers"), at)
    return tuple((group, marker) for group in groups)


def _file(at: Table, project: NormalizedName, version: str, index: str) -> File:
    return locked_file(at, at.text("file"), project, version, hashes=read_hashes([at.text("hash")], at), index=index)
