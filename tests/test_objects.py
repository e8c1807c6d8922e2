"""Objects in a bucket, with a real S3 server."""

from __future__ import annotations

import ssl
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme

from mirror.errors import ConfigError, StorageError
from mirror.objects import Bucket, split
from tests.http_support import Reply, Server
from tests.s3_support import ELSEWHERE, SECRET, S3Server, elsewhere_s3, serving_s3


@pytest.fixture
def bucket(s3_server: S3Server) -> Bucket:
    return s3_server.open(s3_server.bucket("some/prefix"))


def test_what_is_put_is_there(bucket: Bucket) -> None:
    assert bucket.head("a/b.txt") is None
    assert bucket.get("a/b.txt") is None
    bucket.put("a/b.txt", b"0123456789", "text/plain")
    found = bucket.head("a/b.txt")
    assert found is not None
    assert (found.key, found.size) == ("a/b.txt", 10)
    assert bucket.get("a/b.txt") == (b"0123456789", found)
    assert b"".join(bucket.stream("a/b.txt")) == b"0123456789"
    assert b"".join(bucket.stream("a/b.txt", 3)) == b"3456789"
    assert b"".join(bucket.stream("a/b.txt", 3, 5)) == b"34"
    assert b"".join(bucket.stream("a/b.txt", 3, 3)) == b""
    bucket.delete(["a/b.txt", "never-was-there"])
    assert bucket.head("a/b.txt") is None


def test_a_file_larger_than_a_part(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (20 * 4096))
    bucket.put("large", path)
    found = bucket.head("large")
    assert found is not None
    assert found.size == path.stat().st_size
    assert b"".join(bucket.stream("large", 9_000_000, 9_000_100)) == path.read_bytes()[9_000_000:9_000_100]


def test_lists_in_order_without_the_prefix(bucket: Bucket, s3_server: S3Server) -> None:
    for key in ("b/2", "b/1", "a", "bb/3"):
        bucket.put(key, b"x")
    s3_server.open(bucket.url.rpartition("/")[0]).put("outside", b"x")
    assert [found.key for found in bucket.list()] == ["a", "b/1", "b/2", "bb/3"]
    assert [found.key for found in bucket.list("b")] == ["b/1", "b/2"]
    assert [found.key for found in bucket.list(after="b/1")] == ["b/2", "bb/3"]


def test_only_one_of_many_creates(bucket: Bucket) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: bucket.create("new", str(number).encode()), range(16)))
    assert sum(won) == 1
    found = bucket.get("new")
    assert found is not None
    assert found[0] == str(won.index(True)).encode()


def test_no_replacement_is_lost(bucket: Bucket) -> None:
    bucket.put("count", b"0")

    def add(_: int) -> None:
        replaced = False
        while not replaced:
            found = bucket.get("count")
            assert found is not None
            replaced = bucket.replace("count", str(int(found[0]) + 1).encode(), found[1].etag)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(20)))
    found = bucket.get("count")
    assert found is not None
    assert found[0] == b"20"
    assert not bucket.replace("never-was-there", b"", '"0123"')


@pytest.mark.parametrize("url", ["s3://", "s3://B", "https://bucket", "s3://u:pw@bucket/x", "s3://bucket/a/../b"])
def test_no_bucket(url: str) -> None:
    with pytest.raises(ConfigError, match="no place in an S3 bucket") as caught:
        split(url)
    assert "pw" not in str(caught.value)


def test_profiles(s3_server: S3Server, tmp_path: Path) -> None:
    url = s3_server.bucket()
    (tmp_path / "config").write_text(f"[profile team]\nregion = eu-west-1\nendpoint_url = {s3_server.url}\n")
    login = f"aws_access_key_id = {s3_server.key}\naws_secret_access_key = {s3_server.secret}\n"
    (tmp_path / "credentials").write_text(f"[team]\n{login}")
    environ = {
        "AWS_PROFILE": "team",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }
    Bucket(url, environ).put("a", b"x")
    assert s3_server.open(url).head("a") is not None


def test_errors_say_what_and_where_and_no_secret(s3_server: S3Server, tmp_path: Path) -> None:
    environ = {**s3_server.environ(), "AWS_SESSION_TOKEN": "t0ken"}
    nowhere = Bucket("s3://no-such-bucket/some", environ)
    calls = (
        lambda: nowhere.head("x"),
        lambda: nowhere.get("x"),
        lambda: nowhere.put("x", b""),
        lambda: nowhere.create("x", b""),
        lambda: list(nowhere.list()),
        lambda: list(nowhere.stream("x")),
    )
    for call in calls[1:]:
        with pytest.raises(StorageError, match="s3://no-such-bucket/some") as caught:
            call()
        shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
        assert SECRET not in shown
        assert "t0ken" not in shown
        assert "bucket" in shown
    with pytest.raises(StorageError, match="missing"):
        list(s3_server.open(s3_server.bucket()).stream("x"))
    with pytest.raises(ConfigError, match="AWS_CA_BUNDLE"):
        Bucket("s3://bucket", {"AWS_CA_BUNDLE": str(tmp_path / "none.pem")})


@pytest.mark.parametrize(
    ("code", "cause", "remedy"),
    [
        ("SignatureDoesNotMatch", "the secret key is wrong", "AWS_SECRET_ACCESS_KEY"),
        ("InvalidToken", "the session token is not known", "AWS_SESSION_TOKEN"),
        ("RequestTimeTooSkewed", "clock is wrong", "Set the clock"),
        ("AuthorizationHeaderMalformed", "in another region", "AWS_REGION"),
        ("QuotaExceeded", "answered QuotaExceeded", "AWS_"),
    ],
)
def test_why_a_store_refuses(code: str, cause: str, remedy: str) -> None:
    """An answer to HEAD has no body: why it is one is asked with GET."""
    body = f"<Error><Code>{code}</Code><Message>M4RKED</Message></Error>".encode()
    with Server() as server:
        server.handle("/bucket/x", lambda request: Reply(403, b"" if request.method == "HEAD" else body))
        environ = {"AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": SECRET}
        bucket = Bucket("s3://bucket", environ)
        for call in (bucket.head, bucket.get):
            with pytest.raises(StorageError, match=cause) as caught:
                call("x")
            assert remedy in caught.value.hint
            assert "M4RKED" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.skipif(not ELSEWHERE, reason="AIRGAP_TEST_S3 names no S3 server, and the one of the tests takes any key")
def test_keys_that_a_store_refuses() -> None:
    """Every request says which of them is wrong, and none of them is shown."""
    wrong = {
        "AWS_SECRET_ACCESS_KEY": ("the secret key is wrong", "AWS_SECRET_ACCESS_KEY"),
        "AWS_ACCESS_KEY_ID": ("the access key is not known there", "AWS_ACCESS_KEY_ID"),
        "AWS_SESSION_TOKEN": ("the session token is not known there", "AWS_SESSION_TOKEN"),
    }
    with elsewhere_s3() as server:
        url = server.bucket("some")
        server.open(url).put("x", b"kept")
        for name, (cause, remedy) in wrong.items():
            refused = Bucket(url, {**server.environ(), name: "M4RKED-secret"})
            calls = (
                lambda bucket: bucket.head("x"),
                lambda bucket: bucket.get("x"),
                lambda bucket: bucket.put("x", b""),
                lambda bucket: bucket.create("y", b""),
                lambda bucket: bucket.replace("x", b"", "0123"),
                lambda bucket: list(bucket.list()),
                lambda bucket: list(bucket.stream("x")),
                lambda bucket: bucket.delete(["x"]),
                lambda bucket: bucket.delete(["x", "y"]),
            )
            for call in calls:
                with pytest.raises(StorageError, match=cause) as caught:
                    call(refused)
                assert remedy in caught.value.hint
                shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
                assert "M4RKED" not in shown
                assert server.secret not in shown
        found = server.open(url).get("x")
        assert found is not None
        assert found[0] == b"kept"
        assert server.open(url).head("y") is None


def test_a_store_with_a_certificate_of_a_private_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with serving_s3(context) as server:
        with pytest.raises(StorageError, match="not trusted") as caught:
            server.open("s3://bucket").put("a", b"x")
        assert "AWS_CA_BUNDLE" in caught.value.hint
        trusting = Bucket("s3://bucket", {**server.environ(), "AWS_CA_BUNDLE": str(tmp_path / "ca.pem")})
        with pytest.raises(StorageError, match="does not exist"):
            trusting.put("a", b"x")


def test_nothing_answers() -> None:
    environ = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": SECRET}
    with pytest.raises(StorageError, match="nothing answers at the endpoint") as caught:
        Bucket("s3://bucket", environ).head("x")
    assert "AWS_ENDPOINT_URL" in caught.value.hint
