from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.durable import sync_folder
from mirror.errors import HashMismatchError, IntegrityError, StorageError
from mirror.models import Hashes
from mirror.store import Collected, Store

BODY = bytes(range(256)) * 8192
SHA256 = hashlib.sha256(BODY).hexdigest()
EXPECTED = Hashes.of({name: hashlib.new(name, BODY).hexdigest() for name in ("md5", "sha256", "sha512", "blake2b")})


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def leftovers(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "part").glob("*"))


def test_nothing_is_made_before_the_first_write(store: Store) -> None:
    assert not store.has(SHA256)
    assert store.note("pages", "key") is None
    assert store.collect(()) == Collected(0, 0, 0)
    with pytest.raises(StorageError, match=SHA256):
        store.path(SHA256)
    assert not store.root.exists()


def test_a_received_file_is_kept_under_its_digest(store: Store) -> None:
    with store.receive("a file", expected=EXPECTED, size=len(BODY)) as receiver:
        for start in range(0, len(BODY), 70_000):
            receiver.write(BODY[start : start + 70_000])
        blob = receiver.commit()
    assert (blob.sha256, blob.size) == (SHA256, len(BODY))
    assert store.path(SHA256) == store.root / "files" / SHA256[:2] / SHA256
    assert store.size(SHA256) == len(BODY)
    with store.open(SHA256) as stream:
        assert stream.read() == BODY
    assert leftovers(store) == []
    if os.name == "posix":
        assert store.path(SHA256).stat().st_mode & 0o777 == 0o444


def test_an_empty_file_is_a_file(store: Store) -> None:
    with store.receive("empty", size=0) as receiver:
        blob = receiver.commit()
    assert store.size(blob.sha256) == 0


@pytest.mark.parametrize("algorithm", ["md5", "sha256", "sha512", "blake2b"])
def test_a_wrong_digest_leaves_nothing(store: Store, algorithm: str) -> None:
    promised = hashlib.new(algorithm, b"something else").hexdigest()
    with store.receive("a file", expected=Hashes.of({algorithm: promised})) as receiver:
        receiver.write(BODY)
        with pytest.raises(HashMismatchError) as caught:
            receiver.commit()
    assert promised in str(caught.value)
    assert hashlib.new(algorithm, BODY).hexdigest() in str(caught.value)
    assert not store.has(SHA256)
    assert leftovers(store) == []


def test_sizes_are_held_to(store: Store) -> None:
    with store.receive("long", size=10) as receiver:
        receiver.write(b"0123456789")
        with pytest.raises(IntegrityError, match="more than the 10 bytes"):
            receiver.write(b"!")
    with store.receive("short", size=10) as receiver:
        receiver.write(b"012345678")
        with pytest.raises(IntegrityError, match="9 bytes instead of the 10"):
            receiver.commit()
    assert leftovers(store) == []


def test_an_interrupted_file_is_continued(store: Store) -> None:
    with store.receive("a file", expected=EXPECTED) as receiver:
        receiver.write(BODY[:1_000_001])
    with store.receive("a file", expected=EXPECTED) as receiver:
        assert receiver.offset == 1_000_001
        receiver.write(BODY[1_000_001:])
        assert receiver.commit().sha256 == SHA256


def test_a_part_longer_than_the_file_starts_over(store: Store) -> None:
    with store.receive("a file") as receiver:
        receiver.write(BODY)
    with store.receive("a file", size=100) as receiver:
        assert receiver.offset == 0


def test_restart_and_discard_forget(store: Store) -> None:
    with store.receive("a file") as receiver:
        receiver.write(b"wrong")
        receiver.restart()
        assert receiver.offset == 0
        receiver.write(BODY)
        assert receiver.commit().sha256 == SHA256
    with store.receive("a file") as receiver:
        receiver.write(b"wrong")
        receiver.discard()
        with pytest.raises(ValueError, match="closed"):
            receiver.write(b"more")
    assert leftovers(store) == []


def test_the_same_key_is_received_by_one_at_a_time(store: Store) -> None:
    order: list[str] = []
    first = store.receive("key")

    def second() -> None:
        with store.receive("key") as receiver:
            order.append("second")
            assert receiver.offset == 0

    thread = threading.Thread(target=second)
    thread.start()
    first.write(BODY)
    with store.receive("another key"):
        pass
    order.append("first")
    first.commit()
    thread.join(20)
    assert order == ["first", "second"]


def test_a_wait_for_the_lock_can_be_stopped(store: Store) -> None:
    stop = threading.Event()
    stop.set()
    with store.receive("key"), pytest.raises(StorageError, match="Stopped"):
        store.receive("key", stop=stop)


def test_many_threads_receive_the_same_key(store: Store) -> None:
    def receive(_: int) -> str:
        with store.receive("key", expected=EXPECTED) as receiver:
            receiver.write(BODY)
            return receiver.commit().sha256

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(receive, range(24))) == {SHA256}
    assert leftovers(store) == []


def test_add_keeps_small_blobs_once(store: Store) -> None:
    assert store.add(b"metadata") == store.add(b"metadata") == hashlib.sha256(b"metadata").hexdigest()
    assert leftovers(store) == []


def test_names_are_synced_at_once_or_together_at_the_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []

    def recorded(folder: Path) -> None:
        synced.append(folder)
        sync_folder(folder)

    monkeypatch.setattr("mirror.store.sync_folder", recorded)
    first = store.path(store.add(b"first"))
    assert synced == [first.parent, first.parent.parent]
    synced.clear()
    with store.using():
        with store.using():
            paths = [store.path(store.add(b"%d" % number)) for number in range(3)]
        assert synced == []
    assert sorted(synced) == sorted({path.parent for path in paths} | {first.parent.parent})


def test_what_is_not_a_digest_never_becomes_a_path(store: Store) -> None:
    for name in ("../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", ""):
        with pytest.raises(IntegrityError):
            store.has(name)


# Notes


def test_notes_come_back_and_can_be_replaced(store: Store) -> None:
    store.set_note("pages", "https://index/simple/", b"one")
    store.set_note("pages", "https://index/simple/", b"two")
    assert store.note("pages", "https://index/simple/") == b"two"
    assert store.note("other", "https://index/simple/") is None
    with pytest.raises(ValueError, match="namespace"):
        store.note("../files", "key")


@given(cut=st.integers(0, 40), flip=st.integers(0, 40))
def test_a_torn_note_reads_as_none(tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    store.set_note("pages", "key", b"a value")
    (path,) = (path for path in (store.root / "notes").rglob("*") if path.is_file())
    data = bytearray(path.read_bytes())
    data[flip % len(data)] ^= 1
    path.write_bytes(data)
    assert store.note("pages", "key") is None
    data[flip % len(data)] ^= 1
    path.write_bytes(data[: cut % len(data)])
    assert store.note("pages", "key") is None


# Collecting


def test_collect_keeps_what_is_named_and_what_is_being_received(store: Store) -> None:
    kept, dropped = store.add(b"kept"), store.add(b"dropped")
    with store.receive("stale") as receiver:
        receiver.write(b"stale")
    (store.root / "part" / "1-aa.tmp").write_bytes(b"old")
    os.utime(store.root / "part" / "1-aa.tmp", (1, 1))
    (store.root / "part" / "1-bb.tmp").write_bytes(b"new")
    with store.receive("busy") as receiver:
        receiver.write(BODY)
        assert store.collect({kept}) == Collected(1, len(b"dropped"), len(b"stale" + b"old"))
        assert receiver.commit().sha256 == SHA256
    assert store.has(kept)
    assert not store.has(dropped)
    assert leftovers(store) == ["1-bb.tmp"]


# Disks


@pytest.fixture(name="tiny_disk")
def _tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tiny"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting a small tmpfs is not possible here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_says_how_much_and_where_and_the_bytes_so_far_stay(tiny_disk: Path) -> None:
    store = Store(tiny_disk)

    def receive() -> None:
        with store.receive("key") as receiver:
            for start in range(0, len(BODY), 100_000):
                receiver.write(BODY[start : start + 100_000])

    with pytest.raises(StorageError, match="disk full") as caught:
        receive()
    assert str(tiny_disk) in str(caught.value)
    assert "bytes are free" in str(caught.value)
    assert "AIRGAP_CACHE" in caught.value.hint
    with store.receive("key") as receiver:
        assert 0 < receiver.offset <= 512 * 1024
    with pytest.raises(StorageError, match="disk full"):
        store.set_note("pages", "key", BODY)
    with pytest.raises(StorageError, match="disk full"):
        store.add(BODY)


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX's")
def test_a_file_size_limit_is_a_storage_error(tmp_path: Path) -> None:
    script = """
import pathlib, resource, sys
from mirror.errors import StorageError
from mirror.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    with Store(pathlib.Path(sys.argv[1])).receive("key") as receiver:
        for _ in range(20):
            receiver.write(bytes(100_000))
except StorageError as error:
    sys.exit(f"{error.exit_code}: {error}")
"""
    ended = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("8: ")
    assert "too large" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_a_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="Permission denied"):
            Store(tmp_path / "store").add(b"x")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_where_a_folder_should_be_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("in the way")
    with pytest.raises(StorageError, match="store"):
        Store(tmp_path / "store").add(b"x")
