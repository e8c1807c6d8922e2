"""The floor under every upload: eight threads of httpx that post files, the largest first, and look at nothing.

``posts.py URL FILES...`` hashes each file and sends it with the fields that every server wants. Whether anything is
there already, what needs what, and what the index shows afterwards, it does not ask.
"""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

WORKERS = 8
CHUNK = 1 << 20


def main() -> None:
    url, *files = sys.argv[1:]
    login = os.environ["TWINE_USERNAME"], os.environ["TWINE_PASSWORD"]
    limits = httpx.Limits(max_connections=WORKERS)

    def post(path: Path) -> None:
        name, version, *_ = path.name.split("-")
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(CHUNK):
                digest.update(chunk)
            fields = {
                ":action": "file_upload",
                "protocol_version": "1",
                "metadata_version": "2.1",
                "name": name,
                "version": version,
                "filetype": "bdist_wheel",
                "pyversion": path.name.split("-")[-3],
                "sha256_digest": digest.hexdigest(),
            }
            file.seek(0)
            client.post(url, data=fields, files={"content": (path.name, file)}, auth=login).raise_for_status()

    with httpx.Client(timeout=60, limits=limits, trust_env=False) as client, ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(post, sorted(map(Path, files), key=lambda path: -path.stat().st_size)))


if __name__ == "__main__":
    main()
