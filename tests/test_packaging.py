"""The distribution itself: what a user installs, from the wheel and from the sdist."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import mirror

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def entries(lock: str) -> list[str]:
    """The lock's entries, one string each, comments left out."""
    lines = [line for line in (ROOT / lock).read_text("utf-8").splitlines() if line.strip() and "#" not in line[:5]]
    return re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()


def pins(lock: str) -> dict[NormalizedName, set[Version]]:
    found: dict[NormalizedName, set[Version]] = {}
    for entry in entries(lock):
        match = PIN.match(entry)
        assert match, entry
        found.setdefault(canonicalize_name(match["name"]), set()).add(Version(match["version"]))
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from that sdist and not from the tree."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", "--outdir", folder, ROOT)
    return folder


def test_a_fresh_environment_runs_the_wheel(built: Path, tmp_path: Path) -> None:
    venv.create(tmp_path, symlinks=os.name != "nt")
    scripts = tmp_path / ("Scripts" if os.name == "nt" else "bin")
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--no-index", "--no-deps", wheel)
    site = run(scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    # The dependencies come from the environment that runs the tests: this test needs no index.
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    assert run(scripts / "airgap", "--version", cwd=tmp_path).split()[-1] == mirror.__version__
    assert run(scripts / "python", "-m", "mirror", "--version", cwd=tmp_path).split()[-1] == mirror.__version__
    origin = run(scripts / "python", "-c", "import mirror; print(mirror.__file__)", cwd=tmp_path).strip()
    assert Path(origin).resolve().is_relative_to(tmp_path.resolve())


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        fields = archive.read(metadata).decode()
    assert wheel.name == f"airgap_mirror-{mirror.__version__}-py3-none-any.whl"
    assert {name.split("/")[0] for name in names} == {"mirror", metadata.split("/")[0]}
    assert {"mirror/py.typed", metadata.replace("METADATA", "licenses/LICENSE")} <= set(names)
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mirror").rglob("*.py")}
    assert ours <= set(names)
    assert f"Version: {mirror.__version__}\n" in fields
    assert "License-Expression: Apache-2.0\n" in fields


def test_the_sdist_holds_what_a_build_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "PKG-INFO", "LICENSE", "README.md", "mirror/py.typed"} <= names


@pytest.mark.parametrize(
    "lock", ["lockfiles/build.txt", "lockfiles/runtime.txt", "lockfiles/test.txt", "lockfiles/examples/web.txt"]
)
def test_every_line_of_a_lock_is_pinned_and_hashed(lock: str) -> None:
    for entry in entries(lock):
        assert PIN.match(entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("lockfiles/build.txt", PYPROJECT["build-system"]["requires"]),
        ("lockfiles/runtime.txt", PYPROJECT["project"]["dependencies"]),
        ("lockfiles/runtime.txt", PYPROJECT["project"]["optional-dependencies"]["keyring"]),
        ("lockfiles/runtime.txt", PYPROJECT["project"]["optional-dependencies"]["serve"]),
        ("lockfiles/test.txt", PYPROJECT["project"]["dependencies"]),
        ("lockfiles/test.txt", PYPROJECT["dependency-groups"]["test"]),
    ],
)
def test_the_locks_fit_pyproject(lock: str, requirements: list[str]) -> None:
    locked = pins(lock)
    for requirement in map(Requirement, requirements):
        versions = locked.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement} is not in {lock}: run scripts/lock"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: run scripts/lock"


def test_both_environments_have_the_same_dependencies() -> None:
    runtime, tested = pins("lockfiles/runtime.txt"), pins("lockfiles/test.txt")
    assert {name: versions for name, versions in tested.items() if name in runtime} == runtime


@pytest.mark.parametrize("source", ["web.in", "science.txt", "services.in", "bench.in"])
def test_examples_are_requirements(source: str) -> None:
    lines = (ROOT / "lockfiles/examples" / source).read_text("utf-8").splitlines()
    assert [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_the_readme_gives_a_reason_for_every_dependency() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    for requirement in map(
        Requirement, [*PYPROJECT["project"]["dependencies"], *(line for lines in extras for line in lines)]
    ):
        assert f"| `{requirement.name}`" in readme, requirement.name


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{mirror.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_installed_version() -> None:
    if os.environ.get("AIRGAP_TEST_INSTALLED") == "1":
        assert importlib.metadata.version("airgap-mirror") == mirror.__version__
