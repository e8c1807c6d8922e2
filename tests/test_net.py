from __future__ import annotations

import base64
import gzip
import threading
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import (
    AirgapError,
    AuthError,
    HTTPError,
    IntegrityError,
    NetworkError,
    NotFoundError,
    UsageError,
)
from mirror.net import Client, SendError, Settings
from mirror.net.retry import LONGEST_DELAY, LONGEST_RETRY_AFTER, delay, retry_after
from tests.http_support import Cut, Hold, IgnoreRange, Reply, Request, Reset, Server, Status, basic
from tests.ports import closed_port
from tests.waiting import wait_for

BODY = bytes(range(256)) * 4096
NOW = {"Retry-After": "0"}


@pytest.fixture(name="server")
def _server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(name="client")
def _client() -> Iterator[Client]:
    with Client(Settings(retries=2, timeout=60)) as client:
        yield client


def test_get_returns_body_status_and_lower_case_headers(server: Server, client: Client) -> None:
    url = server.add("/page", b"hello", content_type="text/html", headers={"X-Thing": "1"})
    answer = client.get(url, headers={"Accept": "text/html"})
    assert (answer.status, answer.body, answer.url) == (200, b"hello", url)
    assert answer.headers["x-thing"] == "1"
    (request,) = server.seen("/page")
    assert request.headers["accept"] == "text/html"
    assert request.headers["user-agent"].startswith("airgap/")


def test_head_has_no_body(server: Server, client: Client) -> None:
    answer = client.head(server.add("/file", BODY))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == str(len(BODY))


def test_get_decompresses_but_not_a_range(server: Server, client: Client) -> None:
    packed = gzip.compress(b"x" * 1000)
    url = server.add("/page", packed, headers={"Content-Encoding": "gzip"})
    assert client.get(url).body == b"x" * 1000
    client.get(server.add("/file", BODY), headers={"Range": "bytes=0-9"})
    assert server.seen("/file")[0].headers["accept-encoding"] == "identity"


def test_get_refuses_more_than_the_limit_even_when_it_is_compressed(server: Server, client: Client) -> None:
    bomb = server.add("/bomb", gzip.compress(b"\0" * 1_000_000), headers={"Content-Encoding": "gzip"})
    with pytest.raises(NetworkError, match="larger than 1000 bytes"):
        client.get(bomb, limit=1000)


def test_the_beginning_is_all_that_is_fetched(server: Server, client: Client) -> None:
    url = server.add("/page", BODY)
    for size in (len(BODY), len(BODY) + 1):
        answer, more = client.beginning(url, size)
        assert (answer.body, more) == (BODY, False)
    answer, more = client.beginning(url, len(BODY) - 1)
    assert (answer.body, more) == (BODY[:-1], True)
    never = threading.Event()
    server.script("/page", Cut(1000), Hold(500_001, never))  # a break is no end; nobody waits for the rest
    answer, more = client.beginning(url, 500_000)
    assert (answer.body, more) == (BODY[:500_000], True)
    assert client.get(url).body == BODY


def test_the_beginning_of_what_is_compressed(server: Server, client: Client) -> None:
    url = server.add("/page", gzip.compress(BODY), headers={"Content-Encoding": "gzip"})
    answer, more = client.beginning(url, 1000)
    assert (answer.body, more) == (BODY[:1000], True)


def test_accepted_statuses_are_returned(server: Server, client: Client) -> None:
    url = server.add("/page", b"x")
    etag = client.get(url).headers["etag"]
    assert client.get(url, headers={"If-None-Match": etag}).status == 304
    assert client.get(server.url + "/none", accept=(404,)).status == 404


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthError),
        (403, AuthError),
        (404, NotFoundError),
        (410, NotFoundError),
        (400, HTTPError),
        (501, HTTPError),
    ],
)
def test_a_lasting_error_status_is_raised_at_once(
    server: Server, client: Client, status: int, kind: type[HTTPError]
) -> None:
    url = server.handle("/page", lambda _: Reply(status))
    with pytest.raises(kind) as caught:
        client.get(url + "?token=hush")
    assert caught.value.status == status
    assert not caught.value.retryable
    assert "hush" not in str(caught.value)
    assert len(server.seen("/page")) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 527])
def test_a_transient_status_is_tried_again(server: Server, client: Client, status: int) -> None:
    url = server.add("/page", b"fine")
    server.script("/page", Status(status, NOW), Status(status, NOW))
    assert client.get(url).body == b"fine"
    assert len(server.seen("/page")) == 3


def test_tries_are_bounded(server: Server, client: Client) -> None:
    url = server.handle("/page", lambda _: Reply(503, headers=NOW))
    with pytest.raises(HTTPError) as caught:
        client.get(url)
    assert caught.value.retryable
    assert caught.value.status == 503
    assert len(server.seen("/page")) == 3


def test_a_cut_page_and_a_reset_connection_are_tried_again(server: Server, client: Client) -> None:
    url = server.add("/page", BODY)
    server.script("/page", Cut(1000), Reset())
    assert client.get(url).body == BODY


def test_connection_refused_and_unknown_host_say_so() -> None:
    with Client(Settings(retries=0)) as client:
        with pytest.raises(NetworkError, match="can't connect") as caught:
            client.get(f"http://bob:hunter2@127.0.0.1:{closed_port()}/simple/")
        assert caught.value.retryable
        assert "airgap doctor" in caught.value.hint
        assert "hunter2" not in str(caught.value)


def test_a_silent_server_times_out(server: Server) -> None:
    url = server.add("/file", BODY)
    server.script("/file", Hold(10, server.stopped))
    with Client(Settings(retries=0, timeout=0.2)) as client, pytest.raises(NetworkError, match=r"0\.2 seconds"):
        client.get(url)


@pytest.mark.parametrize("url", ["ftp://example.org/x", "/only/a/path", "http://", "http://[::1/x", "http://h:port/x"])
def test_what_is_not_an_http_url_is_refused(client: Client, url: str) -> None:
    with pytest.raises(UsageError):
        client.get(url)


def test_closing_the_client_ends_a_wait(server: Server) -> None:
    url = server.handle("/page", lambda _: Reply(503, headers={"Retry-After": "60"}))
    client = Client()
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            client.get(url)
        except AirgapError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: bool(server.seen("/page")))
    client.close()
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(caught[0], NetworkError)


# Redirects and credentials


def test_redirects_are_followed(server: Server, client: Client) -> None:
    server.redirect("/old", "/new", status=308)
    server.add("/new", b"here")
    answer = client.get(server.url + "/old")
    assert (answer.body, answer.url) == (b"here", server.url + "/new")


def test_circular_and_endless_redirects_are_errors(server: Server, client: Client) -> None:
    server.redirect("/a", "/b")
    server.redirect("/b", "/a")
    with pytest.raises(NetworkError, match="in a circle"):
        client.get(server.url + "/a")
    server.handle("/n", lambda _: Reply(302, headers={"Location": f"/n?{len(server.requests)}"}))
    with pytest.raises(NetworkError, match="more than 20 redirects"):
        client.get(server.url + "/n")


def test_a_redirect_to_another_scheme_is_refused(server: Server, client: Client) -> None:
    with pytest.raises(UsageError, match="not an http or https URL"):
        client.get(server.redirect("/file", "file:///etc/passwd"))


def test_url_credentials_are_sent_at_once_and_kept_for_the_origin(client: Client) -> None:
    with Server(users={"bob": "p@ss/word"}) as server:
        server.add("/simple/", b"page")
        server.add("/file", b"file")
        place = server.url.removeprefix("http://")
        answer = client.get(f"http://bob:p%40ss%2Fword@{place}/simple/")
        assert answer.url == server.url + "/simple/"
        assert client.get(server.url + "/file").body == b"file"
        assert [request.headers["authorization"] for request in server.requests] == [basic("bob", "p@ss/word")] * 2


def test_credentials_are_asked_for_once_per_origin_and_beaten_by_the_url(server: Server) -> None:
    asked: list[str] = []

    def credentials(url: str, *, refused: bool = False) -> tuple[str, str] | None:
        asked.append(url)
        return "ann", "secret"

    server.add("/page", b"")
    with Client(credentials=credentials) as client:
        client.get(server.url + "/page")
        client.get(server.url + "/page")
        client.get(server.url.replace("//", "//bob:pw@") + "/page")
    assert asked == [server.url + "/page"]
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [basic("ann", "secret")] * 2 + [basic("bob", "pw")]


def test_credentials_are_looked_for_once_more_when_a_server_refuses() -> None:
    asked: list[bool] = []

    def credentials(url: str, *, refused: bool = False) -> tuple[str, str] | None:
        asked.append(refused)
        return ("bob", "pw") if refused else None

    with Server(users={"bob": "pw"}) as server, Client(credentials=credentials) as client:
        server.add("/page", b"page")
        assert client.get(server.url + "/page").body == b"page"
        assert b"".join(client.download(server.url + "/page")) == b"page"
    assert asked == [False, True]
    assert ["authorization" in request.headers for request in server.requests] == [False, True, True]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_do_not_follow_a_redirect_to_another_origin(client: Client, status: int) -> None:
    with Server() as other, Server(users={"bob": "pw"}) as server:
        other.add("/file", BODY)
        server.redirect("/file", other.url + "/file", status=status)
        url = server.url.replace("//", "//bob:pw@") + "/file"
        assert b"".join(client.download(url)) == BODY
        assert client.get(url, headers={"Authorization": basic("bob", "pw")}).body == BODY
        assert all("authorization" not in request.headers for request in other.requests)
        assert all("authorization" in request.headers for request in server.requests)


def test_credentials_in_a_location_are_dropped(client: Client) -> None:
    with Server() as other, Server() as server:
        other.add("/file", b"x")
        server.redirect("/file", other.url.replace("//", "//eve:trap@") + "/file")
        assert client.get(server.url + "/file").body == b"x"
        assert "authorization" not in other.requests[0].headers


@pytest.mark.parametrize(("known", "hint"), [(True, "were sent"), (False, "No credentials are known")])
def test_a_refused_login_says_whether_credentials_were_sent(client: Client, known: bool, hint: str) -> None:
    with Server(users={"bob": "right"}) as server:
        url = server.url.replace("//", "//bob:hunter2@") if known else server.url
        with pytest.raises(AuthError) as caught:
            client.get(url + "/simple/?key=hunter2")
        shown = f"{caught.value} {caught.value.hint} {caught.value!r}"
        assert hint in shown
        assert "hunter2" not in shown
        assert base64.b64encode(b"bob:hunter2").decode() not in shown


# Downloads


def test_a_truncated_download_goes_on_where_it_ended(server: Server, client: Client) -> None:
    url = server.add("/file", BODY)
    server.script("/file", Cut(1000), Cut(5000))
    assert b"".join(client.download(url)) == BODY
    assert server.ranges("/file") == [None, "bytes=1000-", "bytes=6000-"]
    etag = server.seen("/file")[1].headers["if-range"]
    assert etag.startswith('"')
    assert all(request.headers["accept-encoding"] == "identity" for request in server.requests)


def test_a_download_starts_at_the_offset(server: Server, client: Client) -> None:
    url = server.add("/file", BODY)
    assert b"".join(client.download(url, offset=1000, size=len(BODY))) == BODY[1000:]
    assert server.ranges("/file") == ["bytes=1000-"]


def test_a_complete_download_is_recognised(server: Server, client: Client) -> None:
    url = server.add("/file", BODY)
    assert list(client.download(url, offset=len(BODY))) == []
    assert list(client.download(url, offset=len(BODY), size=len(BODY))) == []
    assert len(server.requests) == 1


def test_a_server_that_ignores_ranges_is_read_past_what_is_known(server: Server, client: Client) -> None:
    url = server.add("/file", BODY, ranges=False)
    assert b"".join(client.download(url, offset=300_000)) == BODY[300_000:]
    other = server.add("/other", BODY)
    server.script("/other", Cut(70_000), IgnoreRange())
    assert b"".join(client.download(other)) == BODY


def test_progress_renews_the_tries(server: Server, client: Client) -> None:
    url = server.add("/file", BODY)
    server.script("/file", *[Cut(100)] * 5)
    assert b"".join(client.download(url)) == BODY
    server.script("/file", *[Cut(0)] * 3)
    with pytest.raises(NetworkError) as caught:
        list(client.download(url))
    assert caught.value.retryable


def test_a_file_that_changes_meanwhile_is_an_error(server: Server, client: Client) -> None:
    url = server.add("/file", BODY)
    server.script("/file", Cut(100_000))
    chunks = client.download(url)
    next(chunks)
    server.add("/file", BODY[::-1])
    with pytest.raises(IntegrityError, match="changed") as caught:
        list(chunks)
    assert caught.value.retryable


@pytest.mark.parametrize("wrong", [-1, 1])
def test_another_size_than_promised_is_an_error(server: Server, client: Client, wrong: int) -> None:
    url = server.add("/file", BODY)
    with pytest.raises(IntegrityError, match="offers"):
        list(client.download(url, size=len(BODY) + wrong))


def test_more_bytes_than_promised_without_a_length_are_an_error(server: Server, client: Client) -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    url = server.handle("/file", lambda _: Reply(200, chunked, {"Transfer-Encoding": "chunked"}))
    assert b"".join(client.download(url)) == BODY
    assert b"".join(client.download(url, size=len(BODY))) == BODY
    with pytest.raises(IntegrityError, match="more than 100 bytes"):
        list(client.download(url, size=100))
    with pytest.raises(NetworkError, match=f"{len(BODY)} of {len(BODY) + 1} bytes"):
        list(client.download(url, size=len(BODY) + 1))


@pytest.mark.parametrize("beyond", [416, 404])
def test_a_complete_download_is_recognised_as_nexus_answers_it(server: Server, client: Client, beyond: int) -> None:
    """Where nobody said how long the file is; its groups have 404 for a range that is not in the file."""
    url = server.add("/file", BODY, beyond=beyond)
    assert list(client.download(url, offset=len(BODY))) == []
    assert b"".join(client.download(url, offset=1000)) == BODY[1000:]
    with pytest.raises(IntegrityError, match="shorter"):
        list(client.download(url, offset=len(BODY) + 1))
    with pytest.raises(NotFoundError):
        list(client.download(f"{server.url}/nothing", offset=10))


def test_a_shorter_file_from_a_server_that_ignores_ranges(server: Server, client: Client) -> None:
    url = server.add("/file", b"tiny", ranges=False)
    with pytest.raises(IntegrityError, match="shorter") as caught:
        list(client.download(url, offset=100))
    assert caught.value.retryable


def test_an_offset_past_the_end_starts_over(server: Server, client: Client) -> None:
    with pytest.raises(IntegrityError, match="shorter") as caught:
        list(client.download(server.add("/file", b"tiny"), offset=100))
    assert caught.value.retryable


def test_a_stop_ends_the_wait_between_two_tries(server: Server, client: Client) -> None:
    stop = threading.Event()
    stop.set()
    url = server.handle("/file", lambda _: Reply(503, headers={"Retry-After": "60"}))
    with pytest.raises(HTTPError):
        list(client.download(url, stop=stop))
    assert len(server.requests) == 1


# Sending


def test_send_returns_any_status_and_follows_nothing(server: Server, client: Client) -> None:
    got: list[Request] = []

    def take(request: Request) -> Reply:
        got.append(request)
        return Reply(400, b"no" * 1_000_000)

    url = server.handle("/", take)
    answer = client.send("POST", url, content=b"form", headers={"Content-Type": "text/plain"})
    assert (answer.status, len(answer.body), got[0].body) == (400, 1024 * 1024, b"form")
    assert client.send("POST", server.redirect("/r", "/")).status == 302
    parts = iter([b"ab", b"cd"])
    client.send("POST", url, content=parts, headers={"Content-Length": "4"})
    assert got[1].body == b"abcd"
    assert "transfer-encoding" not in got[1].headers
    client.send("POST", url, content=iter([b"ab", b"cd"]))
    assert got[2].body == b"abcd"


def test_send_never_repeats_and_tells_whether_the_body_went_out(server: Server, client: Client) -> None:
    server.handle("/", lambda _: Reply())
    server.script("/", Reset(), Status(503))
    with pytest.raises(SendError) as caught:
        client.send("POST", server.url + "/", content=b"form")
    assert caught.value.sent
    assert client.send("POST", server.url + "/").status == 503
    assert len(server.requests) == 2
    with pytest.raises(SendError) as caught:
        client.send("POST", f"http://127.0.0.1:{closed_port()}/", content=b"form")
    assert not caught.value.sent


# The proxy


def test_requests_go_through_the_proxy(server: Server) -> None:
    url = "http://packages.invalid/simple/"
    server.handle(url, lambda _: Reply(200, b"through"))
    proxy = server.url.replace("//", "//us:pw@")
    with Client(Settings(proxy=proxy)) as client:
        assert client.get(url).body == b"through"
    assert server.requests[0].headers["proxy-authorization"] == basic("us", "pw")


def test_a_proxy_that_refuses_is_named(server: Server) -> None:
    with Client(Settings(proxy=server.url.removeprefix("http://"), retries=0)) as client:
        server.script("packages.invalid:443", Status(407))
        with pytest.raises(AuthError, match="407") as caught:
            client.get("https://packages.invalid/simple/")
        assert "--proxy" in caught.value.hint
        server.script("packages.invalid:443", Status(502))
        with pytest.raises(NetworkError, match="the proxy can't connect"):
            client.get("https://packages.invalid/simple/")


def test_a_proxy_that_is_no_url_is_refused() -> None:
    with Client(Settings(proxy="socks9://user:hunter2@host")) as client, pytest.raises(UsageError) as caught:
        client.get("http://packages.invalid/")
    assert "hunter2" not in str(caught.value)


# Waiting


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1e9))
def test_a_delay_is_bounded(failures: int, wait: float | None) -> None:
    seconds = delay(failures, wait)
    assert 0 <= seconds <= (LONGEST_DELAY if wait is None else LONGEST_RETRY_AFTER)
    if wait is not None:
        assert seconds == min(wait, LONGEST_RETRY_AFTER)


@given(st.text(max_size=40))
def test_retry_after_of_any_text_is_none_or_not_negative(value: str) -> None:
    seconds = retry_after({"retry-after": value})
    assert seconds is None or seconds >= 0


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after({"retry-after": " 7 "}) == 7
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    in_a_while = retry_after({"retry-after": formatdate(4_000_000_000, usegmt=True)})
    assert in_a_while is not None
    assert in_a_while > 60
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("excluded", "direct"),
    [
        ("", False),
        ("127.0.0.1", True),
        ("127.0.0.0/8", True),
        ("10.0.0.0/8, 127.0.0.1/32", True),
        ("10.0.0.0/8", False),
        ("nonsense/8,[::1]/128", False),
        ("*", True),
        ("127.0.0.1:1", False),
    ],
)
def test_no_proxy_names_what_is_asked_directly(
    server: Server, monkeypatch: pytest.MonkeyPatch, excluded: str, direct: bool
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("no_proxy", excluded)
    url = server.add("/page", b"hello")
    with Client(Settings(retries=0, timeout=60)) as client:
        if direct:
            assert client.get(url).body == b"hello"
        else:
            with pytest.raises(NetworkError):
                client.get(url)


def test_a_connection_serves_one_request_after_another(server: Server) -> None:
    url = server.add("/page", b"hello")
    with Client() as client:
        for _ in range(5):
            client.get(url)
    assert len({request.port for request in server.seen("/page")}) == 1
