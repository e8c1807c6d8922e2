"""Every way in which a push fails, with marked secrets everywhere: none may come out anywhere."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from mirror.bundle import BundleReader
from mirror.cli import airgap
from tests.bundle_support import write_small
from tests.http_support import Server, tls_context
from tests.ports import closed_port
from tests.push_support import FakeRepository, Fault, fake_repository

USER, SECRET = "bob", "hunter2-marked"
TOKEN = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
ECHO = f"You sent Authorization: Basic {TOKEN}, that is {SECRET}."


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.net.retry.FIRST_DELAY", 0.0005)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_small(tmp_path).path


@pytest.fixture
def server() -> Iterator[FakeRepository]:
    with fake_repository() as found:
        yield found


@pytest.fixture(params=["url", "environment", "pypirc", "netrc"])
def told(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the credentials become known; the repository's URL may need them."""
    if request.param == "environment":
        monkeypatch.setenv("TWINE_USERNAME", USER)
        monkeypatch.setenv("TWINE_PASSWORD", SECRET)
    elif request.param == "netrc":
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {SECRET}\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return str(request.param)


def push(url: str, told: str, bundle: Path, *more: str) -> str:
    """Push into *url* and return all that was said; the push fails, and says something."""
    name, words = url, [str(bundle)]
    if told == "url":
        name = url.replace("://", f"://{USER}:{SECRET}@")
    elif told == "pypirc":
        pypirc = bundle.with_name("pypirc")
        pypirc.write_text(
            "[distutils]\nindex-servers = hosted\n[hosted]\n"
            f"repository = {url}\nusername = {USER}\npassword = {SECRET}\n"
        )
        name, words = "hosted", [*words, "--config-file", str(pypirc)]
    options = ["--repo", name, "--retries", "0", "--timeout", "5", "--verbose", *more]
    done = CliRunner().invoke(airgap, ["push", *words, *options])
    assert done.exit_code != 0
    error = done.exception
    hint = getattr(error, "hint", "")
    receipt = bundle.with_name(f"{bundle.name}.receipt.json")
    written = receipt.read_text() if receipt.exists() else ""
    return f"{done.output} {error} {hint} {written} {getattr(error, 'receipt', '')}"


def check(said: str) -> None:
    assert SECRET not in said
    assert TOKEN not in said


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 407, 413, 418, 503])
def test_refused(bundle: Path, server: FakeRepository, told: str, status: int) -> None:
    headers = {"location": f"http://{USER}:{SECRET}@127.0.0.1/x/?token={SECRET}"} if status == 301 else {}
    server.fault_for_all = Fault(status, headers={**headers, "retry-after": "0"}, body=ECHO.encode())
    said = push(server.url, told, bundle)
    assert str(status) in said
    check(said)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(200),
        Fault(200, body=f"<!DOCTYPE html><title>{ECHO}</title>".encode()),
        Fault(500, stores=True, body=ECHO.encode()),
        Fault(429, headers={"retry-after": "0"}, body=ECHO.encode()),
    ],
    ids=["stored nothing", "login page", "ambiguous", "too many"],
)
def test_answers_that_prove_nothing(bundle: Path, server: FakeRepository, told: str, fault: Fault) -> None:
    server.fault_for_all = fault
    server.page_faults = [404, 404, 404, *[403] * 50]  # after the first look nobody may look any more
    check(push(server.url, told, bundle))


def test_an_index_that_needs_a_secret_of_its_own(bundle: Path, server: FakeRepository) -> None:
    server.page_faults = [401] * 50
    url = f"{server.url}simple/".replace("://", f"://{USER}:{SECRET}@")
    check(push(server.url, "environment", bundle, "--index-url", url))
    check(push(server.url, "environment", bundle, "--index-url", url, "--dry-run", "--json"))


def test_no_failed_round_of_a_sync_tells_or_keeps_a_secret(
    server: FakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for box in ("in", "out"):
        (tmp_path / box).mkdir()
    made = write_small(tmp_path / "made").path
    (tmp_path / "in" / "plant-000001.tar.zst").write_bytes(made.read_bytes())
    url = server.url.replace("://", f"://{USER}:{SECRET}@")
    (tmp_path / "pypirc").write_text(f"[distutils]\nindex-servers = hosted\n[hosted]\nrepository = {url}\n")
    Path(os.environ["HOME"], ".pypirc").write_bytes((tmp_path / "pypirc").read_bytes())
    monkeypatch.setenv("AIRGAP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "airgap.toml").write_text(
        '[sync.plant]\nside = "isolated"\ninbox = "in"\noutbox = "out"\nrepo = "hosted"\n'
    )
    server.fault_for_all = Fault(401, body=ECHO.encode())
    for words in (["sync", "plant"], ["sync", "--status", "--json"], ["sync", "plant", "--dry-run"]):
        done = CliRunner().invoke(airgap, words)
        check(f"{done.output} {done.exception} {getattr(done.exception, 'hint', '')}")
    assert server.received
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "pypirc":
            check(path.read_bytes().decode("utf-8", "replace"))


def test_cut(bundle: Path, server: FakeRepository, told: str) -> None:
    server.fault_for_all = Fault(0)
    check(push(server.url, told, bundle))


def test_in_conflict(bundle: Path, server: FakeRepository, told: str) -> None:
    with BundleReader(bundle) as reader:
        server.files[reader.manifest.files[0].filename] = b"other"
    check(push(server.url, told, bundle))


def test_unreadable(bundle: Path, server: FakeRepository, told: str) -> None:
    server.page_faults = [500] * 50
    check(push(server.url, told, bundle))


def test_nobody_there(bundle: Path, told: str) -> None:
    check(push(f"http://127.0.0.1:{closed_port()}/repo/", told, bundle))


def test_not_trusted(bundle: Path, told: str) -> None:
    with Server(tls=tls_context(trustme.CA().issue_cert("127.0.0.1"))) as server:
        check(push(f"{server.url}/repo/", told, bundle))


def test_a_proxy_that_refuses(bundle: Path, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_PROXY", f"http://{USER}:{SECRET}@127.0.0.1:{closed_port()}")
    check(push("http://nexus.example/repo/", told, bundle))


@pytest.mark.parametrize("url", ["ftp://{}@h/", "http://{}@h:port/", "//{}@h/", "http://{}@/"])
def test_urls_that_can_not_be_used(bundle: Path, url: str) -> None:
    check(push(url.format(f"{USER}:{SECRET}"), "environment", bundle))


def test_a_damaged_bundle(bundle: Path, server: FakeRepository, told: str) -> None:
    bundle.write_bytes(bundle.read_bytes()[:-200] + b"x" * 200)
    check(push(server.url, told, bundle))


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="process arguments are read from /proc")
def test_not_in_the_arguments_of_any_process(bundle: Path, server: FakeRepository) -> None:
    seen: list[bytes] = []

    def look() -> None:
        children = read(f"{os.getpid()}/task/*/children")
        seen.extend(line for child in b" ".join(children).split() for line in read(f"{child.decode()}/cmdline"))

    def read(pattern: str) -> Iterator[bytes]:
        for path in Path("/proc").glob(pattern):
            with suppress(OSError):  # a thread or process that has ended since it was listed
                yield path.read_bytes()

    server.on_store = look
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environ |= {"TWINE_USERNAME": USER, "TWINE_PASSWORD": SECRET}
    command = [sys.executable, "-m", "mirror", "push", str(bundle), "--repo", server.url, "-v"]
    done = subprocess.run(command, env=environ, capture_output=True, check=True)
    assert any(b"mirror" in item for item in seen)
    for output in (*seen, done.stdout, done.stderr):
        check(output.decode("utf-8", "replace"))
