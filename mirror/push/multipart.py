"""A multipart/form-data body (RFC 7578) with one file, streamed from disk."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from mirror.errors import IntegrityError, StorageError

# Sixteen threads hold one each, and the layers below copy it twice.
_CHUNK = 256 * 1024


class MultipartBody:
    """Text fields, then the file as the field *part*. Iterating reads the file; may be done again for another try.

    ``length`` is the size of the whole body in bytes, for a Content-Length: some servers refuse chunked requests.
    A file that changes its size between two looks is an IntegrityError.
    """

    def __init__(
        self, fields: Sequence[tuple[str, str]], *, filename: str, path: Path, size: int, part: str = "content"
    ) -> None:
        # 128 random bits: a file that holds its own boundary would have to know the future.
        boundary = secrets.token_hex(16)
        opening = f"--{boundary}\r\n"
        parts = [f'{opening}Content-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields]
        parts.append(
            f'{opening}Content-Disposition: form-data; name="{part}"; filename="{filename}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._head = "".join(parts).encode("utf-8", "replace")
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._path = path
        self._size = size
        self.length = len(self._head) + size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        opening, left = self._head, self._size
        try:
            with self._path.open("rb", buffering=0) as stream:
                while (chunk := stream.read(min(_CHUNK, left))) and len(chunk) < left:
                    left -= len(chunk)
                    yield opening + chunk
                    opening = b""
        except OSError as error:
            raise StorageError(f"Can't read {self._path}: {error.strerror}.") from error
        if len(chunk) < left:
            missing = left - len(chunk)
            raise IntegrityError(f"{self._path.name} became {missing} bytes shorter while it was sent.")
        # A piece costs the layers below as much as copying some ten thousand bytes: small files go out in one.
        yield opening + chunk + self._tail
