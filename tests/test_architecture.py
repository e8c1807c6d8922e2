"""The module map of docs/design.md, enforced: who may import whom, who may use which library, what loads at start."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mirror
from tests.wheelhouse import make_wheel

ROOT = Path(mirror.__file__).parent
BASE = {"errors", "urls", "models"}
CORE = {
    "config",
    "targets",
    "filenames",
    "net",
    "store",
    "index",
    "metadata",
    "build",
    "resolver",
    "lockfiles",
    "fetch",
    "bundle",
    "push",
}
#: What each module may import, besides itself and (below the first three lines) BASE.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "urls": {"errors"},
    "models": {"errors", "urls"},
    "filenames": BASE,
    "durable": set(),
    "once": set(),
    "spelling": set(),
    "objects": BASE,
    "signing": BASE | {"durable"},
    "config": BASE,
    "targets": BASE | {"filenames"},
    "describe_target": set(),
    "net": BASE,
    "store": BASE | {"durable"},
    "index": BASE | {"filenames", "net", "once", "store"},
    "metadata": BASE | {"filenames", "net", "once", "store"},
    "build": BASE | {"metadata"},
    "resolver": BASE | {"filenames", "targets"},
    "lockfiles": BASE | {"filenames", "targets"},
    "fetch": BASE | {"net", "store"},
    "bundle": BASE | {"durable", "filenames", "spelling", "store", "index.simple", "index.static"},
    "push": BASE | {"durable", "filenames", "index", "net", "objects", "spelling", "store", "bundle"},
    # The embedded repository implements push's Protocol, so the arrow points from the adapter to the port.
    "serve": BASE
    | {"durable", "filenames", "config", "index", "metadata", "net", "objects", "store", "push.publisher"},
    "ops": BASE | CORE | {"objects"},
    "sync": BASE | CORE | {"durable", "ops", "signing", "spelling"},
    "cli": BASE | CORE | {"durable", "ops", "serve", "signing", "sync"},
    "__main__": {"cli"},
}
#: Libraries that only some modules may use: one place opens connections, one draws, one knows SQL.
LIBRARIES: dict[str, set[str]] = {
    "click": {"cli"},
    "cryptography": {"signing"},
    "http.client": {"net"},
    "httpcore": {"net"},
    "keyring": {"config"},
    "obstore": {"objects"},
    "platformdirs": {"config"},
    "prometheus_client": {"serve"},
    "psycopg": {"serve"},
    "python_multipart": {"serve"},
    "pyproject_hooks": {"build"},
    "readme_renderer": {"serve"},
    "resolvelib": {"resolver"},
    "sqlalchemy": {"serve"},
    "starlette": {"serve"},
    "subprocess": {
        "build",
        "config",
        "describe_target",
        "ops",
    },  # builds and git; keyring; libc; the installers of verify
    "tqdm": {"cli"},
    "truststore": {"net"},
    "uvicorn": {"serve"},
    "zstandard": {"bundle"},
}
HEAVY = {
    "cryptography",
    "httpcore",
    "keyring",
    "obstore",
    "psycopg",
    "resolvelib",
    "sqlalchemy",
    "starlette",
    "tqdm",
    "truststore",
    "uvicorn",
    "zstandard",
}


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a file imports anywhere in it; ``from a import b`` counts as ``a`` and as ``a.b``."""
    package = ["mirror", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def module_of(path: Path) -> str:
    """The row of the module map that a file belongs to; the package's own ``__init__`` has none."""
    first = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def within(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(f"{allowed}.")


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_follow_the_arrows(path: Path) -> None:
    module = module_of(path)
    allowed = {"__version__"} if module in {"", "__main__"} else {"__version__", module}
    allowed |= ARROWS[module] if module else set()
    ours = [name.removeprefix("mirror.") for name in imported(path) if within(name, "mirror")]
    wrong = sorted(name for name in ours if not any(within(name, arrow) for arrow in allowed))
    assert not wrong, f"mirror.{module} may not import {', '.join(wrong)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_libraries_stay_in_their_modules(path: Path) -> None:
    wrong = sorted(
        name
        for name in imported(path)
        for library, users in LIBRARIES.items()
        if within(name, library) and module_of(path) not in users
    )
    assert not wrong


def test_the_arrows_have_no_circle() -> None:
    arrows = {module: {name.split(".")[0] for name in names} for module, names in ARROWS.items()}
    while arrows:
        leaves = {module for module, names in arrows.items() if not names & arrows.keys()}
        assert leaves, f"a circle among {', '.join(sorted(arrows))}"
        arrows = {module: names for module, names in arrows.items() if module not in leaves}


def test_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, mirror.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(loaded.stdout.split())


def test_help_loads_nothing_heavy() -> None:
    help_ = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mirror", "--help"], capture_output=True, text=True, check=True
    )
    assert "pack" in help_.stdout
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in help_.stderr.splitlines()}
    assert "click" in loaded
    assert not HEAVY & loaded


#: Modules that other Python programs load and these commands have no use for; each costs some milliseconds at start.
NEEDLESS = {
    "keyring",
    "mirror.build.backend",
    "mirror.build.git",
    "mirror.lockfiles.lock",
    "mirror.ops.delta",
    "mirror.push.receipt",
    "mirror.serve.app",
    "multiprocessing",
    "rich",
    "sqlalchemy",
    "tqdm",
    "truststore",
    "urllib3",
}


def test_packing_loads_no_more_than_it_needs(tmp_path: Path) -> None:
    """Neither the first time nor when nothing has changed."""
    packages = tmp_path / "packages"
    packages.mkdir()
    wheel = make_wheel("tidy")
    (packages / wheel.filename).write_bytes(wheel.data)
    (tmp_path / "requirements.txt").write_text("tidy\n", "utf-8")
    options = ["--no-index", "--find-links", str(packages), "-o", str(tmp_path / "bundle.tar.zst"), "--quiet"]
    code = "import sys; from mirror.cli import airgap; airgap(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code, "pack", str(tmp_path / "requirements.txt"), *options],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "AIRGAP_CACHE": str(tmp_path / "cache")},
        )
        assert not NEEDLESS & set(done.stdout.split())
