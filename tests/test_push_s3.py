"""The publisher for a bucket against a real S3 server."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from uv import find_uv_bin

from mirror.errors import ConflictError, StorageError
from mirror.index import static
from mirror.objects import Bucket
from mirror.push.publisher import Publisher
from mirror.push.receipt import State
from mirror.push.run import push
from mirror.push.s3 import BucketPublisher
from tests import plain
from tests.nginx_support import nginx
from tests.publisher_conformance import PublisherConformance
from tests.push_support import FolderSource, make_upload, read_metadata
from tests.s3_support import S3Server
from tests.wheelhouse import make_sdist, make_wheel


@pytest.fixture
def bucket(s3_server: S3Server) -> Bucket:
    return s3_server.open(s3_server.bucket("some/prefix"))


class TestBucket(PublisherConformance):
    @pytest.fixture
    def publisher(self, bucket: Bucket) -> Publisher:
        return BucketPublisher(bucket)


def test_two_pushes_at_once_lose_nothing(bucket: Bucket, s3_server: S3Server, tmp_path: Path) -> None:
    """Both bring files of the same projects, some of them the same files."""
    sources = [
        FolderSource(
            tmp_path / f"source{one}",
            [(make_wheel(f"p{project}", f"{version}.0"), []) for project in range(4) for version in (one, one + 1)]
            + [(make_sdist(f"p{project}", f"{one}.5"), []) for project in range(4)],
        )
        for one in (1, 2)
    ]
    together = threading.Barrier(2)

    def run(source: FolderSource) -> None:
        publisher = BucketPublisher(s3_server.open(bucket.url))
        together.wait()
        assert push(source, publisher, metadata=read_metadata, workers=4, verify_download=-1).complete

    with ThreadPoolExecutor(2) as executor:
        list(executor.map(run, sources))
    publisher = BucketPublisher(bucket)
    assert publisher.projects() == {"p0", "p1", "p2", "p3"}
    for project in ("p0", "p1", "p2", "p3"):
        assert len(publisher.listing(project)) == 5
        both = [
            static.read_project(_body(bucket, static.page_path(name, project)), name, project) for name in static.PAGES
        ]
        assert both[0].keys() == both[1].keys()
    names = [set(static.read_root(_body(bucket, static.page_path(name)), name)) for name in static.PAGES]
    assert names == [{"p0", "p1", "p2", "p3"}] * 2


class Meddled(Bucket):
    """A bucket in which *meddle* does something before the next page is put."""

    meddle: Callable[[str], None] | None = None

    def replace(self, key: str, content: bytes, etag: str, kind: str = "", cache: str = "") -> bool:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle(key)
        return super().replace(key, content, etag, kind, cache)


@pytest.mark.parametrize("page", ["simple/p/index.json", "simple/p/index.html"])
def test_a_page_that_changes_meanwhile_is_read_again(
    bucket: Bucket, s3_server: S3Server, tmp_path: Path, page: str
) -> None:
    BucketPublisher(bucket).upload(make_upload(make_wheel("p", "1.0"), tmp_path))
    mine = Meddled(bucket.url, s3_server.environ())
    asked: list[str] = []

    def meddle(key: str) -> None:
        asked.append(key)
        if key == page:
            BucketPublisher(bucket).upload(make_upload(make_wheel("p", "2.0"), tmp_path))
        else:
            mine.meddle = meddle

    mine.meddle = meddle
    BucketPublisher(mine).upload(make_upload(make_wheel("p", "3.0"), tmp_path))
    assert asked[-1] == page
    for name in static.PAGES:
        listed = static.read_project(_body(bucket, static.page_path(name, "p")), name, "p")
        assert sorted(listed) == [f"p-{version}-py3-none-any.whl" for version in ("1.0", "2.0", "3.0")]


@pytest.mark.parametrize("puts", range(1, 6))
def test_a_push_that_was_killed_is_finished_by_the_next(
    bucket: Bucket, s3_server: S3Server, tmp_path: Path, puts: int
) -> None:
    source = FolderSource(tmp_path / "source", [(make_wheel("p"), [])])

    class KilledError(Exception):
        pass

    class Dying(Bucket):
        left = puts

        def create(self, key: str, content: bytes, kind: str = "", cache: str = "") -> bool:
            self.left -= 1
            if self.left == 0:
                raise KilledError
            return super().create(key, content, kind, cache)

    dying = Dying(bucket.url, s3_server.environ())
    with contextlib.suppress(KilledError):
        BucketPublisher(dying).upload(make_upload(make_wheel("p"), tmp_path))
    publisher = BucketPublisher(bucket)
    assert push(source, publisher, metadata=read_metadata).complete
    assert publisher.projects() == {"p"}
    for name in static.PAGES:
        assert len(static.read_project(_body(bucket, static.page_path(name, "p")), name, "p")) == 1


def test_another_file_is_not_even_sent(bucket: Bucket, s3_server: S3Server, tmp_path: Path) -> None:
    publisher = BucketPublisher(bucket)
    publisher.upload(make_upload(make_wheel("p"), tmp_path))
    other = make_wheel("p", files={"other.py": b"other"})
    before = len(s3_server.requests or ())
    with pytest.raises(ConflictError):
        publisher.upload(make_upload(other, tmp_path / "other"))
    if s3_server.requests is not None:
        assert {method for method, _ in s3_server.requests[before:]} == {"GET"}


def test_what_browsers_and_caches_are_told(bucket: Bucket, s3_server: S3Server, tmp_path: Path) -> None:
    wheel = make_wheel("p")
    publisher = BucketPublisher(bucket)
    publisher.upload(make_upload(wheel, tmp_path))
    place = f"packages/{wheel.sha256}/{wheel.filename}"
    expected = {
        "simple/index.html": ("text/html", "no-cache"),
        "simple/p/index.html": ("text/html", "no-cache"),
        "simple/p/index.json": ("application/vnd.pypi.simple.v1+json", "no-cache"),
        place: ("application/octet-stream", "public, max-age=31536000, immutable"),
        f"{place}.metadata": ("application/octet-stream", "public, max-age=31536000, immutable"),
    }
    url = s3_server.publish(bucket.url)
    for key, (kind, cache) in expected.items():
        answer = plain.get(f"{url}/{key}")
        assert (answer.headers["content-type"].partition(";")[0], answer.headers["cache-control"]) == (kind, cache), key
    metadata = plain.get(f"{url}/{place}.metadata").content
    entry = static.read_project(_body(bucket, "simple/p/index.json"), "index.json", "p")[wheel.filename]
    assert entry.metadata is not None
    assert entry.metadata.sha256 == hashlib.sha256(metadata).hexdigest()


@pytest.mark.parametrize("page", ["simple/index.json", "simple/p/index.json"])
def test_a_page_that_is_no_page_is_told(bucket: Bucket, tmp_path: Path, page: str) -> None:
    bucket.put(page, b"{")
    with pytest.raises(StorageError, match=r"index\.json can't be read as an index page"):
        BucketPublisher(bucket).upload(make_upload(make_wheel("p"), tmp_path))
    assert BucketPublisher(bucket).projects() in (None, frozenset())


def test_a_bucket_that_does_not_exist(s3_server: S3Server, tmp_path: Path) -> None:
    publisher = BucketPublisher(s3_server.open("s3://nobody-made-this"))
    with pytest.raises(StorageError, match="bucket"):
        publisher.upload(make_upload(make_wheel("p"), tmp_path))


def test_pip_and_uv_install_from_it_through_nginx(bucket: Bucket, s3_server: S3Server, tmp_path: Path) -> None:
    """As from any bucket whose web server, or a proxy in front of it, takes index.html for a folder."""
    source = FolderSource(
        tmp_path / "source",
        [(make_wheel("top", "1.0+local", requires=["under"]), ["under"]), (make_wheel("under"), [])],
    )
    assert push(source, BucketPublisher(bucket), metadata=read_metadata).counts[State.UPLOADED] == 2
    passed = f"proxy_pass {s3_server.publish(bucket.url)}/;"
    with nginx(tmp_path, f"rewrite /$ ${{uri}}index.html; location / {{ {passed} }}") as url:
        index = ["--index-url", f"{url}/simple/"]
        pip = [sys.executable, "-m", "pip", "--isolated", "install", "--no-cache-dir", *index]
        uv = [find_uv_bin(), "pip", "install", "--no-config", "--no-cache", *index, "--python", sys.executable]
        for number, command in enumerate((pip, uv)):
            folder = tmp_path / f"got{number}"
            subprocess.run([*command, "--target", str(folder), "top"], check=True, capture_output=True)
            assert {"top-1.0+local.dist-info", "under-1.0.dist-info"} <= {path.name for path in folder.iterdir()}


def test_the_command_pushes_into_a_bucket(s3_server: S3Server, tmp_path: Path) -> None:
    """The repository's own user and password are the bucket's key and secret."""
    url = s3_server.bucket()
    wheel = make_wheel("p")
    (tmp_path / "airgap.toml").write_text(
        f'[repositories.bucket]\nurl = "{url}"\nusername = "{s3_server.key}"\npassword-env = "BUCKET_SECRET"\n'
    )
    environ = {**os.environ, "AWS_ENDPOINT_URL": s3_server.url, "BUCKET_SECRET": s3_server.secret}
    command = [sys.executable, "-m", "mirror", "push", str(wheel.save(tmp_path)), "--repo", "bucket"]
    for expected in ("1 file uploaded", "1 already there"):
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
        assert expected in done.stderr
        assert url in done.stderr
        assert s3_server.secret not in done.stdout + done.stderr
    doctor = [sys.executable, "-m", "mirror", "doctor", "--repo", "bucket"]
    done = subprocess.run(doctor, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert f"{url} answers" in done.stdout + done.stderr
    assert list(BucketPublisher(s3_server.open(url)).listing("p")) == [wheel.filename]


def _body(bucket: Bucket, key: str) -> bytes:
    found = bucket.get(key)
    assert found is not None
    return found[0]


def test_the_doctor_looks_whether_there_is_a_bucket(s3_server: S3Server, tmp_path: Path) -> None:
    environ = {**os.environ, **s3_server.environ()}
    for url, code, told in [(s3_server.bucket(), 0, "answers"), ("s3://nobody-made-this/x", 4, "does not exist")]:
        command = [sys.executable, "-m", "mirror", "doctor", "--repo", url]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert told in done.stdout
