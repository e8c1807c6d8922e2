"""What [sync.NAME] says about packing is what the options of airgap pack of the same names say."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.bundle import BundleReader
from mirror.bundle.manifest import Manifest
from mirror.config.sync import read_syncs
from mirror.errors import ConfigError
from tests.build_support import backend, secretive
from tests.sync_support import World
from tests.wheelhouse import make_wheel

CONNECTED = "side = 'connected'\noutbox = 'o'\nrequirements = ['r']\ntargets = ['t']"


def round_of(world: World) -> Manifest:
    outcome = world.run("connected")
    assert outcome.exit_code == 0, outcome.message
    with BundleReader(world.folder / "connected" / "out" / f"{outcome.bundle}.tar.zst") as reader:
        return reader.manifest


def test_own_packages_and_builds_go_along(tmp_path: Path) -> None:
    pytest.importorskip("pyproject_hooks")
    world = World(tmp_path, connected='include = ["dist/*.whl", "dist/*.gz"]\nallow-build = ["Dynamic"]')
    world.index.release("pure", "1.0")
    dist = tmp_path / "connected" / "dist"
    for each in (secretive("dynamic", requires=["pure"]), make_wheel("own", requires=["dynamic"]), *backend()):
        each.save(dist)
    world.want("")
    assert {file.project for file in round_of(world).files} == {
        "dynamic", "own", "pure", "tiny-backend", "tiny-helper",
    }  # fmt: skip


def test_extras_and_groups_of_a_project(tmp_path: Path) -> None:
    world = World(tmp_path, connected='extras = ["web"]\ngroups = ["prod"]')
    toml = tmp_path / "connected" / "airgap.toml"
    toml.write_text(toml.read_text().replace("*.in", "pyproject.toml"))
    (tmp_path / "connected" / "pyproject.toml").write_text(
        "[project]\nname = 'p'\nversion = '1'\ndependencies = ['base']\n[project.optional-dependencies]\n"
        "web = ['alpha']\nother = ['beta']\n[dependency-groups]\nprod = ['gamma']\n"
    )
    for name in ("base", "alpha", "beta", "gamma"):
        world.index.release(name, "1.0")
    assert sorted(file.project for file in round_of(world).files) == ["alpha", "base", "gamma"]


def test_which_versions_may_be_chosen(tmp_path: Path) -> None:
    connected = 'exclude-newer = "7d"\nexclude-newer-missing = "allow"\npre-for = ["Beta"]'
    world = World(tmp_path, connected=connected)
    for name in ("alpha", "beta"):
        world.index.release(name, "1.0")
        world.index.release(name, "2.0rc1")
    world.want("alpha\nbeta\n")
    assert {file.project: file.version for file in round_of(world).files} == {"alpha": "1.0", "beta": "2.0rc1"}


def test_an_index_without_times_fails_the_round(tmp_path: Path) -> None:
    world = World(tmp_path, connected='exclude-newer = "7d"')
    world.index.release("alpha", "1.0")
    world.want("alpha\n")
    assert (outcome := world.run("connected")).exit_code == 3
    assert "shows no upload time" in outcome.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("with-sdists = 'yes'", "with-sdists must be true or false"),
        ("exclude-newer-missing = 'x'", "exclude-newer-missing must be"),
        ("allow-build = 'x'", "allow-build must be a list of texts"),
        ("pre = true", "'pre' is not a known key"),
    ],
)
def test_what_can_not_be_read(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "airgap.toml"
    path.write_text(f"[sync.plant]\n{CONNECTED}\n{text}\n")
    with pytest.raises(ConfigError, match=message):
        read_syncs(path, home=str(tmp_path))


def test_a_date_that_is_none(tmp_path: Path) -> None:
    world = World(tmp_path, connected='exclude-newer = "soon"')
    world.want("alpha\n")
    outcome = world.run("connected")
    assert outcome.exit_code == 2
    assert "[sync.plant]: --exclude-newer: 'soon' is neither" in outcome.message
