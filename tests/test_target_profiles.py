"""Which machines a command is about: names, profiles of airgap.toml, descriptions, pip's options."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mirror.config import load
from mirror.errors import ConfigError, UsageError
from mirror.models import Target
from mirror.ops.machines import machines
from mirror.targets import make_target, this_machine
from tests.index_support import airgap, warehouse
from tests.test_describe_target import description
from tests.wheelhouse import make_wheel


def chosen(folder: Path, toml: str = "", **options: object) -> list[Target]:
    (folder / "airgap.toml").write_text(toml)
    config = load(environ={"HOME": str(folder), "PIP_CONFIG_FILE": os.devnull}, cwd=folder)
    return list(machines(config, **options))  # type: ignore[arg-type]


TOML = """
[targets.web]
python = "3.12.4"
platform = "manylinux_2_28_x86_64"

[targets.either]
python = "3.11"
platform = ["manylinux_2_17_x86_64", "musllinux_1_2_x86_64"]

[targets.jit]
python = "3.10"
platform = "windows"
implementation = "pp"

[targets.old]
python = "3.12"
platform = "macos"
abi = "abi3"

[targets."db-1"]
file = "machines/db.json"
"""


@pytest.mark.parametrize("pair", [("a.b", "a_b"), ("web", "Web")])
def test_names_that_are_one_name_of_a_file(tmp_path: Path, pair: tuple[str, str]) -> None:
    toml = "".join(f'[targets."{name}"]\npython = "3.12"\nplatform = "linux"\n' for name in pair)
    with pytest.raises(UsageError, match=rf"{pair[0]} and {pair[1]} have names that are too much alike"):
        chosen(tmp_path, toml, names=pair)


def test_profiles(tmp_path: Path) -> None:
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "db.json").write_text(json.dumps(description()), encoding="utf-16")
    names = ["web", "either", "jit", "old", "db-1"]
    web, either, jit, old, db = chosen(tmp_path, TOML, names=names)
    assert [target.name for target in (web, either, jit, old, db)] == names
    assert web.tags == make_target("3.12.4", ["manylinux_2_28_x86_64"]).tags
    assert web.python == "3.12.4"
    assert {"cp311-cp311-musllinux_1_2_x86_64", "cp311-cp311-manylinux1_x86_64"} <= set(either.tags)
    assert jit.environment["platform_python_implementation"] == "PyPy"
    assert old.tags[0].startswith("cp312-abi3-macosx_14_0")
    assert db.environment == description()["markers"]


def test_everything_at_once_and_nothing(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(description()))
    found = chosen(
        tmp_path, TOML, names=["this", "web", "cp310.2-windows"], files=[path], pythons=["3.13t"], platforms=["macos"]
    )
    assert [target.name for target in found] == [
        this_machine().name,
        "web",
        "cp310.2-win_amd64",
        "cp312.4-manylinux_2_28_x86_64",
        "cp313t-macosx_14_0_arm64",
    ]
    assert chosen(tmp_path) == [this_machine()]
    (pypy,) = chosen(tmp_path, pythons=["3.10"], platforms=["linux"], implementation="pp")
    assert pypy.name == "pp310-manylinux_2_28_x86_64"


def test_two_patch_versions_are_two_targets(tmp_path: Path) -> None:
    found = chosen(tmp_path, pythons=["3.12.4", "3.12.7", "3.12.4"], platforms=["linux"])
    assert [(target.name, target.python) for target in found] == [
        ("cp312.4-manylinux_2_28_x86_64", "3.12.4"),
        ("cp312.7-manylinux_2_28_x86_64", "3.12.7"),
    ]


def test_one_name_for_two_machines_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Two different targets are called cp312-win_amd64"):
        chosen(tmp_path, names=["cp312-windows"], pythons=["3.12"], platforms=["windows"], abis=["abi3"])


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("targets = 1", "tables like"),
        ("[targets]\nweb = 1", "must be a table"),
        ("[targets.web]", "neither python nor file"),
        ("[targets.web]\nplatfrom = 'linux'", "nearest is 'platform'"),
        ("[targets.web]\npython = 3.12", "python must be a text"),
        ("[targets.web]\npython = '3.12'\nplatform = [1]", "platform must be a text, or a list"),
        ("[targets.web]\npython = '3.12'\nfile = 'x'", "nothing else may stand beside it"),
        ("[targets.this]\npython = '3.12'", "meaning of its own"),
        ("[targets.cp312-web]\npython = '3.12'", "meaning of its own"),
        ("[targets.'a/b']\npython = '3.12'", "letters, digits"),
    ],
)
def test_profiles_that_cannot_be_read(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chosen(tmp_path, toml)


@pytest.mark.parametrize(
    ("toml", "name", "message"),
    [
        ("[targets.web]\npython = 'new'", "web", r"\[targets\.web\]: 'new' is not a Python version"),
        ("[targets.web]\npython = '3.12'\nplatform = 'amiga'", "web", "'amiga' is not a platform"),
        ("[targets.web]\nfile = 'gone.json'", "web", r"gone\.json can't be read"),
        ("[targets.web]\nfile = 'airgap.toml'", "web", "is not JSON"),
        ("[targets.web]\npython = '3.12'", "wbe", "'wbe' is not the name of a target"),
    ],
)
def test_targets_that_cannot_be_used(tmp_path: Path, toml: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(tmp_path, toml, names=[name])


def test_the_command_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "airgap.toml").write_text("[targets.web]\npython = '3.12.4'\nplatform = 'windows'\n")
    monkeypatch.chdir(tmp_path)
    listed = airgap("targets").out.splitlines()
    assert [line.split()[0] for line in listed] == [this_machine().name, "web"]
    assert "python_full_version             '3.12.4'" in airgap("targets", "web").out
    (shown,) = airgap("targets", "web", "--json").document["targets"]
    web = make_target("3.12.4", ["windows"])
    assert shown == {"name": "web", "tags": list(web.tags), "markers": web.environment}
    assert airgap("targets", "--python-version", "nonsense").code == 2


def test_pack_for_profiles_and_descriptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "airgap.toml").write_text("[targets.web]\npython = '3.12.4'\nplatform = 'windows'\n")
    (tmp_path / "machine.json").write_text(json.dumps(description()))
    (tmp_path / "requirements.txt").write_text("app\nextra; sys_platform == 'win32'\n")
    monkeypatch.chdir(tmp_path)
    with warehouse() as stock:
        for project in ("app", "extra"):
            stock.publish(make_wheel(project))
        command = ["pack", "requirements.txt", "-i", stock.url(), "--json", "--dry-run"]
        document = airgap(*command, "--target", "web", "--target-file", "machine.json").document
    assert {name: list(target["pins"]) for name, target in document["targets"].items()} == {
        "web": ["app", "extra"],
        "cp312.4-manylinux_2_28_x86_64": ["app"],
    }
