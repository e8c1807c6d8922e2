from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import packaging
import pytest
from packaging.markers import Marker, default_environment
from packaging.tags import sys_tags

from mirror.errors import UsageError
from mirror.models import Target
from mirror.targets import Ranks, make_target, named_target, product, this_machine

INTERPRETERS = sorted(
    {path for minor in range(9, 16) if (path := shutil.which(f"python3.{minor}")) is not None} | {sys.executable}
)
ASK = """
import json, packaging.tags, packaging.markers
print(json.dumps([[str(tag) for tag in packaging.tags.sys_tags()], packaging.markers.default_environment()]))
"""


def platforms(target: Target) -> list[str]:
    return list(dict.fromkeys(tag.split("-")[2] for tag in target.tags))


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("linux", "manylinux_2_28_x86_64"),
        ("linux-aarch64", "manylinux_2_28_aarch64"),
        ("linux-arm64", "manylinux_2_28_aarch64"),
        ("windows", "win_amd64"),
        ("windows-arm64", "win_arm64"),
        ("macos", "macosx_14_0_arm64"),
        ("macos-arm64", "macosx_14_0_arm64"),
        ("macos-aarch64", "macosx_14_0_arm64"),
        ("macos-x86_64", "macosx_13_0_x86_64"),
        ("x86_64-unknown-linux-gnu", "manylinux_2_28_x86_64"),
        ("aarch64-unknown-linux-gnu", "manylinux_2_28_aarch64"),
        ("x86_64-unknown-linux-musl", "musllinux_1_2_x86_64"),
        ("riscv64-unknown-linux", "manylinux_2_39_riscv64"),
        ("x86_64-manylinux_2_34", "manylinux_2_34_x86_64"),
        ("aarch64-manylinux2014", "manylinux2014_aarch64"),
        ("aarch64-apple-darwin", "macosx_14_0_arm64"),
        ("x86_64-apple-darwin", "macosx_13_0_x86_64"),
        ("x86_64-pc-windows-msvc", "win_amd64"),
        ("aarch64-pc-windows-msvc", "win_arm64"),
        ("i686-pc-windows-msvc", "win32"),
        ("win-amd64", "win_amd64"),
        ("macosx-11.0-arm64", "macosx_11_0_arm64"),
        ("manylinux_2_28_x86_64", "manylinux_2_28_x86_64"),
        ("musllinux_1_1_aarch64", "musllinux_1_1_aarch64"),
        ("linux_x86_64", "linux_x86_64"),
    ],
)
def test_every_spelling_of_a_platform(spelled: str, name: str) -> None:
    assert make_target("3.12", [spelled]).name == f"cp312-{name}"


def test_manylinux_takes_every_older_glibc_and_the_old_names() -> None:
    found = platforms(make_target("3.12", ["manylinux_2_28_x86_64"]))
    assert found[0] == "manylinux_2_28_x86_64"
    assert found[-2:] == ["linux_x86_64", "any"]
    assert {f"manylinux_2_{minor}_x86_64" for minor in range(5, 29)} < set(found)
    assert {"manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"} < set(found)
    assert "manylinux_2_29_x86_64" not in found
    assert not any("musl" in platform for platform in found)


def test_manylinux_on_arm_begins_with_2_17() -> None:
    found = platforms(make_target("3.12", ["manylinux2014_aarch64"]))
    assert found == ["manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64", "any"]


def test_musllinux_takes_every_older_one() -> None:
    found = platforms(make_target("3.12", ["musllinux_1_2_x86_64"]))
    assert found == [*(f"musllinux_1_{minor}_x86_64" for minor in (2, 1, 0)), "linux_x86_64", "any"]


def test_macos_takes_every_older_release_and_fat_wheels() -> None:
    arm, intel = make_target("3.12", ["macosx_14_0_arm64"]), make_target("3.12", ["macosx_13_0_x86_64"])
    assert {"macosx_11_0_arm64", "macosx_11_0_universal2", "macosx_10_9_universal2"} < set(platforms(arm))
    assert "macosx_10_9_x86_64" not in platforms(arm)
    assert {"macosx_10_9_x86_64", "macosx_10_9_intel", "macosx_11_0_universal2"} < set(platforms(intel))
    assert "macosx_15_0_arm64" not in platforms(arm)


def test_abi3_and_free_threading() -> None:
    usual, threads = make_target("3.13", ["windows"]), make_target("3.13t", ["windows"])
    assert "cp38-abi3-win_amd64" in usual.tags
    assert (threads.name, threads.tags[0]) == ("cp313t-win_amd64", "cp313-cp313t-win_amd64")
    assert not any("-abi3-" in tag for tag in threads.tags)
    assert make_target("3.13", ["windows"], abis=["cp313t"]) == threads
    assert make_target("3.7", ["windows"]).tags[0] == "cp37-cp37m-win_amd64"


def test_pypy() -> None:
    target = make_target("3.10", ["macosx_11_0_arm64"], implementation="pp")
    assert (target.name, target.tags[0]) == ("pp310-macosx_11_0_arm64", "pp310-pypy310_pp73-macosx_11_0_arm64")
    assert {"pp3-none-any", "py3-none-any"} < set(target.tags)
    assert not any(tag.startswith("cp") for tag in target.tags)
    assert target.environment["platform_python_implementation"] == "PyPy"


def test_any_implementation_takes_no_compiled_wheels() -> None:
    assert {tag.split("-")[1] for tag in make_target("3.12", ["linux"], implementation="py").tags} == {"none"}


def test_versions() -> None:
    assert make_target("3.12", ["linux"]).python == "3.12.0"
    assert make_target("3.12.4", ["linux"]).python == "3.12.4"
    assert make_target("312", ["linux"]) == make_target("3.12", ["linux"])
    assert make_target("3.15.0b1", ["linux"]).python == "3.15.0b1"


@pytest.mark.parametrize("python", ["", "3", "three", "3.x", "3.12.4.5", "3.12t", "-3.12", "3.12 "])
def test_what_is_no_python(python: str) -> None:
    with pytest.raises(UsageError):
        make_target(python, ["linux"])


@pytest.mark.parametrize(
    "platform",
    ["", "solaris", "manylinux_2_28", "manylinux_2_28_m68k", "manylinux_2_4_x86_64", "manylinux1_aarch64", "any",
     "manylinux_2_99999999999_x86_64", "macosx_11_0_universal2", "macosx_12_arm64", "windows-s390x", "macos-ppc64",
     "macosx_09_0_arm64", "aarch64-linux-android", "wasm32-pyodide2024"],
)  # fmt: skip
def test_what_is_no_platform(platform: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_target("3.12", [platform])
    assert caught.value.exit_code == 2


def test_what_is_no_implementation() -> None:
    with pytest.raises(UsageError, match="'jy'"):
        make_target("3.12", ["linux"], implementation="jy")


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("windows", {"os_name": "nt", "sys_platform": "win32", "platform_system": "Windows"}),
        ("win_amd64", {"platform_machine": "AMD64"}),
        ("win32", {"platform_machine": "x86"}),
        ("windows-arm64", {"platform_machine": "ARM64"}),
        ("macos", {"os_name": "posix", "sys_platform": "darwin", "platform_system": "Darwin"}),
        ("macos-arm64", {"platform_machine": "arm64"}),
        ("macosx_15_0_arm64", {"platform_release": "24.0.0"}),
        ("macosx_26_0_arm64", {"platform_release": "25.0.0"}),
        ("macosx_10_15_x86_64", {"platform_release": "19.0.0"}),
        ("linux-aarch64", {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"}),
    ],
)  # fmt: skip
def test_markers_of_the_target_not_of_the_host(platform: str, expected: dict[str, str]) -> None:
    environment = make_target("3.11", [platform]).environment
    assert expected.items() <= environment.items()
    assert environment.keys() == default_environment().keys()


def test_markers_that_compare_text_nobody_knows_are_false_and_no_error() -> None:
    environment = {**make_target("3.11", ["linux"]).environment, "extra": ""}
    assert Marker("platform_release >= '5' and python_version < '3.12'").evaluate(environment) is False


def test_several_platforms_of_one_machine() -> None:
    target = make_target("3.12", ["manylinux_2_17_x86_64", "musllinux_1_2_x86_64"])
    assert target.name == "cp312-manylinux_2_17_x86_64.musllinux_1_2_x86_64"
    assert len(set(target.tags)) == len(target.tags)
    assert {"cp312-cp312-manylinux2014_x86_64", "cp312-cp312-musllinux_1_1_x86_64"} < set(target.tags)


def test_product() -> None:
    assert product([], []) == [this_machine()]
    names = [target.name for target in product(["3.11", "3.12"], ["linux", "windows", "linux"])]
    assert names == [f"{python}-{p}" for python in ("cp311", "cp312") for p in ("manylinux_2_28_x86_64", "win_amd64")]
    host = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert product([], ["windows"])[0].environment["python_version"] == host
    assert platforms(product([host], [])[0]) == platforms(this_machine())
    names = [target.name for target in product(["3.12.1", "3.12.2", "3.12.0", "3.12"], ["windows"])]
    assert names == ["cp312.1-win_amd64", "cp312.2-win_amd64", "cp312-win_amd64"]


@pytest.mark.parametrize(
    "name",
    [
        "cp312-win_amd64",
        "cp312.4-win_amd64",
        "cp313.2t-macosx_14_0_arm64",
        "cp314.0rc1-win32",
        "pp310-manylinux_2_28_x86_64",
    ],
)
def test_a_target_by_its_name(name: str) -> None:
    assert named_target(name).name == name


@pytest.mark.parametrize("name", ["", "cp312", "312-win_amd64", "cp3-win_amd64", "cp312-", "xx312-win_amd64"])
def test_what_is_no_name_of_a_target(name: str) -> None:
    with pytest.raises(UsageError):
        named_target(name)


def test_a_python_that_was_built_from_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """It calls itself 3.12.3+, which is no version that Requires-Python could be compared with."""
    told = {**default_environment(), "python_full_version": f"{platform.python_version()}+"}
    monkeypatch.setattr("mirror.targets.default_environment", lambda: told)
    assert this_machine().python == platform.python_version()


def test_this_machine() -> None:
    target = this_machine()
    assert target.tags == tuple(map(str, sys_tags()))
    assert target.environment == default_environment()
    assert re.fullmatch(r"[a-z]+\d+(\.\w+)?t?-\w+", target.name)
    assert not target.name.endswith("-any")


@pytest.mark.parametrize("interpreter", INTERPRETERS, ids=lambda path: Path(path).name)
def test_real_interpreters_agree(interpreter: str) -> None:
    packages = str(Path(packaging.__file__).parents[1])
    asked = subprocess.run(
        [interpreter, "-c", ASK],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": packages},
    )
    if asked.returncode:
        pytest.skip("this packaging does not run on it")
    tags, environment = json.loads(asked.stdout)
    name = next(tag.split("-")[2] for tag in tags if "-linux_" not in tag)
    made = make_target(environment["python_full_version"].rstrip("+"), [name])
    assert set(made.tags) == set(tags)

    def built_elsewhere(tag: str) -> bool:  # packaging has changed its mind about where plain linux stands
        return "-linux_" not in tag

    assert list(filter(built_elsewhere, made.tags)) == list(filter(built_elsewhere, tags))
    unknown = {"platform_release", "platform_version"}
    assert {key: made.environment[key] for key in environment.keys() - unknown} == {
        key: value for key, value in environment.items() if key not in unknown
    }


@pytest.mark.parametrize(
    ("python", "abi", "platform"),
    [
        ("3.8", "cp38", "win_amd64"),
        ("3.12", "cp312", "win_arm64"),
        ("3.12", "cp312", "macosx_14_0_arm64"),
        ("3.12", "cp312", "macosx_10_15_x86_64"),
        ("3.13", "cp313t", "win32"),
    ],
)
@pytest.mark.skipif(int(version("pip").partition(".")[0]) < 26, reason="an older pip has older rules")
def test_pip_agrees(python: str, abi: str, platform: str) -> None:
    command = [sys.executable, "-m", "pip", "--isolated", "debug", "--verbose", "--python-version", python]
    command += ["--platform", platform, "--abi", abi, "--implementation", "cp"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    tags = re.findall(r"^  (\S+-\S+-\S+)$", printed.partition("Compatible tags")[2], re.MULTILINE)
    assert list(make_target(python, [platform], abis=[abi]).tags) == tags


def test_ranks() -> None:
    ranks = Ranks(make_target("3.12", ["linux"]))

    def rank(tag: str) -> int:
        found = ranks.wheel(f"foo-1.0-{tag}.whl")
        assert found is not None
        assert found[1] == ()
        return found[0]

    best = ["cp312-cp312-manylinux_2_28_x86_64", "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64",
            "cp312-cp312-linux_x86_64", "cp312-abi3-manylinux1_x86_64", "cp39-abi3-manylinux1_x86_64",
            "py3-none-manylinux1_x86_64", "py3-none-any"]  # fmt: skip
    assert [rank(tag) for tag in best] == sorted(rank(tag) for tag in best)
    assert rank(best[0]) == 0
    assert rank("py2.py3-none-any") == rank("py3-none-any") == ranks.rank(("py2.py3", "none", "any"))
    for other in (
        "cp311-cp311-manylinux1_x86_64",
        "cp312-cp312-win_amd64",
        "cp312-cp312-manylinux_2_29_x86_64",
        "a-b-c",
    ):
        assert ranks.wheel(f"foo-1.0-{other}.whl") is None


def test_build_tags() -> None:
    ranks = Ranks(make_target("3.12", ["linux"]))
    builds = [ranks.wheel(f"foo-1.0{build}-py3-none-any.whl") for build in ("", "-1", "-2", "-10", "-10b")]
    assert all(builds)
    assert builds == sorted(builds, key=lambda build: build or (0, ()))
    assert ranks.wheel("foo-1.0-x1-py3-none-any.whl") is None


@pytest.mark.parametrize(
    "filename",
    ["", ".whl", "foo.whl", "py3-none-any.whl", "foo-1.0.tar.gz", "foo-py3-none-any.whl", "a-b-c-d-py3-none-any.whl"],
)
def test_what_is_no_wheel(filename: str) -> None:
    assert Ranks(make_target("3.12", ["linux"])).wheel(filename) is None


def test_a_hostile_tag_set_costs_nothing() -> None:
    many = ".".join(f"a{number}" for number in range(5000))
    assert Ranks(make_target("3.12", ["linux"])).wheel(f"foo-1.0-{many}-{many}-{many}.whl") is None
