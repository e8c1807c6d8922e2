"""``pylock.TARGET.toml``: what one target installs, as a PEP 751 lock whose paths lead into ``packages/``. Pure.

Written here and not by ``packaging.pylock``, which models the file but writes no TOML. The tests read every lock back
through it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from mirror.bundle.manifest import BundledFile, BundledTarget, Manifest, lock_path
from mirror.errors import BundleError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Markers that tell one target from another and that an installer knows; the releases of kernels are not among them.
_MARKERS = ("implementation_name", "os_name", "platform_machine", "sys_platform")
# TOML's own date-time, as PEP 700 spells it; anything else would make the lock invalid.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|\+00:00)\Z")


def render_lock(target: BundledTarget, files: Iterable[BundledFile]) -> Iterator[bytes]:
    """Yield the lock of *target*; *files* are those of the whole bundle."""
    python = target.markers.get("python_version", "")
    lines = ['lock-version = "1.0"']
    conditions = [f"{name} == {_quoted(target.markers[name])}" for name in _MARKERS if target.markers.get(name)]
    if conditions:
        lines.append(f"environments = [{_text(' and '.join(conditions))}]")
    if python:
        lines.append(f"requires-python = {_text(f'=={python}.*')}")
    lines.append('created-by = "airgap"')
    mine = sorted((file for file in files if target.name in file.targets), key=lambda file: file.project)
    if not mine:
        lines.append("packages = []")
    yield _encoded(lines)
    for file in mine:
        lines = ["", "[[packages]]", f"name = {_text(file.project)}", f"version = {_text(file.version)}"]
        if file.requires_python and _is_specifier(file.requires_python):
            lines.append(f"requires-python = {_text(file.requires_python)}")
        requires = [name for name in file.requires if name in target.pins]
        if requires:
            lines.append(f"dependencies = [{', '.join(f'{{name = {_text(name)}}}' for name in requires)}]")
        if file.index:
            lines.append(f"index = {_text(file.index)}")
        lines += ["", "[[packages.wheels]]" if file.is_wheel else "[packages.sdist]"]
        lines.append(f"name = {_text(file.filename)}")
        if file.upload_time and _is_time(file.upload_time):
            lines.append(f"upload-time = {file.upload_time}")
        lines += [
            f"path = {_text(f'../packages/{file.filename}')}",
            f"size = {file.size}",
            f"hashes = {{sha256 = {_text(file.sha256)}}}",
        ]
        yield _encoded(lines)


def check_lock(manifest: Manifest, path: str, body: bytes) -> None:
    """Raise a BundleError unless the lock at *path* names exactly the files that its target installs."""
    target = next((target.name for target in manifest.targets if lock_path(target.name) == path), None)
    try:
        packages = tomllib.loads(body.decode())["packages"]
        named = [(file["path"], file["hashes"]["sha256"]) for package in packages for file in _files(package)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path} can't be read: {error}.") from error
    wanted = [(f"../{file.path}", file.sha256) for file in manifest.files if target in file.targets]
    if sorted(named) != sorted(wanted):
        raise BundleError(f"{path} does not name the files that the manifest names for this target.")


def _encoded(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _files(package: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]


def _is_specifier(text: str) -> bool:
    """Old releases carry what PEP 440 never allowed; a lock with it would be refused as a whole."""
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        return False
    return True


def _is_time(text: str) -> bool:
    """Whether *text* is a moment as TOML has it: a month 13 would make the lock invalid."""
    try:
        return _TIME.match(text) is not None and bool(tomllib.loads(f"time = {text}"))
    except ValueError:
        return False


def _text(value: str) -> str:
    """A TOML basic string: JSON's escapes, and DEL, which JSON leaves alone."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _quoted(value: str) -> str:
    """A marker's string (PEP 508), which knows no escapes: whatever could end or break it is dropped."""
    return '"' + "".join(letter for letter in value if letter.isprintable() and letter not in '"\\') + '"'
