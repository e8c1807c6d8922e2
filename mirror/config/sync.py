"""``[sync.NAME]`` in ``airgap.toml``: the periodic job on either side of the gap."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from mirror.config.document import check_keys, read_document
from mirror.config.files import expand_user
from mirror.errors import ConfigError

#: What the options of ``airgap pack`` of these names do.
_PACKING = (
    "extras",
    "groups",
    "include",
    "allow-build",
    "build-wheels",
    "all-wheels",
    "with-sdists",
    "pre-for",
    "exclude-newer",
    "exclude-newer-missing",
)
_Missing = Literal["error", "skip", "allow"]
_MISSING: tuple[_Missing, ...] = ("error", "skip", "allow")
_Word = TypeVar("_Word", bound=str)
_KEYS: Mapping[str, tuple[str, ...]] = {
    "connected": (
        "requirements",
        "constraints",
        "targets",
        "sites",
        "full-every",
        "resend-after",
        "on-failure",
        "cache-size",
        *_PACKING,
    ),
    "isolated": ("repo", "site", "on-conflict"),
}
_SHARED = ("side", "inbox", "outbox", "keep", "settle")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")
ON_FAILURE = ("stop", "last-good")
ON_CONFLICT = ("quarantine", "skip")


@dataclass(frozen=True, slots=True)
class Packing:
    """What the options of ``airgap pack`` of the same names would say.

    ``include`` are absolute patterns. ``exclude_newer`` is as written, empty without a limit: ``7d`` is counted from
    each round.
    """

    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    allow_build: tuple[str, ...] = ()
    build_wheels: tuple[str, ...] = ()
    pre_for: tuple[str, ...] = ()
    exclude_newer: str = ""
    exclude_newer_missing: _Missing = "error"
    all_wheels: bool = False
    with_sdists: bool = False


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """One ``[sync.NAME]``. Paths are absolute; ``requirements`` and ``constraints`` may be patterns.

    ``settle`` is in seconds: how long a damaged file must not have changed before it counts as damaged and not as one
    that is still being copied. ``full_every`` and ``resend_after`` are in rounds, 0 is never. ``keep`` is a number of
    bundles. ``cache_size`` is as written, empty without a limit. ``sites`` are those whose receipts count, all that
    ever sent one where it is empty; ``inbox`` is None on a connected side that gets no receipts.
    """

    name: str
    side: str
    outbox: Path
    inbox: Path | None
    source: str
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    repo: str = ""
    site: str = ""
    full_every: int = 0
    resend_after: int = 0
    keep: int = 10
    settle: int = 300
    on_failure: str = "stop"
    on_conflict: str = "quarantine"
    cache_size: str = ""
    packing: Packing = Packing()

    @property
    def connected(self) -> bool:
        return self.side == "connected"


def read_syncs(path: Path, *, home: str) -> dict[str, SyncSettings]:
    """Return the jobs that *path* declares, by name; a ConfigError says which one is wrong."""
    name, document = read_document(path, home)
    tables = document.get("sync", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{name}: sync must be tables like [sync.plant].")
    return {key: _read(key, table, path.parent, home, f"{name} [sync.{key}]") for key, table in tables.items()}


def _read(key: str, table: Any, folder: Path, home: str, place: str) -> SyncSettings:
    if not isinstance(table, dict):
        raise ConfigError(f"{place} must be a table.")
    if not _NAME.match(key):
        raise ConfigError(f"{place}: a name has letters, digits, - and _ only.")
    side = table.get("side", "")
    if not isinstance(side, str) or side not in _KEYS:
        raise ConfigError(f'{place}: side must be "connected" or "isolated".')
    check_keys(table, (*_SHARED, *_KEYS[side]), place)
    needed = ("outbox", "requirements", "targets") if side == "connected" else ("outbox", "inbox", "repo")
    for required in needed:
        if not table.get(required):
            raise ConfigError(f"{place}: {required} is missing.", hint=f"The {side} side needs {', '.join(needed)}.")
    fields = _Fields(table, place)
    site = fields.text("site", "main")
    sites = fields.texts("sites")
    for each in (site, *sites):
        if not _NAME.match(each):
            raise ConfigError(f"{place}: the name of a site has letters, digits, - and _ only.")

    def located(text: str) -> str:
        return str(folder / expand_user(text, home))

    def pattern(text: str) -> str:
        path = expand_user(text, home)
        return str(path if path.is_absolute() else Path(glob.escape(str(folder))) / path)

    inbox = fields.text("inbox")
    return SyncSettings(
        name=key,
        side=side,
        outbox=Path(located(fields.text("outbox"))),
        inbox=Path(located(inbox)) if inbox else None,
        source=place,
        requirements=tuple(map(pattern, fields.texts("requirements"))),
        constraints=tuple(map(pattern, fields.texts("constraints"))),
        targets=fields.texts("targets"),
        sites=sites,
        repo=fields.text("repo"),
        site=site,
        full_every=fields.number("full-every", 0),
        resend_after=fields.number("resend-after", 0),
        keep=fields.number("keep", 10, least=1),
        settle=fields.number("settle", 300),
        on_failure=fields.choice("on-failure", ON_FAILURE),
        on_conflict=fields.choice("on-conflict", ON_CONFLICT),
        cache_size=fields.text("cache-size"),
        packing=Packing(
            extras=fields.texts("extras"),
            groups=fields.texts("groups"),
            include=tuple(map(pattern, fields.texts("include"))),
            allow_build=fields.texts("allow-build"),
            build_wheels=fields.texts("build-wheels"),
            pre_for=fields.texts("pre-for"),
            exclude_newer=fields.text("exclude-newer"),
            exclude_newer_missing=fields.choice("exclude-newer-missing", _MISSING),
            all_wheels=fields.flag("all-wheels"),
            with_sdists=fields.flag("with-sdists"),
        ),
    )


class _Fields:
    """The values of one table, each of its type."""

    def __init__(self, table: Mapping[str, Any], place: str) -> None:
        self._table = table
        self._place = place

    def text(self, key: str, default: str = "") -> str:
        value = self._table.get(key, default)
        if not isinstance(value, str):
            raise ConfigError(f"{self._place}: {key} must be a text.")
        return value

    def choice(self, key: str, known: tuple[_Word, ...]) -> _Word:
        """One of *known*; the first where nothing is said."""
        value = self.text(key, known[0])
        for each in known:
            if value == each:
                return each
        words = " or ".join(f'"{each}"' for each in known)
        raise ConfigError(f"{self._place}: {key} must be {words}.")

    def flag(self, key: str) -> bool:
        value = self._table.get(key, False)
        if not isinstance(value, bool):
            raise ConfigError(f"{self._place}: {key} must be true or false.")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise ConfigError(f"{self._place}: {key} must be a list of texts.")
        return tuple(value)

    def number(self, key: str, default: int, *, least: int = 0) -> int:
        value = self._table.get(key, default)
        if type(value) is not int or value < least:
            raise ConfigError(f"{self._place}: {key} must be a whole number, {least} or more.")
        return value
