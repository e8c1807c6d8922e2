"""Many short texts in little memory: cut out of one long text, or out of a file, when they are looked at.

What a page says of its thousands of links is looked at for a few of them, and a string for each link would take twice
the memory of the page.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from mirror.store import Scratch


class Rows(Sequence[str]):
    """Pieces of a long UTF-8 text, which are the bytes *data*, or lie in the file *data* from *base* on.

    *bounds* has where each piece begins and where it ends, in turn and in bytes.
    """

    __slots__ = ("_base", "_bounds", "_data")

    def __init__(self, data: bytes | Scratch, bounds: array[int], base: int = 0) -> None:
        self._data = data
        self._bounds = bounds
        self._base = base

    @classmethod
    def of(cls, rows: Sequence[str]) -> Rows:
        """Keep *rows* in memory, as one."""
        text = "".join(rows)
        if text.isascii():
            return cls.cut(text.encode(), _side_by_side(map(len, rows)))
        encoded = [row.encode("utf-8", "surrogatepass") for row in rows]
        return cls.cut(b"".join(encoded), _side_by_side(map(len, encoded)))

    @classmethod
    def cut(cls, data: bytes, bounds: array[int]) -> Rows:
        """Pieces of *data*, which stays in memory."""
        return cls(data, bounds)

    def __len__(self) -> int:
        return len(self._bounds) // 2

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return list(self)[index]
        place = 2 * range(len(self))[index]
        return _decode(self._read(self._bounds[place], self._bounds[place + 1]))

    def __iter__(self) -> Iterator[str]:
        data, ends = self._whole(), iter(self._bounds)
        spans = zip(ends, ends, strict=True)
        if data.isascii():
            text = data.decode()
            return (text[start:end] for start, end in spans)
        return (_decode(data[start:end]) for start, end in spans)

    def kept_in(self, scratch: Scratch) -> Rows:
        """The same, with the text in *scratch* and only the bounds in memory."""
        return Rows(scratch, self._bounds, scratch.write(self._whole()))

    def _read(self, start: int, end: int) -> bytes:
        if isinstance(self._data, bytes):
            return self._data[start:end]
        return self._data.read(self._base + start, self._base + end)

    def _whole(self) -> bytes:
        return self._read(0, self._bounds[-1]) if self._bounds else b""


def _side_by_side(lengths: Iterable[int]) -> array[int]:
    ends = array("I", accumulate(lengths))
    return array("I", chain.from_iterable(zip(chain((0,), ends), ends, strict=False)))


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
