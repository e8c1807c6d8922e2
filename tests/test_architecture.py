"""The module map of docs/design.md, enforced: who may import whom, who may use which library, what loads at start."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mirror

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
    "config": BASE,
    "targets": BASE | {"filenames"},
    "net": BASE,
    "store": BASE | {"durable"},
    "index": BASE | {"filenames", "net", "store"},
    "metadata": BASE | {"filenames", "net", "store"},
    "build": BASE | {"metadata"},
    "resolver": BASE | {"filenames", "targets"},
    "lockfiles": BASE | {"filenames", "targets"},
    "fetch": BASE | {"net", "store"},
    "bundle": BASE | {"durable", "filenames", "store", "index.simple"},
    "push": BASE | {"durable", "filenames", "index", "net", "store", "bundle"},
    # The embedded repository implements push's Protocol, so the arrow points from the adapter to the port.
    "serve": BASE | {"durable", "filenames", "config", "index", "metadata", "net", "store", "push.publisher"},
    "ops": BASE | CORE,
    "sync": BASE | CORE | {"durable", "ops"},
    "cli": BASE | CORE | {"ops", "serve", "sync"},
    "__main__": {"cli"},
}
#: Libraries that only some modules may use: one place opens connections, one draws, one knows SQL.
LIBRARIES: dict[str, set[str]] = {
    "click": {"cli"},
    "http.client": {"net"},
    "httpx": {"net"},
    "keyring": {"config"},
    "platformdirs": {"config"},
    "python_multipart": {"serve"},
    "pyproject_hooks": {"build"},
    "readme_renderer": {"serve"},
    "resolvelib": {"resolver"},
    "sqlalchemy": {"serve"},
    "starlette": {"serve"},
    "subprocess": {"build", "config", "ops"},  # packages' own builds and git; keyring; the installers of verify
    "tqdm": {"cli"},
    "truststore": {"net"},
    "uvicorn": {"serve"},
    "zstandard": {"bundle"},
}
HEAVY = {"httpx", "keyring", "resolvelib", "sqlalchemy", "starlette", "tqdm", "truststore", "uvicorn", "zstandard"}


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
