"""The floor under every download: fetch the URLs of a file with four threads, hash while writing, nothing else."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

WORKERS = 4
CHUNK = 1 << 18


def main() -> None:
    listing, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir()
    # One line each: sha256 and URL. The largest first, so that no thread is left alone with it at the end.
    todo = iter([line.split() for line in listing.read_text("utf-8").splitlines()])
    lock = threading.Lock()
    with ThreadPoolExecutor(WORKERS) as pool:
        for done in [pool.submit(work, todo, lock, folder) for _ in range(WORKERS)]:
            done.result()


def work(todo: Iterator[list[str]], lock: threading.Lock, folder: Path) -> None:
    connection: HTTPConnection | None = None
    buffer = memoryview(bytearray(CHUNK))
    while True:
        with lock:
            job = next(todo, None)
        if job is None:
            return
        sha256, url = job
        parts = urlsplit(url)
        connection = connection or HTTPConnection(parts.netloc)
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        digest = hashlib.sha256()
        with (folder / sha256).open("wb", buffering=0) as file:
            while count := answer.readinto(buffer):
                digest.update(buffer[:count])
                file.write(buffer[:count])
        if answer.status != 200 or digest.hexdigest() != sha256:
            sys.exit(f"{url}: status {answer.status}, sha256 {digest.hexdigest()}")


if __name__ == "__main__":
    main()
