"""Locks that have a package as a commit of a git repository: it goes along as an sdist of that commit."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mirror.bundle import BundleReader
from mirror.lockfiles.lock import git_reference
from tests.build_support import backend
from tests.index_support import LINUX, Warehouse, warehouse
from tests.test_direct import STATIC, repository
from tests.test_pack_locks import WINDOWS, pack
from tests.wheelhouse import make_wheel

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
PURE = make_wheel("pure")
SDIST = "own_thing-1.2.tar.gz"


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Warehouse]:
    """With what builds the commit, hashed in a constraints file as no lock has it."""
    with warehouse() as found:
        for built in (PURE, *backend()):
            found.publish(built)
        named = [f"{built.filename.split('-')[0]}==1.0 --hash=sha256:{built.sha256}\n" for built in backend()]
        (tmp_path / "build.txt").write_text("".join(named))
        yield found


def uv(stock: Warehouse, url: str, commit: str) -> str:
    return f"""
version = 1
[[package]]
name = "root"
source = {{ virtual = "." }}
dependencies = [{{ name = "own-thing" }}]
[[package]]
name = "own-thing"
version = "1.2"
source = {{ git = "{url}?subdirectory=part&rev=main#{commit}" }}
dependencies = [{{ name = "pure" }}]
[[package]]
name = "pure"
version = "1.0"
source = {{ registry = "{stock.url()}" }}
wheels = [{{ url = "{stock.url()}files/{PURE.filename}", hash = "sha256:{PURE.sha256}" }}]
"""


def poetry(stock: Warehouse, url: str, commit: str) -> str:
    return f"""
[[package]]
name = "own-thing"
version = "1.2"
groups = ["main"]
files = []
[package.dependencies]
pure = ">=1"
[package.source]
type = "git"
url = "{url}"
reference = "main"
resolved_reference = "{commit}"
subdirectory = "part"
[[package]]
name = "pure"
version = "1.0"
groups = ["main"]
files = [{{ file = "{PURE.filename}", hash = "sha256:{PURE.sha256}" }}]
[package.source]
type = "legacy"
url = "{stock.url()}"
reference = "own"
[metadata]
lock-version = "2.1"
python-versions = "^3.10"
"""


def pdm(stock: Warehouse, url: str, commit: str) -> str:
    return f"""
[metadata]
groups = ["default"]
strategy = ["inherit_metadata", "static_urls"]
lock_version = "4.5.0"
[[package]]
name = "own-thing"
version = "1.2"
git = "{url}"
ref = "main"
revision = "{commit}"
subdirectory = "part"
groups = ["default"]
dependencies = ["pure>=1"]
[[package]]
name = "pure"
version = "1.0"
groups = ["default"]
files = [{{ url = "{stock.url()}files/{PURE.filename}", hash = "sha256:{PURE.sha256}" }}]
"""


def pylock(stock: Warehouse, url: str, commit: str, *, marker: str = "") -> str:
    return f"""
lock-version = "1.0"
created-by = "test"
[[packages]]
name = "own-thing"
version = "1.2"
{f"marker = {marker!r}" if marker else ""}
vcs = {{ type = "git", url = "{url}", requested-revision = "main", commit-id = "{commit}", subdirectory = "part" }}
[[packages]]
name = "pure"
version = "1.0"
[[packages.wheels]]
name = "{PURE.filename}"
url = "{stock.url()}files/{PURE.filename}"
hashes = {{ sha256 = "{PURE.sha256}" }}
"""


@pytest.mark.parametrize(
    ("name", "spelled"), [("uv.lock", uv), ("poetry.lock", poetry), ("pdm.lock", pdm), ("pylock.toml", pylock)]
)
def test_a_commit_goes_along(
    tmp_path: Path, stock: Warehouse, name: str, spelled: Callable[[Warehouse, str, str], str]
) -> None:
    commit = repository(tmp_path / "own", {"part/pyproject.toml": STATIC.encode(), "other.py": b""})
    url = (tmp_path / "own").as_uri()
    options = (*LINUX, "-i", stock.url(), "-c", tmp_path / "build.txt")
    ran = pack(tmp_path, name, spelled(stock, url, commit), *options)
    assert ran.pins == {"own-thing": "1.2", "pure": "1.0"}
    with BundleReader(tmp_path / "bundle.tar.zst") as reader:
        files = {file.filename: file for file in reader.manifest.files}
    assert sorted(files) == sorted([SDIST, PURE.filename, *(built.filename for built in backend())])
    origin = {"kind": "git", "url": url, "commit": commit, "subdirectory": "part"}
    assert dict(files[SDIST].origin) == origin
    assert files[SDIST].chain == (f"{name}: own-thing==1.2",)


def test_a_commit_is_for_the_machines_that_the_lock_has_it_for(tmp_path: Path, stock: Warehouse) -> None:
    commit = repository(tmp_path / "own", {"part/pyproject.toml": STATIC.encode()})
    text = pylock(stock, (tmp_path / "own").as_uri(), commit, marker='sys_platform == "linux"')
    options = (*LINUX, *WINDOWS, "-i", stock.url(), "-c", tmp_path / "build.txt")
    found = pack(tmp_path, "pylock.toml", text, *options).document["targets"]
    assert {name: sorted(target["pins"]) for name, target in found.items()} == {
        "cp312-manylinux_2_28_x86_64": ["own-thing", "pure"],
        "cp312-win_amd64": ["pure"],
    }


def test_an_own_wheel_stands_in_for_a_commit(tmp_path: Path, stock: Warehouse) -> None:
    make_wheel("own-thing", "1.2", requires=["pure"]).save(tmp_path / "dist")
    text = uv(stock, "https://nowhere.invalid/own.git", "0" * 40)
    ran = pack(tmp_path, "uv.lock", text, *LINUX, "--include", tmp_path / "dist")
    assert ran.pins == {"own-thing": "1.2", "pure": "1.0"}


def test_a_commit_that_requires_more_than_the_lock_has_is_refused(tmp_path: Path, stock: Warehouse) -> None:
    grown = STATIC.replace("pure>=1", "pure>=2")
    commit = repository(tmp_path / "own", {"part/pyproject.toml": grown.encode()})
    text = uv(stock, (tmp_path / "own").as_uri(), commit)
    ran = pack(tmp_path, "uv.lock", text, *LINUX, "-i", stock.url(), "-c", tmp_path / "build.txt")
    assert ran.code == 3
    assert "own-thing 1.2 asks for pure>=2" in ran.err


@pytest.mark.parametrize(
    ("url", "subdirectory", "reference"),
    [
        ("https://host/a/b.git", None, "git+https://host/a/b.git@c0ffee"),
        ("ssh://git@host/a/b.git", None, "git+ssh://git@host/a/b.git@c0ffee"),
        ("git@host:a/b.git", None, "git+ssh://git@host/a/b.git@c0ffee"),
        ("https://host/a b.git", None, "git+https://host/a%20b.git@c0ffee"),
        ("https://host/a%20b.git", None, "git+https://host/a%20b.git@c0ffee"),
        ("ext::sh -c x", None, "git+ssh://ext/:sh%20-c%20x@c0ffee"),
        ("https://host/a/b.git", "sub folder", "git+https://host/a/b.git@c0ffee#subdirectory=sub%20folder"),
    ],
)
def test_a_commit_as_a_direct_reference(url: str, subdirectory: str | None, reference: str) -> None:
    assert git_reference(url, "c0ffee", subdirectory) == reference
    assert Requirement(f"x @ {reference}").url == reference


def test_two_commits_of_one_project_are_refused(tmp_path: Path, stock: Warehouse) -> None:
    url = "https://user:s3cret@nowhere.invalid/own.git"
    text = pylock(stock, url, "1" * 40, marker='sys_platform == "linux"')
    other = pylock(stock, url, "2" * 40, marker='sys_platform == "win32"')
    text += other[other.index("[[packages]]") : other.rindex("[[packages]]")]
    ran = pack(tmp_path, "pylock.toml", text, *LINUX, *WINDOWS)
    assert ran.code == 3
    assert "own-thing as two commits" in ran.err
    assert "s3cret" not in ran.err


def test_a_lock_that_names_no_commit_is_refused(tmp_path: Path, stock: Warehouse) -> None:
    ran = pack(tmp_path, "uv.lock", uv(stock, "https://nowhere.invalid/own.git", "main; x"), *LINUX)
    assert ran.code == 2
    assert "names no commit" in ran.err
