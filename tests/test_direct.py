"""Direct references and own packages: what is on no index goes along, exactly as it was named."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mirror.build.git import parse_reference
from mirror.build.source import make_sdist as pack_tree
from mirror.build.source import static_metadata
from mirror.bundle import BundleReader, parse_manifest, unpack
from mirror.bundle.manifest import BundledFile, Manifest
from mirror.errors import (
    AirgapError,
    BundleError,
    HashMismatchError,
    MetadataError,
    NetworkError,
    ResolutionError,
    UsageError,
)
from mirror.metadata.core import parse
from mirror.models import RequirementSet
from mirror.ops.building import Building
from mirror.ops.pack import pack
from mirror.targets import make_target, this_machine
from tests.build_support import PYPROJECT, backend, config, plain, project, wanted, wheelhouse
from tests.http_support import Server
from tests.wheelhouse import Built, make_wheel

STATIC = """\
[build-system]
requires = ["tiny-backend"]
build-backend = "tiny_backend"
[project]
name = "Own.Thing"
version = "1.2"
requires-python = ">=3.6"
dependencies = ["pure>=1", "windows-only; sys_platform == 'win32'"]
[project.optional-dependencies]
more = ["extra-thing; python_version < '3'"]
"""


@pytest.fixture
def links(tmp_path: Path) -> Path:
    return wheelhouse(tmp_path / "links", [*backend(), make_wheel("pure")])


def packed(
    folder: Path, lines: RequirementSet, *, allow: tuple[str, ...] = (), include: tuple[Path, ...] = ()
) -> Mapping[str, Mapping[str, str]]:
    """Pack for this machine: the origin of every file by its name."""
    result = pack(
        lines,
        (this_machine(),),
        folder / "bundle.tar.zst",
        config(folder),
        building=Building.of(allow, ()),
        include=include,
    )
    assert isinstance(result.manifest, Manifest)
    return {file.filename: dict(file.origin) for file in result.manifest.files}


def git(*arguments: str, cwd: Path) -> str:
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    people = {f"GIT_{who}_{what}": "someone@example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env=settings | people, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def repository(folder: Path, files: Mapping[str, bytes]) -> str:
    """A repository in *folder* with two commits, of which the first, the one returned, holds *files*."""
    folder.mkdir()
    git("init", "--quiet", cwd=folder)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--message", "one", cwd=folder)
    commit = git("rev-parse", "HEAD", cwd=folder)
    (folder / "pyproject.toml").write_text("broken", "utf-8")
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--message", "two", cwd=folder)
    return commit


# https://


def test_a_wheel_and_an_sdist_by_url(tmp_path: Path, links: Path) -> None:
    wheel, sdist = make_wheel("remote", requires=["pure"]), plain("source")
    with Server() as server:
        urls = [server.add(f"/files/{built.filename}", built.data) for built in (wheel, sdist)]
        lines = wanted(
            f"remote @ {urls[0]}#sha256={wheel.sha256}", f"source @ {urls[1]}#sha256={sdist.sha256}", find_links=links
        )
        origins = packed(tmp_path, lines)
    assert origins[wheel.filename] == {"kind": "url", "url": urls[0]}
    assert origins[sdist.filename] == {"kind": "url", "url": urls[1]}
    assert set(origins) == {built.filename for built in [wheel, sdist, make_wheel("pure"), *backend()]}


def test_a_url_without_a_digest_is_refused_with_the_digest_to_write(tmp_path: Path, links: Path) -> None:
    wheel = make_wheel("remote")
    with Server() as server:
        url = server.add(f"/{wheel.filename}", wheel.data)
        with pytest.raises(UsageError, match="has no digest") as caught:
            packed(tmp_path, wanted(f"remote @ {url}", find_links=links))
    assert f"#sha256={wheel.sha256}" in caught.value.hint


def test_a_url_with_another_digest_is_refused(tmp_path: Path, links: Path) -> None:
    wheel = make_wheel("remote")
    with Server() as server:
        url = server.add(f"/{wheel.filename}", wheel.data)
        with pytest.raises(HashMismatchError):
            packed(tmp_path, wanted(f"remote @ {url}#sha256={'0' * 64}", find_links=links))


def test_the_hash_option_counts_as_the_digest(tmp_path: Path, links: Path) -> None:
    wheel = make_wheel("remote")
    with Server() as server:
        url = server.add(f"/{wheel.filename}", wheel.data)
        lines = wanted(f"remote @ {url}", find_links=links, hashes={"remote": wheel.sha256})
        assert set(packed(tmp_path, lines)) == {wheel.filename}


@pytest.mark.parametrize("right", [True, False])
def test_one_of_several_hashes_is_right(tmp_path: Path, links: Path, right: bool) -> None:
    """As a lock has them of a project whose other files are elsewhere."""
    wheel = make_wheel("remote")
    with Server() as server:
        url = server.add(f"/{wheel.filename}", wheel.data)
        lines = wanted(f"remote @ {url}", find_links=links)
        digests = ("0" * 64, wheel.sha256 if right else "1" * 64)
        line = replace(lines.requirements[0], hashes=tuple(f"sha256:{digest}" for digest in digests))
        lines = replace(lines, requirements=(line,), require_hashes=True)
        if right:
            assert set(packed(tmp_path, lines)) == {wheel.filename}
        else:
            with pytest.raises(HashMismatchError, match="which the lock does not name"):
                packed(tmp_path, lines)


def test_another_project_at_the_url_is_refused(tmp_path: Path, links: Path) -> None:
    wheel = make_wheel("other")
    with pytest.raises(UsageError, match=r"requirements.txt:1: .* is other, and not remote"):
        packed(
            tmp_path,
            wanted(f"remote @ https://files.example/{wheel.filename}#sha256={wheel.sha256}", find_links=links),
        )


def test_a_direct_reference_beats_the_same_version_elsewhere(tmp_path: Path, links: Path) -> None:
    mine, theirs = make_wheel("both", files={"both.py": b"mine"}), make_wheel("both", files={"both.py": b"theirs"})
    wheelhouse(links, [theirs, make_wheel("both", "2.0"), make_wheel("user", requires=["both"])])
    own = mine.save(tmp_path / "own")
    result = pack(wanted("user", f"both @ {own.as_uri()}", find_links=links), (this_machine(),), None, config(tmp_path))
    assert {file.hashes.sha256 for file in result.plan.files().values() if file.project == "both"} == {mine.sha256}


def test_markers_choose_between_direct_references_and_the_index(tmp_path: Path, links: Path) -> None:
    wheelhouse(links, [make_wheel("both", "2.0")])
    own = make_wheel("both").save(tmp_path / "own")
    lines = wanted(
        f"both @ {own.as_uri()} ; sys_platform == 'win32'", "both>=2; sys_platform != 'win32'", find_links=links
    )
    targets = (make_target("3.12", ["win_amd64"]), make_target("3.12", ["macosx_14_0_arm64"]))
    result = pack(lines, targets, None, config(tmp_path))
    assert [target.pins[0].version for target in result.plan.targets] == ["1.0", "2.0"]


def test_credentials_of_a_url_stay_out_of_the_bundle_and_out_of_errors(tmp_path: Path, links: Path) -> None:
    wheel = make_wheel("remote")
    with Server(users={"bob": "hunter2"}) as server:
        url = server.add(f"/{wheel.filename}", wheel.data).replace("http://", "http://bob:hunter2@")
        lines = wanted(f"remote @ {url}#sha256={wheel.sha256}", find_links=links)
        origins = packed(tmp_path, lines)
        assert "hunter2" not in str(origins)
        with pytest.raises(AirgapError) as caught:
            packed(tmp_path, wanted(f"other @ {url}#sha256={wheel.sha256}", find_links=links))
    assert "hunter2" not in str(caught.value) + caught.value.hint


# git+


def test_a_commit_becomes_an_sdist_without_running_anything(tmp_path: Path, links: Path) -> None:
    trace = tmp_path / "trace"
    code = f"open({str(trace)!r}, 'w')\n".encode()
    files = {
        "pyproject.toml": STATIC.encode(),
        "tiny.json": project("Own.Thing", "1.2", requires=["pure>=1"]),
        "setup.py": code,
        "conftest.py": code,
    }
    commit = repository(tmp_path / "repository", files)
    url = (tmp_path / "repository").as_uri()
    lines = wanted(f"own-thing[more] @ git+{url}@{commit}", find_links=links)
    origins = packed(tmp_path, lines)
    assert origins["own_thing-1.2.tar.gz"] == {"kind": "git", "url": url, "commit": commit}
    assert set(origins) == {"own_thing-1.2.tar.gz", *(built.filename for built in [*backend(), make_wheel("pure")])}
    assert not trace.exists()
    with BundleReader(tmp_path / "bundle.tar.zst") as reader:
        unpack(reader, tmp_path / "unpacked")
    options = ["--no-index", "--find-links", tmp_path / "unpacked/packages", "--target", tmp_path / "site"]
    command = [sys.executable, "-m", "pip", "install", *map(str, options), "own-thing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "pure.py").is_file()


def test_a_commit_in_a_subdirectory_gives_the_same_sdist_every_time(tmp_path: Path, links: Path) -> None:
    commit = repository(tmp_path / "repository", {"sub/pyproject.toml": STATIC.encode(), "sub/a.py": b"", "b.py": b""})
    line = f"own-thing @ git+{(tmp_path / 'repository').as_uri()}@{commit}#subdirectory=sub"
    digests = set()
    for run in ("one", "two"):
        result = pack(wanted(line, find_links=links), (this_machine(),), None, config(tmp_path / run))
        [file] = [file for file in result.plan.files().values() if file.project == "own-thing"]
        digests.add(file.hashes.sha256)
    assert len(digests) == 1
    blob = next((tmp_path / "one/cache").rglob(digests.pop() or ""))
    with tarfile.open(blob) as archive:
        assert archive.getnames() == [f"own_thing-1.2/{name}" for name in ("a.py", "pyproject.toml", "PKG-INFO")]


def test_a_commit_that_only_a_build_understands_needs_the_flag(tmp_path: Path, links: Path) -> None:
    ran = tmp_path / "ran"
    files = {"pyproject.toml": PYPROJECT.encode(), "tiny.json": project("own", requires=["pure"], ran=str(ran))}
    commit = repository(tmp_path / "repository", files)
    lines = wanted(f"own @ git+{(tmp_path / 'repository').as_uri()}@{commit}", find_links=links)
    with pytest.raises(MetadataError, match=r"requirements\.txt:1: own") as caught:
        packed(tmp_path, lines)
    assert "--allow-build own" in caught.value.hint
    assert not ran.exists()
    origins = packed(tmp_path, lines, allow=("own",))
    assert origins["own-1.0.tar.gz"]["commit"] == commit
    assert ran.exists()


@pytest.mark.parametrize("revision", ["", "@main", "@v1.0", "@abc1234"])
def test_what_is_no_commit_is_refused(revision: str) -> None:
    with pytest.raises(UsageError, match="names no commit"):
        parse_reference(f"git+https://git.example/own.git{revision}", where="requirements.txt:1")


def test_a_password_for_git_goes_where_nobody_sees_it() -> None:
    reference = parse_reference(f"git+https://bob:hunter2@git.example/own.git@{'a' * 40}", where="here")
    assert reference.url == "https://git.example/own.git"
    assert reference.login == ("bob", "hunter2")
    assert "hunter2" not in repr(replace(reference, login=None))


def test_a_subdirectory_outside_is_refused() -> None:
    with pytest.raises(UsageError, match="leads out"):
        parse_reference(f"git+https://git.example/own.git@{'a' * 40}#subdirectory=../..", where="here")


def test_a_commit_that_is_not_there_is_a_network_error(tmp_path: Path, links: Path) -> None:
    repository(tmp_path / "repository", {"pyproject.toml": STATIC.encode()})
    lines = wanted(f"own-thing @ git+{(tmp_path / 'repository').as_uri()}@{'a' * 40}", find_links=links)
    with pytest.raises(NetworkError, match="git can't get"):
        packed(tmp_path, lines)


# Folders.


def test_a_folder_becomes_an_sdist(tmp_path: Path, links: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "pyproject.toml").write_text(STATIC, "utf-8")
    assert packed(tmp_path, wanted(f"own-thing @ {tree.as_uri()}", find_links=links))["own_thing-1.2.tar.gz"] == {
        "kind": "folder"
    }


def test_static_metadata_is_what_a_backend_would_say(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(STATIC, "utf-8")
    raw = static_metadata(tmp_path, "own")
    assert raw is not None
    metadata = parse(raw, filename="own")
    assert (metadata.name, metadata.version, metadata.requires_python) == ("own-thing", "1.2", ">=3.6")
    assert metadata.requires_dist == (
        Requirement("pure>=1"),
        Requirement("windows-only; sys_platform == 'win32'"),
        Requirement("extra-thing; (python_version < '3') and extra == 'more'"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[project]\nname = 'own'\ndynamic = ['version']\n",
        "[project]\nname = 'own'\nversion = '1'\ndynamic = ['dependencies']\n",
        "[tool.poetry]\nname = 'own'\n",
    ],
)
def test_what_only_a_build_can_tell_is_not_guessed(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text, "utf-8")
    assert static_metadata(tmp_path, "own") is None


def test_a_link_out_of_the_tree_is_refused(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "secrets").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MetadataError, match="leads out"):
        pack_tree(tree, b"", "own-1.0")


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        ({}, "https://index.example/simple/"),
        ({"kind": "built", "from": "a-1.0.tar.gz"}, "built here from a-1.0.tar.gz"),
        ({"kind": "git", "url": "https://git.example/a", "commit": "c0ffee"}, "commit c0ffee of https://git.example/a"),
        ({"kind": "url", "url": "https://files.example/{a}"}, "https://files.example/{a}"),
        ({"kind": "something new"}, "https://index.example/simple/"),
    ],
)
def test_an_origin_in_words(origin: dict[str, str], source: str) -> None:
    file = BundledFile("a.whl", "a", "1", 1, "", "https://index.example/simple/", origin=tuple(sorted(origin.items())))
    assert file.source == source


def test_an_origin_is_read_back_strictly(tmp_path: Path, links: Path) -> None:
    own = make_wheel("mine").save(tmp_path / "own")
    packed(tmp_path, wanted(f"mine @ {own.as_uri()}", find_links=links))
    with BundleReader(tmp_path / "bundle.tar.zst") as reader:
        text = reader.manifest.to_bytes()
    assert b'"origin":{"kind":"file"}' in text
    assert parse_manifest(text).to_bytes() == text
    for broken in (b"{}", b'{"kind":""}', b'{"kind":1}', b'"file"'):
        with pytest.raises(BundleError):
            parse_manifest(text.replace(b'{"kind":"file"}', broken))


# --include


def dist(folder: Path, *built: Built) -> Path:
    return wheelhouse(folder / "dist", built)


def test_own_packages_are_roots_of_the_closure(tmp_path: Path, links: Path) -> None:
    mine = make_wheel("acme-app", requires=["acme-lib", "pure"])
    lib = plain("acme-lib")
    folder = dist(tmp_path, mine, lib, plain("acme-app", requires=["acme-lib", "pure"]))
    (folder / "notes.txt").write_text("no package", "utf-8")
    origins = packed(tmp_path, wanted(find_links=links), include=(folder,))
    assert origins[mine.filename] == {"kind": "file"}
    assert set(origins) == {built.filename for built in [mine, lib, make_wheel("pure"), *backend()]}


def test_an_included_project_is_never_looked_for_elsewhere(tmp_path: Path) -> None:
    mine = make_wheel("acme-app")
    with Server() as server:
        lines = replace(wanted(find_links=tmp_path), index_url=f"{server.url}/simple/", no_index=False)
        packed(tmp_path, lines, include=(mine.save(tmp_path / "own"),))
        assert not server.requests


def test_included_files_with_hashes_elsewhere(tmp_path: Path, links: Path) -> None:
    mine = make_wheel("acme-app", requires=["pure"])
    lines = wanted("pure==1.0", find_links=links, hashes={"pure": make_wheel("pure").sha256})
    assert set(packed(tmp_path, lines, include=(dist(tmp_path, mine),))) >= {mine.filename}


def test_included_wheels_of_another_machine_are_explained(tmp_path: Path, links: Path) -> None:
    folder = dist(tmp_path, make_wheel("acme-app", tag="cp312-cp312-win_amd64"))
    targets = (make_target("3.12", ["macosx_14_0_arm64"]),)
    with pytest.raises(ResolutionError, match=r"--include asks for acme-app==1\.0"):
        pack(wanted(find_links=links), targets, None, config(tmp_path), include=(folder,))


def test_what_can_not_be_included(tmp_path: Path, links: Path) -> None:
    two = dist(tmp_path, make_wheel("acme-app"), make_wheel("acme-app", "2.0"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no package", "utf-8")
    for path, problem in (
        (two, "two versions of acme-app"),
        (tmp_path / "empty", "no wheel and no sdist"),
        (tmp_path / "notes.txt", "neither a wheel nor an sdist"),
        (tmp_path / "absent-1.0-py3-none-any.whl", "can't be read"),
    ):
        with pytest.raises(UsageError, match=problem):
            packed(tmp_path, wanted(find_links=links), include=(path,))
