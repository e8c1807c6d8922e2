"""Who may do what: users, tokens, rights, TLS, reverse proxies, and the log of writes."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme

from mirror import serve
from mirror.config.served import ServeSettings
from mirror.errors import ConfigError
from mirror.serve.hosted import Claims
from mirror.serve.server import Running
from mirror.serve.tls import check_certificates
from mirror.serve.users import TooManyFailuresError, Users
from tests import plain
from tests.index_support import Ran, airgap
from tests.test_serve_http import pip, upload
from tests.wheelhouse import make_wheel

WHEEL = make_wheel("app")
READER, WRITER = ("reader", "reader's password"), ("writer", "writer's password")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path, tuple[str, str]]]:
    """A server with two users, one token, and no anonymous reading."""
    home = tmp_path_factory.mktemp("guarded")
    users = serve.open_users(home)
    users.add(*READER, {"*": "read"})
    users.add(*WRITER, {"pypi-hosted": "write"})
    token = users.make_token("writer")
    with serve.running(home, settings=ServeSettings(anonymous_read=False)) as found:
        yield found, home, token


def client(server: Running, auth: tuple[str, str] | None, repository: str = "pypi-hosted") -> httpx.Client:
    return plain.Client(base_url=server.repository_url(repository), auth=auth)


def test_rights(guarded: tuple[Running, Path, tuple[str, str]], tmp_path: Path) -> None:
    server, home, token = guarded
    with client(server, READER) as reader, client(server, WRITER) as writer, client(server, token) as with_token:
        refused = upload(reader, WHEEL, tmp_path)
        assert refused.status_code == 403
        assert "reader may not write in pypi-hosted" in refused.text
        for allowed in (writer, with_token):
            assert upload(allowed, WHEEL, tmp_path).status_code == 200
        for allowed in (reader, writer, with_token):
            assert allowed.get("simple/app/").status_code == 200
            assert allowed.get(f"packages/app/1.0/{WHEEL.filename}").content == WHEEL.data
    with client(server, WRITER, "pypi-all") as writer:
        assert writer.get("simple/app/").status_code == 403
    said = [json.loads(line) for line in (home / "audit.log").read_text().splitlines()]
    assert [(each["actor"], each["action"], each["file"]) for each in said] == [
        ("writer@127.0.0.1", "upload", WHEEL.filename)
    ]


@pytest.mark.parametrize(
    "auth", [None, ("reader", "wrong"), ("nobody", "reader's password"), ("writer", ""), ("", "")], ids=str
)
def test_without_the_right_credentials_there_is_nothing(
    guarded: tuple[Running, Path, tuple[str, str]], tmp_path: Path, auth: tuple[str, str] | None
) -> None:
    server, _, _ = guarded
    with client(server, auth) as stranger:
        for answer in (
            stranger.get("simple/"),
            stranger.get("simple/app/"),
            stranger.get("packages/app/1.0/x.whl"),
            stranger.post("pypi", content=b""),
            stranger.get(f"{server.url}/service/rest/v1/components?repository=pypi-hosted"),
            stranger.get(f"{server.url}/service/rest/v1/repositories"),
            stranger.post(
                f"{server.url}/service/rest/v1/components?repository=pypi-hosted", files={"pypi.asset": ("x.whl", b"x")}
            ),
            upload(stranger, WHEEL, tmp_path),
        ):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic realm=")
            assert "check" in answer.text.lower()


def test_an_authorization_that_is_no_basic_is_as_good_as_none(guarded: tuple[Running, Path, tuple[str, str]]) -> None:
    server, _, _ = guarded
    for header in ("Bearer x", "Basic !!!", "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Basic"):
        answer = plain.get(server.index_url("pypi-hosted"), headers={"authorization": header})
        assert answer.status_code == 401


def test_without_users_strangers_on_the_net_may_not_write(tmp_path: Path) -> None:
    with serve.running(tmp_path / "home", host="0.0.0.0") as server:
        url = f"http://127.0.0.1:{urlsplit(server.url).port}/repository/pypi-hosted/"
        with plain.Client(base_url=url) as stranger:
            assert stranger.get("simple/").status_code == 200
            answer = upload(stranger, WHEEL, tmp_path)
            assert answer.status_code == 401
            assert "airgap user add" in answer.text


def test_a_user_may_be_added_while_the_server_runs(tmp_path: Path) -> None:
    with serve.running(tmp_path / "home") as server, client(server, None) as anybody:
        assert upload(anybody, WHEEL, tmp_path).status_code == 200
        users = serve.open_users(tmp_path / "home")
        users.add("one", "long enough", {"*": "admin"})
        assert upload(anybody, WHEEL, tmp_path).status_code == 401
        assert anybody.get("simple/").status_code == 200
        with client(server, ("one", "long enough")) as one:
            assert upload(one, WHEEL, tmp_path).status_code == 200
            users.set_password("one", "another one")
            assert upload(one, WHEEL, tmp_path).status_code == 401


def test_twine_and_pip_with_a_user_token(guarded: tuple[Running, Path, tuple[str, str]], tmp_path: Path) -> None:
    server, _, (name_code, pass_code) = guarded
    path = make_wheel("tokened").save(tmp_path)
    pypirc = tmp_path / ".pypirc"
    pypirc.write_text(
        f"[distutils]\nindex-servers = nexus\n[nexus]\nrepository = {server.repository_url('pypi-hosted')}\n"
        f"username = {name_code}\npassword = {pass_code}\n"
    )
    command = [
        sys.executable,
        "-m",
        "twine",
        "upload",
        "--non-interactive",
        "--config-file",
        str(pypirc),
        "-r",
        "nexus",
    ]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    url = server.index_url("pypi-hosted").replace("://", f"://{name_code}:{pass_code}@")
    done = pip("install", "-q", "-i", url, "--target", str(tmp_path / "target"), "tokened", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    pypirc.write_text(pypirc.read_text().replace(pass_code, "wrong"))
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "401" in done.stdout + done.stderr


def test_only_an_administrator_deletes_over_http(tmp_path: Path) -> None:
    users = serve.open_users(tmp_path / "home")
    users.add("boss", "boss's password", {"pypi-hosted": "admin"})
    users.add(*WRITER, {"*": "write"})
    boss = ("boss", "boss's password")
    with serve.running(tmp_path / "home") as server, client(server, boss) as uploader:
        assert upload(uploader, WHEEL, tmp_path).status_code == 200
        rest = f"{server.url}/service/rest/v1"
        (asset,) = plain.get(f"{rest}/search/assets").json()["items"]
        url = f"{rest}/assets/{asset['id']}"
        assert plain.delete(url).status_code == 401
        assert plain.delete(url, auth=WRITER).status_code == 403
        assert plain.delete(url, auth=boss).status_code == 204
        assert plain.delete(url, auth=boss).status_code == 400
        assert plain.delete(f"{rest}/assets/x", auth=boss).status_code == 400
        assert plain.get(f"{rest}/search/assets").json()["items"] == []


# The file of users


def test_the_file_holds_no_secret(tmp_path: Path) -> None:
    users = Users(tmp_path / "users.json")
    users.add("one", "long enough", {"*": "read"})
    _, pass_code = users.make_token("one")
    text = users._path.read_text()
    assert "long enough" not in text
    assert pass_code not in text
    if sys.platform != "win32":
        assert users._path.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["users.json"]


def test_tokens_can_be_revoked_and_users_removed(tmp_path: Path) -> None:
    users = Users(tmp_path / "users.json")
    users.add("one", "long enough", {"*": "read"})
    token = users.make_token("one")
    found = users.authenticate(*token, address="a")
    assert found is not None
    assert found.name == "one"
    assert users.drop_tokens("one") == 1
    assert users.authenticate(*token, address="a") is None
    users.remove("one")
    assert users.authenticate("one", "long enough", address="a") is None
    assert not users.all()


def test_failures_are_limited_by_address_and_proved_users_are_not_locked_out(tmp_path: Path) -> None:
    users = Users(tmp_path / "users.json")
    users.add("one", "long enough", {"*": "read"})
    assert users.authenticate("one", "long enough", address="a") is not None
    for number in range(10):
        assert users.authenticate("one", f"guess {number}", address="a") is None
    with pytest.raises(TooManyFailuresError):
        users.authenticate("one", "guess", address="a")
    assert users.authenticate("one", "long enough", address="a") is not None
    assert users.authenticate("one", "guess", address="b") is None


@pytest.mark.parametrize(
    ("name", "password", "rights"),
    [
        ("one", "long enough", {"*": "read"}),
        ("two words", "long enough", {}),
        ("", "long enough", {}),
        ("two", "short", {}),
        ("two", "long enough", {"*": "everything"}),
    ],
)
def test_bad_users_are_refused(tmp_path: Path, name: str, password: str, rights: dict[str, str]) -> None:
    users = Users(tmp_path / "users.json")
    users.add("one", "long enough", {"*": "read"})
    with pytest.raises(ConfigError):
        users.add(name, password, rights)
    assert list(users.all()) == ["one"]


@pytest.mark.parametrize("text", ["", "[]", '{"users": {"x": {"password": "plain", "rights": {}, "tokens": []}}}'])
def test_a_damaged_file_lets_nobody_in(tmp_path: Path, text: str) -> None:
    (tmp_path / "users.json").write_text(text)
    with pytest.raises(ConfigError, match=r"users\.json"):
        Users(tmp_path / "users.json").authenticate("x", "y", address="a")


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write_chain(
    folder: Path, leaf: trustme.LeafCert, *, turned: bool = False, alone: bool = False
) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    blobs = [blob.bytes() for blob in leaf.cert_chain_pems]
    cert.write_bytes(b"".join(blobs[::-1] if turned else blobs[:1] if alone else blobs))
    key.write_bytes(leaf.private_key_pem.bytes())
    return cert, key


def test_pip_over_tls_with_a_private_chain(authority: trustme.CA, tmp_path: Path) -> None:
    leaf = authority.create_child_ca().issue_cert("127.0.0.1")
    cert, key = write_chain(tmp_path, leaf)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    with serve.running(tmp_path / "home", settings=ServeSettings(tls_cert=cert, tls_key=key)) as server:
        assert server.url.startswith("https://")
        with serve.embedded_publisher(tmp_path / "home") as publisher:
            publisher._repository.add(WHEEL.save(tmp_path), WHEEL.filename, Claims())
        index = ("-i", server.index_url("pypi-hosted"), "--retries", "0", "--target")
        done = pip("install", "-q", "--cert", str(bundle), *index, str(tmp_path / "1"), "app", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        done = pip("install", "-q", "--trusted-host", "127.0.0.1", *index, str(tmp_path / "2"), "app", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        done = pip("install", *index, str(tmp_path / "3"), "app", folder=tmp_path)
        assert done.returncode != 0
        assert "certificate" in (done.stdout + done.stderr).lower()


def test_bad_certificate_files_are_named_at_start(authority: trustme.CA, tmp_path: Path) -> None:
    leaf = authority.create_child_ca().issue_cert("127.0.0.1")
    old = authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=timezone.utc))
    good = write_chain(tmp_path, leaf)
    check_certificates(*good)
    check_certificates(*write_chain(tmp_path, leaf, alone=True))
    with pytest.raises(ConfigError, match="did not sign") as caught:
        check_certificates(*write_chain(tmp_path, leaf, turned=True))
    assert "first" in caught.value.hint
    with pytest.raises(ConfigError, match="expired on 2020-01-01"):
        check_certificates(*write_chain(tmp_path, old))
    cert, key = write_chain(tmp_path, leaf)
    key.write_bytes(old.private_key_pem.bytes())
    with pytest.raises(ConfigError, match="is not that of the first certificate"):
        check_certificates(cert, key)
    for text in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        cert.write_bytes(text)
        with pytest.raises(ConfigError, match=r"cert\.pem"):
            check_certificates(cert, key)
    with pytest.raises(ConfigError, match="can't be read"):
        check_certificates(tmp_path / "nothing", None)


# Reverse proxies


def forwarded(server: Running, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return plain.get(f"{server.url}/repository/pypi-hosted/", headers=names)


def test_only_trusted_addresses_are_believed(tmp_path: Path) -> None:
    said = {"x_forwarded_proto": "https", "x_forwarded_host": "packages.example"}
    with serve.running(tmp_path / "1", settings=ServeSettings(trusted_proxies=("127.0.0.0/8",))) as server:
        assert "https://packages.example/repository/pypi-hosted/" in forwarded(server, **said).text
        for bad in ("a/b", "a b", "<a>", "u@a"):
            assert server.url in forwarded(server, x_forwarded_host=bad).text
    with serve.running(tmp_path / "2", settings=ServeSettings(trusted_proxies=("192.0.2.1",))) as server:
        assert server.url in forwarded(server, **said).text


def test_the_log_names_the_client_behind_the_proxies(tmp_path: Path) -> None:
    users = serve.open_users(tmp_path / "home")
    users.add(*WRITER, {"*": "write"})
    settings = ServeSettings(trusted_proxies=("127.0.0.1", "10.0.0.0/8"))
    with serve.running(tmp_path / "home", settings=settings) as server, client(server, WRITER) as writer:
        writer.headers["x-forwarded-for"] = "198.51.100.7, 203.0.113.9, 10.1.1.1"  # the first is the client's own idea
        assert upload(writer, WHEEL, tmp_path).status_code == 200
    assert json.loads((tmp_path / "home" / "audit.log").read_text())["actor"] == "writer@203.0.113.9"


# The command line


def test_users_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRGAP_HOME", str(tmp_path))

    def run(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        return airgap("user", *arguments)

    done = run("add", "one", "--right", "pypi-hosted=write", "--password-stdin", stdin="long enough\n")
    assert (done.code, done.err) == (0, "")
    done = run("add", "two", "--right", "pypi-hostel=write", "--password-stdin", stdin="long enough\n")
    assert done.code == 0
    assert "there is no repository pypi-hostel now; there are pypi-all, pypi-hosted, pypi-proxy" in done.err
    token = run("token", "one", "--json").document
    users = serve.open_users(tmp_path)
    found = users.authenticate(token["username"], token["password"], address="a")
    assert found is not None
    assert found.may("write", "pypi-hosted")
    assert not found.may("admin", "pypi-hosted")
    assert not found.may("read", "pypi-proxy")
    assert run("passwd", "one", "--password-stdin", stdin="short\n").code == 2
    assert run("remove", "one").code == 0
    assert run("remove", "one").code == 2
