"""Health, readiness and metrics, and the settings of storage and workers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror import serve
from mirror.config.served import Served, ServeSettings
from mirror.config.serving import read_serving
from mirror.errors import ConfigError, MissingExtraError
from mirror.objects import Bucket
from mirror.serve.databases import PostgreSQL
from tests import plain
from tests.http_support import Server
from tests.wheelhouse import make_wheel

WHEEL = make_wheel("lib", "1.0")


def metrics(url: str, **options: tuple[str, str]) -> dict[str, float]:
    """The numbers by their names with labels."""
    answer = plain.get(f"{url}/metrics", auth=options.get("auth"))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = (line for line in answer.text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_server_that_answers_is_healthy_and_ready(tmp_path: Path) -> None:
    with serve.running(tmp_path / "home") as server:
        for path, said in (("/-/health", "ok\n"), ("/-/ready", "ready\n")):
            answer = plain.get(server.url + path)
            assert (answer.status_code, answer.text, answer.headers["cache-control"]) == (200, said, "no-store")
            assert plain.head(server.url + path).status_code == 200


def test_requests_are_counted_by_what_answered_them_and_never_by_their_paths(tmp_path: Path) -> None:
    with serve.running(tmp_path / "home") as server, plain.Client(base_url=server.url) as client:
        for path in ("/repository/pypi-hosted/simple/", "/repository/pypi-hosted/simple/a/", "/no/such/place"):
            client.get(path)
        client.request("BREW", "/repository/pypi-hosted/simple/")
        client.post("/repository/pypi-hosted/", content=b"x" * 100)
        found = metrics(server.url)
        assert metrics(server.url)['airgap_http_requests_total{handler="metrics",method="GET",status="200"}'] == 1
    counted = {
        ("root", "GET", "200"): 1,
        ("page", "GET", "404"): 1,
        ("none", "GET", "404"): 1,
        ("root", "other", "405"): 1,
        ("upload", "POST", "400"): 1,
    }
    for (handler, method, status), count in counted.items():
        name = f'airgap_http_requests_total{{handler="{handler}",method="{method}",status="{status}"}}'
        assert found[name] == count
    assert found['airgap_http_request_duration_seconds_count{handler="upload",method="POST"}'] == 1
    assert found['airgap_http_received_bytes_total{handler="upload"}'] == 100
    assert found['airgap_http_sent_bytes_total{handler="root"}'] > 100
    assert not any("such" in name for name in found)


def test_what_is_there_and_what_proxies_did(tmp_path: Path) -> None:
    with Server() as remote:
        remote.add(f"/files/{WHEEL.filename}", WHEEL.data)
        file = {"filename": WHEEL.filename, "url": f"/files/{WHEEL.filename}", "hashes": {"sha256": WHEEL.sha256}}
        page = json.dumps({"meta": {"api-version": "1.0"}, "name": "lib", "files": [file]}).encode()
        remote.add("/simple/lib/", page, content_type="application/vnd.pypi.simple.v1+json")
        settings = ServeSettings(repositories={"p": Served("p", "proxy", remote=f"{remote.url}/simple/")})
        with serve.running(tmp_path / "home", settings=settings) as server:
            url = server.repository_url("p")
            for _ in range(3):
                assert plain.get(f"{url}simple/lib/").status_code == 200
                assert plain.get(f"{url}packages/lib/1.0/{WHEEL.filename}").content == WHEEL.data
            found = metrics(server.url)
    asked = 'airgap_proxy_requests_total{{repository="p",result="{}",what="{}"}}'
    assert found[asked.format("miss", "file")] == 1
    assert found[asked.format("hit", "file")] == 2
    assert found[asked.format("miss", "page")] == 1
    assert found['airgap_repository_files{repository="p"}'] == 1
    assert found['airgap_repository_bytes{repository="p"}'] == len(WHEEL.data)


def test_who_may_see_the_metrics(tmp_path: Path) -> None:
    users = serve.open_users(tmp_path / "home")
    users.add("reader", "reader-password", {"*": "read"})
    users.add("chief", "chief-password", {"*": "admin"})
    reader, chief = ("reader", "reader-password"), ("chief", "chief-password")
    for settings, expected in (
        (ServeSettings(), (200, 200, 200)),
        (ServeSettings(anonymous_read=False), (401, 200, 200)),
        (ServeSettings(metrics="admin"), (401, 403, 200)),
        (ServeSettings(metrics="off"), (404, 404, 404)),
    ):
        with serve.running(tmp_path / "home", settings=settings) as server:
            found = tuple(plain.get(f"{server.url}/metrics", auth=auth).status_code for auth in (None, reader, chief))
            assert found == expected
            assert plain.get(f"{server.url}/-/ready").status_code == 200


def read(folder: Path, text: str) -> ServeSettings:
    path = folder / "airgap.toml"
    path.write_text(f"[serve]\n{text}\n")
    return read_serving(path, home="")


def test_settings_of_storage(tmp_path: Path) -> None:
    text = 'catalog = "postgresql+psycopg://airgap@db/airgap"\nblobs = "s3://b/p"\nworkers = 3\nmetrics = "admin"'
    found = read(tmp_path, text)
    assert (found.catalog, found.blobs) == ("postgresql+psycopg://airgap@db/airgap", "s3://b/p")
    assert (found.workers, found.metrics) == (3, "admin")
    assert read(tmp_path, "") == ServeSettings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('catalog = "mysql://db/airgap"', "PostgreSQL"),
        ('catalog = "postgresql://u:s3cret@db/x"', "password"),
        ('catalog = "postgresql://u@db/x?password=s3cret"', "password"),
        ('catalog = "postgresql://[s3cret"', "no URL"),
        ('blobs = "https://bucket/x"', "s3://BUCKET"),
        ("workers = 0", "from 1 to"),
        ("workers = true", "whole number"),
        ('metrics = "all"', "read, admin or off"),
    ],
)
def test_settings_that_can_not_be(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read(tmp_path, text)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("library", "extra", "work"),
    [
        ("obstore", "s3", lambda: Bucket("s3://bucket")),
        ("psycopg", "postgres", lambda: PostgreSQL("postgresql://db/airgap")),
    ],
)
def test_what_is_not_installed_is_named(
    library: str, extra: str, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError) as caught:
        work()
    assert caught.value.extra == extra
