"""Search and REST: Nexus's XML-RPC and JSON, with real clients where they are found."""

from __future__ import annotations

import json
import os
import subprocess
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mirror import serve
from mirror.serve.hosted import Claims
from mirror.serve.server import Running
from tests import plain
from tests.index_support import airgap
from tests.test_serve_http import JSON, upload
from tests.wheelhouse import Built, core_metadata, make_sdist, make_wheel


def wheel(name: str, version: str, summary: str) -> Built:
    metadata = core_metadata(name, version).replace(b"\n\n", f"\nSummary: {summary}\n\n".encode(), 1)
    return make_wheel(name, version, metadata=metadata)


FILES = [
    wheel("Some.Tool", "1.0", "Cuts paper"),
    wheel("Some.Tool", "10.0", "Cuts paper & glass"),
    wheel("Some.Tool", "9.0", "Cuts paper"),
    wheel("scissors", "2.0", "A tool"),
    make_sdist("other", "1.0"),
]
#: Each brings another pip, from 18 to 24 where all are found; all of them still have the command.
PYTHONS = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions").glob("*/bin/python"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("search")
    with (
        serve.running(folder / "home") as found,
        plain.Client(base_url=found.repository_url("pypi-all")) as client,
    ):
        for built in FILES:
            assert upload(client, built, folder).status_code == 200
        yield found


def rpc(server: Running, repository: str = "pypi-hosted") -> xmlrpc.client.ServerProxy:
    return xmlrpc.client.ServerProxy(f"{server.repository_url(repository)}pypi")


@pytest.mark.parametrize("repository", ["pypi-hosted", "pypi-all"])
def test_search_finds_names_and_summaries(server: Running, repository: str) -> None:
    with rpc(server, repository) as proxy:
        assert proxy.search({"name": ["tool"], "summary": ["tool"]}, "or") == [
            {"name": "scissors", "version": "2.0", "summary": "A tool", "_pypi_ordering": 2},
            {"name": "some-tool", "version": "10.0", "summary": "Cuts paper & glass", "_pypi_ordering": 1},
        ]
        assert proxy.search({"name": "OTHER"}) == [
            {"name": "other", "version": "1.0", "summary": "", "_pypi_ordering": 1}
        ]
        assert proxy.search({"name": ["%"], "summary": ["_"]}) == []
        assert proxy.search({}) == []
        assert proxy.search({"name": ["zq"] * 1200}) == []


@pytest.mark.parametrize("arguments", [(), ("text",), (1,)])
def test_what_is_no_search_gets_a_fault(server: Running, arguments: tuple[str | int, ...]) -> None:
    with rpc(server) as proxy, pytest.raises(xmlrpc.client.Fault):
        proxy.search(*arguments)
    with rpc(server) as proxy, pytest.raises(xmlrpc.client.Fault, match="only method"):
        proxy.list_packages()


ENTITIES = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aa">]><methodCall/>'
CALL = "<methodCall><methodName>search</methodName><params><param><value>{}</value></param></params></methodCall>"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"<methodCall/>",
        ENTITIES.encode(),
        ENTITIES.encode("utf-16"),
        CALL.format("<bigdecimal>x</bigdecimal>").encode(),
        CALL.format(f"<int>{'9' * 5000}</int>").encode(),
        CALL.format("<struct>" + "<value/>" * 9).encode(),
    ],
    ids=range(8),
)
def test_a_body_that_is_no_call_gets_a_fault(server: Running, body: bytes) -> None:
    answer = plain.post(f"{server.repository_url('pypi-hosted')}pypi", content=body)
    assert answer.status_code == 200
    assert "<fault>" in answer.text
    assert plain.post(f"{server.repository_url('pypi-hosted')}pypi", content=bytes(100_000)).status_code == 413


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
def test_pip_search(server: Running, tmp_path: Path, python: Path) -> None:
    environment = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    index = f"{server.repository_url('pypi-all')}pypi"
    command = [str(python), "-W", "ignore", "-m", "pip", "search", "--index", index]
    done = subprocess.run([*command, "tool"], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "some-tool (10.0)" in done.stdout
    assert "Cuts paper & glass" in done.stdout
    assert "scissors (2.0)" in done.stdout


def test_airgap_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve.open_home(tmp_path) as home:
        for built in FILES:
            home.hosted("pypi-hosted").add(built.save(tmp_path), built.filename, Claims())
    monkeypatch.setenv("AIRGAP_HOME", str(tmp_path))
    ran = airgap("search", "--json", "tool")
    assert ran.code == 0, ran.err
    assert [hit["name"] for hit in json.loads(ran.out)] == ["scissors", "some-tool"]


# REST


def rest(server: Running, path: str, **parameters: str) -> httpx.Response:
    return plain.get(f"{server.url}/service/rest/v1/{path}", params=parameters)


def test_components_come_with_their_assets(server: Running) -> None:
    page = rest(server, "components", repository="pypi-hosted").json()
    assert page["continuationToken"] is None
    assert [(item["name"], item["version"]) for item in page["items"]] == [
        ("other", "1.0"), ("scissors", "2.0"), ("some-tool", "1.0"), ("some-tool", "10.0"), ("some-tool", "9.0"),
    ]  # fmt: skip
    (asset,) = page["items"][0]["assets"]
    assert asset["checksum"]["sha256"] == FILES[-1].sha256
    assert asset["fileSize"] == len(FILES[-1].data)
    assert plain.get(asset["downloadUrl"]).content == FILES[-1].data
    in_group = rest(server, "components", repository="pypi-all").json()["items"][0]
    assert in_group["repository"] == "pypi-all"
    assert plain.get(in_group["assets"][0]["downloadUrl"]).content == FILES[-1].data


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"name": "Some_Tool"}, 3),
        ({"name": "some*", "version": "10.0"}, 1),
        ({"q": "OTH"}, 1),
        ({"sha256": FILES[0].sha256}, 1),
        ({"name": "nothing"}, 0),
        ({"format": "maven2"}, 0),
        ({"format": "pypi", "repository": "pypi-proxy"}, 0),
        ({}, 5),
    ],
    ids=str,
)
def test_search_by_rest(server: Running, parameters: dict[str, str], expected: int) -> None:
    assert len(rest(server, "search", **parameters).json()["items"]) == expected
    assert len(rest(server, "search/assets", **parameters).json()["items"]) == expected


def test_bad_parameters_are_named(server: Running) -> None:
    assert "nonsense" in rest(server, "search", nonsense="1").text
    for parameters in ({"nonsense": "1"}, {"continuationToken": "x"}):
        assert rest(server, "components", **parameters).status_code == 400
    assert rest(server, "components", repository="typo").status_code == 404


def test_lists_go_on_where_they_stopped(tmp_path: Path) -> None:
    with serve.running(tmp_path / "home") as server:
        with serve.embedded_publisher(tmp_path / "home") as publisher:
            for number in range(60):
                for built in (make_wheel(f"p{number:02}"), make_sdist(f"p{number:02}")):
                    publisher._repository.add(built.save(tmp_path), built.filename, Claims())
        for path, expected in (("components", 60), ("search/assets", 120)):
            seen: list[str] = []
            token: str | None = ""
            while token is not None:
                parameters = {"continuationToken": token} if token else {}
                page = rest(server, path, repository="pypi-hosted", **parameters).json()
                seen += [item["id"] for item in page["items"]]
                token = page["continuationToken"]
            assert len(seen) == len(set(seen)) == expected


def test_a_component_is_uploaded(server: Running) -> None:
    built = make_wheel("rest-upload")
    url = f"{server.url}/service/rest/v1/components"
    files = {"pypi.asset": (built.filename, built.data)}
    assert plain.post(url, params={"repository": "pypi-hosted"}, files=files).status_code == 204
    page = plain.get(f"{server.index_url('pypi-hosted')}rest-upload/", headers={"accept": JSON}).json()
    assert page["files"][0]["hashes"]["sha256"] == built.sha256
    assert plain.post(url, files=files).status_code == 422
    assert plain.post(url, params={"repository": "typo"}, files=files).status_code == 404
    other = {"pypi.asset": (built.filename, make_wheel("rest-upload", files={"x.py": b""}).data)}
    assert plain.post(url, params={"repository": "pypi-hosted"}, files=other).status_code == 400
    refused = plain.post(url, params={"repository": "pypi-proxy"}, files=files)
    assert refused.status_code == 400
    ((identity, message),) = (tuple(error.values()) for error in refused.json())
    assert identity == "*"
    assert message.startswith("pypi-proxy is a proxy repository and takes no uploads.")


def test_repositories_say_what_they_are(server: Running) -> None:
    listed = {each["name"]: each for each in rest(server, "repositories").json()}
    assert {name: each["type"] for name, each in listed.items()} == {
        "pypi-all": "group",
        "pypi-hosted": "hosted",
        "pypi-proxy": "proxy",
    }
    assert {each["format"] for each in listed.values()} == {"pypi"}
    assert listed["pypi-hosted"]["url"] == server.repository_url("pypi-hosted").rstrip("/")
    assert listed["pypi-all"]["attributes"]["group"]["writableMember"] == "pypi-hosted"


def test_a_search_through_a_group_names_the_member(server: Running) -> None:
    found = rest(server, "search", repository="pypi-all", name="other").json()["items"]
    assert [(item["repository"], item["assets"][0]["repository"]) for item in found] == [("pypi-hosted", "pypi-hosted")]
