"""scripts/describe_target.py on every interpreter at hand, and what airgap makes of descriptions."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import packaging
import pytest
from packaging.tags import sys_tags

import mirror
from mirror.cli.targets import in_full
from mirror.errors import UsageError
from mirror.targets import described_target, make_target, named_target, this_machine
from tests.index_support import airgap
from tests.interpreters import interpreters

SCRIPT = Path(mirror.__file__).with_name("describe_target.py")
# packaging where it runs; else the copy in pip, or what pip had before: with the rules of their day.
ASK = """
import json
try:
    from packaging.tags import sys_tags
    current, tags = True, [str(tag) for tag in sys_tags()]
except (ImportError, SyntaxError, TypeError):
    current = False
    try:
        from pip._vendor.packaging.tags import sys_tags
        tags = [str(tag) for tag in sys_tags()]
    except ImportError:
        from pip._internal.pep425tags import get_supported
        tags = ["-".join(tag) for tag in get_supported()]
print(json.dumps([current, tags]))
"""


def description(**changed: Any) -> dict[str, Any]:
    """What the script prints on a Linux machine, with *changed*."""
    document = {
        "airgap-target": 1,
        "implementation": "cp",
        "abis": ["cp312"],
        "platform": "linux-x86_64",
        "bits": 64,
        "macos": None,
        "glibc": "2.28",
        "musl": None,
        "markers": make_target("3.12.4", ["linux"]).environment,
    }
    return {**document, **changed}


def markers(python: str, platform: str, **changed: str) -> dict[str, str]:
    return {**make_target(python, [platform]).environment, **changed}


@pytest.mark.parametrize("interpreter", list(interpreters()), ids=lambda path: "-".join(Path(path).parts[-3:]))
def test_every_interpreter_is_described_as_it_is(interpreter: str, tmp_path: Path) -> None:
    printed = subprocess.run([interpreter, "-I", SCRIPT], capture_output=True, text=True, check=True).stdout
    target = described_target(json.loads(printed), "x")
    packages = {"PYTHONPATH": str(Path(packaging.__file__).parents[1])}
    for environment in ({**os.environ, **packages}, dict(os.environ)):
        asked = subprocess.run([interpreter, "-c", ASK], capture_output=True, text=True, check=False, env=environment)
        if asked.returncode == 0:
            break
    else:
        pytest.skip("neither packaging nor a pip with it runs there")
    current, theirs = json.loads(asked.stdout)
    if current:
        assert set(target.tags) == set(theirs)
    theirs = [tag for tag in theirs if not tag.startswith("cp3-")]  # pip had these before there was abi3
    assert set(theirs) <= set(target.tags)

    def ordered(tags: Any) -> list[str]:  # packaging has changed its mind about where plain linux stands
        return [tag for tag in tags if "-linux_" not in tag and tag in theirs]

    assert ordered(target.tags) == ordered(theirs)
    version = subprocess.run(
        [interpreter, "-c", "import platform; print(platform.python_version())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert target.python == version.strip().removesuffix("+")


def test_the_command_line_hands_the_script_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert airgap("targets", "--describe-script", "describe.py").code == 0
    assert (tmp_path / "describe.py").read_bytes() == SCRIPT.read_bytes()
    printed = airgap("targets", "--describe-script", "-")
    assert (printed.code, printed.out) == (0, SCRIPT.read_text("utf-8"))


def test_this_machine_described_is_this_machine() -> None:
    printed = subprocess.run([sys.executable, "-I", SCRIPT], capture_output=True, text=True, check=True).stdout
    target = described_target(json.loads(printed), "x")
    assert (target.name, target.markers) == (this_machine().name, this_machine().markers)
    assert set(target.tags) == set(map(str, sys_tags()))


@pytest.mark.parametrize(
    ("changed", "name", "same_as"),
    [
        ({}, "cp312.4-manylinux_2_28_x86_64", "cp312.4-linux"),
        ({"glibc": None, "musl": "1.2"}, "cp312.4-musllinux_1_2_x86_64", None),
        ({"glibc": None}, "cp312.4-linux_x86_64", None),
        ({"bits": 32}, "cp312.4-manylinux_2_28_i686", None),
        ({"platform": "linux-aarch64", "bits": 32}, "cp312.4-manylinux_2_28_armv7l", None),
        (
            {"platform": "win-amd64", "glibc": None, "markers": markers("3.12", "windows")},
            "cp312-win_amd64",
            "cp312-win_amd64",
        ),
        (
            {"platform": "win-arm64", "glibc": None, "markers": markers("3.12.1", "windows-arm64")},
            "cp312.1-win_arm64",
            "cp312.1-win_arm64",
        ),
        (
            {"platform": "arm64", "macos": "15.6.1", "glibc": None, "markers": markers("3.12", "macosx_15_6_arm64")},
            "cp312-macosx_15_6_arm64",
            "cp312-macosx_15_6_arm64",
        ),
        (
            {
                "platform": "x86_64",
                "macos": "10.15.7",
                "glibc": None,
                "markers": markers("3.12", "macosx_10_15_x86_64"),
            },
            "cp312-macosx_10_15_x86_64",
            "cp312-macosx_10_15_x86_64",
        ),
        (
            {"abis": ["cp313t"], "markers": markers("3.13.2t", "linux")},
            "cp313.2t-manylinux_2_28_x86_64",
            "cp313.2t-linux",
        ),
        (
            {"markers": markers("3.14.0rc1", "linux", python_full_version="3.14.0rc1+"), "abis": ["cp314"]},
            "cp314.0rc1-manylinux_2_28_x86_64",
            "cp314.0rc1-linux",
        ),
        (
            {
                "implementation": "pp",
                "abis": ["pypy310_pp73"],
                "markers": markers("3.10.14", "linux", implementation_name="pypy"),
            },
            "pp310.14-manylinux_2_28_x86_64",
            "pp310.14-linux",
        ),
    ],
)
def test_other_machines(changed: dict[str, Any], name: str, same_as: str | None) -> None:
    target = described_target(description(**changed), "machine.json")
    assert target.name == name
    if same_as is not None:
        assert target.tags == named_target(same_as).tags
    assert dict(target.markers).keys() == this_machine().environment.keys()


def test_a_debug_build_takes_ordinary_wheels_too() -> None:
    tags = described_target(description(abis=["cp312d", "cp312"]), "x").tags
    assert tags[0].startswith("cp312-cp312d-")
    assert "cp312-cp312-manylinux_2_28_x86_64" in tags


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "airgap-target is not a number"),
        ({}, "airgap-target is not a number"),
        (description(**{"airgap-target": 2}), "format is not known"),
        (description(markers={}), "markers are not all there"),
        (description(markers=None), "markers are not all there"),
        (description(abis=[]), "abis is not a list of texts"),
        (description(platform=7), "platform is not a text"),
        (description(bits="64"), "bits is not a number"),
        (description(glibc=7), "glibc is not a text"),
        (description(platform="linux-vax"), "not a platform"),
        (description(implementation="gp"), "not an implementation"),
        (description(markers={**description()["markers"], "python_full_version": "x"}), "not a Python version"),
    ],
)
def test_descriptions_that_cannot_be_used(document: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        described_target(document, "machine.json")


def test_musl_is_asked_through_its_loader(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("describe_target", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.musl(str(tmp_path / "ld-musl-*")) is None
    loader = tmp_path / "ld-musl-x86_64.so.1"
    loader.write_text(
        '#!/bin/sh\nprintf "musl libc (x86_64)\\nVersion 1.2.4_git20230717\\nDynamic Program Loader\\n" >&2\nexit 1\n'
    )
    loader.chmod(0o755)
    assert script.musl(str(tmp_path / "ld-musl-*")) == "1.2"


def test_in_full_has_every_tag_in_order() -> None:
    target = make_target("3.12", ["linux"])
    text = "\n".join(in_full(target)).replace("\n        ", " ")
    found: list[str] = []
    for line in text.splitlines():
        kind, brace, platforms = line.strip().partition("{")
        if line.startswith("    ") and "-" in kind and "'" not in line:
            found += [f"{kind}{one}" for one in platforms.rstrip("}").split(", ")] if brace else [kind]
    assert tuple(found) == target.tags
