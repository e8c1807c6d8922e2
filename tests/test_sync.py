"""``airgap sync``: one round after the other on both sides, and everything that may go wrong on the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import mirror
from mirror.cli.sync import sync as command
from mirror.config.sync import read_syncs
from mirror.errors import BundleError, ConfigError, StorageError
from mirror.push.receipt import Receipt
from mirror.sync.files import move, numbered, one_at_a_time
from mirror.sync.outcome import read_status
from mirror.sync.receipts import SealedReceipt, common, new_site, read_sealed
from mirror.sync.state import folder_of
from tests.bundle_support import Archive, contents
from tests.http_support import Server
from tests.sync_support import TARGET, World
from tests.wheelhouse import make_wheel

#: For processes of their own, wherever they start: the airgap that is tested here.
SOURCE = {**os.environ, "PYTHONPATH": str(Path(mirror.__file__).parent.parent)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.index.release("alpha", "1.0", ["beta"])
    made.index.release("beta", "1.0")
    made.want("alpha\n")
    return made


def carried(world: World, number: int) -> list[str]:
    return [file.filename for file in world.manifest(number).carried]


ALPHA, BETA, BETA_2 = "alpha-1.0-py3-none-any.whl", "beta-1.0-py3-none-any.whl", "beta-2.0-py3-none-any.whl"


def test_there_and_back(world: World) -> None:
    first = world.run("connected")
    assert (first.bundle, first.unconfirmed) == ("plant-000001", 2)
    slip = (world.path("connected", "out") / "plant-000001.txt").read_text()
    assert "new: alpha 1.0" in slip
    assert f"identity  {world.manifest(1).identity}\n" in slip
    digest = hashlib.sha256(world.bundle(1).read_bytes()).hexdigest()
    assert slip.endswith(f"\n{digest}  plant-000001.tar.zst\n")
    world.carry()
    assert world.run("isolated").pushed == ("plant-000001",)
    assert set(world.repository(["alpha", "beta"])) == {ALPHA, BETA}
    assert [path.name for path in (world.path("isolated", "in") / "done").iterdir()] == ["plant-000001.tar.zst"]
    assert [path.name for path in world.bring_back()] == ["plant-main-000001.receipt.json"]
    world.index.release("beta", "2.0")
    second = world.run("connected")
    assert (second.message, second.unconfirmed) == ("wrote plant-000002, a delta: something changed", 1)
    assert carried(world, 2) == [BETA_2]
    world.carry()
    assert world.run("isolated").exit_code == 0
    assert set(world.repository(["alpha", "beta"])) == {ALPHA, BETA, BETA_2}


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    world = World(tmp_path / "plant [1]")
    world.want("alpha\n")
    world.index.release("alpha", "1.0")
    assert world.run("connected").bundle == "plant-000001"


def test_nothing_new_writes_nothing(world: World) -> None:
    world.run("connected")
    outcome = world.run("connected")
    assert (outcome.message, outcome.exit_code, outcome.bundle) == ("nothing new", 0, "")
    assert not world.bundle(2).exists()
    world.path("isolated", "in").joinpath("notes.txt").write_text("not ours")
    assert world.run("isolated").message == "nothing new"


def test_without_a_receipt_everything_goes_again(world: World) -> None:
    world.run("connected")
    world.index.release("beta", "2.0")
    world.run("connected")
    assert carried(world, 2) == [ALPHA, BETA_2]


def test_a_side_without_an_inbox_believes_in_what_it_sent(tmp_path: Path) -> None:
    world = World(tmp_path, receipts=False, connected="full-every = 3\nkeep = 1")
    world.index.release("beta", "1.0")
    world.index.release("alpha", "1.0")
    world.want("alpha\nbeta\n")
    world.run("connected")
    for version in ("2.0", "3.0", "4.0"):
        world.index.release("beta", version)
        world.run("connected")
    # the third after a full one is full again, and what it does not build on is gone
    assert [number for number, _ in numbered(world.path("connected", "out"), "plant", ".tar.zst")] == [4]
    assert len(carried(world, 4)) == 2


def test_what_an_unconfirmed_delta_needs_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path, receipts=False, connected="keep = 1")
    world.index.release("beta", "1.0")
    world.index.release("alpha", "1.0")
    world.want("alpha\nbeta\n")
    world.run("connected")
    for version in ("2.0", "3.0"):
        world.index.release("beta", version)
        world.run("connected")
    kept = [number for number, _ in numbered(world.path("connected", "out"), "plant", ".tar.zst")]
    assert kept == [1, 3]  # 3 finds alpha in 1
    world.carry()
    assert world.run("isolated").exit_code == 0


@pytest.fixture
def unheard(tmp_path: Path) -> World:
    """Nobody sends receipts: alpha went in the first bundle, beta in a delta that builds on it."""
    made = World(tmp_path, receipts=False)
    made.index.release("alpha", "1.0")
    made.want("alpha\n")
    made.run("connected")
    made.index.release("beta", "1.0")
    made.want("alpha\nbeta\n")
    made.run("connected")
    return made


def test_a_lost_delta_is_asked_for_and_any_order_will_do(unheard: World) -> None:
    world = unheard
    world.index.release("gamma", "1.0")
    world.want("alpha\nbeta\ngamma\n")
    world.run("connected")
    first, second, third = world.carry()
    second.unlink()
    outcome = world.run("isolated")
    assert outcome.exit_code == 6
    assert (outcome.pushed, outcome.pending) == (("plant-000001",), ("plant-000003.tar.zst",))
    assert outcome.asked == ("plant-000002",)
    assert world.said("These never came: plant-000002.")
    assert third.exists()
    assert not world.repository(["gamma"])
    receipts = sorted(world.path("isolated", "out").iterdir())
    assert not read_sealed(receipts[-1]).receipt.complete
    again = world.run("isolated")
    assert (again.exit_code, again.pending, again.asked) == (6, outcome.pending, outcome.asked)
    assert world.said("plant-000003.tar.zst still waits for plant-000002")
    assert sorted(world.path("isolated", "out").iterdir()) == receipts
    world.carry()
    assert world.run("isolated").pushed == ("plant-000002", "plant-000003")
    assert not first.exists()


def test_a_delta_that_came_too_late_goes_away(unheard: World) -> None:
    world = unheard
    world.index.release("alpha", "2.0")
    world.run("connected", full=True)
    world.bundle(1).unlink()
    world.carry()
    outcome = world.run("isolated")
    assert (outcome.pushed, outcome.quarantined) == (("plant-000003",), ("plant-000002.tar.zst",))
    assert outcome.exit_code == 0


def test_a_file_that_is_still_being_copied_is_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path, isolated="settle = 3600")
    world.index.release("alpha", "1.0")
    world.want("alpha\n")
    world.run("connected")
    whole = world.bundle(1).read_bytes()
    target = world.path("isolated", "in") / "plant-000001.tar.zst"
    for part in (b"", whole[: len(whole) // 2], bytes(len(whole)), whole[:-1]):
        target.write_bytes(part)
        outcome = world.run("isolated")
        assert (outcome.pending, outcome.exit_code, outcome.quarantined) == ((target.name,), 0, ())
        assert target.read_bytes() == part
    target.write_bytes(whole)
    assert world.run("isolated").pushed == ("plant-000001",)


@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_a_damaged_bundle_goes_into_quarantine(world: World, damage: str) -> None:
    world.run("connected")
    (path,) = world.carry()
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flip":
        data[len(data) // 2] ^= 1
    else:
        data = bytearray(b"no bundle")
    path.write_bytes(data)
    outcome = world.run("isolated")
    assert (outcome.exit_code, outcome.quarantined) == (5, (path.name,))
    quarantine = world.path("isolated", "in") / "quarantine"
    assert (quarantine / path.name).read_bytes() == data
    assert (quarantine / f"{path.name}.reason.txt").read_text()
    assert not world.repository(["alpha", "beta"])
    status = read_status(world.path("isolated", "home") / "sync" / "plant")
    assert status is not None
    assert status["in-quarantine"] == [path.name]
    assert status["last-success"] is None
    world.carry()
    assert world.run("isolated").pushed == ("plant-000001",)


def test_a_damaged_copy_of_what_is_there_is_not_called_done(world: World) -> None:
    world.run("connected")
    world.carry()
    world.run("isolated")
    copy = world.path("isolated", "in") / "plant-000001.tar.zst"
    data = bytearray(world.bundle(1).read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    outcome = world.run("isolated")
    assert (outcome.exit_code, outcome.pushed, outcome.quarantined) == (5, (), (copy.name,))


def test_of_a_bundle_that_was_tampered_with_nothing_is_uploaded(world: World) -> None:
    """Its digest is right again, and only the last project was touched: all of it is read before the first upload."""
    world.run("connected")
    manifest = world.manifest(1)
    found = contents(world.bundle(1))
    found[f"packages/{BETA}"] = bytes(len(found[f"packages/{BETA}"]))
    path = world.path("isolated", "in") / "plant-000001.tar.zst"
    Archive.of(manifest, found).write(path)
    outcome = world.run("isolated")
    assert (outcome.exit_code, outcome.quarantined) == (5, (path.name,))
    assert not world.repository(["alpha", "beta"])


@pytest.fixture
def taken(world: World) -> World:
    """The isolated repository holds another beta 1.0 before the first bundle comes."""
    made = make_wheel("beta", requires_python=">=3.8")
    assert made.filename == BETA
    other = World(world.folder / "other")
    other.index.release("beta", "1.0")
    made.save(other.index.folder / "files")
    other.index.releases["beta", "1.0"] = made, False
    other.index._write("beta")
    other.want("beta\n")
    other.run("connected")
    shutil.copy(other.bundle(1), world.path("isolated", "in") / "plant-000000.tar.zst")
    assert world.run("isolated").pushed == ("plant-000000",)
    world.run("connected")
    world.carry()
    return world


def test_a_conflict_goes_into_quarantine_and_its_receipt_confirms_nothing(taken: World) -> None:
    outcome = taken.run("isolated")
    assert (outcome.pushed, outcome.quarantined, outcome.exit_code) == ((), ("plant-000001.tar.zst",), 7)
    reason = taken.path("isolated", "in") / "quarantine" / "plant-000001.tar.zst.reason.txt"
    assert BETA in reason.read_text()
    assert not read_sealed(max(taken.path("isolated", "out").iterdir())).receipt.complete
    # What the conflict is about can't be mended by sending it once more.
    taken.bring_back()
    assert taken.run("connected").message == "nothing new"
    assert taken.said(f"main holds other bytes under 1 of the names: {BETA}")
    # The next set does without that file: the conflict is none of its business.
    taken.index.release("beta", "2.0")
    taken.run("connected")
    taken.carry()
    assert taken.run("isolated").pushed == ("plant-000002",)


def test_a_conflict_may_be_left_alone_while_all_else_goes_on(taken: World) -> None:
    toml = taken.path("isolated", "airgap.toml")
    toml.write_text(toml.read_text() + 'on-conflict = "skip"\n')
    outcome = taken.run("isolated")
    assert (outcome.pushed, outcome.quarantined, outcome.exit_code) == (("plant-000001",), (), 7)
    assert outcome.message == "pushed 1, 1 of them in part"
    there = taken.repository(["alpha", "beta"])
    assert set(there) == {ALPHA, BETA}
    assert there[BETA] != taken.manifest(1).files_of("beta")[0].sha256
    reason = taken.path("isolated", "in") / "done" / "plant-000001.tar.zst.reason.txt"
    assert BETA in reason.read_text()
    assert taken.run("isolated").exit_code == 0
    taken.bring_back()
    assert taken.run("connected").unconfirmed == 1


def test_a_damaged_receipt_confirms_nothing(world: World) -> None:
    world.run("connected")
    world.carry()
    world.run("isolated")
    (path,) = world.bring_back()
    path.write_text(path.read_text().replace(ALPHA, "zlpha-1.0-py3-none-any.whl"))
    world.index.release("beta", "2.0")
    outcome = world.run("connected")
    assert outcome.quarantined == (path.name,)
    assert carried(world, 2) == [ALPHA, BETA_2]
    with pytest.raises(BundleError, match="seal"):
        read_sealed(world.path("connected", "in") / "quarantine" / path.name)


def test_a_receipt_that_is_nested_too_deeply_is_put_away(world: World) -> None:
    """Its seal is right: whoever carries media can make one."""
    world.run("connected")
    head = b'{"a":' * 100_000 + b'1,\n"seal": "'
    digest = hashlib.sha256(head + b"0" * 64 + b'"\n}\n').hexdigest()
    path = world.path("connected", "in") / "plant-main-000001.receipt.json"
    path.write_bytes(head + digest.encode() + b'"\n}\n')
    assert world.run("connected").quarantined == (path.name,)


def test_every_site_must_have_confirmed(tmp_path: Path) -> None:
    world = World(tmp_path, connected='sites = ["north", "south"]', isolated='site = "north"')
    world.index.release("alpha", "1.0")
    world.want("alpha\n")
    world.run("connected")
    world.carry()
    world.run("isolated")
    world.bring_back()
    world.index.release("beta", "1.0")
    world.want("alpha\nbeta\n")
    world.run("connected")
    assert carried(world, 2) == [ALPHA, BETA]  # the south has said nothing
    toml = world.path("isolated", "airgap.toml")
    toml.write_text(toml.read_text().replace("north", "south"))
    world.carry()
    world.run("isolated")
    toml.write_text(toml.read_text().replace("south", "west"))
    shutil.copy(world.bundle(1), world.path("isolated", "in"))
    world.run("isolated")
    world.bring_back()
    world.index.release("gamma", "1.0")
    world.want("alpha\nbeta\ngamma\n")
    outcome = world.run("connected")
    assert outcome.quarantined == ("plant-west-000003.receipt.json",)
    # north never confirmed beta, and does not have it
    assert carried(world, 3) == [BETA, "gamma-1.0-py3-none-any.whl"]


def test_receipts_count_in_the_order_in_which_they_were_written(world: World, tmp_path: Path) -> None:
    world.run("connected")
    world.carry()
    world.run("isolated")
    sealed = read_sealed(next(world.path("isolated", "out").iterdir()))
    document = json.loads(sealed.receipt.to_json())
    for file in document["files"]:
        file["state"] = "failed"
    older = SealedReceipt("plant", "main", 0, Receipt.from_json(json.dumps(document)))
    for order in ((older, sealed), (sealed, older), (sealed, older, sealed)):
        for kept in (False, True):
            site = new_site(tmp_path / str(order.index(older)) / str(len(order)) / str(kept), "main")
            for each in order:
                site.learn(each)
                if kept:
                    site.save()
            assert len(common({"main": site}, (), world.manifest(1).files, {}).carriers) == 2
            assert len(list(site.said())) == 2


@pytest.mark.parametrize(
    ("first", "second", "next_one"),
    [
        (("2035-01-01", 5), ("2026-01-02", 6), ("2026-01-03", 7)),  # the clock was fast
        (("2026-01-01", 5), ("2000-01-01", 6), ("2000-01-02", 7)),  # it has no battery
        (("2026-01-01", 57), ("2026-01-02", 1), ("2026-01-03", 2)),  # the state was lost, and with it the number
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_a_clock_or_a_number_that_went_back_hides_nothing(
    world: World,
    tmp_path: Path,
    first: tuple[str, int],
    second: tuple[str, int],
    next_one: tuple[str, int],
    there: bool,
) -> None:
    """What a site says after that counts no later than with its next receipt; until then nothing is left out."""
    world.run("connected")
    world.carry()
    world.run("isolated")
    document = json.loads(read_sealed(next(world.path("isolated", "out").iterdir())).receipt.to_json())
    site = new_site(tmp_path / "state", "main")
    confirmed = []
    for (day, serial), state in ((first, not there), (second, there), (next_one, there)):
        document["finished"] = f"{day}T00:00:00Z"
        for file in document["files"]:
            file["state"] = "present" if state else "failed"
        site.learn(SealedReceipt("plant", "main", serial, Receipt.from_json(json.dumps(document))))
        site.save()
        confirmed.append(len(common({"main": site}, (), world.manifest(1).files, {}).carriers))
    assert confirmed == [0 if there else 2, 0, 2 if there else 0]


def test_what_a_receipt_asks_for_is_not_forgotten_by_a_round_that_fails(world: World) -> None:
    world.run("connected")
    world.carry()
    world.run("isolated")
    sealed = read_sealed(next(world.path("isolated", "out").iterdir()))
    document = json.loads(sealed.receipt.to_json())
    document["files"][0]["state"] = "failed"
    asking = SealedReceipt("plant", "main", 2, Receipt.from_json(json.dumps(document)))
    path = world.path("connected", "in") / "plant-main-000002.receipt.json"
    path.write_bytes(asking.to_bytes())
    world.want("alpha>9\n")
    assert world.run("connected").exit_code == 3
    world.want("alpha\n")
    assert world.run("connected").message.endswith("a receipt says that files are missing")
    assert world.run("connected").message == "nothing new"


def test_jobs_may_share_an_inbox(world: World) -> None:
    world.run("connected")
    world.carry()
    world.run("isolated")
    sealed = read_sealed(next(world.path("isolated", "out").iterdir()))
    other = world.path("connected", "in") / "plant-b-main-000001.receipt.json"
    other.write_bytes(SealedReceipt("plant-b", "main", 1, sealed.receipt).to_bytes())
    world.path("isolated", "in").joinpath("plant-b-000001.tar.zst").write_bytes(b"another job's")
    assert world.run("connected").quarantined == ()
    assert world.run("isolated").quarantined == ()
    assert other.exists()
    world.index.release("beta", "2.0")
    world.run("connected")
    assert carried(world, 2) == [ALPHA, BETA_2]


def test_resend_after_rounds_without_a_receipt(tmp_path: Path) -> None:
    world = World(tmp_path, connected="resend-after = 2")
    world.index.release("alpha", "1.0")
    world.want("alpha\n")
    messages = [world.run("connected").message for _ in range(4)]
    assert messages[1] == messages[3] == "nothing new"
    assert messages[2].endswith("no receipt for 1 files after 2 rounds")


def test_a_set_that_no_longer_resolves(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.index.release("alpha", "1.0")
    world.want("alpha\n")
    world.run("connected")
    world.want("alpha>2\n")
    outcome = world.run("connected")
    assert outcome.exit_code == 3
    assert "alpha" in outcome.message
    toml = world.path("connected", "airgap.toml")
    toml.write_text(toml.read_text() + 'on-failure = "last-good"\n')
    outcome = world.run("connected")
    assert (outcome.exit_code, outcome.bundle) == (0, "")
    assert "last good set" in outcome.message


def test_one_at_a_time(world: World) -> None:
    code = (
        "import sys; from pathlib import Path; from mirror.sync.files import one_at_a_time\n"
        "with one_at_a_time(Path(sys.argv[1]), 'x'): print('held', flush=True); sys.stdin.read()"
    )
    lock = folder_of(world.config("connected"), "plant") / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=SOURCE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match="Another run of airgap sync plant is under way") as refused:
            world.run("connected")
        assert refused.value.exit_code == 8
        holder.kill()
    assert world.run("connected").exit_code == 0
    with one_at_a_time(lock, "x"):
        pass


def test_dry_run_changes_nothing(world: World) -> None:
    def everything() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for side in ("connected", "isolated")
            for path in sorted((world.folder / side).rglob("*"))
            if path.is_file() and "cache" not in path.parts and path.name != "lock"
        }

    before = everything()
    assert world.run("connected", dry_run=True).message == "would write plant-000001, a full bundle: the first one"
    assert everything() == before
    world.run("connected")
    world.carry()
    before = everything()
    looked = world.run("isolated", dry_run=True)
    assert (looked.exit_code, looked.message) == (0, "would push 1")
    assert world.said("carries 2 of 2 files; would push")
    assert everything() == before


def test_what_a_killed_run_left_is_no_obstacle(world: World) -> None:
    world.run("connected")
    state = folder_of(world.config("connected"), "plant") / "state.json"
    state.unlink()  # killed between the bundle and the state
    assert world.run("connected").bundle == "plant-000002"
    world.carry()
    assert world.run("isolated").pushed == ("plant-000001", "plant-000002")


def test_an_inbox_that_is_not_mounted(world: World) -> None:
    world.path("isolated", "in").rmdir()
    outcome = world.run("isolated")
    assert outcome.exit_code == 8
    assert "is not there" in outcome.message


@pytest.mark.parametrize("side", ["connected", "isolated"])
def test_an_outbox_that_is_not_mounted_is_not_made(world: World, side: str) -> None:
    world.run("connected")
    world.carry()
    shutil.rmtree(world.path(side, "out"))
    outcome = world.run(side)
    assert outcome.exit_code == 8
    assert f"{world.path(side, 'out')} is not there" in outcome.message
    assert not world.path(side, "out").exists()
    assert (world.path("isolated", "in") / "plant-000001.tar.zst").exists()
    assert world.repository(["alpha"]) == {}


def test_nothing_is_pushed_that_can_not_be_put_away(world: World) -> None:
    """Each round would push it once more, and leave one more receipt."""
    world.run("connected")
    world.carry()
    (world.path("isolated", "in") / "done").touch()
    outcome = world.run("isolated")
    assert outcome.exit_code == 8
    assert "done can't be written to" in outcome.message
    assert list(world.path("isolated", "out").iterdir()) == []
    assert world.repository(["alpha"]) == {}


def test_a_round_that_fails_leaves_no_bundle_that_nobody_knows(world: World) -> None:
    home = folder_of(world.config("connected"), "plant")
    home.mkdir(parents=True)
    (home / "manifests").touch()  # where the state can't be kept
    for _ in range(2):
        assert world.run("connected").exit_code == 8
    assert list(world.path("connected", "out").iterdir()) == []
    (home / "manifests").unlink()
    assert world.run("connected").bundle == "plant-000001"


def test_what_could_not_be_dropped_does_not_write_the_bundle_again(tmp_path: Path) -> None:
    world = World(tmp_path, connected="keep = 1")
    world.index.release("alpha", "1.0")
    world.want("alpha\n")
    world.run("connected")
    world.bundle(1).unlink()
    world.bundle(1).mkdir()
    world.index.release("alpha", "2.0")
    assert world.run("connected").exit_code == 8
    assert world.run("connected").message != ""
    assert sorted(path.name for path in world.path("connected", "out").glob("*.tar.zst")) == [
        "plant-000001.tar.zst",
        "plant-000002.tar.zst",
    ]


def test_what_killed_rounds_left_grows_old_too(tmp_path: Path) -> None:
    world = World(tmp_path, connected="keep = 2")
    world.index.release("alpha", "1.0")
    world.want("alpha\n")
    world.run("connected")
    (folder_of(world.config("connected"), "plant") / "state.json").unlink()  # killed between the bundle and the state
    for number in (2, 3):
        assert world.run("connected", full=True).bundle == f"plant-{number:06}"
    assert sorted(path.name for path in world.path("connected", "out").iterdir()) == [
        f"plant-00000{number}.{ending}" for number in (2, 3) for ending in ("tar.zst", "txt")
    ]


def test_a_damaged_status_is_written_anew(world: World) -> None:
    world.run("connected")
    folder = folder_of(world.config("connected"), "plant")
    (folder / "status.json").write_text("{")
    assert world.run("connected").exit_code == 0
    assert (read_status(folder) or {})["message"] == "nothing new"


@pytest.mark.parametrize("name", ["plant-000001 (1).tar.zst", "PLANT-000001.TAR.ZST", "bundle.tar.zst"])
def test_a_bundle_of_another_name_is_told(world: World, name: str) -> None:
    """As copying twice or Windows leaves it; other jobs' bundles, and copies under way, are nobody's concern."""
    world.run("connected")
    inbox = world.path("isolated", "in")
    shutil.copy(world.bundle(1), inbox / name)
    (inbox / "other-000001.tar.zst").touch()
    (inbox / ".plant-000001.tar.zst").touch()
    (inbox / "plant-000001.tar.zst.part").touch()
    outcome = world.run("isolated")
    assert (outcome.exit_code, outcome.message, outcome.pending) == (0, "1 of another name", (name,))
    assert world.said(f"{name} is left alone")
    (inbox / name).rename(inbox / "plant-000001.tar.zst")
    assert world.run("isolated").message == "pushed 1"


def test_a_receipt_of_another_name_is_told(world: World) -> None:
    world.run("connected")
    world.carry()
    world.run("isolated")
    (receipt,) = world.bring_back()
    renamed = receipt.rename(receipt.with_name("plant-main-000001.receipt (2).json"))
    assert world.run("connected").pending == (renamed.name,)
    assert world.said(f"{renamed.name} is left alone")
    renamed.rename(receipt)
    assert world.run("connected").pending == ()


@pytest.mark.skipif(sys.platform == "win32", reason="names what is too long as what is not there")
@pytest.mark.parametrize("side", ["connected", "isolated"])
def test_an_inbox_that_can_not_be_looked_into_is_in_the_status(world: World, side: str) -> None:
    """A name that is too long, where a test may run as root, who may look into every folder."""
    toml = world.folder / side / "airgap.toml"
    toml.write_text(toml.read_text().replace('inbox = "in"', f'inbox = "{"x" * 300}"'))
    outcome = world.run(side)
    assert outcome.exit_code == 8
    # From Python 3.14 on, what can't be looked at is no folder.
    assert ("is not there" if sys.version_info >= (3, 14) else "File name too long") in outcome.message
    status = read_status(folder_of(world.config(side), "plant"))
    assert status is not None
    assert status["message"] == outcome.message


def test_the_cache_is_kept_small_without_what_the_next_delta_needs(tmp_path: Path) -> None:
    world = World(tmp_path, connected='cache-size = "1B"')
    world.index.release("alpha", "1.0")
    world.want("alpha\n")
    world.run("connected")
    built = world.index.release("alpha", "2.0")
    world.run("connected")
    blobs = [path.name for path in (world.path("connected", "cache") / "files").glob("??/*")]
    assert blobs == [built.sha256]


@pytest.mark.parametrize("etag", [True, False])
def test_an_unchanged_index_is_asked_for_its_pages_and_nothing_else(world: World, etag: bool) -> None:
    """Conditionally where it can be; a page that has no tag comes again, but never a file or its metadata."""
    with Server() as server:
        for path in world.index.folder.rglob("index.json"):
            kind = "application/vnd.pypi.simple.v1+json"
            server.add(f"/simple/{path.parent.name}/", path.read_bytes(), content_type=kind, etag=etag)
        for path in (world.index.folder / "files").iterdir():
            server.add(f"/files/{path.name}", path.read_bytes(), etag=etag)
        world.index.url = f"{server.url}/simple/"
        assert world.run("connected").exit_code == 0
        first = len(server.requests)
        assert first == 4  # two pages, two wheels
        assert world.run("connected").message == "nothing new"
        again = server.requests[first:]
    assert sorted(request.path for request in again) == ["/simple/alpha/", "/simple/beta/"]
    assert all(("if-none-match" in request.headers) is etag for request in again)


def test_moving_replaces_nothing(tmp_path: Path) -> None:
    for expected in ("a.tar.zst", "a~2.tar.zst", "a~3.tar.zst"):
        (tmp_path / "a.tar.zst").write_text(expected)
        assert move(tmp_path / "a.tar.zst", tmp_path / "done").name == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("side = 'up'", "side must be"),
        ("side = 'connected'\noutbox = 'o'\nrequirements = ['r']", "targets is missing"),
        ("side = 'isolated'\noutbox = 'o'\ninbox = 'i'", "repo is missing"),
        ("side = 'isolated'\noutbox = 'o'\ninbox = 'i'\nrepo = 'r'\nfull-every = 3", "'full-every' is not a known key"),
        ("side = 'isolated'\noutbox = 'o'\ninbox = 'i'\nrepo = 'r'\nkeep = 0", "1 or more"),
        ("side = 'isolated'\noutbox = 'o'\ninbox = 'i'\nrepo = 'r'\nsite = '../x'", "name of a site"),
        ("side = 'isolated'\noutbox = 'o'\ninbox = 'i'\nrepo = 'r'\nsettle = '1'", "settle must be a whole number"),
        (
            "side = 'connected'\noutbox = 'o'\nrequirements = ['r']\ntargets = ['t']\non-failure = 'x'",
            'on-failure must be "stop" or "last-good"',
        ),
        ("side = 'isolated'\noutbox = 'o'\ninbox = 'i'\nrepo = 'r'\non-conflict = 'x'", "on-conflict must be"),
        ("side = 'connected'\noutbox = 'o'\nrequirements = 'r'\ntargets = ['t']", "requirements must be a list"),
    ],
)
def test_what_airgap_toml_may_not_say(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "airgap.toml"
    path.write_text(f"[sync.plant]\n{text}\n")
    with pytest.raises(ConfigError, match=message):
        read_syncs(path, home=str(tmp_path))


def test_the_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.folder / "connected")
    monkeypatch.setenv("AIRGAP_HOME", str(world.folder / "connected" / "home"))
    monkeypatch.setenv("AIRGAP_CACHE", str(world.folder / "connected" / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", world.index.url)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    run = CliRunner().invoke
    never = run(command, ["--status", "--max-age", "1"])
    assert never.exit_code == 1
    assert "never" in never.output
    first = run(command, ["plant", "--json"])
    assert first.exit_code == 0, first.output
    lines = [json.loads(line) for line in first.output.splitlines()]
    assert lines[-1]["result"]["bundle"] == "plant-000001"
    assert {line["sync"] for line in lines} == {"plant"}
    status = run(command, ["--status", "--json", "--max-age", "1"])
    assert status.exit_code == 0
    assert json.loads(status.output)[0]["exit_code"] == 0
    assert "wrote plant-000001" in run(command, ["--status"]).output
    with pytest.raises(ConfigError, match=r"no \[sync.other\]"):
        run(command, ["other"], catch_exceptions=False)
    path = folder_of(world.config("connected"), "plant") / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "last-success": "2099-01-01T00:00:00Z"}))
    assert run(command, ["--status", "--max-age", "1"]).exit_code == 1  # the clock was wrong then, or is now
    world.want("nothing-like-this\n")
    failed = run(command, ["-q"])
    assert failed.exit_code == 3
    assert failed.output.count("no index has a project nothing-like-this") == 1
    assert failed.output.endswith("(exit code 3)\n")
    assert run(command, ["--status"]).exit_code == 3
    assert TARGET in (world.folder / "connected" / "airgap.toml").read_text()
