"""What a push asks a person at a terminal, and that it asks nobody anywhere else."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import click
import pytest

from mirror.cli.progress import _Bars
from mirror.cli.push import _ask
from mirror.models import Event, Stage
from mirror.push.plan import PushPlan
from mirror.push.publisher import SourceFile
from tests.bundle_support import write_small
from tests.http_support import Reply, Request, Server, basic

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

SECRET = "hunter2-marked"


@pytest.fixture
def server() -> Iterator[Server]:
    """Anybody may read; only bob may upload."""
    stored: list[bytes] = []

    def upload(request: Request) -> Reply:
        if request.headers.get("authorization") != basic("bob", SECRET):
            return Reply(401, b"who are you?", {"www-authenticate": 'Basic realm="x"'})
        if b'filename="' not in request.body:
            return Reply(400, b"no file")
        stored.append(request.body)
        return Reply(200)

    with Server() as found:
        found.handle("/repo/", upload)
        for project in ("alpha", "beta", "gamma-thing"):
            found.handle(f"/repo/simple/{project}/", partial(page, project, stored))
        yield found


def page(project: str, stored: Sequence[bytes], _: Request) -> Reply:
    names = [body.partition(b'filename="')[2].partition(b'"')[0].decode() for body in stored]
    links = "".join(f'<a href="/f/{name}">{name}</a>' for name in names if name.startswith(project.replace("-", "_")))
    return Reply(200, f"<!DOCTYPE html><html>{links}</html>".encode(), {"content-type": "text/html"})


def at_terminal(command: Sequence[str], answers: Mapping[str, str], environ: Mapping[str, str]) -> tuple[int, str]:
    """Run *command* at a terminal and type each answer when its question comes; exit code and what the screen got."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **environ}, start_new_session=True
    ) as process:
        os.close(theirs)
        left, screen, since = dict(answers), "", 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    said = os.read(ours, 65536)
                except OSError:  # Linux's way to say that nobody holds the other end any more
                    break
                if not said:
                    break
                screen += said.decode("utf-8", "replace")
            for question, answer in list(left.items()):
                if question in screen[since:]:
                    since = len(screen)
                    os.write(ours, f"{answer}\n".encode())
                    del left[question]
        os.close(ours)
        code = process.wait(timeout=60)
    return code, screen


def command(bundle: Path, url: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "mirror", "push", str(bundle), "--repository-url", url, "--timeout", "10", *more]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "dumb"}


def test_user_and_password_are_asked_for(server: Server, tmp_path: Path, environ: dict[str, str]) -> None:
    bundle = write_small(tmp_path).path
    answers = {"User name for": "bob", "Password of bob": SECRET, "Upload?": "y"}
    code, screen = at_terminal(command(bundle, f"{server.url}/repo/"), answers, environ)
    assert code == 0, screen
    assert SECRET not in screen
    assert screen.index("User name") < screen.index("Upload?")


def test_only_the_password_of_a_known_user(server: Server, tmp_path: Path, environ: dict[str, str]) -> None:
    bundle = write_small(tmp_path).path
    answers = {"Password of bob": SECRET, "Upload?": "y"}
    code, screen = at_terminal(command(bundle, f"{server.url}/repo/"), answers, {**environ, "TWINE_USERNAME": "bob"})
    assert code == 0, screen
    assert "User name" not in screen


def test_nobody_is_asked_what_is_known_or_not_wanted(server: Server, tmp_path: Path, environ: dict[str, str]) -> None:
    bundle = write_small(tmp_path).path
    known = {**environ, "TWINE_USERNAME": "bob", "TWINE_PASSWORD": SECRET}
    code, screen = at_terminal(command(bundle, f"{server.url}/repo/"), {"Upload?": "n"}, known)
    assert code == 0
    assert "Nothing was uploaded" in screen
    assert "Password" not in screen
    server.handle("/open/", lambda _: Reply(400))
    code, screen = at_terminal(command(bundle, f"{server.url}/open/"), {"Upload?": "n"}, environ)
    assert (code, "User name" in screen) == (0, False)


def test_nobody_is_asked_without_a_terminal_or_with_yes(
    server: Server, tmp_path: Path, environ: dict[str, str]
) -> None:
    bundle = write_small(tmp_path).path
    code, screen = at_terminal(command(bundle, f"{server.url}/repo/", "--yes"), {}, environ)
    assert (code, "User name" in screen) == (6, False)
    done = subprocess.run(
        command(bundle, f"{server.url}/repo/"),
        env={**os.environ, **environ},
        input="bob\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "User name" in done.stderr) == (6, False)
    assert "TWINE_PASSWORD" in done.stderr or "user name and password" in done.stderr


def test_nothing_is_drawn_over_the_question(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A large bundle is still being read when somebody is asked; nor does the reading wait for the answer."""
    bars = _Bars(verbose=False)
    bars(Event("begin", Stage.READ, bytes=100))
    seen = ""

    def read_on() -> None:
        bars(Event("advance", Stage.READ, bytes=100))
        bars(Event("end", Stage.READ))

    def confirm(question: str, **_: object) -> bool:
        nonlocal seen
        capsys.readouterr()
        thread = threading.Thread(target=read_on)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        seen = capsys.readouterr().err
        return True

    monkeypatch.setattr(click, "confirm", confirm)
    plan: PushPlan[SourceFile] = PushPlan((), (), (), ())
    _ask(bars, "https://nexus.example/repository/pypi-hosted/", plan)
    assert seen == ""
    assert f"{Stage.READ.value}: 100 B of 100 B" in capsys.readouterr().err


def test_what_is_said_after_a_bar_begins_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Two stages at once: where the upper bar goes first, tqdm leaves the cursor far to the right."""
    bars = _Bars(verbose=False)
    bars(Event("begin", Stage.READ, bytes=100))
    bars(Event("begin", Stage.LOOK, items=5))
    bars(Event("advance", Stage.READ, bytes=100))
    bars(Event("advance", Stage.LOOK, items=5))
    bars(Event("end", Stage.READ))
    capsys.readouterr()
    bars(Event("end", Stage.LOOK))
    said, line, _ = capsys.readouterr().err.partition(f"{Stage.LOOK.value}: 5 of 5")
    assert line
    assert said[-1] in "\r\n"
