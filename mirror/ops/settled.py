"""A run that comes to what an earlier one came to, and needs not be made: nothing that decides has changed.

What a pack comes to follows from the inputs, the targets, the settings, this program, and what the indexes answered;
files are named by digests, and those don't change. A run of which all that is known leaves a note under everything but
the answers. The next one asks the same pages again, conditionally. Where all of them answer as they did, and the bundle
at the output has the digest that was written, that is what another run would write. Everything is light here: what
resolves, proves and compresses is not even loaded. An index whose answers carry no validator is looked at anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event as Flag
from urllib.parse import quote

from mirror.config import Config
from mirror.errors import NetworkError
from mirror.index.answer import Asked
from mirror.index.sources import Sources
from mirror.models import Event, Plan, Reporter, RequirementSet, Stage, Target, Written
from mirror.net import Client
from mirror.ops.access import index_client, index_sources
from mirror.ops.packed import Packed
from mirror.ops.program import program
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
#: Seconds after which a note goes: inputs and times (``--exclude-newer 7d``) that never come again leave some behind.
_KEPT = 30 * 24 * 3600.0


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
    key = key_of(wanted, targets, config)
    if key is None or packed.written is None or not all(one.has_validator for one in asked):
        return
    if sum(1 for target in packed.plan.targets for _ in target.every_pin()) + len(packed.plan.extras) > _MOST_PINS:
        return
    files = [(name, packed.sha256[name], packed.sizes[name]) for name in packed.plan.files()]
    known = tuple((name, sha256, size) for name, sha256, size in files if sha256 is not None and size is not None)
    if len(known) == len(files):
        run = _Run(tuple(dict.fromkeys(asked)), packed.plan, known, packed.written.identity)
        store.set_note(_NAMESPACE, key, spell(run).encode("utf-8", "surrogatepass"))
        store.drop_notes(_NAMESPACE, time.time() - _KEPT)


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
    follows need not ask for them again. Where an index gives no answer, that run finds out whether it is needed.
    """
    key = key_of(wanted, targets, config)
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
        try:
            same = not changed.is_set() and one.still_true(client, urls[one.index] + path)
        except NetworkError:
            same = False
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
        try:
            return all(pool.map(true, asked[2:]))
        except KeyboardInterrupt:  # nobody waits for what is tried again and again
            changed.set()
            client.close()
            raise


def key_of(wanted: RequirementSet, targets: tuple[Target, ...], config: Config) -> str | None:
    """All that decides besides the indexes, as text; None where there is more to it than can be told cheaply.

    It carries no credentials, and of ``config`` nothing that only says how to connect.
    """
    sources, find_links = index_sources(config, wanted)
    lines = (*wanted.requirements, *wanted.constraints)
    if any(line.requirement.url for line in lines):
        return None
    if not sources or not all(source.url.lower().startswith(("http://", "https://")) for source in sources):
        return None
    folders = [[place, _names(place)] for place in find_links]
    this = program()
    if this is None or not all(names is not None for _, names in folders):
        return None
    return spell(
        [
            this,
            replace(wanted, index_url=None, extra_index_urls=()),  # they are among the sources
            targets,
            [[with_slash(without_credentials(source.url)), source.projects] for source in sources],
            folders,
            config.index_strategy.value,
            [config.pre.value, config.no_binary.value, config.only_binary.value],
        ]
    )


def _names(folder: str) -> list[str] | None:
    """The files in *folder*; None where it is none, or can't be read.

    Names will do: a folder shows no digests, and where a file without one was read, no note was left.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_file())
    except (OSError, ValueError):
        return None
