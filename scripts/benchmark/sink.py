"""A repository that takes uploads as fast as they come and keeps none: what is measured against it is the client.

``sink.py [MILLISECONDS]`` prints its port as the first line and holds each request back so long. It remembers the name
and the sha256 that each form claims, and shows them in a simple index (PEP 503) at ``/simple/``. It hashes nothing.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
import time

CHUNK = 1 << 18
FIELDS = re.compile(rb'name="(sha256_digest|name)"\r\n\r\n([^\r\n]+)\r\n')
FILENAME = re.compile(rb'name="content"; filename="([^"]+)"')
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MATCH = re.compile(rb"\r\nif-none-match: *([^\r\n]+)", re.IGNORECASE)


class Sink:
    """What the index shows: file names and digests by normalised project."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.projects: dict[str, dict[str, str]] = {}

    def serve(self, connection: socket.socket) -> None:
        """Answer one request after another until the client has gone."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        room = memoryview(bytearray(CHUNK))
        data = b""
        with connection:
            while True:
                while b"\r\n\r\n" not in data:
                    count = connection.recv_into(room)
                    if not count:
                        return
                    data += room[:count]
                head, _, data = data.partition(b"\r\n\r\n")
                if self._seconds:
                    time.sleep(self._seconds)
                length = int(found[1]) if (found := LENGTH.search(head)) else 0
                if b"\r\nexpect: 100-continue" in head.lower():
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                if length:
                    data = self._take(connection, room, data, length)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                else:
                    connection.sendall(self._page(head))

    def _take(self, connection: socket.socket, room: memoryview, data: bytes, length: int) -> bytes:
        """Read a form of *length* bytes; only its fields, which come before the file, are looked at."""
        kept = bytearray(data[:length])
        left = length - len(kept)
        while left and FILENAME.search(kept) is None:
            count = connection.recv_into(room[: min(left, CHUNK)])
            kept += room[:count]
            left -= count
        fields = {name: value.decode() for name, value in FIELDS.findall(kept)}
        filename = FILENAME.search(kept)
        if filename is not None:
            project = re.sub(r"[-_.]+", "-", fields[b"name"]).lower()
            self.projects.setdefault(project, {})[filename[1].decode()] = fields[b"sha256_digest"]
        while left:
            left -= connection.recv_into(room[: min(left, CHUNK)])
        return data[length:]

    def _page(self, head: bytes) -> bytes:
        path = head.split(b" ", 2)[1].decode().strip("/")
        project = path.removeprefix("simple").strip("/")
        if not project:
            lines = [f'<a href="{name}/">{name}</a>' for name in sorted(self.projects)]
        elif project in self.projects:
            files = self.projects[project].items()
            lines = [f'<a href="/files/{name}#sha256={digest}">{name}</a>' for name, digest in files]
        else:
            return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
        body = f"<!DOCTYPE html><html><body>{'<br>'.join(lines)}</body></html>".encode()
        etag = f'"{len(lines)}"'.encode()
        given = MATCH.search(head)
        if given is not None and given[1] == etag:
            return b"HTTP/1.1 304 Not Modified\r\netag: " + etag + b"\r\n\r\n"
        length = str(len(body)).encode()
        return (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\netag: " + etag + b"\r\ncontent-length: "
            + length + b"\r\n\r\n" + body
        )  # fmt: skip


def main() -> None:
    sink = Sink(float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0)
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=sink.serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
