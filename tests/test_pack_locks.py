"""``airgap pack LOCK`` against a loopback index: the lock's files and digests, and no others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.bundle import BundleReader
from tests.index_support import LINUX, Ran, Warehouse, airgap, warehouse
from tests.wheelhouse import Built, make_sdist, make_wheel

LOCKS = Path(__file__).parent / "data" / "locks"
WINDOWS = ("--target", "cp312-win_amd64")
LEAF = {"linux": "cp312-cp312-manylinux_2_17_x86_64", "windows": "cp312-cp312-win_amd64"}


@pytest.fixture
def stock() -> Iterator[Warehouse]:
    with warehouse() as found:
        yield found


def family() -> list[Built]:
    return [
        make_wheel("app", requires=["mid[more]"]),
        make_wheel(
            "mid", requires=["leaf", 'winonly; sys_platform == "win32"', 'soft; extra == "more"'], extras=["more"]
        ),
        *(make_wheel("leaf", tag=tag, files={"leaf.py": tag.encode()}) for tag in LEAF.values()),
        make_wheel("soft"),
        make_wheel("winonly", requires_python=">=3.8"),
    ]


def pylock(stock: Warehouse, built: list[Built], *, urls: bool = True, markers: dict[str, str] | None = None) -> str:
    """A lock over *built*, the files of a project together."""
    lines = ["lock-version = '1.0'", "created-by = 'test'"]
    by_project: dict[str, list[Built]] = {}
    for one in built:
        by_project.setdefault(one.filename.split("-")[0], []).append(one)
    for project, files in by_project.items():
        lines += ["[[packages]]", f"name = '{project}'", f"version = '{files[0].filename.split('-')[1][:3]}'"]
        lines += [f"marker = {marker!r}" for marker in [(markers or {}).get(project)] if marker]
        for one in files:
            lines += ["[[packages.wheels]]" if one.filename.endswith(".whl") else "[packages.sdist]"]
            place = f"url = '{stock.url()}files/{one.filename}'" if urls else f"path = 'wheels/{one.filename}'"
            lines += [f"name = '{one.filename}'", place, f"hashes = {{sha256 = '{one.sha256}'}}"]
    return "\n".join(lines) + "\n"


def poetry(built: list[Built], *, index: str = "") -> str:
    lines = []
    by_project: dict[str, list[Built]] = {}
    for one in built:
        by_project.setdefault(one.filename.split("-")[0], []).append(one)
    for project, files in by_project.items():
        lines += ["[[package]]", f"name = '{project}'", "version = '1.0'", "groups = ['main']", "files = ["]
        lines += [f"  {{file = '{one.filename}', hash = 'sha256:{one.sha256}'}}," for one in files]
        lines += ["]"]
        lines += ["[package.source]", "type = 'legacy'", f"url = '{index}'", "reference = 'own'"] if index else []
    return "\n".join([*lines, "[metadata]", "lock-version = '2.1'", "python-versions = '^3.10'", ""])


def pack(folder: Path, name: str, text: str, *options: str | Path) -> Ran:
    (folder / name).write_text(text)
    command: list[str | Path] = ["pack", folder / name, "-o", folder / "bundle.tar.zst", "--json", "--retries", "0"]
    return airgap(*command, *options)


MARKERS = {"winonly": 'sys_platform == "win32"'}


def test_a_lock_with_urls_is_all_that_is_asked(tmp_path: Path, stock: Warehouse) -> None:
    for one in family():
        stock.publish(one)
    text = pylock(stock, family(), markers=MARKERS)
    document = pack(tmp_path, "pylock.toml", text, *LINUX, *WINDOWS).document
    assert {name: sorted(target["pins"]) for name, target in document["targets"].items()} == {
        "cp312-manylinux_2_28_x86_64": ["app", "leaf", "mid", "soft"],
        "cp312-win_amd64": ["app", "leaf", "mid", "soft", "winonly"],
    }
    files = {file["filename"]: file for file in document["files"]}
    assert files[f"leaf-1.0-{LEAF['windows']}.whl"]["targets"] == ["cp312-win_amd64"]
    assert not [request for request in stock.server.requests if not request.path.startswith("/simple/files/")]
    with BundleReader(tmp_path / "bundle.tar.zst") as reader:
        bundled = {file.filename: file for file in reader.manifest.files}
        members = {member.path for member in reader.manifest.members}
    assert bundled["soft-1.0-py3-none-any.whl"].chain == ("pylock.toml: app==1.0", "app 1.0: mid", "mid 1.0: soft")
    assert bundled["mid-1.0-py3-none-any.whl"].chain == ("pylock.toml: app==1.0", "app 1.0: mid")
    assert bundled["winonly-1.0-py3-none-any.whl"].requires_python == ">=3.8"
    assert "requirements/01-pylock.toml" in members
    assert airgap("verify", tmp_path / "bundle.tar.zst").code == 0


def test_pip_installs_what_the_lock_said(tmp_path: Path, stock: Warehouse) -> None:
    built = [make_wheel("app", requires=["mid"]), make_wheel("mid")]
    for one in [*built, make_wheel("mid", "2.0")]:
        stock.publish(one)
    pack(tmp_path, "pylock.toml", pylock(stock, built))
    assert airgap("unpack", tmp_path / "bundle.tar.zst", tmp_path / "out").code == 0
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-index",
        "--target",
        tmp_path / "site",
        "--find-links",
    ]
    subprocess.run([*command, tmp_path / "out" / "packages", "app"], check=True, capture_output=True)
    assert (tmp_path / "site" / "mid-1.0.dist-info").is_dir()


def test_paths_beside_the_lock(tmp_path: Path, stock: Warehouse) -> None:
    for one in family():
        one.save(tmp_path / "wheels")
    text = pylock(stock, family(), urls=False, markers=MARKERS)
    assert sorted(pack(tmp_path, "pylock.own.toml", text, *LINUX).pins) == ["app", "leaf", "mid", "soft"]
    assert not stock.server.requests


def test_files_without_urls_are_looked_up(tmp_path: Path, stock: Warehouse) -> None:
    for one in family():
        stock.publish(one, index="own")
    stock.publish(make_wheel("app", "2.0"), index="own")
    text = poetry(family(), index=stock.url("own"))
    found = pack(tmp_path, "poetry.lock", text, *WINDOWS)
    assert found.pins == dict.fromkeys(["app", "leaf", "mid", "soft", "winonly"], "1.0")
    assert {file["index"] for file in found.document["files"]} == {stock.url("own")}
    # A lock that names no index, and the one on the command line.
    assert pack(tmp_path, "poetry.lock", poetry(family()), *WINDOWS, "-i", stock.url("own")).pins == found.pins


def test_an_index_on_the_command_line_replaces_the_locks(tmp_path: Path, stock: Warehouse) -> None:
    for one in family():
        stock.publish(one, index="mirror")
    found = pack(tmp_path, "pylock.toml", pylock(stock, family(), markers=MARKERS), *LINUX, "-i", stock.url("mirror"))
    assert {file["index"] for file in found.document["files"]} == {stock.url("mirror")}
    assert not [request for request in stock.server.requests if request.path.startswith("/simple/")]


def test_other_bytes_than_the_locks_are_refused(tmp_path: Path, stock: Warehouse) -> None:
    other = make_wheel("app", files={"app.py": b"other"})
    stock.publish(other)
    url = pack(tmp_path, "pylock.toml", pylock(stock, [make_wheel("app")]), *LINUX)
    assert (url.code, "app-1.0-py3-none-any.whl" in url.err) == (5, True)
    looked_up = pack(tmp_path, "poetry.lock", poetry([make_wheel("app")], index=stock.url()), *LINUX)
    assert looked_up.code == 5
    assert "is not the file that poetry.lock names" in looked_up.err
    assert not (tmp_path / "bundle.tar.zst").exists()


def test_what_the_lock_lacks_is_named_with_the_chain(tmp_path: Path, stock: Warehouse) -> None:
    for one in family():
        stock.publish(one)
    built = [one for one in family() if not one.filename.startswith(("leaf", "winonly"))]
    lacking = pack(tmp_path, "pylock.toml", pylock(stock, built), *LINUX)
    assert lacking.code == 3
    assert "pylock.toml lacks leaf, which mid 1.0 requires." in lacking.err
    assert "mid 1.0: leaf" in lacking.err
    # Only the other machine needs it.
    built = [one for one in family() if not one.filename.startswith("winonly")]
    assert pack(tmp_path, "pylock.toml", pylock(stock, built), *LINUX).code == 0
    windows = pack(tmp_path, "pylock.toml", pylock(stock, built), *LINUX, *WINDOWS)
    assert "cp312-win_amd64: pylock.toml lacks winonly" in windows.err


def test_no_file_for_a_target(tmp_path: Path, stock: Warehouse) -> None:
    for one in family():
        stock.publish(one)
    ran = pack(tmp_path, "pylock.toml", pylock(stock, family()), "--target", "cp312-macosx_14_0_arm64")
    assert ran.code == 3
    assert "has no file of leaf 1.0 for this target; it has leaf-1.0-cp312" in ran.err
    gone = pack(tmp_path, "poetry.lock", poetry([make_wheel("gone")], index=stock.url()), *LINUX)
    assert gone.code == 3
    assert "no index has gone-1.0-py3-none-any.whl, which poetry.lock names" in gone.err


def test_a_package_that_is_not_for_this_python(tmp_path: Path, stock: Warehouse) -> None:
    new = make_wheel("app", requires_python=">=3.14")
    stock.publish(new)
    ran = pack(tmp_path, "pylock.toml", pylock(stock, [new]), *LINUX)
    assert ran.code == 3
    assert "app 1.0 was made for Python >=3.14" in ran.err


def test_sdists_build_with_what_is_hashed(tmp_path: Path, stock: Warehouse) -> None:
    sdist, backend = make_sdist("app"), make_wheel("setuptools", "80.0")
    for one in (sdist, backend, make_wheel("setuptools", "81.0")):
        stock.publish(one)
    # The build requirement is nowhere among the digests.
    bare = pack(tmp_path, "pylock.toml", pylock(stock, [sdist]), *LINUX, "-i", stock.url())
    assert bare.code == 3
    assert "setuptools 81.0 has no --hash" in bare.err
    # It stands in the constraints.
    (tmp_path / "build.txt").write_text(f"setuptools==80.0 --hash=sha256:{backend.sha256}\n")
    found = pack(
        tmp_path, "pylock.toml", pylock(stock, [sdist]), *LINUX, "-i", stock.url(), "-c", tmp_path / "build.txt"
    )
    assert {file["filename"] for file in found.document["files"]} == {sdist.filename, backend.filename}


def test_sdists_that_only_a_build_could_read_are_named_together(tmp_path: Path, stock: Warehouse) -> None:
    old = [make_sdist(name, dynamic=["Requires-Dist"]) for name in ("old", "older", "oldest")]
    for one in old:
        stock.publish(one)
    ran = pack(tmp_path, "pylock.toml", pylock(stock, old), *LINUX)
    assert ran.code == 3
    assert "old-1.0.tar.gz, older-1.0.tar.gz, oldest-1.0.tar.gz: what they require is known only once" in ran.err
    assert "--allow-build old --allow-build older --allow-build oldest lets them be built here" in ran.err
    # Those that may be built lack what builds them: the lines to add name it once.
    for one in (make_wheel("setuptools", "80.0"), make_wheel("wheel", "1.0")):
        stock.publish(one)
    allowed = [part for one in ("old", "older", "oldest") for part in ("--allow-build", one)]
    bare = pack(tmp_path, "pylock.toml", pylock(stock, old), *LINUX, *allowed, "-i", stock.url())
    assert bare.code == 3
    assert bare.err.count("--hash=sha256:") == bare.err.count("\n  setuptools==80.0 --hash=sha256:") > 0


def test_own_packages_stand_in_for_folders(tmp_path: Path, stock: Warehouse) -> None:
    leaf, member, second = make_wheel("leaf"), make_wheel("member", requires=["leaf", "second"]), make_wheel("second")
    stock.publish(leaf)
    member.save(tmp_path / "dist")
    text = f"""
version = 1
requires-python = ">=3.10"
[[package]]
name = "root"
version = "1"
source = {{ virtual = "." }}
dependencies = [{{ name = "member" }}]
[[package]]
name = "member"
version = "1.0"
source = {{ editable = "packages/member" }}
dependencies = [{{ name = "leaf" }}, {{ name = "second" }}]
[[package]]
name = "second"
source = {{ editable = "packages/second" }}
[[package]]
name = "leaf"
version = "1.0"
source = {{ registry = "{stock.url()}" }}
wheels = [{{ url = "{stock.url()}files/{leaf.filename}", hash = "sha256:{leaf.sha256}" }}]
"""
    refused = pack(tmp_path, "uv.lock", text, *LINUX)
    assert refused.code == 3
    assert "member is locked to a folder" in refused.err
    assert "second is locked to a folder" in refused.err
    assert "\n  uv.lock: member==1.0\n  member 1.0: second\n" in refused.err
    second.save(tmp_path / "dist")
    assert pack(tmp_path, "uv.lock", text, *LINUX, "--include", tmp_path / "dist").pins == {
        "leaf": "1.0",
        "member": "1.0",
        "second": "1.0",
    }
    bare = pack(tmp_path, "uv.lock", text.replace('name = "member" }', 'name = "second" }'), *LINUX)
    assert "\n  uv.lock: second\n" in bare.err  # its version is known only where it is built


def test_dry_run_and_more_files(tmp_path: Path, stock: Warehouse) -> None:
    built = [make_wheel("app", requires=["leaf"]), *(make_wheel("leaf", tag=tag) for tag in LEAF.values())]
    built.append(make_sdist("leaf"))
    for one in built:
        stock.publish(one)
    text = pylock(stock, built)
    assert len(pack(tmp_path, "pylock.toml", text, *LINUX, "--dry-run").document["files"]) == 2
    more = pack(tmp_path, "pylock.toml", text, *LINUX, *WINDOWS, "--with-sdists").document
    assert len(more["files"]) == 4


def test_one_version_from_two_indexes(tmp_path: Path, stock: Warehouse) -> None:
    leaves = {name: make_wheel("leaf", tag=tag) for name, tag in LEAF.items()}
    packages, edges = [], []
    for name, platform in (("linux", "linux"), ("windows", "win32")):
        leaf = leaves[name]
        stock.publish(leaf, index=name)
        source = f'{{ registry = "{stock.url(name)}" }}'
        marker = f"sys_platform == '{platform}'"
        edges.append(f'{{ name = "leaf", version = "1.0", source = {source}, marker = "{marker}" }}')
        packages.append(
            f'[[package]]\nname = "leaf"\nversion = "1.0"\nsource = {source}\nresolution-markers = ["{marker}"]\n'
            f'wheels = [{{ url = "{stock.url(name)}files/{leaf.filename}", hash = "sha256:{leaf.sha256}" }}]'
        )
    root = f'[[package]]\nname = "root"\nsource = {{ virtual = "." }}\ndependencies = [{", ".join(edges)}]'
    document = pack(tmp_path, "uv.lock", "\n".join(["version = 1", root, *packages]), *LINUX, *WINDOWS).document
    assert {file["targets"][0]: file["index"] for file in document["files"]} == {
        "cp312-manylinux_2_28_x86_64": stock.url("linux"),
        "cp312-win_amd64": stock.url("windows"),
    }


@pytest.mark.network
@pytest.mark.parametrize("path", sorted(LOCKS.glob("*/*lock*")), ids=lambda path: path.name)
def test_real_locks_from_the_real_index(path: Path, tmp_path: Path) -> None:
    ran = airgap("pack", path, "-o", tmp_path / "bundle.tar.zst", "--json", *LINUX, *WINDOWS)
    targets = ran.document["targets"]
    assert set(targets["cp312-win_amd64"]["pins"]) == {*targets["cp312-manylinux_2_28_x86_64"]["pins"], "colorama"}
    assert airgap("verify", tmp_path / "bundle.tar.zst").code == 0
