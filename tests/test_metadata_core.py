from __future__ import annotations

from email import message_from_string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import MetadataError
from mirror.metadata import core
from mirror.metadata.core import parse, trusted
from tests.wheelhouse import core_metadata

HEAD = b"Metadata-Version: 2.1\nName: foo\nVersion: 1.0\n"


def test_what_a_resolver_needs() -> None:
    raw = core_metadata(
        "Foo.Bar",
        "1.0rc.1",
        requires=["a >= 1, < 2", 'b[c,d]; extra == "X_y"', "e (>=1.0)", "f @ https://x.example/f.zip"],
        requires_python=">=3.8",
        extras=["X_y", "z"],
        description="Requires-Dist: nothing\n",
    )
    found = parse(raw, filename="x.whl")
    assert (found.name, found.version, found.requires_python) == ("foo-bar", "1.0rc1", ">=3.8")
    assert [str(requirement) for requirement in found.requires_dist] == [
        "a<2,>=1",
        'b[c,d]; extra == "x-y"',
        "e>=1.0",
        "f @ https://x.example/f.zip",
    ]
    assert found.provides_extra == {"x-y", "z"}
    assert found.raw == raw


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_and_folded_lines(end: bytes) -> None:
    raw = (
        HEAD
        + b"requires-dist: a\n  ; python_version\n\t> '3'\nDESCRIPTION: x\n  Requires-Dist: no\n\nRequires-Dist: b\n"
    )
    found = parse(raw.replace(b"\n", end), filename="x")
    assert [str(requirement) for requirement in found.requires_dist] == ['a; python_version > "3"']


def test_byte_order_mark_and_strange_bytes() -> None:
    assert parse(b"\xef\xbb\xbf" + HEAD + b"Author: \xff\xfe\n", filename="x").name == "foo"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "no Name"),
        (b"\n" + HEAD, "no Name"),
        (b"Name: foo\n", "no Version"),
        (b"Name: \nVersion: 1\n", "no Name"),
        (b"Name: -foo\nVersion: 1\n", "'-foo' is not a valid Name"),
        (b"Name: foo\nVersion: one\n", "'one' is not a valid Version"),
        (HEAD + b"Requires-Dist: a\nRequires-Dist: b>\n", "'b>' is not a valid Requires-Dist"),
        (HEAD + b"Requires-Dist: \xff\n", "is not a valid Requires-Dist"),
    ],
)
def test_errors_name_the_file_and_the_field(raw: bytes, told: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse(raw, filename="foo-1.0-py3-none-any.whl")
    assert told in str(caught.value)
    assert str(caught.value).startswith("foo-1.0-py3-none-any.whl: ")


@pytest.mark.parametrize(
    ("version", "dynamic", "expected"),
    [
        ("1.1", [], False),
        ("2.1", [], False),
        ("2.2", [], True),
        ("2.4", ["Description", "License-File"], True),
        ("3.0", [], True),
        ("2.10", [], True),
        ("2.2", ["requires-dist"], False),
        ("2.2", ["Requires-Python"], False),
        ("2.4", ["License", "Provides-Extra"], False),
        ("two", [], False),
    ],
)
def test_which_sdists_are_trusted(version: str, dynamic: list[str], expected: bool) -> None:
    assert trusted(core_metadata("foo", "1", metadata_version=version, dynamic=dynamic)) is expected


def test_without_a_metadata_version_nothing_is_trusted() -> None:
    assert trusted(b"Name: foo\nVersion: 1\n") is False


starts = ["Name:", "Requires-Dist: ", "requires-dist:\t", "X:", "  ", "\t", "", "From ", "Dynamic: ", "no field", ":"]
lines = st.lists(
    st.builds(
        lambda start, value, end: start + value + end,
        st.sampled_from(starts),
        st.text("ab :>=;é.", max_size=8),
        st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"]),
    ),
    max_size=12,
)


@given(lines.map("".join))
def test_fields_are_those_that_the_email_parser_finds(document: str) -> None:
    message = message_from_string(document)
    found = core._headers(document.encode())
    for field in ("name", "requires-dist", "dynamic"):
        expected = [" ".join(str(value).split()) for value in message.get_all(field) or []]
        assert [" ".join(value.split()) for value in found.get(field, [])] == expected
