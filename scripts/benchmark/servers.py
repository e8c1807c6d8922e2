"""The servers that a benchmark talks to, each in a process of its own, all on the loopback address."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS_TO_START = 30
NGINX = """
worker_processes 2; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; default_type application/octet-stream;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  types {{ text/html html; application/vnd.pypi.simple.v1+json json; }}
  map $http_accept $page {{ default html; "~vnd\\.pypi\\.simple\\.v1\\+json" json; }}
  server {{
    listen 127.0.0.1:{port}; root "{root}";
    location /simple/ {{ try_files "${{uri}}index.$page" "${{uri}}index.html" =404; }}
    location /html/simple/ {{ try_files "${{uri}}index.html" =404; }}
    location /json/simple/ {{ try_files "${{uri}}index.json" =404; }}
  }}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not takes_connections(port):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"bench: {process.args!r} does not answer on port {port}")
        time.sleep(0.02)


def takes_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: list[str], port: int, environ: dict[str, str] | None = None) -> Iterator[int]:
    """Run a server until the end of the block. Yields its port once that takes connections."""
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def find_nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")


@contextmanager
def nginx(program: str, root: Path, folder: Path) -> Iterator[int]:
    """Serve *root* as a static index, JSON pages to those who ask for them and where there are any."""
    port = free_port()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # nginx reads a space as the end of an argument: everything but the root, which is quoted, is relative to -p.
    (folder / "nginx.conf").write_text(NGINX.format(folder=".", port=port, root=root), "utf-8")
    # As root, nginx gives its workers to another user, who may not read a folder below a private home.
    directives = "user root;" if os.geteuid() == 0 else ""
    command = [program, "-p", str(folder), "-c", "nginx.conf", "-e", "error.log", "-g", directives]
    with running(command, port) as served:
        yield served


@contextmanager
def airgap_serve(home: Path) -> Iterator[int]:
    port = free_port()
    environ = {"AIRGAP_HOME": str(home), "PATH": sysconfig.get_path("scripts"), "HOME": str(home)}
    command = [str(Path(sysconfig.get_path("scripts"), "airgap")), "serve", "--port", str(port)]
    with running(command, port, environ) as served:
        yield served


@contextmanager
def pypiserver(folder: Path) -> Iterator[int]:
    """An empty repository that takes uploads from anybody."""
    port = free_port()
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "pypiserver", "run", "-i", "127.0.0.1", "-p", str(port), "-P", ".", "-a", "."]
    with running([*command, str(folder)], port) as served:
        yield served


@contextmanager
def sink(milliseconds: float) -> Iterator[int]:
    """Takes uploads and keeps none; holds every request back by itself, which costs less than :func:`delayed` does."""
    with _beside("sink.py", milliseconds) as port:
        yield port


@contextmanager
def delayed(port: int, milliseconds: float) -> Iterator[int]:
    """The same server behind :mod:`delay`, or itself where there is nothing to delay."""
    if not milliseconds:
        yield port
        return
    with _beside("delay.py", port, milliseconds) as held_back:
        yield held_back


@contextmanager
def _beside(program: str, *arguments: float) -> Iterator[int]:
    """Run a program of this folder, which prints its port as the first line."""
    command = [sys.executable, str(Path(__file__).with_name(program)), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


@contextmanager
def devpi(folder: Path) -> Iterator[int]:
    """A devpi-server without a mirror, whose user root has an empty password."""
    port = free_port()
    scripts = Path(sysconfig.get_path("scripts"))
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    command = [str(scripts / "devpi-init"), "--serverdir", str(folder / "data"), "--no-root-pypi"]
    subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    command = [str(scripts / "devpi-server"), "--serverdir", str(folder / "data"), "--host", "127.0.0.1"]
    with running([*command, "--port", str(port)], port, environ) as served:
        yield served
