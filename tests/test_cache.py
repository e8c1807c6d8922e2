"""``airgap cache``: what it shows, what it drops, what it finds damaged, and who keeps it away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import mirror
from mirror.bundle import prepare
from mirror.cli.cache import cache as command
from mirror.errors import ConfigError, StorageError
from mirror.ops.cache import parse_size
from mirror.store import Collected, Store
from tests.bundle_support import Wanted, make_content
from tests.wheelhouse import make_wheel

#: For processes of their own, wherever they start: the airgap that is tested here.
SOURCE = {**os.environ, "PYTHONPATH": str(Path(mirror.__file__).parent.parent)}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AIRGAP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Store(tmp_path / "cache")


def aged(store: Store, data: bytes, seconds: int) -> str:
    sha256 = store.add(data)
    os.utime(store.path(sha256), (seconds, seconds))
    return sha256


def has(store: Store, *names: str) -> list[bool]:
    return [store.has(name) for name in names]


def test_the_oldest_go_first_and_what_is_kept_stays(store: Store) -> None:
    oldest, old, new = aged(store, b"1" * 10, 1), aged(store, b"2" * 10, 2), aged(store, b"3" * 10, 3)
    assert store.collect({oldest}, limit=20, dry_run=True) == Collected(1, 10, 0)
    assert has(store, oldest, old, new) == [True, True, True]
    assert store.collect({oldest}, limit=20) == Collected(1, 10, 0)
    assert has(store, oldest, old, new) == [True, False, True]
    assert store.collect({oldest}, limit=20) == Collected(0, 0, 0)
    assert store.collect({oldest}) == Collected(1, 10, 0)


def test_nothing_is_dropped_while_somebody_uses_the_store(store: Store) -> None:
    name = store.add(b"received just now")
    with store.using(), store.using():
        for drop in (lambda: store.collect(()), store.verify):
            with pytest.raises(StorageError, match="Another process is using the store"):
                drop()
    code = (
        "import sys; from pathlib import Path; from mirror.store import Store\n"
        "with Store(Path(sys.argv[1])).using(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=SOURCE,
    ) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "held\n"
        with pytest.raises(StorageError):
            store.collect(())
        assert CliRunner().invoke(command, ["gc", "--all"]).exit_code == 1
        assert store.has(name)
        user.kill()
    assert store.collect(()).blobs == 1


def test_verify_drops_what_is_damaged(store: Store) -> None:
    good, bad = store.add(b"good"), store.add(b"bad")
    path = store.path(bad)
    path.chmod(0o644)
    path.write_bytes(b"worse")
    found = CliRunner().invoke(command, ["verify", "--json", "-q"])
    assert (found.exit_code, json.loads(found.stdout)) == (5, {"damaged": [bad]})
    assert has(store, good, bad) == [True, False]
    assert CliRunner().invoke(command, ["verify"]).exit_code == 0


def test_info(store: Store) -> None:
    store.add(b"12345")
    store.set_note("pages", "key", b"note")
    document = json.loads(CliRunner().invoke(command, ["info", "--json"]).output)
    assert document == {"path": str(store.root), "files": 1, "size": 5, "unfinished": 0, "notes": 36}
    assert "files" in CliRunner().invoke(command, ["info"]).output


def test_gc_keeps_what_a_manifest_names(store: Store, tmp_path: Path) -> None:
    built = make_wheel("alpha")
    manifest = prepare(make_content(store, [Wanted(built)])).manifest
    (tmp_path / "alpha.json").write_bytes(manifest.to_bytes())
    other = store.add(b"other")
    nothing = CliRunner().invoke(command, ["gc", "--json"])
    assert json.loads(nothing.output)["dropped"] == 0
    done = CliRunner().invoke(command, ["gc", "--all", "--keep", "alpha.json"])
    assert "Dropped 1 file, 5 B." in done.output
    assert has(store, built.sha256, other) == [True, False]
    assert json.loads(CliRunner().invoke(command, ["gc", "--max-size", "0B", "--json"]).output)["dropped"] == 1


def test_gc_keeps_what_the_next_delta_needs(store: Store, tmp_path: Path) -> None:
    built = make_wheel("alpha")
    manifest = prepare(make_content(store, [Wanted(built)])).manifest
    kept = tmp_path / "home" / "sync" / "plant" / "manifests" / "round-000003.json"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(manifest.to_bytes())
    (tmp_path / "airgap.toml").write_text(
        '[sync.plant]\nside = "connected"\noutbox = "out"\nrequirements = ["r.in"]\ntargets = ["this"]\n'
    )
    store.add(b"other")
    assert json.loads(CliRunner().invoke(command, ["gc", "--all", "--json"]).output)["dropped"] == 1
    assert store.has(built.sha256)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("5B", 5), ("1k", 1000), ("1.5 GB", 1_500_000_000), ("20GiB", 20 * 2**30)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "1 XB", "-1", "1iB", "9" * 400])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_size(text)
