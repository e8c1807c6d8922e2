"""The rules of a hosted repository, its catalog and its blobs, without HTTP."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror import serve
from mirror.errors import AirgapError, ConfigError, ConflictError, HashMismatchError, IntegrityError, StorageError
from mirror.serve.blobs import FolderBlobs
from mirror.serve.catalog import Catalog, Repository
from mirror.serve.databases import SQLite
from mirror.serve.home import Home
from mirror.serve.hosted import Claims, HostedRepository
from tests.wheelhouse import Built, core_metadata, make_sdist, make_wheel

WHEEL = make_wheel("Some.Project", "1.0", requires_python=">=3.8")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home") as found:
        yield found


@pytest.fixture
def hosted(home: Home) -> HostedRepository:
    return home.hosted("pypi-hosted")


def add(
    hosted: HostedRepository, built: Built, folder: Path, *, filename: str | None = None, claims: Claims | None = None
) -> None:
    hosted.add(built.save(folder), filename or built.filename, claims or Claims())


def stored(home: Home) -> list[str]:
    """Every blob and every leftover."""
    return sorted(path.name for path in (home.folder / "blobs").rglob("*") if path.is_file())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no disk that is always full")
def test_what_came_onto_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)

    def write(chunk: bytes) -> None:
        with blobs.incoming() as incoming:
            incoming._stream.close()
            incoming._stream = Path("/dev/full").open("wb")  # noqa: SIM115 - leaving closes it, as its own
            incoming.write(chunk)
            incoming.commit()

    for size in (100, 1_000_000):  # kept back, or written at once
        with pytest.raises(StorageError, match="is full"):
            write(bytes(size))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_wheel_is_entered_with_what_it_says_itself(hosted: HostedRepository, tmp_path: Path) -> None:
    add(hosted, WHEEL, tmp_path, claims=Claims("some_project", "1.0.0", {"sha256": WHEEL.sha256}))
    assert list(hosted.projects()) == ["some-project"]
    (file,) = hosted.files("some-project")
    assert hosted.file(WHEEL.filename) == file
    assert (file.version, file.size, file.sha256) == ("1.0", len(WHEEL.data), WHEEL.sha256)
    assert file.requires_python == ">=3.8"
    assert hosted.blob(file.sha256).data() == WHEEL.data
    assert file.metadata_sha256 is not None
    assert hosted.blob(file.metadata_sha256).data() == WHEEL.metadata


def test_an_sdist_offers_no_metadata_of_its_own(hosted: HostedRepository, tmp_path: Path) -> None:
    add(hosted, make_sdist("some-project", "2.0"), tmp_path)
    assert hosted.files("some-project")[0].metadata_sha256 is None


def test_an_old_sdist_name_with_many_dashes(hosted: HostedRepository, tmp_path: Path) -> None:
    built = make_sdist("some-old-project", "2.0")
    add(hosted, Built("some-old-project-2.0.tar.gz", built.data, built.metadata), tmp_path)
    assert list(hosted.projects()) == ["some-old-project"]


def test_the_same_bytes_again_are_a_success(hosted: HostedRepository, home: Home, tmp_path: Path) -> None:
    add(hosted, WHEEL, tmp_path)
    tag, before = hosted.tag("some-project"), stored(home)
    add(hosted, WHEEL, tmp_path)
    assert hosted.tag("some-project") == tag
    assert stored(home) == before


def test_other_bytes_are_a_conflict_and_are_not_kept(hosted: HostedRepository, home: Home, tmp_path: Path) -> None:
    add(hosted, WHEEL, tmp_path)
    before = stored(home)
    other = make_wheel("Some.Project", "1.0", files={"x.py": b""})
    with pytest.raises(ConflictError, match="File already exists") as caught:
        add(hosted, other, tmp_path)
    assert caught.value.filenames == (WHEEL.filename,)
    assert stored(home) == before
    assert hosted.files("some-project")[0].sha256 == WHEEL.sha256


def test_the_tag_changes_with_the_page(hosted: HostedRepository, tmp_path: Path) -> None:
    assert hosted.tag("some-project") is None
    add(hosted, WHEEL, tmp_path)
    first = hosted.tag("some-project")
    add(hosted, make_sdist("some-project", "2.0"), tmp_path)
    assert len({first, hosted.tag("some-project"), None}) == 3


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


NAME = "some_project-1.0-py3-none-any.whl"
BAD_CONTENT = {
    "empty": (NAME, b""),
    "not a zip": (NAME, b"PK\x03\x04 and nothing that follows"),
    "truncated": (NAME, WHEEL.data[:-30]),
    "no metadata": (NAME, zipped("some_project/__init__.py", b"")),
    "metadata of another folder": (NAME, zipped("other-1.0.dist-info/METADATA", WHEEL.metadata)),
    "another version inside": (NAME, make_wheel("some_project", metadata=core_metadata("some-project", "2.0")).data),
    "another project inside": (NAME, make_wheel("some_project", metadata=core_metadata("other", "1.0")).data),
    "no name inside": (NAME, make_wheel("some_project", metadata=b"Metadata-Version: 2.1\nVersion: 1.0\n").data),
    "bad version inside": (NAME, make_wheel("some_project", metadata=core_metadata("some-project", "one")).data),
    "renamed": ("some_project-2.0-py3-none-any.whl", WHEEL.data),
    "sdist not gzip": ("some_project-1.0.tar.gz", b"plain"),
    "sdist without PKG-INFO": ("some_project-1.0.tar.gz", tarred("some_project-1.0/setup.py", b"")),
    "sdist of another project": ("some_project-1.0.tar.gz", make_sdist("other").data),
    "a wheel called sdist": ("some_project-1.0.tar.gz", WHEEL.data),
}


@pytest.mark.parametrize(("filename", "data"), BAD_CONTENT.values(), ids=BAD_CONTENT.keys())
def test_bad_content_is_refused_and_nothing_stays(
    hosted: HostedRepository, home: Home, tmp_path: Path, filename: str, data: bytes
) -> None:
    with pytest.raises(AirgapError) as caught:
        add(hosted, Built(filename, data, b""), tmp_path)
    assert not isinstance(caught.value, StorageError)
    assert filename in str(caught.value)
    assert stored(home) == []
    assert list(hosted.projects()) == []


@pytest.mark.parametrize(
    "filename",
    [
        "../some_project-1.0-py3-none-any.whl",
        "folder/some_project-1.0-py3-none-any.whl",
        "C:\\some_project-1.0-py3-none-any.whl",
        "..",
        "",
        ".hidden-1.0-py3-none-any.whl",
        "some_project-1.0-py3-none-any.whl\n",
        "some_project-1.0-py3-none-any.whl\0.txt",
        "söme_project-1.0-py3-none-any.whl",
        "some_project-1.0.exe",
        "some_project-1.0.egg",
        "some_project.whl",
        "x" * 300 + "-1.0.tar.gz",
    ],
)
def test_bad_names_are_refused_before_anything_is_written(
    hosted: HostedRepository, home: Home, tmp_path: Path, filename: str
) -> None:
    path = WHEEL.save(tmp_path)
    with pytest.raises(IntegrityError):
        hosted.add(path, filename, Claims())
    assert stored(home) == []


@pytest.mark.parametrize("algorithm", ["sha256", "md5", "blake2_256"])
def test_a_wrong_digest_is_refused(hosted: HostedRepository, home: Home, tmp_path: Path, algorithm: str) -> None:
    with pytest.raises(HashMismatchError, match=algorithm):
        add(hosted, WHEEL, tmp_path, claims=Claims(digests={algorithm: "0" * 64}))
    assert stored(home) == []


@pytest.mark.parametrize("claims", [Claims(name="other"), Claims(version="2.0"), Claims(version="nonsense")])
def test_a_form_that_says_something_else_is_refused(
    hosted: HostedRepository, home: Home, tmp_path: Path, claims: Claims
) -> None:
    with pytest.raises(IntegrityError):
        add(hosted, WHEEL, tmp_path, claims=claims)
    assert list(hosted.projects()) == []


def test_looking_creates_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    assert serve.repository_names(folder) == ["pypi-all", "pypi-hosted"]
    with serve.embedded_publisher(folder) as publisher:
        assert publisher.listing("x") == {}
        assert publisher.digest("x", "x-1.0-py3-none-any.whl") is None
    assert not folder.exists()


def test_an_unknown_repository_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing") as caught:
        serve.embedded_publisher(tmp_path, "nothing")
    assert "pypi-hosted" in caught.value.hint


def test_a_repository_of_another_kind_takes_no_upload(home: Home) -> None:
    assert home.names() == ["pypi-all", "pypi-hosted", "pypi-proxy"]
    with pytest.raises(ConfigError, match="takes no uploads"):
        home.hosted("pypi-proxy")
    assert home.hosted("pypi-all").name == "pypi-hosted"


def test_repositories_do_not_see_each_other(home: Home, tmp_path: Path) -> None:
    home.catalog.create_repository(Repository("second", "hosted"))
    add(home.hosted("second"), WHEEL, tmp_path)
    assert list(home.hosted("pypi-hosted").projects()) == []
    assert home.hosted("pypi-hosted").file(WHEEL.filename) is None
    assert list(home.hosted("second").projects()) == ["some-project"]


def test_many_threads_add_the_same_and_different_files(hosted: HostedRepository, tmp_path: Path) -> None:
    files = [make_wheel("some-project", f"{number}.0") for number in range(10)] * 3
    paths = [(built.filename, built.save(tmp_path)) for built in files]
    errors: list[BaseException] = []

    def work(name: str, path: Path) -> None:
        try:
            hosted.add(path, name, Claims())
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=work, args=item) for item in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(hosted.files("some-project")) == 10


def test_processes_that_begin_a_home_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from mirror.serve.home import Home; from mirror.serve.hosted import Claims\n"
        "path = Path(sys.argv[2])\n"
        "with Home(Path(sys.argv[1])) as home: home.hosted('pypi-hosted').add(path, path.name, Claims())"
    )
    paths = [make_wheel(f"p{number}").save(tmp_path) for number in range(4)]
    home = tmp_path / "home"
    running = [subprocess.Popen([sys.executable, "-c", script, str(home), str(path)]) for path in paths]
    assert [process.wait(60) for process in running] == [0] * 4
    with Home(home) as opened:
        assert list(opened.hosted("pypi-hosted").projects()) == ["p0", "p1", "p2", "p3"]


def test_a_catalog_from_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with contextlib.closing(SQLite(path)) as database:
        database.write(lambda connection: connection.exec_driver_sql("PRAGMA user_version = 99"))
    with pytest.raises(StorageError, match="schema version 99"):
        Catalog(SQLite(path), lambda _: True).repositories()


def test_a_missing_blob_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="0" * 64):
        FolderBlobs(tmp_path).get("0" * 64)


def test_what_killed_uploads_left_behind_is_swept_after_a_day(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    kept = blobs.add(b"kept")
    for name, age in (("old.part", 2), ("new.part", 0)):
        path = tmp_path / "incoming" / name
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age * 86400,) * 2)
    blobs.sweep()
    assert [path.name for path in (tmp_path / "incoming").iterdir()] == ["new.part"]
    assert blobs.get(kept).data() == b"kept"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    with FolderBlobs(tmp_path).incoming() as incoming:
        incoming._stream.close()
        incoming._stream = Path("/dev/full").open("wb")  # noqa: SIM115 - closed by incoming
        with pytest.raises(StorageError, match="full"):
            incoming.write(bytes(1_000_000))  # more than any Python buffers
