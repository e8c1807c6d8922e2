"""A run that comes to what an earlier one came to, and needs not be made: nothing that decides has changed.

What a pack comes to follows from the inputs, the targets, the settings, this program, and what the indexes answered;
files are named by digests, and those don't change. A run of which all that is known leaves a note under everything but
the answers. The next one asks the same pages again, conditionally. Where all of them answer as they did, and the bundle
at the output has the digest that was written, that is what another run would write. Everything is light here: what
resolves, proves and compresses is not even loaded.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from urllib.parse import quote

import packaging

from mirror import __version__
from mirror.config import Config
from mirror.index.answer import Asked
from mirror.index.sources import Sources
from mirror.models import Event, Plan, Reporter, RequirementSet, Stage, Target, Written
from mirror.net import Client
from mirror.ops.access import index_client, index_sources
from mirror.ops.packed import Packed
from mirror.ops.spelled import spell, unspell
from mirror.ops.unchanged import Existing
from mirror.store import Store
from mirror.urls import with_slash, without_credentials

_NAMESPACE = "settled"
# A pin takes a kilobyte of the note and several while that is made: sets of tens of thousands of pins leave none.
_MOST_PINS = 5_000
# Threads that ask: on a fast link the processor is the limit, and more of them get into each other's way.
_NEAR, _FAR = 3, 16
#: Seconds that an answer may take to come from near.
_NEAR_ANSWER = 0.01


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run was told and what it came to. ``files`` are name, SHA-256 and size in bytes of each."""

    asked: tuple[Asked, ...]
    plan: Plan
    files: tuple[tuple[str, str, int], ...]
    identity: str


class Heard:
    """A reporter in front of another one; ``warned`` is whether somebody was warned of something."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self.warned = False

    def __call__(self, event: Event) -> None:
        self.warned = self.warned or event.kind == "warning"
        self._report(event)


def settle(
    store: Store,
    wanted: RequirementSet,
    targets: tuple[Target, ...],
    config: Config,
    asked: Sequence[Asked],
    packed: Packed,
) -> None:
    """Leave a note of a run that wrote *packed* after the indexes were *asked*, unless something else decided too."""
    key = _key(wanted, targets, config)
    if key is None or packed.written is None or sum(len(target.pins) for target in packed.plan.targets) > _MOST_PINS:
        return
    files = [(name, packed.sha256[name], packed.sizes[name]) for name in packed.plan.files()]
    known = tuple((name, sha256, size) for name, sha256, size in files if sha256 is not None and size is not None)
    if len(known) == len(files):
        run = _Run(tuple(asked), packed.plan, known, packed.written.identity)
        store.set_note(_NAMESPACE, key, spell(run).encode("utf-8", "surrogatepass"))


def settled(
    wanted: RequirementSet,
    targets: tuple[Target, ...],
    output: Path,
    config: Config,
    report: Reporter,
    fresh: dict[str, str],
) -> Packed | None:
    """What packing would come to, where *output* has it already and nothing that decides has changed; else None.

    Puts into *fresh* the digests of the pages that were found unchanged, by URL without credentials: the run that
    follows need not ask for them again. Raises a NetworkError where an index gives no answer.
    """
    key = _key(wanted, targets, config)
    store = Store(config.cache.value)
    note = store.note(_NAMESPACE, key) if key is not None and output.is_file() else None
    if note is None:
        return None
    try:
        run = unspell(_Run, note.decode("utf-8", "surrogatepass"))
    except (ValueError, TypeError):  # another version of airgap wrote it
        return None
    sources, _ = index_sources(config, wanted)
    with store.using(), Existing(output) as existing, index_client(config, wanted, sources, report) as client:
        urls = {without_credentials(source.url): source.url for source in Sources(sources)}
        if not _all_true(client, urls, run.asked, fresh):
            return None
        written: Written | None = existing.unchanged(run.identity, store)
    if written is None:
        return None
    report(Event("info", Stage.RESOLVE, "Every index answers as it did, and the bundle is there: nothing to do."))
    sizes = {name: size for name, _, size in run.files}
    return Packed(run.plan, sizes, {name: sha256 for name, sha256, _ in run.files}, written)


def _all_true(client: Client, urls: dict[str, str], asked: Sequence[Asked], fresh: dict[str, str]) -> bool:
    """Whether every page is as it was, which *fresh* is told of; stops at the first that is not."""
    changed = Flag()

    def true(one: Asked) -> bool:
        path = f"{quote(one.project)}/"
        same = not changed.is_set() and one.still_true(client, urls[one.index] + path)
        if same:
            fresh[one.index + path] = one.digest
        else:
            changed.set()
        return same

    took = 0.0
    for one in asked[:2]:  # the first one connects
        began = time.monotonic()
        if not true(one):
            return False
        took = time.monotonic() - began
    with ThreadPoolExecutor(_NEAR if took < _NEAR_ANSWER else _FAR, "ask") as pool:
        return all(pool.map(true, asked[2:]))


def _key(wanted: RequirementSet, targets: tuple[Target, ...], config: Config) -> str | None:
    """All that decides besides the indexes, as text; None where there is more to it than can be told cheaply."""
    sources, find_links = index_sources(config, wanted)
    lines = (*wanted.requirements, *wanted.constraints)
    if any(line.requirement.url for line in lines):
        return None
    if not sources or not all(source.url.lower().startswith(("http://", "https://")) for source in sources):
        return None
    if not all(Path(place).is_dir() for place in find_links):
        return None
    # Names will do: a folder shows no digests, and where a file without one was read, no note was left.
    folders = [[place, sorted(entry.name for entry in os.scandir(place) if entry.is_file())] for place in find_links]
    installed = 0
    with suppress(OSError):  # of two builds of one version, each has its own notes
        installed = Path(__file__).stat().st_mtime_ns
    return spell(
        [
            [__version__, installed, packaging.__version__, sys.version],
            wanted,
            targets,
            [[with_slash(without_credentials(source.url)), source.projects] for source in sources],
            folders,
            config.index_strategy.value,
            [config.pre.value, config.no_binary.value, config.only_binary.value],
        ]
    )
