"""``airgap verify --install``: installers find what is missing, say what they can't judge, and run nothing unasked."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from packaging.version import Version

from mirror.bundle import BundleReader, write_bundle
from mirror.bundle.content import as_delta, prepare
from mirror.errors import IncompleteError
from mirror.models import Target
from mirror.ops.building import Building
from mirror.ops.install import Check, check_install, find_interpreters
from mirror.ops.pack import pack
from mirror.store import Store
from mirror.targets import make_target, this_machine
from tests.build_support import backend, config, leaving_traces, plain, run, wanted, wheelhouse
from tests.bundle_support import Wanted, make_content, since
from tests.wheelhouse import make_wheel

HOST = this_machine()
REAL_PATH = os.environ["PATH"]


def by_installer(checks: tuple[Check, ...]) -> dict[tuple[str, str], Check]:
    return {(check.target, check.installer.partition(" ")[0]): check for check in checks}


def checked(bundle: Path, *allowed: str) -> tuple[Check, ...]:
    with BundleReader(bundle) as reader:
        return check_install(reader, frozenset(allowed))


@pytest.fixture(autouse=True)
def only_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else is on PATH differs from machine to machine."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))


def incomplete(folder: Path) -> Path:
    """A bundle, whole by its digests, whose only wheel requires what is not in it."""
    store = Store(folder / "store")
    content = make_content(store, [Wanted(make_wheel("alpha", requires=["beta"]), [HOST.name])], targets=[HOST])
    return write_bundle(folder / "bundle.tar.zst", content, store).path


def test_installers_at_hand_install_every_target_that_they_can_act_for(tmp_path: Path) -> None:
    links = wheelhouse(
        tmp_path / "links", [make_wheel("alpha", requires=["beta; sys_platform == 'win32'"]), make_wheel("beta")]
    )
    windows, unknown = make_target("3.11", ["win_amd64"]), make_target("3.10", ["linux_ppc64le"])
    pack(wanted("alpha", find_links=links), (HOST, windows, unknown), tmp_path / "b.tar.zst", config(tmp_path))
    found = by_installer(checked(tmp_path / "b.tar.zst"))
    assert found[HOST.name, "pip"].outcome == "installs"
    assert found[HOST.name, "uv"].outcome == "installs"
    assert found[windows.name, "uv"].outcome == "installs"
    assert found[windows.name, "pip"].reason == "there is no cpython 3.11 with pip here, on win32 AMD64"
    assert found[unknown.name, "uv"].outcome == "unchecked"


@pytest.mark.parametrize(("glibc", "outcome"), [(17, "installs"), (99, "unchecked")])
def test_a_glibc_that_uv_does_not_know_is_taken_for_an_older_one(tmp_path: Path, glibc: int, outcome: str) -> None:
    target = make_target("3.11", ["manylinux_2_99_x86_64"])
    links = wheelhouse(tmp_path / "links", [make_wheel("alpha", tag=f"py3-none-manylinux_2_{glibc}_x86_64")])
    pack(wanted("alpha", find_links=links), (target,), tmp_path / "b.tar.zst", config(tmp_path))
    assert by_installer(checked(tmp_path / "b.tar.zst"))[target.name, "uv"].outcome == outcome


def test_a_hole_is_found_by_each_installer_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = incomplete(tmp_path)
    with pytest.raises(IncompleteError, match="beta") as caught:
        run("verify", bundle, "--install", "--json")
    assert caught.value.missing == (HOST.name, HOST.name)
    document = json.loads(capsys.readouterr().out)
    assert [(check["target"], check["outcome"]) for check in document["install"]] == [(HOST.name, "fails")] * 2


def test_without_the_option_only_digests_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("verify", incomplete(tmp_path), "--json")
    assert "install" not in json.loads(capsys.readouterr().out)


def test_sdists_are_built_only_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace"
    links = wheelhouse(tmp_path / "links", [*backend(), leaving_traces("careful", trace)])
    pack(wanted("careful", find_links=links), (HOST,), tmp_path / "b.tar.zst", config(tmp_path))
    run("verify", tmp_path / "b.tar.zst", "--install")
    assert "--allow-build careful allows it" in capsys.readouterr().err
    assert not trace.exists()
    found = by_installer(checked(tmp_path / "b.tar.zst", "careful"))
    assert found[HOST.name, "pip"].outcome == "installs"
    assert trace.exists()


def test_a_wheel_that_this_machine_does_not_take_is_not_called_a_failure(tmp_path: Path) -> None:
    newer = Target("newer", ("py3-none-newer", *HOST.tags), HOST.markers)
    links = wheelhouse(tmp_path / "links", [make_wheel("alpha", tag="py3-none-newer")])
    pack(wanted("alpha", find_links=links), (newer,), tmp_path / "b.tar.zst", config(tmp_path), building=Building())
    [check] = [check for check in checked(tmp_path / "b.tar.zst") if check.installer.startswith("pip")]
    assert check.outcome == "unchecked"
    assert "alpha-1.0-py3-none-newer.whl" in check.reason


def test_a_delta_can_not_be_judged_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    prepared = prepare(make_content(store, [Wanted(make_wheel("alpha"), [HOST.name])], targets=[HOST]))
    delta = as_delta(prepared, since(prepared.manifest, "earlier"))
    [check] = checked(write_bundle(tmp_path / "delta.tar.zst", delta, store).path)
    assert check.outcome == "unchecked"
    assert "delta" in check.reason


def test_every_pip_at_hand_builds_and_installs_with_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", REAL_PATH)
    found = {interpreter.markers["python_version"]: interpreter for interpreter in find_interpreters()}
    targets = tuple(
        Target(f"python-{version.replace('.', '-')}", each.tags, tuple(sorted(each.markers.items())))
        for version, each in found.items()
        if each.markers["implementation_name"] == "cpython" and Version(version) >= Version("3.9")
    )
    built = [plain("by-hand", requires=["pure"]), make_wheel("pure"), *backend()]
    links = wheelhouse(tmp_path / "links", built)
    hashes = {each.filename.split("-")[0].replace("_", "-"): each.sha256 for each in built}
    lines = wanted(*(f"{name}==1.0" for name in hashes), find_links=links, hashes=hashes)
    pack(lines, targets, tmp_path / "b.tar.zst", config(tmp_path))
    checks = by_installer(checked(tmp_path / "b.tar.zst", "by-hand"))
    assert {target.name: checks[target.name, "pip"].outcome for target in targets} == {
        target.name: "installs" for target in targets
    }
