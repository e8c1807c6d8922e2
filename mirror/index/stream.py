"""A large JSON object, one member of which is an array that is taken in element by element. Pure.

Parsed whole, a page of thousands of files becomes a tree of dicts and strings with ten times its size.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

#: Takes an element of the array, and where it begins and ends in the document.
Take = Callable[[Any, int, int], None]

_decode = json.JSONDecoder().raw_decode
_space = re.compile(r"[ \t\n\r]*").match
_comma = re.compile(r"[ \t\n\r]*,[ \t\n\r]*").match
#: Characters of the longest piece that is an error without its end: an escape, as ``\\u00e9``. ``false`` has fewer.
_LONGEST_PIECE = 6


def read_object(data: bytes, name: str, begin: Callable[[], Take], *, cut: bool = False) -> Any:
    """Parse the UTF-8 document *data*, as :func:`json.loads` does, and return what it is.

    Where it is an object whose member *name* is an array, the array's elements go to what *begin* returns, and that
    becomes the member's value; it begins again where the name comes again, as the last one counts. Of an object that is
    *cut* off somewhere, what is whole counts (and a number at its very end, which may have gone on). Raises a
    ValueError where the document is not JSON, a RecursionError where it is nested too deeply.
    """
    reader = _Reader(data)
    at = reader.skip(len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0)
    if not reader.text.startswith("{", at):
        return json.loads(data)
    found: dict[str, Any] = {}
    try:
        _read_members(reader, at, found, name, begin)
    except json.JSONDecodeError as error:
        if not cut or not reader.ran_out(error):
            raise
    return found


def _read_members(reader: _Reader, at: int, found: dict[str, Any], name: str, begin: Callable[[], Take]) -> None:
    """Put the members of the object at *at*, which is all of the document, into *found*."""
    at = reader.skip(at + 1)
    more = not reader.text.startswith("}", at)
    at += not more
    while more:
        key, at = reader.value(at)
        if not isinstance(key, str):
            raise reader.wrong("Expecting property name enclosed in double quotes", at)
        at = reader.after(":", at)
        if key == name and reader.text.startswith("[", at):
            found[key] = take = begin()
            at = reader.elements(at, take)
        else:
            found[key], at = reader.value(at)
        at, more = reader.after_item("}", at)
    if reader.skip(at) != len(reader.text):
        raise reader.wrong("Extra data", at)


class _Reader:
    """Values at places of a document."""

    def __init__(self, data: bytes) -> None:
        # Every byte as a character: places in the text are places in the document, and one emoji does not make four
        # bytes of every letter. A value with more than ASCII is decoded again as what it is.
        self.text = data.decode("latin-1")
        self._data = data
        self._ascii = data.isascii()

    def value(self, at: int) -> tuple[Any, int]:
        """The value at *at*, and where it ends."""
        found, end = _decode(self.text, at)
        if not self._ascii and not self._data[at:end].isascii():
            found = json.loads(self._data[at:end])
        return found, end

    def elements(self, at: int, take: Take) -> int:
        """Hand over the elements of the array at *at*; return where it ends."""
        at = self.skip(at + 1)
        if self.text.startswith("]", at):
            return at + 1
        value = partial(_decode, self.text) if self._ascii else self.value
        while True:
            found, end = value(at)
            take(found, at, end)
            comma = _comma(self.text, end)
            if comma is None:
                return self.after_item("]", end)[0]
            at = comma.end()

    def after_item(self, closing: str, at: int) -> tuple[int, bool]:
        """Where it goes on after an item that ends at *at*, and whether another one follows."""
        at = self.skip(at)
        if self.text.startswith(closing, at):
            return at + 1, False
        return self.after(",", at), True

    def after(self, delimiter: str, at: int) -> int:
        at = self.skip(at)
        if not self.text.startswith(delimiter, at):
            raise self.wrong(f"Expecting {delimiter!r} delimiter", at)
        return self.skip(at + 1)

    def skip(self, at: int) -> int:
        """The next place that is not white space."""
        found = _space(self.text, at)
        return found.end() if found else at

    def ran_out(self, error: json.JSONDecodeError) -> bool:
        """Whether *error* is that the document ends too early: in a string, within a piece, or between two."""
        return error.msg.startswith("Unterminated string") or error.pos + _LONGEST_PIECE > len(self.text)

    def wrong(self, reason: str, at: int) -> ValueError:
        return json.JSONDecodeError(reason, self.text, at)
