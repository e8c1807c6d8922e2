"""Real clients against a served repository: installers and uploaders, the oldest and the newest that are found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror import serve
from mirror.serve.hosted import Claims
from mirror.serve.server import Running
from tests import plain
from tests.test_serve_http import JSON
from tests.test_serve_search import PYTHONS
from tests.wheelhouse import make_sdist, make_wheel

USER = ("deployer", "deployer's password")
PDM = "pdm[locked]"  # with the versions that it was released with: it breaks with hishel 2, which it does not exclude
PYPROJECT = """\
[project]
name = "by-poetry"
version = "1.0"
description = "made for a test"
requires-python = ">=3.8"

[build-system]
requires = ["flit_core>=3.9"]
build-backend = "flit_core.buildapi"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose repository wants a user for writing."""
    folder = tmp_path_factory.mktemp("clients")
    serve.open_users(folder / "home").add(*USER, {"*": "write"})
    with serve.running(folder / "home") as found, serve.embedded_publisher(folder / "home") as publisher:
        for built in (
            make_wheel("app", requires=["lib>=1"], tag="py2.py3-none-any"),
            make_wheel("lib", "1.5", tag="py2.py3-none-any"),
            make_wheel("lib", "2.0", tag="py2.py3-none-any", requires_python=">=99"),
        ):
            publisher._repository.add(built.save(folder), built.filename, Claims())
        yield found


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(cwd),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "NO_COLOR": "1",
        **(env or {}),
    }
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=280)


def listed(server: Running, project: str) -> list[str]:
    page = plain.get(f"{server.index_url('pypi-hosted')}{project}/", headers={"accept": JSON}).json()
    return sorted(file["filename"] for file in page["files"])


# Installers


@pytest.mark.parametrize("python", [*PYTHONS[:1], *PYTHONS[-1:], sys.executable], ids=str)
def test_pip_of_every_age_installs(server: Running, tmp_path: Path, python: Path | str) -> None:
    done = run(
        str(python), "-W", "ignore", "-m", "pip", "install", "-q", "-i", server.index_url("pypi-hosted"), "--target",
        str(tmp_path / "target"), "app", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1.5" in (tmp_path / "target" / "lib.py").read_text()


def test_uv_pip_installs(server: Running, tmp_path: Path) -> None:
    done = run(
        sys.executable, "-m", "uv", "pip", "install", "--default-index", server.index_url("pypi-hosted"), "--target",
        str(tmp_path / "target"), "--python", sys.executable, "--cache-dir", str(tmp_path / "cache"), "app",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1.5" in (tmp_path / "target" / "lib.py").read_text()


# Uploaders, which their own index brings


def tool(requirement: str, *command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a tool in an environment that uv makes from the configured index; return all that it says."""
    uv = {**os.environ, "HOME": str(cwd), "NO_COLOR": "1", **(env or {})}
    cache = os.environ.get("UV_CACHE_DIR")
    if cache is None:
        uv["UV_CACHE_DIR"] = str(Path.home() / ".cache" / "uv")
    full = [sys.executable, "-m", "uv", "tool", "run", "-q", "--python", sys.executable, "--from", requirement]
    done = subprocess.run([*full, *command], capture_output=True, text=True, check=False, cwd=cwd, env=uv, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.network
@pytest.mark.parametrize("version", ["6.1.0", "7.0.0"])
def test_twine_uploads(server: Running, tmp_path: Path, version: str) -> None:
    name = f"by-twine-{version[0]}"
    paths = [str(built.save(tmp_path / "dist")) for built in (make_wheel(name), make_sdist(name))]
    env = {"TWINE_USERNAME": USER[0], "TWINE_PASSWORD": USER[1]}
    upload = ["twine", "upload", "--non-interactive", "--repository-url", server.repository_url("pypi-hosted")]
    for _ in range(2):
        tool(f"twine=={version}", *upload, *paths, cwd=tmp_path, env=env)
    assert len(listed(server, name)) == 2


@pytest.mark.network
def test_poetry_publishes(server: Running, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    make_wheel("by-poetry").save(tmp_path / "dist")
    env = {
        "POETRY_REPOSITORIES_HERE_URL": server.repository_url("pypi-hosted"),
        "POETRY_HTTP_BASIC_HERE_USERNAME": USER[0],
        "POETRY_HTTP_BASIC_HERE_PASSWORD": USER[1],
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }
    for _ in range(2):
        tool("poetry", "poetry", "publish", "--no-interaction", "-r", "here", cwd=tmp_path, env=env)
    assert len(listed(server, "by-poetry")) == 1


@pytest.mark.network
def test_pdm_publishes_and_installs(server: Running, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT.replace("by-poetry", "by-pdm"))
    make_wheel("by-pdm").save(tmp_path / "dist")
    where = ["-r", server.repository_url("pypi-hosted"), "--username", USER[0], "--password", USER[1]]
    for _ in range(2):
        tool(PDM, "pdm", "publish", "--no-build", *where, cwd=tmp_path)
    assert len(listed(server, "by-pdm")) == 1
    (tmp_path / "pyproject.toml").write_text(
        "[project]\nname = 'uses'\nversion = '1'\nrequires-python = '>=3.8'\ndependencies = ['app']\n"
        f"[tool.pdm]\ndistribution = false\n[[tool.pdm.source]]\nname = 'pypi'\n"
        f"url = '{server.index_url('pypi-hosted')}'\nverify_ssl = false\n"
    )
    tool(PDM, "pdm", "lock", cwd=tmp_path)
    lock = (tmp_path / "pdm.lock").read_text()
    assert "sha256:" in lock
    assert 'version = "1.5"' in lock


def test_setup_py_uploads(server: Running, tmp_path: Path) -> None:
    old = next((path for path in PYTHONS if path.parts[-3].startswith("2.7")), None)
    if old is None:
        pytest.skip("no Python 2.7 is found, and setuptools dropped the command later")
    (tmp_path / "setup.py").write_text("from setuptools import setup; setup(name='by-setup', version='1.0')")
    (tmp_path / ".pypirc").write_text(
        f"[distutils]\nindex-servers = here\n[here]\nrepository = {server.repository_url('pypi-hosted')}\n"
        f"username = {USER[0]}\npassword = {USER[1]}\n"
    )
    done = run(str(old), "setup.py", "sdist", "upload", "-r", "here", cwd=tmp_path)
    assert "Server response (200)" in done.stdout + done.stderr, done.stdout + done.stderr
    assert listed(server, "by-setup") == ["by-setup-1.0.tar.gz"]
