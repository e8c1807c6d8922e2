"""What goes over the wire for a URL, and what becomes of what comes back."""

from __future__ import annotations

import gzip
import socket
import struct
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.errors import AirgapError, MissingExtraError, NetworkError, UsageError
from mirror.net import Client, Settings
from mirror.net.exchange import Answer, DecodingError, UnusableURLError, make_request
from tests.http_support import Server, Status


@pytest.fixture(name="server")
def _server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(name="client")
def _client() -> Iterator[Client]:
    with Client(Settings(retries=0, timeout=60)) as client:
        yield client


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://packages.example", "packages.example", "/"),
        ("http://packages.example:80/simple/", "packages.example", "/simple/"),
        ("https://packages.example:443/simple/", "packages.example", "/simple/"),
        ("https://packages.example:80/simple/", "packages.example:80", "/simple/"),
        ("HTTP://Packages.Example:8080/Simple/", "packages.example:8080", "/Simple/"),
        ("http://user:p%40ss@packages.example/a", "packages.example", "/a"),
        ("http://[2001:DB8::1]:8080/a", "[2001:db8::1]:8080", "/a"),
        ("http://[::1]/a", "[::1]", "/a"),
        ("http://bücher.example/a", "xn--bcher-kva.example", "/a"),
        ("http://packages.example/a b/ü.whl#sha256=0", "packages.example", "/a%20b/%C3%BC.whl"),
        ("http://packages.example/a%20b%2Bc%zz%", "packages.example", "/a%20b%2Bc%25zz%25"),
        ("http://packages.example/a+b;c=d@e:f,g~h!i'(j)*[k]&$", "packages.example", "/a+b;c=d@e:f,g~h!i'(j)*[k]&$"),
        ("http://packages.example/a?b=c d&e=/f?g#h", "packages.example", "/a?b=c%20d&e=/f?g"),
        ("http://packages.example?b", "packages.example", "/?b"),
        ('http://packages.example/"<a>"\\', "packages.example", "/%22%3Ca%3E%22%5C"),
    ],
)
def test_a_url_as_it_is_asked_for(url: str, host: str, target: str) -> None:
    request = make_request("GET", url, {}, None, {})
    assert request.url.target.decode() == target
    assert dict(request.headers)[b"host"].decode() == host


@pytest.mark.parametrize(
    "url", ["ftp://host/", "http://", "http:///path", "/path", "http://ho st/", "http://host:port/", "http://a..é/"]
)
def test_what_is_no_url_of_a_server_is_refused(url: str, client: Client) -> None:
    with pytest.raises(UnusableURLError):
        make_request("GET", url, {}, None, {})
    with pytest.raises(UsageError):
        client.get(url)


@given(st.text())
def test_no_text_makes_a_request_line_of_two(text: str) -> None:
    try:
        request = make_request("GET", f"http://host/{text}", {}, None, {})
    except UnusableURLError:
        return
    assert request.url.target.isascii()
    assert not set(request.url.target) & {*range(0x21), 0x7F}


def test_a_header_of_two_lines_is_not_sent(server: Server, client: Client) -> None:
    url = server.add("/page", b"x")
    with pytest.raises(NetworkError, match="can't be sent") as caught:
        client.get(url, headers={"authorization": "Basic secret\r\nx-more: 1"})
    assert "secret" not in f"{caught.value!r} {caught.value.hint}"
    assert not server.seen("/page")


@pytest.mark.parametrize("value", ["caf\u00e9", '"\u2713"'])
def test_headers_may_hold_more_than_ascii(server: Server, client: Client, value: str) -> None:
    url = server.add("/page", b"x")
    server.script("/page", Status(200, {"X-Word": value.encode().decode("latin-1")}))
    word = client.get(url).headers["x-word"]
    assert word == value
    client.get(url, headers={"x-word": word})
    assert server.seen("/page")[1].headers["x-word"].encode("latin-1").decode() == value


def test_a_body_of_unknown_length_goes_out_in_chunks(server: Server, client: Client) -> None:
    server.add("/upload", b"")
    client.send("POST", f"{server.url}/upload", content=iter([b"one", b"two"]))
    assert server.seen("/upload")[0].body == b"onetwo"


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(client: Client) -> None:
    gone = threading.Event()

    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            with listener.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            gone.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        for _ in range(2):
            assert client.send("GET", url).body == b"ok"  # which makes one try
            assert gone.wait(60)
        thread.join(60)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZIP", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw_deflate),
    "twice": ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
    "identity": ("identity", bytes),
    "none": ("", bytes),
}


class Pieces:
    """An answer that comes in pieces of *size* bytes."""

    def __init__(self, coding: str, body: bytes, size: int = 1000) -> None:
        self.status = 200
        self.extensions: dict[str, object] = {"reason_phrase": b"OK"}
        self.headers = [(b"Content-Encoding", coding.encode())] if coding else []
        self.pieces = [body[start : start + size] for start in range(0, len(body), size)]

    def iter_stream(self) -> Iterator[bytes]:
        yield from self.pieces

    def close(self) -> None:
        pass


def answer(coding: str, body: bytes, size: int = 1000) -> Answer:
    return Answer("http://host/", Pieces(coding, body, size))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(PACKERS))
@given(st.binary(max_size=5000), st.integers(1, 100))
@example(b"hello", 1)
def test_every_coding_gives_back_what_was_packed(name: str, data: bytes, size: int) -> None:
    coding, pack = PACKERS[name]
    assert b"".join(answer(coding, pack(data), size).body()) == data


def test_an_answer_without_a_body_is_empty_whatever_its_coding() -> None:
    assert list(answer("gzip", b"").body()) == []


@pytest.mark.parametrize("name", ["gzip", "zlib", "raw", "twice"])
def test_a_body_that_is_cut_or_changed_is_no_body(name: str, server: Server, client: Client) -> None:
    coding, pack = PACKERS[name]
    packed = pack(bytes(range(256)) * 10)
    for broken in (packed[:-1], packed[: len(packed) // 2], b"\xff" + packed):
        with pytest.raises(DecodingError):
            list(answer(coding, broken).body())
    url = server.add("/page", packed[:-1], headers={"Content-Encoding": coding})
    with pytest.raises(NetworkError, match="compression is damaged"):
        client.get(url)


def test_a_coding_that_nobody_asked_for_is_refused(server: Server, client: Client) -> None:
    url = server.add("/page", b"x", headers={"Content-Encoding": "br"})
    with pytest.raises(NetworkError, match="compression"):
        client.get(url)
    assert b"".join(client.download(url)) == b"x"  # a file's bytes are what the server has


def test_a_small_piece_that_holds_a_large_one_comes_out_bit_by_bit() -> None:
    packed = gzip.compress(bytes(64 * 2**20))
    tracemalloc.start()
    try:
        assert sum(map(len, answer("gzip", packed, len(packed)).body())) == 64 * 2**20
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


class SocksProxy:
    """A SOCKS5 proxy (RFC 1928) for one connection, with user and password (RFC 1929)."""

    def __init__(self, target: int) -> None:
        self.login = b""
        self.asked = b""
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        with self._listener, self._listener.accept()[0] as near:
            stream = near.makefile("rb", buffering=0)
            stream.read(stream.read(2)[1])
            near.sendall(b"\x05\x02")
            user = stream.read(stream.read(2)[1])
            self.login = user + b":" + stream.read(stream.read(1)[0])
            near.sendall(b"\x01\x00")
            stream.read(4)
            self.asked = stream.read(stream.read(1)[0])
            stream.read(2)
            near.sendall(b"\x05\x00\x00\x01" + struct.pack("!IH", 0, 0))
            with socket.create_connection(("127.0.0.1", self._target)) as far:
                far.sendall(near.recv(65536))
                while data := far.recv(65536):
                    near.sendall(data)


def test_requests_go_through_a_socks_proxy(server: Server) -> None:
    server.add("/simple/", b"hello", headers={"Connection": "close"})
    proxy = SocksProxy(int(server.url.rpartition(":")[2]))
    settings = Settings(proxy=f"socks5://user:p%40ss@{proxy.place}", retries=0, timeout=60)
    with Client(settings) as client:
        assert client.get("http://packages.invalid/simple/").body == b"hello"
    assert (proxy.login, proxy.asked) == (b"user:p@ss", b"packages.invalid")


def test_a_socks_proxy_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.delitem(sys.modules, "httpcore._sync.socks_proxy", raising=False)
    with Client(Settings(proxy="socks5://user:hunter2@127.0.0.1:9", retries=0)) as client:
        with pytest.raises(MissingExtraError) as caught:
            client.get("http://packages.invalid/")
        assert "airgap-mirror[socks]" in caught.value.hint
        assert "hunter2" not in str(caught.value)
        assert isinstance(caught.value, AirgapError)
