"""Which files ``airgap pack`` chooses from real indexes, and which go along: indexes, dates, statuses, extras."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.bundle import BundleReader, unpack
from mirror.bundle.consistency import check
from mirror.errors import BundleError
from tests.index_support import LINUX, Desk, Warehouse, airgap, warehouse
from tests.wheelhouse import make_sdist, make_wheel

OLD, NEW = "2024-01-10T12:00:00.000001Z", "2025-06-01T00:00:00Z"


@pytest.fixture
def at() -> Iterator[Warehouse]:
    with warehouse() as running:
        yield running


@pytest.fixture
def desk(at: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, at)


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes with names of files")
def test_an_output_that_is_no_file(desk: Desk) -> None:
    desk.at.publish(make_wheel("app"))
    os.mkfifo("pipe")
    for output in ("-", "pipe"):
        ran = desk.pack("app", "-o", output)
        assert (ran.code, list(desk.at.server.requests)) == (2, [])
        assert "a bundle is written to a file" in ran.err
    assert Path("pipe").is_fifo()
    assert not Path("-").exists()


def test_a_folder_that_can_not_be_written_is_told_before_anything_is_fetched(desk: Desk) -> None:
    """A disc, say; here a file where a folder should be, since a test may run as root."""
    desk.at.publish(make_wheel("app"))
    Path("disc").write_bytes(b"")
    ran = desk.pack("app", "-o", "disc/bundle.tar.zst")
    assert (ran.code, list(desk.at.server.requests)) == (8, [])
    assert "Can't write disc" in ran.err


@pytest.mark.skipif(sys.platform == "win32", reason="names what is too long as what is not there")
def test_a_path_that_can_not_be_looked_at(desk: Desk) -> None:
    """A name that is too long, where a test may run as root, who may look into every folder."""
    desk.at.publish(make_wheel("app"))
    bundle = f"{'x' * 300}.tar.zst"
    for options in ((), ("--all-wheels", "--include", str(make_wheel("own").save(desk.folder)))):
        ran = desk.pack("app", "-o", bundle, *options)
        assert ran.code == 8
        assert bundle in ran.err
        assert "Traceback" not in ran.err
    assert desk.pack("app").code == 0
    ran = airgap("unpack", desk.bundle, "x" * 300)
    assert ran.code == 8
    # From Python 3.14 on, the folder is taken for one that is not there, and making a temporary one beside it fails.
    place = r"\./\.x{300}\.\w+\.part" if sys.version_info >= (3, 14) else "x{300}"
    assert re.fullmatch(rf"error: {place}: File name too long\.", ran.err.splitlines()[-1])


@pytest.mark.skipif(sys.platform == "win32", reason="quotes otherwise")
def test_what_unpack_says_can_be_pasted(desk: Desk) -> None:
    desk.at.publish(make_wheel("app"))
    assert desk.pack("app").code == 0
    ran = airgap("unpack", desk.bundle, "my wheels")
    assert f"pip install -r 'my wheels/locks/{LINUX[1]}.txt'\n" in ran.err
    assert "--find-links 'my wheels/packages' PROJECT" in ran.err


def test_requirements_that_ask_for_nothing_are_told(desk: Desk) -> None:
    ran = desk.pack("# app\n")
    assert ran.pins == {}
    assert "warning: The requirements ask for nothing" in ran.err


@pytest.mark.parametrize("python", [">=3.6.*", ">=2.7, !=3.0.*, >=3.4.*", "three"])
def test_a_requires_python_that_can_not_be_read_excludes_nobody(desk: Desk, python: str) -> None:
    """Neither on the page nor in the wheel, as for pip: there are many of the first kind."""
    desk.at.publish(make_wheel("app", requires_python=python), python=python)
    assert desk.pack("app").pins == {"app": "1.0"}
    with BundleReader(desk.bundle) as reader:
        reader.verify()
        assert [file.requires_python for file in reader.manifest.files] == [python]
        unpack(reader, desk.folder / "wheels")
    install = [sys.executable, "-m", "pip", "install", "--no-compile", "--target", "site", "--only-binary", ":all:"]
    lock = f"wheels/locks/{LINUX[1]}.txt"
    subprocess.run([*install, "--python-version", "3.12", "-r", lock], check=True, capture_output=True)
    assert (desk.folder / "site" / "app.py").is_file()


def test_what_only_a_wheel_says_of_its_python_counts(desk: Desk) -> None:
    """Few folders and not all indexes say it on their pages; pip looks into the wheel, and refuses to install it."""
    desk.at.publish(make_wheel("app", "1.0", requires_python=">=3.8"))
    desk.at.publish(make_wheel("app", "2.0", requires_python=">=3.13"))
    assert desk.pack("app").pins == {"app": "1.0"}
    ran = desk.pack("app==2.0")
    assert ran.code == 3
    assert "app-2.0-py3-none-any.whl: requires Python >=3.13" in ran.err
    assert desk.pack("app", targets=("--target", "cp313-manylinux_2_28_x86_64")).pins == {"app": "2.0"}
    both = desk.pack("app", targets=(*LINUX, "--target", "cp313-manylinux_2_28_x86_64")).document
    assert {version for target in both["targets"].values() for version in target["pins"].values()} == {"1.0"}


# Several indexes


def test_the_manifest_and_the_sbom_say_which_index(desk: Desk) -> None:
    desk.at.publish(make_wheel("app", requires=["acme-core"]))
    desk.at.publish(make_wheel("acme-core", "9.0"))
    desk.at.publish(make_wheel("acme-core", "1.0"), index="own")
    Path("airgap.toml").write_text(f'[[index]]\nname = "own"\nurl = "{desk.at.url("own")}"\nprojects = ["acme-*"]\n')
    assert desk.pack("app").pins == {"acme-core": "1.0", "app": "1.0"}
    indexes = {"acme-core": desk.at.url("own"), "app": desk.at.url()}
    with BundleReader(desk.bundle) as reader:
        assert {file.project: file.index for file in reader.manifest.files} == indexes
        unpack(reader, desk.folder / "out")
    sbom = json.loads((desk.folder / "out" / "sbom.cdx.json").read_text())
    comments = {part["name"]: part["externalReferences"][0]["comment"] for part in sbom["components"]}
    assert comments == {project: f"from {index}" for project, index in indexes.items()}
    assert not [request for request in desk.at.server.requests if request.path.startswith("/own/app/")]
    assert not [request for request in desk.at.server.requests if request.path.startswith("/simple/acme-core/")]


def test_best_match_is_asked_for_by_name(desk: Desk) -> None:
    desk.at.publish(make_wheel("app", "1.0"))
    desk.at.publish(make_wheel("app", "2.0"), index="other")
    more = ("--extra-index-url", desk.at.url("other"))
    assert desk.pack("app", *more).pins == {"app": "1.0"}
    assert desk.pack("app", *more, "--index-strategy", "unsafe-best-match").pins == {"app": "2.0"}


# Upload times


@pytest.mark.parametrize(
    ("cut", "version"),
    [
        ("2024-01-10", "1.0"),
        ("2024-01-10T12:00:00.000002Z", "1.0"),
        ("2024-01-10T13:00:00.000002+01:00", "1.0"),
        ("2024-01-10T12:00:01", "1.0"),
        ("2025-05-31", "1.0"),
        ("2025-06-01", "2.0"),
        ("7d", "2.0"),
    ],
)
def test_files_from_after_the_cut_do_not_exist(desk: Desk, cut: str, version: str) -> None:
    desk.at.publish(make_wheel("app", "1.0"), time=OLD)
    desk.at.publish(make_wheel("app", "2.0"), time=NEW)
    assert desk.pack("app", "--exclude-newer", cut).pins == {"app": version}


def test_nothing_is_old_enough(desk: Desk) -> None:
    desk.at.publish(make_wheel("app", "1.0"), time=OLD)
    ran = desk.pack("app", "--exclude-newer", "2024-01-10T12:00:00.000001Z")
    assert ran.code == 3
    assert f"app-1.0-py3-none-any.whl: uploaded {OLD}, excluded by --exclude-newer" in ran.err


def test_an_index_without_upload_times(desk: Desk) -> None:
    desk.at.publish(make_wheel("app", "1.0"), time=OLD)
    desk.at.publish(make_wheel("app", "2.0"))
    ran = desk.pack("app", "--exclude-newer", "2024-02-01")
    assert ran.code == 3
    assert f"{desk.at.url()} shows no upload time for app-2.0-py3-none-any.whl (PEP 700)" in ran.err
    assert "--exclude-newer-missing" in ran.err
    for choice, version in (("skip", "1.0"), ("allow", "2.0")):
        assert (
            desk.pack("app", "--exclude-newer", "2024-02-01", "--exclude-newer-missing", choice).pins["app"] == version
        )


def test_what_helps_where_no_file_has_a_time(desk: Desk) -> None:
    desk.at.publish(make_wheel("app", "1.0"))
    ran = desk.pack("app", "--exclude-newer", "2024-02-01", "--exclude-newer-missing", "skip")
    assert ran.code == 3
    assert "Tried, and it resolves: use --exclude-newer-missing allow (gives app 1.0).\n" in ran.err
    assert "end later" not in ran.err


def test_a_folder_of_wheels_needs_no_upload_times(desk: Desk) -> None:
    make_wheel("app").save(desk.folder / "wheels")
    assert desk.pack("app", "--exclude-newer", "7d", "-f", "wheels").pins == {"app": "1.0"}
    assert desk.pack("", "--exclude-newer", "7d", "--include", "wheels").pins == {"app": "1.0"}


def test_what_becomes_of_missing_times_needs_a_cut(desk: Desk) -> None:
    assert desk.pack("app", "--exclude-newer-missing", "skip").code == 2


@pytest.mark.parametrize("cut", ["", "soon", "2024-13-01", "7", "999999w", "-1d"])
def test_a_cut_that_is_none(desk: Desk, cut: str) -> None:
    ran = desk.pack("app", f"--exclude-newer={cut}")
    assert (ran.code, "--exclude-newer" in ran.err) == (2, True)


# Pre-releases, statuses


def test_pre_releases_of_one_project(desk: Desk) -> None:
    for name in ("app", "other"):
        desk.at.publish(make_wheel(name, "1.0"))
        desk.at.publish(make_wheel(name, "2.0rc1"))
    assert desk.pack("app\nother", "--pre-for", "APP").pins == {"app": "2.0rc1", "other": "1.0"}
    assert desk.pack("app\nother", "--all-releases", "app,other").pins == {"app": "2.0rc1", "other": "2.0rc1"}
    assert desk.pack("app\nother", "--pre").pins == {"app": "2.0rc1", "other": "2.0rc1"}
    assert desk.pack("--all-releases app\napp\nother").pins == {"app": "2.0rc1", "other": "1.0"}
    assert desk.pack("app", "--pre-for", ":all:").code == 2


def test_a_quarantined_project_is_refused(desk: Desk) -> None:
    desk.at.publish(make_wheel("app", requires=["evil"]))
    desk.at.publish(make_wheel("evil"))
    desk.at.publish(make_wheel("evil"), index="other")
    desk.at.page("evil", more={"project-status": {"status": "quarantined", "reason": "malware"}})
    for strategy in ("first-index", "unsafe-best-match"):
        ran = desk.pack("app", "--extra-index-url", desk.at.url("other"), "--index-strategy", strategy)
        assert ran.code == 3
        assert f"evil is quarantined on {desk.at.url()}: malware" in ran.err
        assert "because requirements.txt:1 asks for app" in ran.err


def test_a_way_around_a_quarantined_project_is_told(desk: Desk) -> None:
    desk.at.publish(make_wheel("app", "1.0"))
    desk.at.publish(make_wheel("app", "2.0", requires=["evil"]))
    desk.at.page("evil", more={"project-status": {"status": "quarantined"}})
    ran = desk.pack("app")
    assert ran.pins == {"app": "1.0"}
    assert f"evil is quarantined on {desk.at.url()}. It was passed over." in ran.err


@pytest.mark.parametrize("status", ["archived", "deprecated"])
def test_other_statuses_are_reported(desk: Desk, status: str) -> None:
    desk.at.publish(make_wheel("app"))
    desk.at.page("app", more={"project-status": {"status": status, "reason": "old"}})
    told = {"project": "app", "status": status, "reason": "old", "index": desk.at.url()}
    assert desk.pack("app").document["statuses"] == [told]


# Extras


def test_every_wheel_and_every_sdist(desk: Desk) -> None:
    tags = ["cp312-cp312-manylinux_2_28_x86_64", "cp312-cp312-manylinux2014_x86_64", "cp312-cp312-win_amd64"]
    for version in ("1.0", "2.0"):
        for tag in (*tags, "py3-none-any", "cp311-cp311-win_amd64"):
            desk.at.publish(make_wheel("app", version, tag=tag, requires=["lib"]))
        desk.at.publish(make_sdist("app", version, metadata_version="1.1"))
    desk.at.publish(make_wheel("lib"))
    targets = (*LINUX, "--target", "cp312-win_amd64")
    plain = desk.pack("app", targets=targets).document
    assert [file["filename"] for file in plain["files"]] == [
        f"app-2.0-{tags[0]}.whl", f"app-2.0-{tags[2]}.whl", "lib-1.0-py3-none-any.whl"
    ]  # fmt: skip
    assert plain["extras"] == []
    ran = desk.pack("app", "--all-wheels", "--with-sdists", "--only-binary", ":all:", targets=targets)
    assert ran.document["extras"] == [f"app-2.0-{tags[1]}.whl", "app-2.0-py3-none-any.whl", "app-2.0.tar.gz"]
    assert "No sdist to take along of lib 1.0." in ran.err
    with BundleReader(desk.bundle) as reader:
        reader.verify()
        found = {file.filename: file for file in reader.manifest.files_of("app")}
        assert found["app-2.0.tar.gz"].targets == found["app-2.0.tar.gz"].builds == ()
        assert found["app-2.0.tar.gz"].chain == ("requirements.txt:1: app",)
        assert [target.pins for target in reader.manifest.targets] == [{"app": "2.0", "lib": "1.0"}] * 2
    told = airgap("why", desk.bundle, "app").out
    assert "goes along with that version; no target installs it" in told
    assert desk.pack("app", "--all-wheels").document["extras"] == [
        f"app-2.0-{tags[1]}.whl", "app-2.0-py3-none-any.whl"
    ]  # fmt: skip


def test_extras_obey_the_lock_and_the_cut(desk: Desk) -> None:
    wheel, sdist = make_wheel("app"), make_sdist("app")
    desk.at.publish(wheel, time=OLD)
    desk.at.publish(sdist, time=NEW)
    assert desk.pack("app", "--with-sdists").document["extras"] == [sdist.filename]
    assert desk.pack("app", "--with-sdists", "--exclude-newer", "2024-02-01").document["extras"] == []
    hashes = [f"--hash=sha256:{built.sha256}" for built in (wheel, sdist)]
    assert desk.pack(f"app==1.0 {hashes[0]}", "--with-sdists").document["extras"] == []
    assert desk.pack(f"app==1.0 {' '.join(hashes)}", "--with-sdists").document["extras"] == [sdist.filename]


def test_an_extra_must_belong_to_a_release_that_a_target_needs(desk: Desk) -> None:
    desk.at.publish(make_wheel("app"))
    desk.at.publish(make_sdist("app"))
    assert desk.pack("app", "--with-sdists").code == 0
    with BundleReader(desk.bundle) as reader:
        manifest = reader.manifest
    (extra,) = (file for file in manifest.files if not file.targets)
    files = [replace(file, version="1.1") if file is extra else file for file in manifest.files]
    with pytest.raises(BundleError, match=r"app-1.0.tar.gz is of a release that no target of the manifest needs"):
        check(replace(manifest, files=tuple(files)))


def test_extras_are_pushed_too(desk: Desk) -> None:
    desk.at.publish(make_wheel("app"))
    desk.at.publish(make_sdist("app"))
    assert desk.pack("app", "--with-sdists").code == 0
    ran = airgap("push", desk.bundle, "--repo", "pypi-hosted")
    assert (ran.code, "2 files uploaded" in ran.err) == (0, True), ran.err


# Consistency, why


def test_what_had_to_differ_and_why(desk: Desk) -> None:
    desk.at.publish(make_wheel("app", "1.0"))
    desk.at.publish(make_wheel("app", "2.0"), python=">=3.11")
    targets = ("--python-version", "3.10", "--python-version", "3.12", "--platform", "linux")
    (found,) = desk.pack("app; python_version < '3.11'\napp>1; python_version >= '3.11'", targets=targets).document[
        "differences"
    ]
    (old, first), (new, second) = found["versions"].items()
    assert (first, second) == ("1.0", "2.0")
    assert found["reasons"] == [
        f"2.0 not on {old}: requires Python >=3.11",
        f"1.0 not on {new}: requirements.txt:2 asks for app>1",
    ]
    told = airgap("pack", "requirements.txt", "-i", desk.at.url(), *targets).err
    assert "1 project could not have one version on every target:" in told
    assert f"app: 1.0 on {old}; 2.0 on {new}" in told


def test_why(desk: Desk) -> None:
    desk.at.publish(make_wheel("app", requires=["mid; sys_platform == 'win32'"]))
    desk.at.publish(make_wheel("mid", requires=["leaf>=1"]))
    desk.at.publish(make_wheel("leaf", "1.5"))
    targets = (*LINUX, "--target", "cp312-win_amd64")
    assert desk.pack("app", targets=targets).code == 0
    assert airgap("why", desk.bundle, "Leaf").out.splitlines() == [
        "leaf 1.5  leaf-1.5-py3-none-any.whl",
        "  requirements.txt:1: app",
        "    app 1.0: mid",
        "      mid 1.0: leaf>=1",
        "  installed on cp312-win_amd64",
        f"  from {desk.at.url()}",
        "needed by mid 1.0 on cp312-win_amd64",
    ]
    document = airgap("why", desk.bundle, "leaf", "--json").document
    assert document["needed-by"] == [{"project": "mid", "version": "1.0", "targets": ["cp312-win_amd64"]}]
    for arguments, words in (
        (["ghost"], "has no ghost"),
        (["leaf", *LINUX], "has no leaf for"),
        (["leaf", "--target", "x"], "no target x"),
    ):
        ran = airgap("why", desk.bundle, *arguments)
        assert ran.code == 2
        assert words in ran.err
