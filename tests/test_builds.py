"""Sdists: what building them needs goes along and suffices; nothing runs unasked; what may run is isolated."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror.build.source import unpack_sdist
from mirror.bundle import BundleReader, unpack
from mirror.bundle.manifest import Manifest
from mirror.errors import IncompleteError, MetadataError, MissingExtraError, ResolutionError, UsageError
from mirror.models import FormatControl, Target
from mirror.ops.building import Building
from mirror.ops.pack import pack
from mirror.targets import make_target, this_machine
from tests.build_support import (
    PYPROJECT,
    backend,
    config,
    leaving_traces,
    plain,
    project,
    run,
    secretive,
    wanted,
    wheelhouse,
)
from tests.wheelhouse import Built, make_sdist, make_wheel


@pytest.fixture
def links(tmp_path: Path) -> Path:
    return wheelhouse(tmp_path / "links", backend())


def pip(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PIP_NO_WARN_CONFLICTS": "1"},  # it would read all that is installed beside the tests
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def packed(
    folder: Path, *lines: str, links: Path, allow: tuple[str, ...] = (), wheels: tuple[str, ...] = ()
) -> Manifest:
    """Pack for this machine and unpack into ``folder/unpacked``."""
    result = pack(
        wanted(*lines, find_links=links),
        (this_machine(),),
        folder / "bundle.tar.zst",
        config(folder),
        building=Building.of(allow, wheels),
    )
    assert result.manifest is not None
    with BundleReader(folder / "bundle.tar.zst") as reader:
        unpack(reader, folder / "unpacked")
    return result.manifest


def names(manifest: Manifest) -> set[str]:
    return {file.filename for file in manifest.files}


# Sdists that tell what they require.


def test_pip_builds_offline_from_the_bundle_alone(tmp_path: Path, links: Path) -> None:
    wheelhouse(links, [plain("by-hand", requires=["pure"]), make_wheel("pure"), make_wheel("unrelated")])
    manifest = packed(tmp_path, "by-hand", links=links)
    assert names(manifest) == {file.filename for file in [plain("by-hand"), make_wheel("pure"), *backend()]}
    packages = tmp_path / "unpacked" / "packages"
    pip("install", "--no-index", "--find-links", packages, "--target", tmp_path / "site", "by-hand", cwd=tmp_path)
    assert {path.name for path in (tmp_path / "site").glob("*.py")} == {"by_hand.py", "pure.py"}


def test_pip_builds_offline_with_hashes(tmp_path: Path, links: Path) -> None:
    sdist = plain("by-hand")
    wheelhouse(links, [sdist])
    lock = tmp_path / "lock.txt"
    lines = [f"{built.filename.split('-')[0]}==1.0 --hash=sha256:{built.sha256}" for built in [sdist, *backend()]]
    lock.write_text("\n".join(lines), "utf-8")
    for variable in ("AIRGAP_CACHE", "AIRGAP_HOME"):
        os.environ[variable] = str(tmp_path / variable)
    try:
        run("pack", lock, "--no-index", "--find-links", links, "-o", tmp_path / "bundle.tar.zst", "--quiet")
        run("unpack", tmp_path / "bundle.tar.zst", tmp_path / "unpacked", "--quiet")
    finally:
        for variable in ("AIRGAP_CACHE", "AIRGAP_HOME"):
            del os.environ[variable]
    packages = tmp_path / "unpacked" / "packages"
    options = ("--no-index", "--find-links", packages, "--require-hashes", "--target", tmp_path / "site")
    pip("install", *options, "-r", lock, cwd=tmp_path)
    assert (tmp_path / "site" / "by_hand.py").is_file()


def test_a_build_requirement_without_a_hash_is_refused(tmp_path: Path, links: Path) -> None:
    sdist = plain("by-hand")
    wheelhouse(links, [sdist])
    lines = wanted("by-hand==1.0", find_links=links, hashes={"by-hand": sdist.sha256})
    with pytest.raises(ResolutionError, match=r"tiny-backend 1\.0 and tiny-helper 1\.0 have no --") as caught:
        pack(lines, (this_machine(),), None, config(tmp_path))
    assert "building by-hand 1.0: tiny-backend" in str(caught.value)
    for built in backend():
        assert f"\n  {built.filename.partition('-1.0')[0].replace('_', '-')}==1.0 --hash=sha256:" in caught.value.hint
    assert "no wheel of by-hand 1.0 can be taken" in str(caught.value)
    assert "by_hand-1.0.tar.gz is there because of\n    requirements.txt:1: by-hand==1.0" in str(caught.value)


def test_build_requirements_that_only_have_sdists_bring_their_own(tmp_path: Path, links: Path) -> None:
    tool = make_sdist("tool", pyproject=PYPROJECT, files={"tiny.json": project("tool")})
    pyproject = '[build-system]\nrequires = ["tiny-backend", "tool"]\nbuild-backend = "tiny_backend"\n'
    files = {"tiny.json": project("by-hand", imports=["tool"])}
    wheelhouse(links, [tool, make_sdist("by-hand", pyproject=pyproject, files=files)])
    manifest = packed(tmp_path, "by-hand", links=links)
    assert names(manifest) >= {tool.filename, *(built.filename for built in backend())}
    packages = tmp_path / "unpacked" / "packages"
    pip("install", "--no-index", "--find-links", packages, "--target", tmp_path / "site", "by-hand", cwd=tmp_path)


def test_an_old_setuptools_brings_wheel_along(tmp_path: Path) -> None:
    """Before 70.1 its backend asks for wheel when it runs."""
    pyproject = '[build-system]\nrequires = ["setuptools<70.1"]\nbuild-backend = "setuptools.build_meta"\n'
    built = [make_wheel("setuptools", "69.0"), make_wheel("wheel"), make_sdist("old", pyproject=pyproject)]
    links = wheelhouse(tmp_path / "links", built)
    assert names(packed(tmp_path, "old", links=links)) == {each.filename for each in built}


# Nothing runs.


@pytest.mark.parametrize("allow", [(), ("other",)])
def test_no_code_of_a_package_runs_unasked(tmp_path: Path, links: Path, allow: tuple[str, ...]) -> None:
    trace = tmp_path / "trace"
    other = secretive("other")
    wheelhouse(links, [leaving_traces("static", trace), make_wheel("user", requires=["static"]), other])
    manifest = packed(tmp_path, "user", *allow, links=links, allow=allow)
    assert leaving_traces("static", trace).filename in names(manifest)
    assert not trace.exists()


def test_metadata_that_only_a_build_tells_is_an_error_and_nothing_runs(tmp_path: Path, links: Path) -> None:
    trace = tmp_path / "trace"
    wheelhouse(links, [leaving_traces("secretive", trace, metadata_version="2.1"), secretive("other")])
    with pytest.raises(ResolutionError) as caught:
        packed(tmp_path, "secretive", "other", links=links, allow=("other",))
    assert caught.value.hint.startswith("If you trust it, --allow-build secretive")
    assert not trace.exists()


def test_a_build_requirement_runs_as_a_wheel_or_by_its_own_name_only(tmp_path: Path, links: Path) -> None:
    trace = tmp_path / "trace"
    pyproject = '[build-system]\nrequires = ["tiny-backend", "tool"]\nbuild-backend = "tiny_backend"\n'
    files = {"tiny.json": project("named")}
    wheelhouse(
        links,
        [leaving_traces("tool", trace), make_sdist("named", metadata_version="2.1", pyproject=pyproject, files=files)],
    )
    with pytest.raises(ResolutionError, match=r"tool-1\.0\.tar\.gz is needed to build here") as caught:
        packed(tmp_path, "named", links=links, allow=("named",))
    assert "--allow-build tool" in caught.value.hint
    assert not trace.exists()
    packed(tmp_path, "named", links=links, allow=("named", "tool"))
    assert trace.exists()


# --allow-build.


def test_allowed_metadata_and_what_its_backend_asks_for(tmp_path: Path, links: Path) -> None:
    asked = make_wheel("asked-for")
    needy = secretive("needy", requires=["pure>=1"], asks=["asked-for"], imports=["asked_for"])
    wheelhouse(links, [needy, asked, make_wheel("pure")])
    manifest = packed(tmp_path, "needy", links=links, allow=("Needy",))
    assert names(manifest) >= {needy.filename, asked.filename, make_wheel("pure").filename}
    assert asked.filename in {file.filename for file in manifest.files if file.builds}
    packages = tmp_path / "unpacked" / "packages"
    pip("install", "--no-index", "--find-links", packages, "--target", tmp_path / "site", "needy", cwd=tmp_path)
    assert (tmp_path / "site" / "pure.py").is_file()


def test_metadata_built_here_serves_other_targets(tmp_path: Path, links: Path) -> None:
    wheelhouse(links, [secretive("needy", requires=["pure; sys_platform == 'win32'"]), make_wheel("pure")])
    targets = (make_target("3.9", ["win_amd64"]), make_target("3.12", ["macosx_14_0_arm64"]))
    lines = wanted("needy", find_links=links)
    result = pack(lines, targets, tmp_path / "b.tar.zst", config(tmp_path), building=Building.of(["needy"], []))
    assert [[pin.project for pin in target.pins] for target in result.plan.targets] == [["needy", "pure"], ["needy"]]


def test_a_build_sees_no_credentials_and_no_settings(
    tmp_path: Path, links: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen.json"
    for name in ("PIP_INDEX_URL", "TWINE_PASSWORD", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "PYTHONPATH", "NETRC"):
        monkeypatch.setenv(name, "secret-value")
    wheelhouse(links, [secretive("curious", environment_seen=str(seen))])
    packed(tmp_path, "curious", links=links, allow=("curious",))
    variables = json.loads(seen.read_text("utf-8"))
    assert "secret-value" not in variables.values()
    assert variables["PIP_NO_INDEX"] == "1"
    assert variables["HOME"] != os.environ["HOME"]
    assert not Path(variables["HOME"]).exists()  # it was the build's own, and is gone


def test_a_backend_is_asked_once_whatever_the_targets_and_the_runs(tmp_path: Path, links: Path) -> None:
    ran = tmp_path / "ran"
    wheelhouse(links, [secretive("needy", ran=str(ran))])
    targets = tuple(make_target(python, ["win_amd64"]) for python in ("3.10", "3.11", "3.12"))
    lines, building = wanted("needy", find_links=links), Building.of(["needy"], [])
    plan = pack(lines, targets, None, config(tmp_path), building=building).plan
    assert ran.read_text("utf-8").splitlines() == ["needy"] * 2  # for what it asks, and for its metadata
    ran.unlink()
    assert pack(lines, targets, None, config(tmp_path), building=building).plan == plan
    assert not ran.exists()


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"imports": ["no_such_module"]}, "No module named 'no_such_module'"),
        ({"requires": ["not a requirement"]}, "not a valid Requires-Dist"),
        ({"asks": ["nowhere-to-be-found"]}, "nowhere-to-be-found"),
        ({"asks": ["not a requirement"]}, "asks for what can't be read"),
    ],
)
def test_a_build_that_fails_says_why(tmp_path: Path, links: Path, told: dict[str, Any], problem: str) -> None:
    wheelhouse(links, [secretive("broken", **told)])
    with pytest.raises(ResolutionError) as caught:
        packed(tmp_path, "broken", links=links, allow=("broken",))
    assert problem in str(caught.value)


def test_metadata_of_another_version_is_refused(tmp_path: Path, links: Path) -> None:
    files = {"tiny.json": project("liar", "2.0")}
    wheelhouse(links, [make_sdist("liar", metadata_version="2.1", pyproject=PYPROJECT, files=files)])
    with pytest.raises(ResolutionError, match=r"became liar 2\.0 when it was built"):
        packed(tmp_path, "liar", links=links, allow=("liar",))


def test_a_build_that_needs_itself_is_an_error(tmp_path: Path, links: Path) -> None:
    pyproject = '[build-system]\nrequires = ["tiny-backend", "second"]\nbuild-backend = "tiny_backend"\n'
    first = make_sdist("first", metadata_version="2.1", pyproject=pyproject, files={"tiny.json": project("first")})
    pyproject = pyproject.replace("second", "first")
    second = make_sdist("second", metadata_version="2.1", pyproject=pyproject, files={"tiny.json": project("second")})
    wheelhouse(links, [first, second])
    with pytest.raises(ResolutionError, match="goes round in a circle"):
        packed(tmp_path, "first", links=links, allow=("first", "second"))


def test_an_sdist_that_writes_outside_its_folder_is_refused(tmp_path: Path, links: Path) -> None:
    escaping = make_sdist("escaping", metadata_version="2.1", pyproject=PYPROJECT, files={"../../escaped": b"!"})
    wheelhouse(links, [escaping])
    with pytest.raises(ResolutionError, match="outside"):
        packed(tmp_path, "escaping", links=links, allow=("escaping",))


# --build-wheels.


def test_a_wheel_built_here_takes_the_place_of_the_sdist(tmp_path: Path, links: Path) -> None:
    wheelhouse(links, [secretive("needy", requires=["pure"]), make_wheel("pure")])
    manifest = packed(tmp_path, "needy", links=links, wheels=("needy",))
    assert names(manifest) == {"needy-1.0-py3-none-any.whl", make_wheel("pure").filename}
    [file] = [file for file in manifest.files if file.project == "needy"]
    origin = dict(file.origin)
    assert origin["kind"] == "built"
    assert origin["from"] == "needy-1.0.tar.gz"
    assert origin["from-sha256"] == secretive("needy", requires=["pure"]).sha256
    assert origin["with"] == "tiny-backend 1.0, tiny-helper 1.0"
    assert not any(target.builds for target in manifest.targets)


def test_other_machines_keep_the_sdist(tmp_path: Path, links: Path) -> None:
    wheelhouse(links, [secretive("needy")])
    elsewhere = make_target("3.12", ["win_amd64"])
    targets = (this_machine(), elsewhere)
    lines = wanted("needy", find_links=links)
    result = pack(lines, targets, tmp_path / "b.tar.zst", config(tmp_path), building=Building.of([], ["needy"]))
    here, there = ({pin.file.filename for pin in target.pins} for target in result.plan.targets)
    assert here == {"needy-1.0-py3-none-any.whl"}
    assert there == {"needy-1.0.tar.gz"}


def test_a_platform_wheel_is_only_for_machines_that_take_all_of_this_one(tmp_path: Path, links: Path) -> None:
    host = this_machine()
    older = Target("older", host.tags[1:], host.markers)
    wheelhouse(links, [secretive("native", tag=host.tags[-1] if host.tags[-1].endswith("any") else host.tags[0])])
    wheelhouse(links, [secretive("native", tag=host.tags[1])])
    lines = wanted("native", find_links=links)
    result = pack(lines, (host, older), tmp_path / "b.tar.zst", config(tmp_path), building=Building.of([], ["native"]))
    assert [target.pins[0].file.is_wheel for target in result.plan.targets] == [True, False]


def test_names_that_change_nothing_are_told(tmp_path: Path, links: Path) -> None:
    wheelhouse(links, [make_wheel("pure")])
    told: list[str] = []
    pack(
        wanted("pure", find_links=links),
        (this_machine(),),
        tmp_path / "b.tar.zst",
        config(tmp_path),
        lambda event: told.append(event.text) if event.kind == "warning" else None,
        building=Building.of(["mispelt"], ["pure"]),
    )
    assert [text.partition(":")[0] for text in told if text.startswith("--")] == [
        "--allow-build mispelt",
        "--build-wheels pure",
    ]


def test_what_a_backend_may_ask_for_is_told(tmp_path: Path, links: Path) -> None:
    told: list[str] = []
    wheelhouse(links, [plain("by-hand")])
    lines = wanted("by-hand", find_links=links)
    for building in (Building(), Building.of(["by-hand"], [])):
        pack(
            lines,
            (this_machine(),),
            tmp_path / "b.tar.zst",
            config(tmp_path),
            lambda event: told.append(event.text) if "may need more" in event.text else None,
            building=building,
        )
    assert told == ["Building by-hand may need more than its pyproject.toml names: --allow-build by-hand finds out."]


def test_building_needs_an_extra(tmp_path: Path, links: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyproject_hooks", None)
    wheelhouse(links, [secretive("needy")])
    with pytest.raises(MissingExtraError) as caught:
        packed(tmp_path, "needy", links=links, allow=("needy",))
    assert "airgap-mirror[build]" in caught.value.hint


def test_a_zip_that_writes_outside_its_folder_is_refused(tmp_path: Path) -> None:
    for name in ("../escaped", "/escaped", "a-1.0/..\\..\\escaped", "c:/escaped"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, "!")
        with pytest.raises(MetadataError, match="outside"):
            unpack_sdist(buffer, "a-1.0.zip", tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_binary_does_not_mean_wheels_built_here(tmp_path: Path, links: Path) -> None:
    wheelhouse(links, [plain("both"), make_wheel("both")])
    lines = replace(wanted("both", find_links=links), format_control=FormatControl(no_binary=frozenset({"both"})))
    result = pack(
        lines, (this_machine(),), tmp_path / "b.tar.zst", config(tmp_path), building=Building.of([], ["both"])
    )
    assert result.manifest is not None
    [file] = result.manifest.files
    assert dict(file.origin)["kind"] == "built"


def test_a_wheel_that_requires_more_than_its_sdist_said_is_found_out(tmp_path: Path, links: Path) -> None:
    files = {"tiny.json": project("liar", requires=["more"])}
    wheelhouse(links, [make_sdist("liar", pyproject=PYPROJECT, files=files), make_wheel("more")])
    with pytest.raises(IncompleteError, match="more"):
        packed(tmp_path, "liar", links=links, wheels=("liar",))


def test_built_wheels_and_hashes_exclude_each_other(tmp_path: Path, links: Path) -> None:
    sdist: Built = plain("by-hand")
    wheelhouse(links, [sdist])
    lines = wanted("by-hand==1.0", find_links=links, hashes={"by-hand": sdist.sha256})
    with pytest.raises(UsageError, match="--build-wheels"):
        pack(lines, (this_machine(),), None, config(tmp_path), building=Building.of([], ["by-hand"]))


@pytest.mark.network
def test_a_real_project_that_only_has_an_sdist(tmp_path: Path) -> None:
    """docopt 0.6.2: no wheel, no trusted metadata, built by setuptools."""
    lines = tmp_path / "requirements.txt"
    lines.write_text("docopt==0.6.2\n", "utf-8")
    run("pack", lines, "--allow-build", "docopt", "-o", tmp_path / "bundle.tar.zst", "--quiet")
    run("unpack", tmp_path / "bundle.tar.zst", tmp_path / "unpacked", "--quiet")
    packages = tmp_path / "unpacked" / "packages"
    options = ("--isolated", "--no-index", "--find-links", packages, "--target", tmp_path / "site")
    pip("install", *options, "docopt", cwd=tmp_path)
    assert (tmp_path / "site" / "docopt.py").is_file()
