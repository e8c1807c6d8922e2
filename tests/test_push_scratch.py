"""Folders of dead runs go, those of live ones stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mirror.errors import StorageError
from mirror.push.scratch import scratch

HOLD = """
from mirror.push.scratch import scratch
with scratch() as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("TEMP", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(sys.modules["mirror"].__file__ or "").parent.parent))
    return tmp_path


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_nothing_is_left_behind(place: Path) -> None:
    with scratch() as folder:
        (folder / "inside").mkdir()
        (folder / "inside" / "file").write_bytes(b"x")
        with scratch() as another:
            assert another != folder
        assert folder.is_dir()
    assert names(place) == []


@pytest.mark.skipif(sys.platform == "win32", reason="a killed process of Windows may hold its files a while longer")
def test_the_next_run_removes_what_a_killed_one_left(place: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().decode().strip())
        with scratch():
            assert (left / "file").is_file()  # it lives
        process.kill()
        process.communicate()
    assert (left / "file").is_file()
    with scratch():
        assert not left.exists()
    assert names(place) == []


def test_what_is_not_ours_is_left_alone(place: Path) -> None:
    precious = place / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"x")
    (place / "airgap-push-link.lock").touch()
    (place / "airgap-push-link").symlink_to(precious)
    (place / "airgap-push-without-a-lock").mkdir()
    with scratch():
        pass
    assert (precious / "file").is_file()
    assert (place / "airgap-push-without-a-lock").is_dir()


def test_no_room(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(place / "file" / "folder"))
    (place / "file").touch()
    with pytest.raises(StorageError) as caught, scratch():
        pass
    assert "TMPDIR" in caught.value.hint
