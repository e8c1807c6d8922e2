"""Values of which a large bundle has thousands, held in a third of the memory that an object for each takes."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, overload

from mirror.bundle.manifest import Member

_DIGEST = 32

ValueT = TypeVar("ValueT")


class Table(Sequence[ValueT]):
    """Values that are made anew when they are asked for; equal to a sequence of them."""

    __slots__ = ()

    @abstractmethod
    def _value(self, position: int) -> ValueT:
        """The value at *position*, which is not negative."""

    def __iter__(self) -> Iterator[ValueT]:
        return map(self._value, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> ValueT: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ValueT, ...]: ...
    def __getitem__(self, index: int | slice) -> ValueT | tuple[ValueT, ...]:
        positions = range(len(self))[index]
        return self._value(positions) if isinstance(positions, int) else tuple(map(self._value, positions))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list: more can be added


class MemberTable(Table[Member]):
    """Members in the order in which they are added. Paths are Unicode text, digests lower-case hexadecimal."""

    __slots__ = ("_digests", "_ends", "_paths", "_sizes")

    def __init__(self, members: Iterable[Member] = ()) -> None:
        self._paths = bytearray()
        self._ends = array("Q")
        self._sizes = array("Q")
        self._digests = bytearray()
        for member in members:
            self.add(member)

    def add(self, member: Member) -> None:
        """Put *member* at the end."""
        self._paths += member.path.encode()
        self._ends.append(len(self._paths))
        self._sizes.append(member.size)
        self._digests += bytes.fromhex(member.sha256)

    def __len__(self) -> int:
        return len(self._ends)

    def _value(self, position: int) -> Member:
        path = self._paths[self._ends[position - 1] if position else 0 : self._ends[position]]
        digest = self._digests[position * _DIGEST : (position + 1) * _DIGEST]
        return Member(path.decode(), self._sizes[position], digest.hex())
