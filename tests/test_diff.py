"""What ``airgap diff`` says about two bundles."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mirror.bundle import Manifest, as_delta, prepare, write_bundle
from mirror.cli.diff import diff as command
from mirror.ops.diff import diff
from mirror.store import Store
from tests.bundle_support import Wanted, make_content, since, target
from tests.wheelhouse import make_wheel

ALPHA, BETA, BETA_2, GAMMA = make_wheel("alpha"), make_wheel("beta"), make_wheel("beta", "2.0"), make_wheel("gamma")
OTHER = make_wheel("alpha", requires_python=">=3.8")


def manifest(store: Store, *wanted: Wanted, names: tuple[str, ...] = ("cp312-linux",)) -> Manifest:
    return prepare(make_content(store, wanted, targets=[target(name) for name in names])).manifest


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_added_changed_removed_by_project_and_target(store: Store) -> None:
    old = manifest(store, Wanted(ALPHA), Wanted(BETA))
    new = manifest(store, Wanted(BETA_2), Wanted(GAMMA))
    found = diff(old, new)
    assert [(change.kind, change.project) for change in found.projects] == [
        ("removed", "alpha"),
        ("changed", "beta"),
        ("added", "gamma"),
    ]
    assert [(target.name, target.pins) for target in found.targets] == [
        ("cp312-linux", (("alpha", "1.0", ""), ("beta", "1.0", "2.0"), ("gamma", "", "1.0")))
    ]
    assert sum(change.added_size for change in found.projects) == len(BETA_2.data) + len(GAMMA.data)
    assert sum(change.removed_size for change in found.projects) == len(ALPHA.data) + len(BETA.data)


def test_another_target_and_other_bytes(store: Store) -> None:
    old = manifest(store, Wanted(ALPHA))
    new = manifest(store, Wanted(OTHER, ("a", "cp312-linux")), names=("a", "cp312-linux"))
    found = diff(old, new)
    assert [file.sha256 for file in found.projects[0].replaced] == [OTHER.sha256]
    assert [(target.name, target.kind) for target in found.targets] == [("a", "added")]


def test_a_delta_differs_by_what_it_names_not_by_what_it_carries(store: Store) -> None:
    prepared = prepare(make_content(store, [Wanted(ALPHA), Wanted(BETA)]))
    assert not diff(prepared.manifest, as_delta(prepared, since(prepared.manifest)).manifest)


@pytest.mark.skipif(sys.platform == "win32", reason="closes no streams by a shell")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(tmp_path: Path, store: Store, closed: str) -> None:
    write_bundle(tmp_path / "b", make_content(store, [Wanted(BETA)]), store)
    repository = (tmp_path / "index").as_uri()
    command = [sys.executable, "-m", "mirror", "push", str(tmp_path / "b"), "--repo", repository, "--json", "--yes"]
    airgap = shlex.join(command)
    assert subprocess.run(f"{airgap} {closed}", check=False, shell=True).returncode == 0  # noqa: S602 - to close them
    assert (tmp_path / "index" / "packages" / BETA.filename).is_file()


def test_an_arrow_is_no_obstacle_where_the_code_page_has_none(tmp_path: Path, store: Store) -> None:
    """Into a file or a pipe, Python writes the code page of Windows."""
    for name, wanted in (("old", BETA), ("new", BETA_2)):
        write_bundle(tmp_path / name, make_content(store, [Wanted(wanted)]), store)
    command_line = [sys.executable, "-m", "mirror", "diff", str(tmp_path / "old"), str(tmp_path / "new")]
    ran = subprocess.run(
        command_line, check=False, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "cp1252"}
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"beta  1.0 \\u2192 2.0" in ran.stdout


def test_the_command(tmp_path: Path, store: Store) -> None:
    old, new = tmp_path / "old.tar.zst", tmp_path / "new.json"
    write_bundle(old, make_content(store, [Wanted(ALPHA), Wanted(BETA)]), store)
    new.write_bytes(manifest(store, Wanted(OTHER), Wanted(BETA_2)).to_bytes())
    shown = CliRunner().invoke(command, [str(old), str(new)])
    assert shown.exit_code == 0
    assert "~  beta   1.0 → 2.0" in shown.output
    assert f"! {OTHER.filename} has other bytes now" in shown.output
    assert "0 added, 2 changed, 0 removed" in shown.output
    document = json.loads(CliRunner().invoke(command, [str(old), str(new), "--json"]).output)
    assert document["targets"] == [
        {"target": "cp312-linux", "change": "changed", "pins": {"beta": {"old": "1.0", "new": "2.0"}}}
    ]
    assert CliRunner().invoke(command, [str(old), str(old)]).output == "Nothing differs.\n"
