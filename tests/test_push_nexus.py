"""The publisher for Nexus against the embedded server, which speaks its REST API, as it is and as other versions do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from mirror import serve
from mirror.config import load
from mirror.config.served import Served
from mirror.errors import AuthError, ConfigError, HTTPError, NotFoundError
from mirror.models import Event
from mirror.net import Client, Response
from mirror.ops.push import remote_publisher
from mirror.push.legacy import LegacyPublisher
from mirror.push.nexus import NexusPublisher, Place, nexus_publisher
from mirror.push.publisher import Publisher, TransientUploadError
from mirror.push.receipt import State
from mirror.push.run import IncompletePushError, prove, push
from mirror.push.sending import words
from tests.nexus_support import ERROR_PAGE, Front, nexus
from tests.publisher_conformance import PublisherConformance
from tests.push_support import FolderSource, make_upload, read_metadata
from tests.wheelhouse import Built, make_sdist, make_wheel


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as found:
        yield found


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with nexus(tmp_path / "home") as found:
        yield found


def opened(
    client: Client, front: Front, name: str = "pypi-hosted", events: list[Event] | None = None
) -> NexusPublisher:
    report = events.append if events is not None else (lambda _: None)
    found = nexus_publisher(client, f"{front.url}/repository/{name}/", report=report)
    assert found is not None
    return found


class TestNexus(PublisherConformance):
    @pytest.fixture
    def publisher(self, tmp_path: Path, client: Client) -> Iterator[Publisher]:
        with serve.running(tmp_path / "home") as server:
            found = nexus_publisher(client, server.repository_url("pypi-hosted"))
            assert found is not None
            yield found


class TestNexusOfOldTimes(PublisherConformance):
    """Its index shows MD5; its REST API knows SHA-256."""

    @pytest.fixture
    def publisher(self, front: Front, client: Client) -> Publisher:
        front.fragment = "md5"
        return opened(client, front)


class TestNexusWithItsAPIClosed(PublisherConformance):
    """Nor does its index show digests: everything there is compared byte by byte."""

    @pytest.fixture
    def publisher(self, front: Front, client: Client) -> Publisher:
        front.closed = {"components": 403, "search": 404}
        front.fragment = ""
        return opened(client, front)


def test_checksums_spare_downloads(client: Client, front: Front, tmp_path: Path) -> None:
    front.fragment = "md5"
    source = FolderSource(tmp_path / "source", [(make_wheel("alpha"), []), (make_sdist("alpha"), [])])
    publisher = opened(client, front)
    assert push(source, publisher, metadata=read_metadata).counts[State.UPLOADED] == 2
    assert not any("/search?" in request for request in front.requests)
    assert push(source, publisher, metadata=read_metadata).counts[State.PRESENT] == 2
    assert len([request for request in front.requests if "/search?" in request]) == 1
    posts = {request for request in front.requests if request.startswith("POST")}
    assert posts == {"POST /service/rest/v1/components?repository=pypi-hosted"}
    assert not any("/packages/" in request for request in front.requests)


def test_what_is_not_known_to_be_what_was_sent_is_asked_for(client: Client, front: Front, tmp_path: Path) -> None:
    front.fragment = "md5"
    publisher = opened(client, front)
    mine, other = make_upload(make_wheel("alpha"), tmp_path), make_upload(make_wheel("alpha", "2.0"), tmp_path)
    publisher.upload(mine)
    publisher.upload(other)
    name, sent = mine.filename, {mine.filename: mine.hashes}
    assert publisher.listing_for("alpha", sent)[name].sha256 is None  # its MD5 is the right one
    front.fragment = ""
    assert publisher.listing_for("alpha", sent)[name].sha256 == mine.hashes.sha256
    front.fragment = "md5"
    assert publisher.listing_for("alpha", {name: other.hashes})[name].sha256 == mine.hashes.sha256
    assert len([request for request in front.requests if "/search?" in request]) == 2


def test_a_search_is_read_to_its_last_page(client: Client, front: Front, tmp_path: Path) -> None:
    front.fragment = ""
    publisher = opened(client, front)
    uploads = [make_upload(make_wheel("alpha", f"{number}.0"), tmp_path) for number in range(5)]
    for upload in uploads:
        publisher.upload(upload)

    def in_pages_of_two(path: str, body: bytes) -> bytes:
        if "/search?" not in path:
            return body
        start = int(parse_qs(urlsplit(path).query).get("continuationToken", ["0"])[0])
        items = json.loads(body)["items"]
        following = str(start + 2) if start + 2 < len(items) else None
        return json.dumps({"items": items[start : start + 2], "continuationToken": following}).encode()

    front.rewrite = in_pages_of_two
    listing = publisher.listing("alpha")
    assert {name: hashes.sha256 for name, hashes in listing.items()} == {
        upload.filename: upload.hashes.sha256 for upload in uploads
    }


@pytest.mark.parametrize(
    "answer",
    [
        b"[]",
        b"no JSON",
        b'{"items": [{"assets": [{"repository": "pypi-hosted", "path": "x", "checksum": {"md5": "z"}}]}]}',
    ],
)
def test_an_answer_that_is_no_page_is_no_checksum(client: Client, front: Front, tmp_path: Path, answer: bytes) -> None:
    front.fragment = "md5"
    upload = make_upload(make_wheel("alpha"), tmp_path)
    events: list[Event] = []
    publisher = opened(client, front, events=events)
    publisher.upload(upload)
    front.rewrite = lambda path, body: answer if "/search?" in path else body
    assert publisher.listing("alpha")[upload.filename].sha256 is None
    assert [event.text for event in events] == [
        "Nexus's REST API at 127.0.0.1 answers with something else: comparing bytes where the index shows no SHA-256."
    ]


def test_digests_that_contradict_each_other_are_none(client: Client, front: Front, tmp_path: Path) -> None:
    front.fragment = "md5"
    upload = make_upload(make_wheel("alpha"), tmp_path)
    publisher = opened(client, front)
    publisher.upload(upload)
    wrong = json.dumps({"sha256": upload.hashes.sha256, "md5": "0" * 32})
    front.rewrite = lambda path, body: (
        body.replace(json.dumps({"sha256": upload.hashes.sha256}, separators=(",", ":")).encode(), wrong.encode())
        if "/search?" in path
        else body
    )
    assert publisher.listing("alpha")[upload.filename].sha256 is None


def test_a_closed_api_is_told_once(client: Client, front: Front, tmp_path: Path) -> None:
    front.closed = {"components": 403}
    events: list[Event] = []
    publisher = opened(client, front, events=events)
    for version in ("1.0", "2.0"):
        publisher.upload(make_upload(make_wheel("alpha", version), tmp_path))
    assert [event.text for event in events] == [
        "Nexus's REST API at 127.0.0.1 answers with 403: uploading as twine does."
    ]
    assert len(publisher.listing("alpha")) == 2


def test_who_may_only_add_uploads_as_twine_does(client: Client, front: Front, tmp_path: Path) -> None:
    """Nexus asks for the privilege "edit" at its REST API and, against its own custom, says 400 where it is missing."""
    front.denied = True
    events: list[Event] = []
    publisher = opened(client, front, events=events)
    for version in ("1.0", "2.0"):
        publisher.upload(make_upload(make_wheel("alpha", version), tmp_path))
    assert [event.text for event in events] == [
        "Nexus's REST API at 127.0.0.1 lets this user upload nothing: uploading as twine does."
    ]
    assert len(publisher.listing("alpha")) == 2
    assert len([request for request in front.requests if "components" in request]) == 1


def test_a_right_that_ends_meanwhile_is_named(client: Client, front: Front, tmp_path: Path) -> None:
    publisher = opened(client, front)
    publisher.upload(make_upload(make_wheel("alpha"), tmp_path))
    front.denied = True
    with pytest.raises(AuthError, match=r"400 .*Not authorized for requested path") as caught:
        publisher.upload(make_upload(make_wheel("beta"), tmp_path))
    assert "rights" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "reason", "said", "words_"),
    [
        (404, "Repository not found", "Repository not found", "Repository not found"),
        (403, "Forbidden", "Forbidden", "Forbidden"),
        (405, "Method Not Allowed", "no POST &amp; no PUT", "Method Not Allowed: no POST & no PUT"),
    ],
)
def test_what_an_error_page_says(status: int, reason: str, said: str, words_: str) -> None:
    page = ERROR_PAGE.format(status=status, reason=reason, said=said).encode()
    assert words(Response("http://localhost/", status, reason, {}, page)) == words_


def test_a_repository_that_nexus_does_not_list(client: Client, front: Front) -> None:
    events: list[Event] = []
    opened(client, front, "pypi-hsoted", events)
    assert [(event.kind, event.text) for event in events] == [
        ("warning", "Nexus lists no repository pypi-hsoted to this user; Python packages go to: pypi-hosted.")
    ]


def test_a_repository_of_another_format(client: Client, front: Front) -> None:
    front.rewrite = lambda path, body: body.replace(b'"pypi"', b'"raw"') if path.endswith("/repositories") else body
    events: list[Event] = []
    opened(client, front, "pypi-hosted", events)
    assert "pypi-hosted/ is a hosted repository for raw, which takes no uploads" in events[0].text


def test_who_may_not_write_is_told_so(client: Client, tmp_path: Path) -> None:
    serve.open_users(tmp_path / "home").add("reader", "s3cret of mine", {"*": "read"})
    with serve.running(tmp_path / "home") as server:
        url = server.repository_url("pypi-hosted").replace("://", "://reader:s3cret%20of%20mine@")
        publisher = nexus_publisher(client, url)
        assert publisher is not None
        with pytest.raises(AuthError, match="403") as caught:
            publisher.upload(make_upload(make_wheel("alpha"), tmp_path))
    assert "s3cret" not in str(caught.value)


def test_a_server_in_trouble_is_tried_again(client: Client, front: Front, tmp_path: Path) -> None:
    front.closed = {"components": 503}
    with pytest.raises(TransientUploadError) as caught:
        opened(client, front).upload(make_upload(make_wheel("alpha"), tmp_path))
    assert caught.value.ambiguous


@pytest.mark.parametrize(("name", "kind"), [("pypi-proxy", "proxy"), ("readers", "group")])
def test_where_uploads_belong_is_told(client: Client, front: Front, tmp_path: Path, name: str, kind: str) -> None:
    with serve.open_home(tmp_path / "home") as home:
        home.create(Served("readers", "group", members=("pypi-hosted",)))
    events: list[Event] = []
    publisher = opened(client, front, name, events)
    assert (
        f"{name}/ is a {kind} repository, which takes no uploads. Upload to a hosted one: pypi-hosted."
        in events[0].text
    )
    with pytest.raises(NotFoundError, match="answered with 400") as caught:
        publisher.upload(make_upload(make_wheel("alpha"), tmp_path))
    assert "Upload to a hosted one: pypi-hosted." in caught.value.hint
    assert "--index-url" in caught.value.hint


def test_a_group_with_a_member_for_uploads_takes_them(client: Client, front: Front, tmp_path: Path) -> None:
    events: list[Event] = []
    publisher = opened(client, front, "pypi-all", events)
    publisher.upload(make_upload(make_wheel("alpha"), tmp_path))
    assert not events
    assert list(publisher.listing("alpha")) == ["alpha-1.0-py3-none-any.whl"]


def test_a_file_that_only_the_index_does_not_know_is_explained(client: Client, front: Front, tmp_path: Path) -> None:
    upload = make_upload(make_wheel("alpha"), tmp_path)
    with serve.open_home(tmp_path / "home") as home:
        home.create(Served("once", "hosted", write_policy="allow-once"))
    publisher = opened(client, front, "once")
    publisher.upload(upload)
    front.stale = {"alpha"}
    with pytest.raises(HTTPError, match="has these bytes, but its index page for alpha does not show them") as caught:
        publisher.upload(upload)
    assert "simple/alpha/" in caught.value.hint


@pytest.mark.parametrize("kind", ["legacy", "nexus"])
def test_a_repository_that_takes_nothing_ends_the_push_at_once(
    client: Client, front: Front, tmp_path: Path, kind: str
) -> None:
    with serve.open_home(tmp_path / "home") as home:
        home.create(Served("shut", "hosted", write_policy="deny"))
    url = f"{front.url}/repository/shut/"
    publisher = opened(client, front, "shut") if kind == "nexus" else LegacyPublisher(client, url)
    files: list[tuple[Built, list[str]]] = [(make_wheel(f"p{number}"), []) for number in range(20)]
    with pytest.raises(IncompletePushError, match="read only") as caught:
        push(FolderSource(tmp_path / "source", files), publisher, metadata=read_metadata, workers=2)
    assert "Let it take uploads" in caught.value.hint
    assert len([request for request in front.requests if request.startswith("POST")]) <= 4


def test_proving_says_how_to_bring_what_is_missing(client: Client, front: Front, tmp_path: Path) -> None:
    source = FolderSource(tmp_path / "source", [(make_wheel("alpha"), [])])
    with pytest.raises(IncompletePushError, match="the repository does not have it") as caught:
        prove(source, opened(client, front))
    assert "airgap push" in caught.value.hint
    assert "Run the same command again" not in caught.value.hint


def test_reading_through_a_group(client: Client, front: Front, tmp_path: Path) -> None:
    front.fragment = "md5"
    index = f"{front.url}/repository/pypi-all/simple/"
    publisher = nexus_publisher(client, f"{front.url}/repository/pypi-hosted", index_url=index)
    assert publisher is not None
    upload = make_upload(make_wheel("alpha"), tmp_path)
    publisher.upload(upload)
    assert publisher.listing("alpha")[upload.filename].sha256 == upload.hashes.sha256
    assert "GET /repository/pypi-all/simple/alpha/" in front.requests


def test_what_is_no_nexus_is_not_taken_for_one(client: Client, front: Front) -> None:
    assert nexus_publisher(client, "http://localhost:1/") is None
    assert nexus_publisher(client, "http://localhost:1/repository/x/") is None
    front.closed = {"repositories": 401}
    assert nexus_publisher(client, f"{front.url}/repository/pypi-hosted/") is None
    assert nexus_publisher(client, f"{front.url}/repository/pypi-hosted/", required=True) is not None
    with pytest.raises(ConfigError, match="/repository/NAME/"):
        nexus_publisher(client, "http://localhost:1/pypi/", required=True)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://h/repository/a/", Place("https://h/service/rest/v1/", "a")),
        ("https://h:8443/nexus/repository/a", Place("https://h:8443/nexus/service/rest/v1/", "a")),
        ("https://u:p@h/repository/a%20b/simple/", Place("https://u:p@h/service/rest/v1/", "a b")),
        ("https://h/repository/a/packages/", None),
        ("https://h/pypi/", None),
    ],
)
def test_where_the_api_is(url: str, place: Place | None) -> None:
    assert Place.of(url) == place


@pytest.mark.parametrize("kind", ["legacy", "nexus", None])
def test_the_type_of_a_repository_chooses(front: Front, tmp_path: Path, kind: str | None) -> None:
    chosen = f'type = "{kind}"' if kind else ""
    (tmp_path / "airgap.toml").write_text(f'[repositories.n]\nurl = "{front.url}/repository/pypi-hosted/"\n{chosen}\n')
    config = load(environ={"HOME": str(tmp_path)}, cwd=tmp_path)
    with remote_publisher(config.repositories["n"], config) as publisher:
        assert isinstance(publisher, LegacyPublisher if kind == "legacy" else NexusPublisher)
