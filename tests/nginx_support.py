"""A real nginx, with few words of configuration; the test is skipped where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.push_support import process

_PATHS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextmanager
def nginx(folder: Path, server: str, *, http: str = "", ready: str = "/simple/") -> Iterator[str]:
    """Run nginx with *server* in its ``server`` block and *http* above it until *ready* answers; yields its URL."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin:" + os.environ["PATH"])
    if program is None:
        pytest.skip("nginx is not installed")
    port = free_port()
    user = "user root; " if os.geteuid() == 0 else ""
    paths = "".join(f"{name}_temp_path {folder}/{name}; " for name in _PATHS)
    (folder / "nginx.conf").write_text(
        f"{user}daemon off; pid {folder}/pid; error_log stderr; events {{}} http {{ {paths}access_log off; "
        f"types {{ text/html html; application/vnd.pypi.simple.v1+json json; }} {http} "
        f"server {{ listen 127.0.0.1:{port}; {server} }} }}"
    )
    url = f"http://127.0.0.1:{port}"
    with process([program, "-c", str(folder / "nginx.conf"), "-e", "stderr"], f"{url}{ready}", folder / "log"):
        yield url
