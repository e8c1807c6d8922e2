"""A client that costs little: uploads every wheel of a folder, or finds each by its project's page and fetches it.

load.py upload|install UPLOAD_URL INDEX_URL FOLDER THREADS [HEADER=VALUE]
"""

from __future__ import annotations

import hashlib
import html
import http.client
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urljoin, urlsplit

BOUNDARY = "airgap-benchmark"
_local = threading.local()


def main() -> None:
    job, upload_url, index_url, folder, threads, *more = sys.argv[1:]
    headers = dict(text.split("=", 1) for text in more)
    wheels = sorted(Path(folder).glob("*.whl"))
    work = (
        (lambda path: upload(upload_url, path, headers)) if job == "upload" else (lambda path: fetch(index_url, path))
    )
    with ThreadPoolExecutor(int(threads)) as pool:
        for _ in pool.map(work, wheels):
            pass


def upload(url: str, path: Path, headers: dict[str, str]) -> None:
    project, version = path.name.split("-")[:2]
    data = path.read_bytes()
    fields = {":action": "file_upload", "protocol_version": "1", "filetype": "bdist_wheel", "pyversion": "py3"}
    fields |= {"metadata_version": "2.1", "name": project, "version": version}
    fields |= {"sha256_digest": hashlib.sha256(data).hexdigest()}
    head = "".join(part(f'name="{name}"', value) for name, value in fields.items())
    head += part(f'name="content"; filename="{path.name}"', "")[:-2]
    body = head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    status, said = ask("POST", url, body, {**kind, **headers})
    if status != 200:
        sys.exit(f"{path.name}: {status} {said[:500]!r}")


def part(disposition: str, value: str) -> str:
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n"


def fetch(index_url: str, path: Path) -> None:
    project = path.name.split("-")[0].replace("_", "-")
    page_url = f"{index_url}{project}/"
    status, page = ask("GET", page_url, b"", {"Accept": "text/html"})
    links = (html.unescape(link) for link in re.findall(r'href="([^"]+)"', page.decode()))
    link = next((link for link in links if path.name in link), None)
    if status != 200 or link is None:
        sys.exit(f"{page_url}: {status}, without {path.name}")
    status, data = ask("GET", urljoin(page_url, link.partition("#")[0]), b"", {})
    if status != 200 or len(data) != path.stat().st_size:
        sys.exit(f"{path.name}: {status}, {len(data)} bytes")


def ask(method: str, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """One request over this thread's connection, which some servers close after every answer."""
    place = urlsplit(url)
    for last in (False, True):
        if not hasattr(_local, "connection"):
            _local.connection = http.client.HTTPConnection(place.hostname or "", place.port)
        try:
            _local.connection.request(method, place.path, body or None, headers)
            answer = _local.connection.getresponse()
            return answer.status, b"".join(pieces(answer))
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            _local.connection.close()
            if last:
                raise
    raise AssertionError


def pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := answer.read(1024 * 1024):
        yield piece


if __name__ == "__main__":
    main()
