"""The pages for people: what they say, that nothing active gets into them, and how a real browser shows them."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror import serve
from mirror.config.served import Served, ServeSettings
from mirror.index.simple import PageEntry
from mirror.models import Hashes
from mirror.serve import web
from mirror.serve.hosted import Claims
from mirror.serve.server import Running, running
from tests import plain
from tests.test_serve_search import wheel
from tests.wheelhouse import core_metadata, make_sdist, make_wheel

README = """\
# Some tool

It *cuts* paper. <script>alert(1)</script> <b onclick=alert(1)>bold</b> [bad](javascript:alert(1))

| a | b |
|---|---|
| 1 | 2 |
"""
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("web")
    metadata = core_metadata("some-tool", "2.0", requires_python=">=3.9").replace(
        b"\n\n", f"\nSummary: Cuts paper\nDescription-Content-Type: text/markdown\n\n{README}".encode(), 1
    )
    files = [
        make_wheel("some-tool", "2.0", metadata=metadata),
        make_sdist("some-tool", "2.0"),
        make_wheel("some-tool", "10.0.dev1"),
        wheel("scissors", "1.0", "Cuts <b>everything</b>"),
    ]
    declared = {"team": Served("team", "group", members=("pypi-hosted",))}
    with running(folder / "home", settings=ServeSettings(repositories=declared)) as found:
        with serve.embedded_publisher(folder / "home") as publisher:
            for built in files:
                publisher._repository.add(built.save(folder), built.filename, Claims())
            publisher._repository.yank(files[2].filename, 'it "broke"', actor="me")
        yield found


def text(server: Running, path: str) -> str:
    answer = plain.get(f"{server.url}{path}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in answer.text.lower()
    assert not re.search(r"<[^>]+\son\w+=|\sstyle=|javascript:", answer.text, re.IGNORECASE)
    return answer.text


def test_the_front_page_leads_everywhere(server: Running) -> None:
    front = text(server, "/")
    for name in ("pypi-all", "pypi-hosted", "pypi-proxy", "team"):
        assert f'href="/browse/{name}/"' in front
    assert plain.get(f"{server.url}{web.STYLE_PATH}").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize("name", ["pypi-hosted", "team"])
def test_a_repository_shows_its_projects_and_how_to_use_it(server: Running, name: str) -> None:
    page = text(server, f"/browse/{name}/")
    assert 'href="/browse/' + name + '/some-tool/"' in page
    assert f"index-url = {server.index_url(name)}" in page
    assert ("[distutils]" in page) == (name == "pypi-hosted")
    assert page == text(server, f"/repository/{name}/")


def test_searching(server: Running) -> None:
    page = text(server, "/browse/pypi-all/?q=cuts")
    assert "some-tool" in page
    assert "Cuts &lt;b&gt;everything&lt;/b&gt;" in page
    assert "Nothing." in text(server, "/browse/pypi-all/?q=%22%3E%3Cscript%3E")


def test_a_project_shows_releases_files_and_description(server: Running) -> None:
    page = text(server, "/browse/pypi-hosted/some-tool/")
    assert page.index("10.0.dev1") < page.index("<h2>2.0</h2>")
    assert "yanked: it &quot;broke&quot;" in page
    assert "Python &gt;=3.9" in page
    assert "sha256 " in page
    assert "<em>cuts</em>" in page or "# Some tool" in page
    for path in re.findall(r'href="(/repository/[^"]+)"', page):
        assert plain.get(f"{server.url}{path}").status_code == 200
    assert plain.get(f"{server.url}/browse/pypi-hosted/nothing/").status_code == 404


def test_texts_of_strangers_stay_texts() -> None:
    evil = '"><script>alert(1)</script>'
    entry = PageEntry(
        f"x-1.0{evil}.tar.gz", f"../../packages/{evil}", Hashes(), requires_python=evil, yanked=evil, upload_time=evil
    )
    assert "<script" not in web.project("r", evil, [entry], "")
    assert "<script" not in web.described(f"Name: x\nDescription-Content-Type: text/plain\n\n{evil}".encode())
    assert web.described(b"Name: x\n\nUNKNOWN") == ""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize(("width", "dark"), [(360, True), (1200, False)])
def test_in_a_real_browser(server: Running, tmp_path: Path, width: int, dark: bool) -> None:
    picture = tmp_path / "page.png"
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr", f"--window-size={width},900", f"--screenshot={picture}", *scheme,
    ]  # fmt: skip
    url = f"{server.url}/browse/pypi-hosted/some-tool/"
    done = subprocess.run([*command, url], capture_output=True, text=True, check=False, timeout=120)
    assert "CONSOLE" not in done.stderr  # neither a refused resource nor an error
    head = picture.read_bytes()[:24]
    assert struct.unpack(">I", head[16:20]) == (width,)
