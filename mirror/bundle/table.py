"""Members of a bundle, held in a third of the memory that a value for each takes: a large set has three a file."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from mirror.bundle.manifest import Member

_DIGEST = 32


class MemberTable(Sequence[Member]):
    """Members in the order in which they are added, each made anew when it is asked for; equal to a sequence of them.

    Paths are Unicode text, digests lower-case hexadecimal.
    """

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

    def __iter__(self) -> Iterator[Member]:
        return map(self._member, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Member: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Member, ...]: ...
    def __getitem__(self, index: int | slice) -> Member | tuple[Member, ...]:
        positions = range(len(self))[index]
        return self._member(positions) if isinstance(positions, int) else tuple(map(self._member, positions))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list: more can be added

    def _member(self, position: int) -> Member:
        path = self._paths[self._ends[position - 1] if position else 0 : self._ends[position]]
        digest = self._digests[position * _DIGEST : (position + 1) * _DIGEST]
        return Member(path.decode(), self._sizes[position], digest.hex())
