"""Commits over the transports that people have: git's own HTTP server behind TLS, and ssh."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from mirror.build.git import checkout, parse_reference
from mirror.errors import NetworkError
from mirror.models import RequirementSet
from tests.build_support import backend, project, wanted, wheelhouse
from tests.http_support import Reply, Request, Server, tls_context
from tests.test_direct import STATIC, git, packed, repository
from tests.wheelhouse import make_wheel

HOST = "127.0.0.1"
FILES = {"pyproject.toml": STATIC.encode(), "tiny.json": project("Own.Thing", "1.2", requires=["pure>=1"])}
pytestmark = [
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
    pytest.mark.skipif(sys.platform == "win32", reason="git's HTTP server and scripts for ssh are for POSIX"),
]


def answer(root: Path, request: Request) -> Reply:
    """What ``git http-backend``, a CGI program, says to *request* about the repositories in *root*."""
    path, _, query = request.path.partition("?")
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    variables = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROJECT_ROOT": str(root),
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REMOTE_ADDR": HOST,
        "REQUEST_METHOD": request.method,
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    done = subprocess.run(["git", "http-backend"], input=body, env=variables, capture_output=True, check=True)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
    return Reply(int(headers.pop("Status", "200").split()[0]), content, headers)


def publish(server: Server, root: Path, name: str) -> str:
    """Offer the repository *name* in *root* and return its URL."""
    for place in ("info/refs", "git-upload-pack"):
        server.handle(f"/{name}/{place}", lambda request: answer(root, request))
    return f"{server.url}/{name}"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[Server]:
    with Server(tls=tls_context(authority.issue_cert(HOST))) as found:
        yield found


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the user of git has it: the authority in git's own settings."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "ca.pem"))


def line(tmp_path: Path, url: str, commit: str) -> RequirementSet:
    links = wheelhouse(tmp_path / "links", [*backend(), make_wheel("pure")])
    return wanted(f"own-thing @ git+{url}@{commit}", find_links=links)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("filters", ["true", "false"])
def test_a_commit_over_https(tmp_path: Path, server: Server, filters: str) -> None:
    commit = repository(tmp_path / "own.git", FILES)
    git("config", "uploadpack.allowFilter", filters, cwd=tmp_path / "own.git")
    url = publish(server, tmp_path, "own.git")
    origins = packed(tmp_path, line(tmp_path, url, commit))
    assert origins["own_thing-1.2.tar.gz"] == {"kind": "git", "url": url, "commit": commit}
    assert [request for request in server.requests if request.path == "/own.git/git-upload-pack"]


def test_an_unknown_authority_is_an_error_that_says_whose_setting_it_is(tmp_path: Path, server: Server) -> None:
    commit = repository(tmp_path / "own.git", FILES)
    with pytest.raises(NetworkError, match="certificate") as caught:
        packed(tmp_path, line(tmp_path, publish(server, tmp_path, "own.git"), commit))
    assert "http.sslCAInfo" in caught.value.hint


@pytest.mark.usefixtures("trusted")
def test_credentials_in_the_url(tmp_path: Path, server: Server) -> None:
    commit = repository(tmp_path / "own.git", FILES)
    url = publish(server, tmp_path, "own.git")
    server.users["bob"] = "hunter2"
    with pytest.raises(NetworkError) as caught:
        packed(tmp_path, line(tmp_path, url.replace("https://", "https://bob:wrongpass@"), commit))
    assert "wrongpass" not in str(caught.value) + caught.value.hint
    origins = packed(tmp_path, line(tmp_path, url.replace("https://", "https://bob:hunter2@"), commit))
    assert origins["own_thing-1.2.tar.gz"]["url"] == url
    assert "hunter2" not in str(origins)


@pytest.mark.usefixtures("trusted")
def test_submodules_come_along(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path / "part.git", {"part.py": b"", **FILES})
    repository(tmp_path / "own.git", FILES)
    publish(server, tmp_path, "part.git")
    url = publish(server, tmp_path, "own.git")
    git(
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        "../part.git",
        "sub",
        cwd=tmp_path / "own.git",
    )
    git("commit", "--quiet", "--message", "three", cwd=tmp_path / "own.git")
    commit = git("rev-parse", "HEAD", cwd=tmp_path / "own.git")
    tree = checkout(parse_reference(f"git+{url}@{commit}", where="here"), tmp_path / "checked-out")
    assert (tree / "sub" / "part.py").is_file()


@pytest.mark.usefixtures("trusted")
def test_a_commit_of_no_branch(tmp_path: Path, server: Server) -> None:
    commit = repository(tmp_path / "own.git", FILES)
    branch = git("rev-parse", "--abbrev-ref", "HEAD", cwd=tmp_path / "own.git")
    git("checkout", "--quiet", "--orphan", "other", cwd=tmp_path / "own.git")
    git("commit", "--quiet", "--message", "alone", cwd=tmp_path / "own.git")
    git("branch", "--quiet", "-D", branch, cwd=tmp_path / "own.git")
    url = publish(server, tmp_path, "own.git")
    assert packed(tmp_path, line(tmp_path, url, commit))["own_thing-1.2.tar.gz"]["commit"] == commit


def test_a_commit_over_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git's side of it; in place of ssh, a script that runs what the other machine would."""
    commit = repository(tmp_path / "own.git", FILES)
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nfor last; do :; done\necho "$*" >> "$0.log"\nexec sh -c "$last"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    monkeypatch.setenv("GIT_SSH_VARIANT", "ssh")
    url = f"ssh://git@git.example{tmp_path}/own.git"
    origins = packed(tmp_path, line(tmp_path, url, commit))
    assert origins["own_thing-1.2.tar.gz"]["commit"] == commit
    assert "git@git.example" in (tmp_path / "ssh.log").read_text()


def test_ssh_that_reaches_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "false")
    with pytest.raises(NetworkError, match="git can't get") as caught:
        packed(tmp_path, line(tmp_path, "ssh://git@git.example/own.git", "a" * 40))
    assert "without a question" in caught.value.hint
    assert not any(not text.strip() for text in str(caught.value).splitlines())
