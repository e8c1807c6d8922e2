"""METADATA of a wheel that stays where it is: a few ranged requests for the end of the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirror.errors import NetworkError, NotFoundError
from mirror.metadata.wheel import read_wheel_metadata

if TYPE_CHECKING:
    from mirror.net import Client

#: Bytes of the first request: a small wheel comes whole with it, and of most others the directory and METADATA, which
#: stands before the directory with only licences and RECORD between.
TAIL = 128 * 1024
#: Bytes that a request for a directory takes in front of it, to have METADATA too: RECORD is about as long again.
_LEAST_BEFORE = 96 * 1024
_MOST_BEFORE = 1024 * 1024
#: Bytes that a request for a member takes at least: its header says how long it is, and is asked for first.
_MEMBER = 32 * 1024
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)\Z")
_UNSATISFIED = re.compile(r"bytes \*/(\d+)\Z")
#: Answers of servers that know nothing of ranges, or nothing of this kind of range.
_REFUSALS = frozenset({400, 405, 406, 416, 501})


class NoRangesError(Exception):
    """The server ignores ranged requests or gets them wrong: only the whole file will do.

    ``size`` is how long the file is, in bytes, where the server said so all the same.
    """

    def __init__(self, size: int | None = None) -> None:
        super().__init__()
        self.size = size


@dataclass(frozen=True, slots=True)
class Found:
    """METADATA, the size of the whole wheel in bytes, and its bytes where the first request brought all of them."""

    metadata: bytes
    size: int
    whole: bytes | None = None


def remote_metadata(client: Client, url: str, filename: str, size: int | None = None) -> Found:
    """Read METADATA of the wheel at *url*; a known *size* in bytes allows the kind of range that more servers know.

    Raises NoRangesError where the server can't, MetadataError where the wheel is not sound, NetworkError else.
    """
    window = _Window(client, url, size)
    return Found(
        metadata=read_wheel_metadata(window.read, window.size, filename),
        size=window.size,
        whole=window.tail if len(window.tail) == window.size else None,
    )


class _Window:
    """The pieces of a remote file that have been asked for so far; its end, ``tail``, to begin with."""

    def __init__(self, client: Client, url: str, size: int | None) -> None:
        self._client = client
        self._url = url
        start, self.size, self.tail = self._end(size)
        if start + len(self.tail) != self.size or size not in (None, self.size):
            raise NoRangesError
        self._pieces = [(start, self.tail)]

    def _end(self, size: int | None) -> tuple[int, int, bytes]:
        """Ask for the last bytes; for more than the file has, all of it should come (RFC 9110, 14.1.2).

        Nexus answers that with 416 and the size, and its groups, which hand on nothing but success, with 404.
        """
        if size is not None:
            return self._get(f"{max(0, size - TAIL)}-{size - 1}", TAIL)
        try:
            return self._get(f"-{TAIL}", TAIL)
        except NoRangesError as error:
            if not error.size:
                raise
            return self._get(f"{max(0, error.size - TAIL)}-{error.size - 1}", TAIL)
        except NotFoundError:
            return self._get(f"0-{TAIL - 1}", TAIL)

    def read(self, offset: int, length: int) -> bytes:
        """Return *length* bytes from *offset* on, which are within the file."""
        for start, data in self._pieces:
            if start <= offset and offset + length <= start + len(data):
                return data[offset - start : offset - start + length]
        start, data = self._pieces[0]
        if offset < start < offset + length:
            # The directory, whose end is here. One piece with it, so that the next question is answered too.
            first = max(0, offset - min(max(length * 3 // 2, _LEAST_BEFORE), _MOST_BEFORE))
            data = self._fetch(first, start) + data
            self._pieces[0] = first, data
            return data[offset - first : offset - first + length]
        data = self._fetch(offset, min(offset + max(length, _MEMBER), self.size))
        self._pieces.append((offset, data))
        return data[:length]

    def _fetch(self, first: int, end: int) -> bytes:
        start, total, data = self._get(f"{first}-{end - 1}", end - first)
        if (start, total, len(data)) != (first, self.size, end - first):
            raise NoRangesError
        return data

    def _get(self, span: str, length: int) -> tuple[int, int, bytes]:
        """Ask for a range; return ``(first byte, size of the file, bytes)`` as the server says it is."""
        try:
            answer = self._client.get(
                self._url,
                headers={"range": f"bytes={span}", "accept-encoding": "identity"},
                limit=length,
                accept=_REFUSALS,
            )
        except NetworkError as error:
            if type(error) is NetworkError and not error.retryable:  # more came than the range: it was ignored
                raise NoRangesError from error
            raise
        if answer.status == 200:  # a file no larger than the range, whole
            return 0, len(answer.body), answer.body
        refused = _UNSATISFIED.match(answer.headers.get("content-range", ""))
        if answer.status == 416 and refused is not None:
            raise NoRangesError(int(refused[1]))
        match = _CONTENT_RANGE.match(answer.headers.get("content-range", ""))
        if answer.status != 206 or match is None or int(match[2]) - int(match[1]) + 1 != len(answer.body):
            raise NoRangesError
        return int(match[1]), int(match[3]), answer.body
