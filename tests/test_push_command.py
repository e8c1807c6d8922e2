"""`airgap push` and `airgap verify --against-repo` as a user runs them, into real folders and a real server."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mirror.bundle import BundleReader
from mirror.bundle.seektable import DIGEST_FRAME
from mirror.cli import airgap
from mirror.errors import AirgapError, BundleError, ConflictError, UsageError
from mirror.ops.source import opened
from mirror.push.receipt import Receipt, State
from mirror.push.run import IncompletePushError
from tests.bundle_support import write_small
from tests.push_support import FakeRepository, Fault, fake_repository
from tests.wheelhouse import make_sdist, make_wheel

TOP, UNDER = make_wheel("top", requires=['under>1; python_version > "3"']), make_wheel("under", "2.0")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_small(tmp_path).path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "static"


@pytest.fixture
def server() -> Iterator[FakeRepository]:
    with fake_repository() as found:
        yield found


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(airgap, [str(word) for word in words])


def push(*words: str | Path, into: Path | FakeRepository) -> Result:
    return run("push", "--repo", into.as_uri() if isinstance(into, Path) else into.url, *words)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_log_on_a_full_disk_is_no_reason_to_stop(bundle: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "mirror", "push", str(bundle), "--repo", folder.as_uri()]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, stderr=full, check=False)
    assert done.returncode == 0
    receipt = Receipt.from_json(bundle.with_name(f"{bundle.name}.receipt.json").read_bytes())
    assert receipt.complete


@pytest.mark.parametrize("repository", ["{folder}", "file:/{folder}", "file:{folder}"])
def test_a_folder_that_is_not_named_by_its_url(bundle: Path, folder: Path, repository: str) -> None:
    told = error(run("push", bundle, "--repo", repository.format(folder=folder)))
    assert isinstance(told, UsageError)
    assert "file:///" in told.hint
    assert not folder.exists()


@pytest.mark.parametrize("command", ["push", "verify", "doctor"])
def test_a_file_that_is_passed_over_is_named(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Whoever runs it from cron may not read it: without a word, its repositories would just not be known."""
    (tmp_path / ".pypirc").symlink_to(".pypirc")
    monkeypatch.setenv("HOME", str(tmp_path))
    words = {
        "push": ["push", str(bundle), "--repo", "plant"],
        "verify": ["verify", str(bundle), "--against-repo", "plant"],
        "doctor": ["doctor", "--repo", "plant"],
    }
    result = run(*words[command])
    assert "warning: ~/.pypirc is ignored, it can't be read: " in result.output
    assert "no repository called plant" in str(error(result))


def error(result: Result) -> AirgapError:
    assert isinstance(result.exception, AirgapError), result.output
    return result.exception


def stored(folder: Path) -> set[str]:
    return {path.name for path in (folder / "packages").glob("*") if path.suffix != ".metadata"}


def test_a_bundle_and_its_receipt(bundle: Path, folder: Path) -> None:
    result = push(bundle, into=folder)
    assert result.exit_code == 0, result.output
    receipt = Receipt.from_json(bundle.with_name(f"{bundle.name}.receipt.json").read_bytes())
    assert receipt.complete
    assert stored(folder) == {file.filename for file in receipt.files}
    assert not list(folder.rglob("*.part"))


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes with names of files")
def test_a_receipt_takes_the_place_of_no_device(bundle: Path, folder: Path, tmp_path: Path) -> None:
    """Root could, and /dev/null is one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        came = pool.submit(pipe.read_bytes)
        assert push(bundle, "--receipt", pipe, into=folder).exit_code == 0
        assert Receipt.from_json(came.result(10)).complete
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_place_where_no_receipt_can_be_is_told_before_anything_is_uploaded(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    """A disc, say; here a file where a folder should be, since a test may run as root."""
    (tmp_path / "disc").write_bytes(b"")
    told = error(push(bundle, "--receipt", tmp_path / "disc" / "receipt.json", into=folder))
    assert "Can't write the receipt" in str(told)
    assert "--receipt" in told.hint
    assert not folder.exists()
    assert push(bundle, "--receipt", tmp_path / "new" / "receipt.json", into=folder).exit_code == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["receipt.json"]


def test_a_receipt_takes_the_place_of_no_bundle(bundle: Path, folder: Path) -> None:
    before = bundle.read_bytes()
    assert "would take the place" in str(error(push(bundle, "--receipt", bundle, into=folder)))
    assert bundle.read_bytes() == before
    assert not folder.exists()


def test_a_log_has_one_line_for_each_wave(bundle: Path, server: FakeRepository) -> None:
    result = push(bundle, into=server)
    waves = [line for line in result.stderr.splitlines() if "wave" in line]
    assert [line.partition(", ")[2].rpartition(", ")[0] for line in waves] == [
        "wave 1 of 2: 3 of 3 files",
        "wave 2 of 2: 1 of 1 files",
    ]
    assert "wave" not in push(bundle, into=server).output


def test_a_log_tells_waves_that_were_not_finished(bundle: Path, server: FakeRepository) -> None:
    server.fault_for_all = Fault(400)
    result = push(bundle, into=server)
    assert "wave 1 of 2: 0 of 3 files" in result.stderr
    assert "wave 2 of 2: 0 of 1 files" in result.stderr


def test_a_bundle_from_a_pipe(bundle: Path, folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mirror", "push", "-", "--repo", folder.as_uri()]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with bundle.open("rb") as stream:
        done = subprocess.run(command, stdin=stream, cwd=tmp_path, env=environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(stored(folder)) == 4
    assert len(list(tmp_path.glob("bundle-*.receipt.json"))) == 1


def test_a_pipe_that_holds_no_bundle() -> None:
    with pytest.raises(BundleError), opened([Path("-")], stdin=io.BytesIO(b"no bundle")):
        pass


def test_wheels_sdists_and_folders_of_them(server: FakeRepository, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    for built in (TOP, UNDER, make_sdist("top", "0.9")):
        built.save(dist)
    (dist / "notes.txt").write_text("not for an index")
    result = push(dist, make_wheel("lone").save(tmp_path), into=server)
    assert result.exit_code == 0, result.output
    assert len(server.files) == 4
    assert server.uploaded.index(UNDER.filename) < server.uploaded.index(TOP.filename)
    assert not list(tmp_path.rglob("*.receipt.json"))
    assert "4 already there" in push(dist, tmp_path / "lone-1.0-py3-none-any.whl", into=server).output


def test_the_same_file_twice_is_one(folder: Path, tmp_path: Path) -> None:
    """dist/ and dist/*, or folders for two targets, both with the wheel that fits both."""
    first = TOP.save(tmp_path / "linux")
    TOP.save(tmp_path / "windows")
    UNDER.save(tmp_path / "windows")
    result = push(first.parent, first, tmp_path / "windows", into=folder)
    assert result.exit_code == 0, result.output
    assert stored(folder) == {TOP.filename, UNDER.filename}
    make_wheel("top", requires=["other"]).save(tmp_path / "windows")
    told = str(error(push(first.parent, tmp_path / "windows", into=folder)))
    assert told == f"{first} and {tmp_path / 'windows' / TOP.filename} are two files of one name."


def test_an_old_sdist_is_listed_under_the_project_that_it_names(folder: Path, tmp_path: Path) -> None:
    """Its file's name could be that of version 1 of post-1.0 as well: pip looks under post."""
    built = make_sdist("post", "1.0-1")
    (tmp_path / "post-1.0-1.tar.gz").write_bytes(built.data)
    assert push(tmp_path / "post-1.0-1.tar.gz", into=folder).exit_code == 0
    assert [path.name for path in (folder / "simple").iterdir() if path.is_dir()] == ["post"]


@pytest.mark.parametrize("name", ["notes.txt", "broken-1.0-py3-none-any.whl", "nothing-1.0-py3-none-any.whl"])
def test_other_files_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"neither zip nor tar")
    assert isinstance(error(push(tmp_path / name, TOP.save(tmp_path), into=folder)), UsageError)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["top-1.0-py3-none-any (1).whl", "top-1.0 (1).tar.gz", "top-1.0\udcff.tar.gz"])
def test_a_renamed_file_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    """As browsers and Windows call a second copy: a repository would have it under that name for ever."""
    built = TOP if name.endswith(".whl") else make_sdist("top")
    try:
        (tmp_path / name).write_bytes(built.data)
    except OSError as error_:
        pytest.skip(f"this system has no such names: {error_}")
    told = error(push(tmp_path / name, into=folder))
    assert isinstance(told, UsageError)
    assert "renamed" in told.hint
    assert not folder.exists()


def test_a_folder_without_distributions_is_told(folder: Path, tmp_path: Path) -> None:
    assert "No wheel and no sdist" in str(error(push(tmp_path, into=folder)))


def test_a_dry_run_counts_and_changes_nothing(bundle: Path, server: FakeRepository) -> None:
    plan = json.loads(push(bundle, "--dry-run", "--json", "-q", into=server).stdout)
    assert (plan["new"]["count"], plan["present"]["count"], plan["conflicts"]["count"]) == (4, 0, 0)
    assert plan["new"]["size"] == sum(file["size"] for file in plan["new"]["files"])
    assert not server.received
    assert "to upload" in push(bundle, "--dry-run", into=server).output
    assert not bundle.with_name(f"{bundle.name}.receipt.json").exists()


def test_a_dry_run_tells_conflicts_by_its_exit_code(bundle: Path, server: FakeRepository) -> None:
    with BundleReader(bundle) as reader:
        server.files[reader.manifest.files[0].filename] = b"other"
    assert push(bundle, "--dry-run", into=server).exit_code == 7


def test_conflicts_can_be_passed_over(bundle: Path, server: FakeRepository) -> None:
    with BundleReader(bundle) as reader:
        conflict, *others = [file.filename for file in reader.manifest.files]
    server.files[conflict] = b"other"
    assert isinstance(error(push(bundle, into=server)), ConflictError)
    assert not server.received
    passed_over = error(push(bundle, "--skip-conflicts", into=server))
    assert isinstance(passed_over, ConflictError)
    assert passed_over.filenames == (conflict,)
    assert sorted(server.uploaded) == sorted(others)
    assert server.files[conflict] == b"other"


@pytest.mark.parametrize("number", ["1", "all"])
def test_downloads_are_compared(bundle: Path, server: FakeRepository, number: str) -> None:
    assert push(bundle, into=server).exit_code == 0
    assert push(bundle, "--verify-download", number, into=server).exit_code == 0
    fetched = [request for request in server.requests if request.startswith("GET /files/")]
    assert len(fetched) == (1 if number == "1" else 4)


def test_a_repository_that_serves_other_bytes_than_it_shows(bundle: Path, server: FakeRepository) -> None:
    assert push(bundle, into=server).exit_code == 0
    server.serves = b"not what the index says"
    found = error(push(bundle, "--verify-download", "all", into=server))
    assert isinstance(found, IncompletePushError)
    assert found.receipt.counts[State.CONFLICT] == 4


def test_verify_against_a_repository(bundle: Path, server: FakeRepository) -> None:
    missing = error(run("verify", bundle, "--against-repo", server.url))
    assert missing.exit_code == 6
    push(bundle, into=server)
    done = run("verify", bundle, "--against-repo", server.url, "--verify-download", "all", "--json")
    assert json.loads(done.stdout)["repository"]["files"] == 4
    server.files = dict.fromkeys(server.files, b"other")
    assert error(run("verify", bundle, "--against-repo", server.url)).exit_code == 7
    assert len(server.received) == 4


def test_one_changed_byte_anywhere_uploads_nothing(bundle: Path, server: FakeRepository) -> None:
    good = bundle.read_bytes()
    with BundleReader(bundle) as reader:
        places = [
            frame.offset + at for frame in reader.archive.frames for at in (0, 4, frame.size // 2, frame.size - 1)
        ]
        table = reader.archive.frames[-1].offset + DIGEST_FRAME
    for place in [*places, *range(table, len(good), 3)]:
        bundle.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        assert isinstance(error(push(bundle, "-q", into=server)), BundleError), place
    assert not server.received


@pytest.mark.parametrize(
    ("status", "known", "hint"),
    [
        (401, False, "No credentials are known for this repository"),
        (401, True, "'airgap config' says where they come from"),
        (403, False, "No credentials are known for this repository"),
        (403, True, "answer a wrong password in the same way"),
        (407, True, "The proxy wants credentials"),
    ],
)
def test_whoever_may_not_upload_learns_what_to_look_at(
    bundle: Path, server: FakeRepository, monkeypatch: pytest.MonkeyPatch, status: int, known: bool, hint: str
) -> None:
    """From cron nobody is asked: that the variables are missing there is the usual reason."""
    for name, value in (("TWINE_USERNAME", "bob"), ("TWINE_PASSWORD", "secret")):
        monkeypatch.setenv(name, value if known else "")
    monkeypatch.setenv("HOME", str(bundle.parent))
    server.fault_for_all = Fault(status)
    assert hint in error(push(bundle, into=server)).hint


def test_expired_credentials_stop_the_push_and_say_how_to_go_on(bundle: Path, server: FakeRepository) -> None:
    with BundleReader(bundle) as reader:
        last = next(file.filename for file in reader.manifest.files if file.project == "alpha")
    server.faults = {last: [Fault(401)]}  # the one that requires others
    found = error(push(bundle, into=server))
    assert "expired" in found.hint
    assert "Run the same command again" in found.hint
    assert len(server.files) == 3
    assert push(bundle, into=server).exit_code == 0
