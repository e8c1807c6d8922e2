"""A TCP proxy in a process of its own that holds each HTTP request back: ``delay.py PORT MILLISECONDS``.

It delays what a client says after it has listened, so a request waits once, however many packets its body has. It
knows nothing of HTTP and needs no more than HTTP/1.1 without pipelining. Prints its own port as the first line.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

CHUNK = 1 << 20


class Exchange:
    """One client's connection and ours to the server."""

    def __init__(self, client: socket.socket, port: int, seconds: float) -> None:
        self._client = client
        self._server = socket.create_connection(("127.0.0.1", port))
        self._seconds = seconds
        self._answered = True  # nothing asked yet: what comes next is a request
        for end in (self._client, self._server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        threading.Thread(target=self._requests, daemon=True).start()
        threading.Thread(target=self._answers, daemon=True).start()

    def _requests(self) -> None:
        self._copy(self._client, self._server, asking=True)

    def _answers(self) -> None:
        self._copy(self._server, self._client, asking=False)

    def _copy(self, source: socket.socket, drain: socket.socket, *, asking: bool) -> None:
        buffer = memoryview(bytearray(CHUNK))
        try:
            while count := source.recv_into(buffer):
                if asking and self._answered:
                    time.sleep(self._seconds)
                self._answered = not asking
                drain.sendall(buffer[:count])
            drain.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, drain):
                end.close()  # one end has gone; the other one must know


def main() -> None:
    port, seconds = int(sys.argv[1]), float(sys.argv[2]) / 1000
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            Exchange(client, port, seconds).start()


if __name__ == "__main__":
    main()
