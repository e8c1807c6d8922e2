"""Repositories as they are configured: policies, airgap.toml, ``airgap repo``, and what keeps them clean."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from mirror import cli
from mirror.config import load
from mirror.config.served import Served, ServeSettings
from mirror.config.serving import read_served
from mirror.errors import AirgapError, ConfigError
from mirror.serve.catalog import Catalog
from mirror.serve.databases import SQLite
from mirror.serve.home import Home
from mirror.serve.hosted import Claims
from mirror.serve.maintain import check, collect
from mirror.serve.server import running
from tests import plain
from tests.index_support import airgap
from tests.test_serve_http import JSON, upload
from tests.wheelhouse import make_wheel

WHEEL = make_wheel("app", "1.0")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home") as found:
        yield found


def add(home: Home, name: str, version: str, folder: Path) -> None:
    built = make_wheel("app", version)
    home.hosted(name).add(built.save(folder), built.filename, Claims())


# Policies


@pytest.mark.parametrize(
    ("policy", "taken", "refused"),
    [
        ("release", ["1.0", "2.0rc1", "3.0.post1"], ["1.0.dev1", "1.0+local"]),
        ("snapshot", ["1.0.dev1", "1.0+local"], ["1.0", "2.0rc1"]),
        ("mixed", ["1.0", "1.0.dev1", "1.0+local"], []),
    ],
)
def test_version_policies(home: Home, tmp_path: Path, policy: str, taken: list[str], refused: list[str]) -> None:
    home.create(Served("r", "hosted", version_policy=policy))
    for version in taken:
        add(home, "r", version, tmp_path)
    for version in refused:
        with pytest.raises(AirgapError, match="takes"):
            add(home, "r", version, tmp_path)
    assert len(home.hosted("r").files("app")) == len(taken)


@pytest.mark.parametrize(
    ("policy", "first", "again", "words"),
    [("allow", 200, 200, "is in r"), ("allow-once", 200, 400, "cannot be updated"), ("deny", 400, 400, "read only")],
)
def test_write_policies(tmp_path: Path, policy: str, first: int, again: int, words: str) -> None:
    settings = ServeSettings(repositories={"r": Served("r", "hosted", write_policy=policy)})
    with (
        running(tmp_path / "home", settings=settings) as server,
        plain.Client(base_url=server.repository_url("r")) as client,
    ):
        assert upload(client, WHEEL, tmp_path).status_code == first
        answer = upload(client, WHEEL, tmp_path)
        assert answer.status_code == again
        assert words in answer.text
        changed = upload(client, make_wheel("app", "1.0", files={"x.py": b""}), tmp_path)
        assert changed.status_code == 400


def test_yanked_files_say_so_until_they_are_not(tmp_path: Path) -> None:
    with running(tmp_path / "home") as server, Home(tmp_path / "home") as home:
        add(home, "pypi-hosted", "1.0", tmp_path)
        hosted, url = home.hosted("pypi-hosted"), f"{server.index_url('pypi-hosted')}app/"
        tags = {plain.get(url).headers["etag"]}
        hosted.yank(WHEEL.filename, "broken", actor="me")
        tags.add(plain.get(url).headers["etag"])
        assert plain.get(url, headers={"accept": JSON}).json()["files"][0]["yanked"] == "broken"
        assert 'data-yanked="broken"' in plain.get(url).text
        hosted.yank(WHEEL.filename, None, actor="me")
        tags.add(plain.get(url).headers["etag"])
        assert "yanked" not in plain.get(url, headers={"accept": JSON}).json()["files"][0]
        assert len(tags) == 3
        hosted.remove(WHEEL.filename, actor="me")
        assert plain.get(url).status_code == 404
        with pytest.raises(ConfigError, match="no file"):
            hosted.remove("x", actor="me")
        with pytest.raises(ConfigError, match="no file"):
            hosted.yank("x", "", actor="me")
    said = [json.loads(line)["action"] for line in (tmp_path / "home" / "audit.log").read_text().splitlines()]
    assert said == ["upload", "yank", "unyank", "delete"]


# Creating and deleting


def test_repositories_are_stored_and_deleted(home: Home, tmp_path: Path) -> None:
    served = Served("p", "proxy", remote="https://index.example/simple/", username="u", password_env="X", max_age=5)
    home.create(served)
    home.create(Served("g", "group", members=("pypi-hosted", "p"), deploy_to="pypi-hosted"))
    with Home(home.folder) as again:
        assert again.get("p") == served
        assert again.get("g").members == ("pypi-hosted", "p")
        assert again.holders("g") == ["pypi-hosted", "p"]
    with pytest.raises(ConfigError, match="member of g"):
        home.delete("p")
    for name in ("g", "p"):
        home.delete(name)
    assert home.names() == ["pypi-all", "pypi-hosted", "pypi-proxy"]
    with pytest.raises(ConfigError, match="always there"):
        home.delete("pypi-all")


def test_a_repository_with_files_is_deleted_only_by_force(home: Home, tmp_path: Path) -> None:
    home.create(Served("r", "hosted"))
    add(home, "r", "1.0", tmp_path)
    with pytest.raises(ConfigError, match="holds files"):
        home.delete("r")
    home.delete("r", force=True)
    assert "r" not in home.names()
    assert home.catalog.blobs() == {}


def test_what_can_not_be_created(home: Home) -> None:
    home.create(Served("r", "hosted"))
    with pytest.raises(ConfigError, match="already"):
        home.create(Served("r", "hosted"))
    with pytest.raises(ConfigError, match="no such repository"):
        home.create(Served("g", "group", members=("nothing",)))
    with pytest.raises(ConfigError, match="no repository"):
        home.get("nothing")


def test_groups_that_contain_each_other_are_an_error_at_start(tmp_path: Path) -> None:
    groups = {name: Served(name, "group", members=(other,)) for name, other in (("a", "b"), ("b", "a"))}
    with pytest.raises(ConfigError, match="contain each other"), running(
        tmp_path / "home", settings=ServeSettings(repositories=groups)
    ):  # fmt: skip
        pass


@pytest.mark.parametrize(
    ("name", "table", "words"),
    [
        ("a/b", {}, "name"),
        ("", {}, "name"),
        ("a", {"kind": "mirror"}, "kind must be"),
        ("a", {"write-polcy": "deny"}, "nearest is 'write-policy'"),
        ("a", {"write-policy": "never"}, "write-policy must be"),
        ("a", {"kind": "proxy"}, "needs remote"),
        ("a", {"kind": "proxy", "remote": "ftp://x/"}, "needs remote"),
        ("a", {"kind": "proxy", "remote": "https://u:p@x/simple/"}, "carries credentials"),
        ("a", {"kind": "proxy", "remote": "https://x/", "max-age": -1}, "seconds"),
        ("a", {"kind": "proxy", "remote": "https://x/", "keep-days": "long"}, "days"),
        ("a", {"kind": "proxy", "remote": "https://x/", "offline": "yes"}, "true or false"),
        ("a", {"kind": "proxy", "remote": "https://x/", "write-policy": "deny"}, "not a known key"),
        ("a", {"kind": "group"}, "needs members"),
        ("a", {"kind": "group", "members": ["a"]}, "other repositories"),
        ("a", {"kind": "group", "members": ["b"], "deploy-to": "c"}, "one of the members"),
        ("a", "text", "must be a table"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(tmp_path: Path, name: str, table: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read_served(name, table, "here", folder=tmp_path)
    assert "u:p" not in f"{caught.value}{caught.value.hint}"


def test_airgap_toml(tmp_path: Path) -> None:
    (tmp_path / "airgap.toml").write_text(
        '[serve]\nhost = "0.0.0.0"\nport = 80\ntls-cert = "tls/cert.pem"\ntrusted-proxies = ["10.0.0.0/8"]\n'
        'anonymous-read = false\n[serve.repositories.mirror]\nkind = "proxy"\nremote = "https://index.example/simple"\n'
    )
    settings = load(cwd=tmp_path).serve
    assert (settings.host, settings.port, settings.anonymous_read) == ("0.0.0.0", 80, False)
    assert settings.tls_cert == tmp_path / "tls" / "cert.pem"
    assert settings.repositories["mirror"].remote == "https://index.example/simple/"
    for text in ("port = 70000", 'port = "80"', 'trusted-proxies = ["proxy"]', "hots = 1", 'tls-key = "x"'):
        (tmp_path / "airgap.toml").write_text(f"[serve]\n{text}\n")
        with pytest.raises(ConfigError, match=r"airgap\.toml"):
            load(cwd=tmp_path)


def test_repo_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGAP_HOME", str(tmp_path))
    done = airgap("repo", "create", "releases", "--version-policy", "release")
    assert done.code == 0, done.err
    found = airgap("repo", "list", "--json").document
    assert found["releases"] == {"kind": "hosted", "version-policy": "release", "write-policy": "allow"}
    with Home(tmp_path) as home:
        add(home, "releases", "1.0", tmp_path)
    call = partial(CliRunner().invoke, cli.airgap, catch_exceptions=False)
    call(["repo", "yank", "releases", WHEEL.filename, "--reason", "bad"])
    shown = json.loads(call(["repo", "show", "releases", "--json"]).stdout)
    assert shown["projects"] == 1
    call(["repo", "create", "all", "--kind", "group", "--member", "releases", "--member", "pypi-hosted"])
    assert json.loads(call(["repo", "show", "all", "--json"]).stdout)["projects"] == 1
    call(["repo", "delete", "all"])
    call(["repo", "check"])
    call(["repo", "gc"])
    for blob in (tmp_path / "blobs").glob("??/*"):
        blob.unlink()
    done = airgap("repo", "check")
    assert done.code == 5
    assert WHEEL.sha256 in done.err
    call(["repo", "delete-file", "releases", WHEEL.filename])
    with pytest.raises(ConfigError, match="no file"):
        call(["repo", "unyank", "releases", WHEEL.filename])
    call(["repo", "delete", "releases"])


# Keeping clean


def test_garbage_is_collected_after_a_day(home: Home, tmp_path: Path) -> None:
    add(home, "pypi-hosted", "1.0", tmp_path)
    add(home, "pypi-hosted", "2.0", tmp_path)
    home.hosted("pypi-hosted").remove(WHEEL.filename, actor="me")
    assert collect(home).blobs == 0
    for blob in (home.folder / "blobs").glob("??/*"):
        os.utime(blob, (time.time() - 2 * 86400,) * 2)
    assert collect(home).blobs == 2
    assert check(home).problems == ()
    assert check(home).blobs == 2


def test_damage_is_found(home: Home, tmp_path: Path) -> None:
    add(home, "pypi-hosted", "1.0", tmp_path)
    blob = home.blobs.get(WHEEL.sha256).path
    assert blob is not None
    blob.chmod(0o644)
    blob.write_bytes(WHEEL.data[:-1] + b"x")
    assert "its bytes have the sha256" in check(home).problems[0]


def test_a_catalog_of_the_first_version_is_brought_up(home: Home, tmp_path: Path) -> None:
    add(home, "pypi-hosted", "1.0", tmp_path)
    home.close()
    with sqlite3.connect(home.folder / "catalog.sqlite") as connection:
        connection.execute("ALTER TABLE files DROP COLUMN summary")
        connection.execute("ALTER TABLE repositories DROP COLUMN settings")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    catalog = Catalog(SQLite(home.folder / "catalog.sqlite"), home.blobs.has)
    assert [file.filename for file in catalog.files("pypi-hosted", "app")] == [WHEEL.filename]
    assert catalog.repositories()[0].settings is None
    catalog.close()


def test_a_server_that_is_killed_leaves_a_clean_catalog(tmp_path: Path) -> None:
    script = (
        "import sys, os, threading; from pathlib import Path\n"
        "from mirror.serve.home import Home; from mirror.serve.hosted import Claims\n"
        "from tests.wheelhouse import make_wheel\n"
        "home = Home(Path(sys.argv[1]))\n"
        "def work(n):\n"
        "    for v in range(1000):\n"
        "        b = make_wheel(f'p{n}', f'{v}.0'); p = b.save(Path(sys.argv[1], f't{n}'))\n"
        "        home.hosted('pypi-hosted').add(p, b.filename, Claims())\n"
        "        if v == 5: print('going', flush=True)\n"
        "for n in range(4): threading.Thread(target=work, args=(n,), daemon=True).start()\n"
        "threading.Event().wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    with Home(tmp_path) as home:
        found = check(home)
        assert found.problems == ()
        assert found.blobs >= 6
