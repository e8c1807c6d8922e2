"""Clients that mean no good: requests with two lengths, heads that never end, browsers led astray, remotes that lie."""

from __future__ import annotations

import base64
import gc
import gzip
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from mirror import serve
from mirror.config.served import Served, ServeSettings
from mirror.serve import server as server_module
from mirror.serve.hosted import Claims
from mirror.serve.server import Running, running
from tests import plain
from tests.http_support import Server
from tests.test_serve_http import LIMIT, PART, stored, upload
from tests.waiting import wait_for
from tests.wheelhouse import make_wheel

WHEEL = make_wheel("app")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("guard")
    with running(folder / "home", file_limit=LIMIT) as found:
        with serve.embedded_publisher(folder / "home") as publisher:
            publisher._repository.add(WHEEL.save(folder), WHEEL.filename, Claims())
        yield found


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that waits for heads for so short a time that only who tests that may speak to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "HEAD_SECONDS", 0.3)
        with running(tmp_path_factory.mktemp("hurried")) as found:
            yield found


def raw(server: Running, *pieces: bytes) -> bytes:
    """What comes back until the server closes the connection."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(pieces[0])
        found = b""
        for piece in pieces[1:]:
            found += connection.recv(65536)
            connection.sendall(piece)
        while chunk := connection.recv(65536):
            found += chunk
        return found


# Connections


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow:"])
def test_a_head_that_does_not_end_is_not_waited_for(hurried: Running, begun: bytes) -> None:
    assert raw(hurried, begun) == b""


def test_nor_is_the_second_one_of_a_connection(hurried: Running) -> None:
    whole = b"GET /service/rest/v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
    answers = 0

    def answered() -> bool:
        nonlocal answers
        with suppress(OSError):  # on a busy machine this client may be too late even for the first one
            answers = raw(hurried, whole, b"GET / HT").count(b"HTTP/1.1 200")
        return answers > 0

    wait_for(answered)
    assert answers == 1


def test_two_lengths_are_refused_and_the_connection_ends(server: Running) -> None:
    body = b"0\r\n\r\nGET /service/rest/v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
    head = (
        b"POST /repository/pypi-hosted/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n"
    )
    answer = raw(server, head % len(body) + body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "head",
    [
        b"POST /repository/pypi-hosted/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /repository/pypi-hosted/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST /repository/pypi-hosted/ HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n",
        b"POST /repository/pypi-hosted/ HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n Folded: x\r\nHost: a\r\n\r\n",
    ],
)
def test_framing_that_is_ambiguous_is_refused(server: Running, head: bytes) -> None:
    answer = raw(server, head + b"hello")
    assert answer[9:10] in (b"4", b"5"), answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("host", ["[", "a b", '"><script>', "a:b:c", "x" * 3000])
def test_any_host_is_only_text(server: Running, host: str) -> None:
    for path in ("/", "/repository/pypi-hosted/simple/App/", "/repository/pypi-hosted/", "/nothing"):
        answer = raw(server, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert not answer.startswith(b"HTTP/1.1 500"), answer
        assert b"<script" not in answer


@pytest.mark.parametrize(
    "path",
    [
        "/repository/pypi-hosted/packages/app/1.0/..%2f..%2f..%2f..%2fusers.json",
        "/repository/pypi-hosted/packages/../../../../etc/passwd",
        "/repository/pypi-hosted/packages/app/1.0/%2fetc%2fpasswd",
        "/repository/pypi-hosted/packages/app/%2e%2e/catalog.sqlite",
        "/repository/..%2fhome/simple/",
        "/browse/%2e%2e/%2e%2e/",
        "/repository/pypi-hosted/packages/app/1.0/app-1.0-py3-none-any.whl%00.metadata",
    ],
)
def test_no_path_leads_out(server: Running, path: str) -> None:
    answer = raw(server, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404"), answer


@pytest.mark.parametrize("path", ["/repository/pypi-hosted/simple//evil.example", "/repository//evil.example/simple"])
def test_no_redirect_leads_elsewhere(server: Running, path: str) -> None:
    answer = plain.get(f"{server.url}{path}")
    assert not answer.headers.get("location", "/").startswith("//")
    assert "//evil" not in answer.headers.get("location", "").partition("://")[2].partition("/")[0]


def test_a_name_with_line_breaks_adds_no_header(server: Running) -> None:
    answer = raw(
        server,
        b"GET /repository/pypi-hosted/simple/a%0d%0aX-Evil:%20b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    assert b"\r\nX-Evil" not in answer


def test_no_browser_guesses_a_type(server: Running) -> None:
    for path in ("/", "/repository/pypi-hosted/simple/", f"/repository/pypi-hosted/packages/app/1.0/{WHEEL.filename}"):
        assert plain.get(f"{server.url}{path}").headers["x-content-type-options"] == "nosniff"
    assert plain.get(f"{server.url}/nothing").headers["x-content-type-options"] == "nosniff"


def test_small_answers_do_not_wait_for_the_client_to_confirm_the_first_piece(server: Running) -> None:
    with plain.Client(base_url=server.url) as client:
        answer = client.get("/service/rest/v1/status")
        assert answer.status_code == 200
        # Other tests' connections come and go in this process: only that of this client is looked at.
        mine = answer.extensions["network_stream"].get_extra_info("client_addr")
        found = [each.transport for each in gc.get_objects() if type(each).__name__ == "Impatient"]
        (ours,) = [each for each in found if each is not None and each.get_extra_info("peername") == mine]
        assert ours.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    "header",
    [f"Range: bytes={'9' * 5000}-", f"Range: bytes=0-{'9' * 5000}", f"Content-Length: {'9' * 5000}", "Range: bytes=-"],
    ids=lambda header: header[:20],
)
def test_numbers_without_end_are_no_numbers(server: Running, header: str) -> None:
    path = f"/repository/pypi-hosted/packages/app/1.0/{WHEEL.filename}"
    answer = raw(server, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n\r\n".encode())
    assert answer[9:12] in (b"200", b"206", b"400", b"416"), answer[:100]


# Uploads


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8081"])
def test_a_web_page_uploads_and_deletes_nothing(server: Running, tmp_path: Path, origin: str) -> None:
    with plain.Client(base_url=server.repository_url("pypi-hosted"), headers={"origin": origin}) as browser:
        answer = upload(browser, make_wheel("evil"), tmp_path)
        assert answer.status_code == 403
        assert "web pages" in answer.text
        asset = base64.urlsafe_b64encode(f"pypi-hosted:app:{WHEEL.filename}".encode()).decode()
        assert browser.delete(f"{server.url}/service/rest/v1/assets/{asset}").status_code == 403
        assert browser.get("simple/evil/").status_code == 404


def test_a_part_whose_headers_do_not_end_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, file_limit=LIMIT) as server:
        body = b"--x\r\nX-Long: " + b"a" * (17 * 1024 * 1024)
        kind = {"content-type": "multipart/form-data; boundary=x"}
        answer = plain.post(server.repository_url("pypi-hosted"), content=body, headers=kind)
        assert answer.status_code in (400, 413), answer.text
    assert stored(home) == []


@pytest.mark.parametrize("path", ["/repository/pypi-hosted/pypi", "/repository/pypi-hosted/"])
def test_a_body_that_trickles_is_not_taken_forever(tmp_path: Path, path: str) -> None:
    with running(tmp_path / "home", upload_timeout=0.5) as server:
        assert trickled(server, path).startswith(b"HTTP/1.1 408")


def trickled(server: Running, path: str) -> bytes:
    """What comes back to who sends a body byte by byte."""
    kind = "Content-Type: multipart/form-data; boundary=x"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{kind}\r\nContent-Length: 9999\r\n\r\n"
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=0.2) as connection:
        connection.sendall(head.encode())
        for _ in range(600):  # each piece comes in time, and the whole never does
            with suppress(OSError):  # the answer may have come just now, and the end behind it
                connection.sendall(PART[:1])
            with suppress(TimeoutError):
                return connection.recv(65536)
    return b""


# Rights


def test_a_group_gives_no_right_that_its_member_withholds(tmp_path: Path) -> None:
    home = tmp_path / "home"
    users = serve.open_users(home)
    one, two, boss = ("one", "one's password"), ("two", "two's password"), ("boss", "boss's password")
    users.add(*one, {"*": "write", "pypi-hosted": "read"})
    users.add(*two, {"*": "read", "pypi-hosted": "none"})
    users.add(*boss, {"*": "admin"})
    settings = ServeSettings(
        anonymous_read=False,
        repositories={"team": Served("team", "group", members=("pypi-hosted",), deploy_to="pypi-hosted")},
    )
    with serve.running(home, settings=settings) as server:
        url = server.repository_url("team")
        rest = f"{server.url}/service/rest/v1"
        with plain.Client(base_url=url, auth=boss) as client:
            assert upload(client, WHEEL, tmp_path).status_code == 200
            assert client.get("simple/app/").status_code == 200
        with plain.Client(base_url=url, auth=one) as client:
            assert upload(client, make_wheel("other"), tmp_path).status_code == 403
            asset = base64.urlsafe_b64encode(f"team:app:{WHEEL.filename}".encode()).decode()
            assert client.delete(f"{rest}/assets/{asset}").status_code == 403
        with plain.Client(base_url=url, auth=two) as client:
            for path in (
                "simple/", "simple/app/", f"packages/app/1.0/{WHEEL.filename}", f"{rest}/search?repository=team",
                f"{rest}/components?repository=pypi-hosted", f"{server.url}/browse/team/app/",
            ):  # fmt: skip
                assert client.get(path).status_code == 403, path
            assert client.post("pypi", content=b"").status_code == 403
            assert client.get(f"{rest}/search/assets").json()["items"] == []
            assert "team" not in client.get(f"{server.url}/").text


def test_strangers_do_not_learn_which_repositories_there_are(tmp_path: Path) -> None:
    serve.open_users(tmp_path / "home").add("one", "long enough", {"*": "read"})
    with serve.running(tmp_path / "home", settings=ServeSettings(anonymous_read=False)) as server:
        for path in ("repository/typo/simple/", "service/rest/v1/search?repository=typo", "browse/typo/", ""):
            answer = plain.get(f"{server.url}/{path}")
            assert answer.status_code == 401
            assert "pypi-hosted" not in answer.text


def test_a_password_in_latin_1_as_requests_sends_it(tmp_path: Path) -> None:
    serve.open_users(tmp_path / "home").add("one", "pässwörter", {"*": "read"})
    with serve.running(tmp_path / "home", settings=ServeSettings(anonymous_read=False)) as server:
        for encoding in ("latin-1", "utf-8"):
            header = "Basic " + base64.b64encode("one:pässwörter".encode(encoding)).decode()
            answer = plain.get(server.index_url("pypi-hosted"), headers={"authorization": header})
            assert answer.status_code == 200, encoding


# Remotes


def test_a_remote_can_not_have_other_servers_asked_without_a_digest(tmp_path: Path) -> None:
    with Server() as inside, Server() as remote:
        secret = inside.add(f"/{WHEEL.filename}", WHEEL.data)
        inside.add(f"/{WHEEL.filename}.metadata", b"Name: app\n")
        own = remote.add("/files/app-2.0-py3-none-any.whl", make_wheel("app", "2.0").data)
        digest = f"#sha256={make_wheel('app', '3.0').sha256}"
        other = inside.add("/app-3.0-py3-none-any.whl", make_wheel("app", "3.0").data)
        page = "".join(
            f'<a href="{url}">{url[url.rindex("/") + 1 :].partition("#")[0]}</a>'
            for url in (secret, own, other + digest)
        )
        remote.add("/simple/app/", f"<!DOCTYPE html>{page}".encode(), content_type="text/html")
        proxy = Served("p", "proxy", remote=f"{remote.url}/simple/")
        with running(tmp_path / "home", settings=ServeSettings(repositories={"p": proxy})) as served:
            listed = plain.get(f"{served.index_url('p')}app/").text
            base = f"{served.repository_url('p')}packages/app"
            assert plain.get(f"{base}/1.0/{WHEEL.filename}").status_code == 404
            assert plain.get(f"{base}/1.0/{WHEEL.filename}.metadata").status_code == 404
            assert plain.get(f"{base}/2.0/app-2.0-py3-none-any.whl").status_code == 200
            assert plain.get(f"{base}/3.0/app-3.0-py3-none-any.whl").status_code == 200
        assert WHEEL.filename not in listed
        assert "app-2.0" in listed
        assert "app-3.0" in listed
        assert not inside.seen(f"/{WHEEL.filename}")


def test_a_page_that_unpacks_to_very_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.serve.proxy.PAGE_LIMIT", 1_000_000)
    with Server() as remote:
        bomb = gzip.compress(b"<!DOCTYPE html>" + b" " * 5_000_000)
        remote.add("/simple/app/", bomb, content_type="text/html", headers={"Content-Encoding": "gzip"})
        proxy = Served("p", "proxy", remote=f"{remote.url}/simple/")
        with running(tmp_path / "home", settings=ServeSettings(repositories={"p": proxy})) as served:
            answer = plain.get(f"{served.index_url('p')}app/")
        assert answer.status_code == 502
        assert "larger than" in answer.text


# TLS


def test_old_ciphers_are_not_spoken(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    (tmp_path / "server.pem").write_bytes(leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes())
    with serve.running(tmp_path / "home", settings=ServeSettings(tls_cert=tmp_path / "server.pem")) as server:
        address = urlsplit(server.url)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(context)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        for ciphers, taken in (("ECDHE+AESGCM", True), ("AES256-SHA:ECDHE-RSA-AES128-SHA", False)):
            context.set_ciphers(ciphers)
            with socket.create_connection((address.hostname, address.port), timeout=20) as plain:
                try:
                    context.wrap_socket(plain, server_hostname="127.0.0.1").close()
                except ssl.SSLError:
                    assert not taken
                else:
                    assert taken
