"""Pages in little memory: JSON element by element, and rows that are cut out of a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.index.rows import Rows
from mirror.index.stream import read_object
from mirror.store import Store

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.just("files"), inner),
    max_leaves=12,
)


class Taken(list[Any]):
    """The elements that were handed over; of each, what its place in the document says is compared."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def __call__(self, value: Any, start: int, end: int) -> None:
        assert json.loads(self._data[start:end]) == value
        self.append(value)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]), st.sampled_from([b"", b"\xef\xbb\xbf", b" \n"]))
def test_a_document_is_what_json_makes_of_it(value: Any, escaped: bool, indent: int | None, start: bytes) -> None:
    data = start + json.dumps(value, ensure_ascii=escaped, indent=indent).encode() + b"\n"
    assert read_object(data, "files", lambda: Taken(data)) == value


@pytest.mark.parametrize("data", [b'{"files": [1], "files": [2, 3]}', b'{"files": [1], "files": {}}', b'{"files":[]}'])
def test_of_a_name_that_comes_twice_the_last_counts(data: bytes) -> None:
    assert read_object(data, "files", lambda: Taken(data)) == json.loads(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"files"',
        b'{"files":',
        b'{"files": [',
        b'{"files": [1',
        b'{"files": [1,',
        b'{"files": [1,]}',
        b'{"files": [1 2]}',
        b'{"files": [1}',
        b'{"files": []',
        b'{"files": []}}',
        b'{"files": [] "a": 1}',
        b'{"files": [],}',
        b"{1: 2}",
        b'{"a" 1}',
        b'{"a": 1} x',
        b'{"a": "\xff"}',
        b'{"files": ["\xff"]}',
        b'{"a": "\n"}',
    ],
)
def test_what_is_no_json(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json raises several kinds, each with words of its own
        json.loads(data)
    with pytest.raises(ValueError):  # noqa: PT011
        read_object(data, "files", lambda: Taken(data))


@given(VALUES, st.booleans(), st.data())
def test_of_a_document_that_is_cut_what_is_whole_counts(value: Any, escaped: bool, data: st.DataObject) -> None:
    def write(part: Any) -> bytes:
        return json.dumps(part, ensure_ascii=escaped).encode()

    files = [{"a": value}, {"é": value}]
    members: dict[str, Any] = {"meta": [value], "files": files, "z": {"b": value}}
    whole = write(members)
    end = data.draw(st.integers(1, len(whole)))
    text = whole[:end]
    found = read_object(text, "files", lambda: Taken(text), cut=True)
    before = {count: len(write({"meta": [value], "files": files[:count]})) - 2 for count in range(3)}
    assert found.pop("files", []) == files[: sum(end >= before[count] for count in (1, 2))]
    assert found == {name: members[name] for name in found}
    assert ("meta" in found) == (end >= len(write({"meta": [value]})) - 1)


@pytest.mark.parametrize("data", [b'{"a" 1, "b": "ends', b'{"files": [1 2, "and ends', b"[1, 2", b"<html><body>"])
def test_what_is_no_json_even_where_it_is_cut(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_object(data, "files", lambda: Taken(data), cut=True)


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=4), max_size=5))
def test_rows(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    scratch = Store(tmp_path_factory.getbasetemp() / "rows").scratch()
    scratch.write(b"what lies before")
    for rows in (Rows.of(texts), Rows.of(texts).kept_in(scratch), Rows.of(texts).kept_in(scratch).kept_in(scratch)):
        assert list(rows) == [rows[position] for position in range(len(rows))] == texts
        assert rows[1:] == texts[1:]
        assert [rows[-1 - position] for position in range(len(rows))] == texts[::-1]
        with pytest.raises(IndexError):
            rows[len(texts)]


def test_scratch_leaves_nothing_behind(tmp_path: Path) -> None:
    rows = Rows.of(["one", "two"]).kept_in(Store(tmp_path).scratch())
    assert list(rows) == ["one", "two"]
    del rows
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
