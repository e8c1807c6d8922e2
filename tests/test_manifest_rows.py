"""Manifests read line by line: what comes out, what is refused, and how little of it is held."""

from __future__ import annotations

import gc
import io
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mirror.bundle import Manifest, Rows, parse_manifest, reading
from mirror.bundle.canonical import spell
from mirror.bundle.rows import read_manifest
from mirror.bundle.table import MemberTable
from mirror.errors import BundleError
from mirror.ops.delta import open_rows, read_since
from mirror.ops.diff import diff
from tests.bundle_support import large_manifest, write_small

#: Projects of four files each.
FEW, MANY = 50, 250


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("manifests")
    for projects in (FEW, MANY):
        (made / f"{projects}.json").write_bytes(large_manifest(projects).to_bytes())
        (made / f"{projects}-changed.json").write_bytes(large_manifest(projects, "9.9").to_bytes())
    return made


def lines(data: bytes) -> Callable[[], io.BytesIO]:
    return lambda: io.BytesIO(data)


def lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from stream


def test_rows_say_what_the_manifest_says(tmp_path: Path) -> None:
    written = write_small(tmp_path)
    with open_rows(written.path) as rows:
        files = list(rows.files())
    manifest = parse_manifest(large_manifest(3).to_bytes())
    assert manifest == large_manifest(3)
    assert rows.identity == written.identity
    assert [file.project for file in files] == ["alpha", "beta", "beta", "gamma-thing"]
    with reading(lines(manifest.to_bytes())) as rows:
        assert dict(rows.grouped()) == dict(manifest.grouped())
    assert (rows.identity, rows.targets, rows.members) == (manifest.identity, manifest.targets, [])
    assert manifest.size == len(manifest.to_bytes())


def test_a_table_of_members_is_a_sequence_of_them() -> None:
    members = large_manifest(3).members
    table = MemberTable(members)
    assert table == members
    assert members == table
    assert [table[position] for position in range(-len(members), len(members))] == [*members, *members]
    assert table[1:4] == members[1:4]
    assert list(table) == list(members)
    assert table != members[1:]
    assert table != [*members[:-1], replace(members[-1], size=members[-1].size + 1)]
    with pytest.raises(IndexError):
        table[len(members)]


def test_a_table_of_members_takes_little_of_each() -> None:
    def table(projects: int) -> int:
        members = large_manifest(projects).members
        gc.collect()
        tracemalloc.start()
        try:
            made = MemberTable(members)
            return tracemalloc.get_traced_memory()[0] // len(made)
        finally:
            tracemalloc.stop()

    assert table(MANY) < 150


def test_what_only_an_empty_list_has_in_its_lines() -> None:
    data = Manifest().to_bytes()
    assert data == b'{"files":[],\n"format":"airgap-bundle",\n"members":[],\n"targets":[],\n"version":1}\n'
    rows = Rows(io.BytesIO(data))
    assert list(rows.files()) == []
    assert b"".join(spell({"b": [], "a": iter([1, "x"])})) == b'{"a":[\n1,\n"x"\n],\n"b":[]}\n'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.replace(b'"size":', b'"size": ', 1), "canonical"),
        (lambda data: data.replace(b",\n{", b", \n{", 1), "canonical"),
        (lambda data: data.replace(b'"version":1}\n', b'"version":1}'), "canonical"),
        (lambda data: data + b" ", "canonical"),
        (lambda data: data[:-40], "is not JSON"),
        (lambda data: data.replace(b'"members":[\n', b'"members":[\n[]\n,', 1), r"members\[0\] is not an object"),
        (lambda data: data.replace(b'"format":', b'"files":[],\n"format":', 1), "canonical|twice|sorted|missing|names"),
        (lambda data: data.replace(b'"version":1}', b'"version":2}'), "format version 2; this airgap reads 1"),
        (lambda data: b'{"files":{},\n' + data.partition(b"],\n")[2], "files is not a list"),
    ],
)
def test_lines_that_no_manifest_has(change: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        parse_manifest(change(large_manifest(3).to_bytes()))


def test_projects_that_are_not_sorted_can_not_be_compared() -> None:
    manifest = large_manifest(3)
    shuffled = replace(manifest, files=manifest.files[::-1]).to_bytes()
    with reading(lines(shuffled)) as rows, pytest.raises(BundleError, match="not sorted"):
        diff(rows, manifest)


def grown(work: Callable[[int], object]) -> int:
    """How many bytes more *work* holds at its peak with MANY projects than with FEW."""
    work(FEW)  # whatever it loads and caches is not counted
    peaks = []
    for projects in (FEW, MANY):
        gc.collect()
        tracemalloc.start()
        try:
            work(projects)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return peaks[1] - peaks[0]


def test_comparing_holds_next_to_nothing_of_each_further_file(folder: Path) -> None:
    def compare(projects: int) -> None:
        with open_rows(folder / f"{projects}.json") as old, open_rows(folder / f"{projects}-changed.json") as new:
            assert [change.project for change in diff(old, new).projects][:1] == ["project-00000"]

    assert grown(compare) < 250 * 4 * (MANY - FEW)  # versions by target, and what was said before


@pytest.mark.parametrize(
    ("read", "limit"),
    [
        (read_since, 500),  # a file's name, digest, and who brought it
        (lambda path: read_manifest(partial(lines_of, path)), 2500),  # everything, while it is checked
    ],
    ids=["since", "manifest"],
)
def test_little_is_held_of_each_further_file(folder: Path, read: Callable[[Path], object], limit: int) -> None:
    assert grown(lambda projects: read(folder / f"{projects}.json")) < limit * 4 * (MANY - FEW)
