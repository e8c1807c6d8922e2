"""Locks made by uv, Poetry and PDM (tests/data/locks), read for machines that are not this one."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.markers import Environment
from packaging.pylock import PackageSdist, PackageWheel, Pylock
from packaging.requirements import Requirement
from packaging.tags import Tag
from uv import find_uv_bin

from mirror.errors import RequirementsError, ResolutionError, UsageError
from mirror.lockfiles import read
from mirror.lockfiles.lock import Lock, chains, choose, read_marker
from mirror.lockfiles.toml import Table, parse
from mirror.models import FormatControl, Target
from mirror.targets import Ranks, make_target

LOCKS = Path(__file__).parent / "data" / "locks"
UV, PYLOCK = LOCKS / "uv" / "uv.lock", LOCKS / "uv" / "pylock.toml"
POETRY, PDM = LOCKS / "poetry" / "poetry.lock", LOCKS / "pdm" / "pdm.lock"
TARGETS = [
    make_target("3.10", ["linux"]),
    make_target("3.11.7", ["macos"]),
    make_target("3.12", ["windows"]),
    make_target("3.13t", ["musllinux_1_2_aarch64"]),
    make_target("3.15", ["linux-aarch64"]),
]
ASKED = [((), ()), (("cli",), ()), (("fast",), ("dev",)), (("cli", "fast"), ("lint",))]


def lock(path: Path, extras: tuple[str, ...] = (), groups: tuple[str, ...] = ()) -> Lock:
    found = read([str(path)], environ={}, extras=extras, groups=groups).lock
    assert found is not None
    return found


def pins(lock: Lock, target: Target) -> dict[str, str]:
    return {package.project: package.version for package in lock.select(target).packages}


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize(("extras", "groups"), ASKED)
def test_uv_lock_as_uv_exports_it(extras: tuple[str, ...], groups: tuple[str, ...]) -> None:
    options = [option for name in extras for option in ("--extra", name)]
    options += [option for name in groups for option in ("--group", name)]
    command = [find_uv_bin(), "export", "-q", "--frozen", "--offline", "--no-config", "--no-hashes", "--no-header"]
    exported = subprocess.run(
        [*command, "--no-emit-project", "--no-default-groups", "--no-annotate", *options],
        cwd=UV.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = [Requirement(line) for line in exported.splitlines()]
    for target in TARGETS:
        here = [line for line in lines if line.marker is None or line.marker.evaluate(target.environment)]
        expected = {line.name: str(line.specifier).removeprefix("==") for line in here}
        assert pins(lock(UV, extras, groups), target) == expected


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_pylock_as_packaging_selects(target: Target) -> None:
    theirs: dict[str, str] = {}
    tags = [Tag(*tag.split("-")) for tag in target.tags]
    environment = Environment(**target.environment)  # type: ignore[typeddict-item]
    document = Pylock.from_dict(parse(PYLOCK.read_text(), PYLOCK.name).values)
    for package, chosen in document.select(environment=environment, tags=tags):
        assert isinstance(chosen, PackageWheel | PackageSdist)
        theirs[package.name] = chosen.filename
    ranks = Ranks(target)
    ours = {p.project: choose(p, ranks, FormatControl()) for p in lock(PYLOCK).select(target).packages}
    assert {project: file and file.filename for project, file in ours.items()} == theirs


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize(("extras", "groups"), ASKED)
def test_poetry_and_pdm_agree_with_uv(extras: tuple[str, ...], groups: tuple[str, ...], target: Target) -> None:
    theirs = pins(lock(UV, extras, groups), target)
    assert pins(lock(POETRY, extras, groups), target) == theirs
    if "cli" in extras:  # PDM's lock has one marker for two groups, and so installs this where one of them needs it
        theirs.setdefault("typing-extensions", "4.16.0")
    if target.python >= "3.15":
        theirs.pop("typing-extensions", None)
    theirs["attrs"] = "25.3.0"  # PDM takes one version for all
    assert pins(lock(PDM, extras, groups), target) == theirs


def test_files_and_digests_are_the_locks() -> None:
    for path, index, has_url in (
        (UV, "https://pypi.org/simple", True),
        (PYLOCK, "https://pypi.org/simple", True),
        (POETRY, "https://pypi.org/simple", False),
        (PDM, "", False),
    ):
        found = {str(p.project): p for p in lock(path).select(TARGETS[2]).packages}["markupsafe"]
        wheel = choose(found, Ranks(TARGETS[2]), FormatControl())
        assert wheel is not None
        assert wheel.filename == "markupsafe-3.0.4-cp312-cp312-win_amd64.whl"
        assert (wheel.index, bool(wheel.url)) == (index, has_url)
        assert len(wheel.hashes.sha256 or "") == 64
        sdist = choose(found, Ranks(TARGETS[2]), FormatControl(no_binary=frozenset({"markupsafe"})))
        assert sdist is not None
        assert not sdist.is_wheel
        nothing = Ranks(make_target("3.5", ["windows"]))
        assert choose(found, nothing, FormatControl(only_binary=frozenset({":all:"}))) is None


def test_the_source_goes_along_without_passwords(tmp_path: Path) -> None:
    text = PYLOCK.read_text().replace("https://pypi.org/", "https://bob:secret@pypi.org/")
    inputs = read([write(tmp_path, "pylock.prod.toml", text)], environ={})
    assert [name for name, _ in inputs.wanted.sources] == ["pylock.prod.toml"]
    assert "secret" not in inputs.wanted.sources[0][1]
    assert inputs.lock is not None
    assert all("secret" not in file.index for package in inputs.lock.packages for file in package.files)


def test_too_old_a_python_is_refused() -> None:
    for path in (UV, PYLOCK, POETRY, PDM):
        with pytest.raises(ResolutionError, match=r"made for Python >=3\.10, and this target has 3\.9\.0"):
            lock(path).select(make_target("3.9", ["linux"]))


@pytest.mark.parametrize("path", [UV, POETRY, PDM, UV.parent / "pyproject.toml"], ids=lambda path: path.name)
def test_unknown_extras_and_groups_are_errors(path: Path) -> None:
    with pytest.raises(RequirementsError, match=r"there is no extra 'fsat'; it has .*fast"):
        read([str(path)], environ={}, extras=["fsat"])
    with pytest.raises(RequirementsError, match=r"there is no group 'de_v'|there is no group 'de-v'"):
        read([str(path)], environ={}, groups=["de_v"])


def test_pyproject_with_extras_and_groups() -> None:
    inputs = read([str(UV.parent / "pyproject.toml")], environ={}, extras=["ALL"], groups=["Dev"])
    texts = [str(line.requirement) for line in inputs.wanted.requirements]
    assert texts[2:] == [
        "click==8.1.8",
        "jinja2==3.1.6",
        'tomli==2.2.1; python_version < "3.11"',
        "rich==14.0.0",
        "httpx[socks]==0.28.1",
        "iniconfig==2.1.0",
        "pathspec==0.12.1",
    ]
    assert inputs.wanted.requirements[5].origin == "pyproject.toml [project.optional-dependencies] cli"
    inputs.check([TARGETS[0]])
    with pytest.raises(ResolutionError, match=r"was made for Python >=3\.10"):
        inputs.check([make_target("3.9", ["linux"])])


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("[tool.poetry]\nname = 'a'\n", {}, r"no \[project\] table"),
        ("[project]\nname = 'a'\ndynamic = ['dependencies']\n", {}, "dependencies are dynamic"),
        ("[project]\nname = 'a'\ndependencies = ['b c']\n", {}, "not a requirement"),
        ("[project]\nname = 'a'\ndependencies = 'b'\n", {}, "must be a list of texts"),
        ("[project\n", {}, "not valid TOML"),
        ("[dependency-groups]\na=[{include-group='b'}]\nb=[{include-group='a'}]\n", {"groups": ["a"]}, "Cyclic"),
        ("[dependency-groups]\na=[{include-group='c'}]\n", {"groups": ["a"]}, "'c' not found"),
        ("[dependency-groups]\na=[{include='c'}]\n", {"groups": ["a"]}, "Invalid dependency group item"),
        (
            "[project]\nname='a'\ndependencies=['b']\n[tool.uv.sources]\nB = {git = 'https://x'}\n",
            {},
            "b comes from elsewhere",
        ),
    ],
)
def test_pyprojects_that_cannot_be_used(
    tmp_path: Path, text: str, options: Mapping[str, list[str]], message: str
) -> None:
    with pytest.raises(RequirementsError, match=message) as raised:
        read([write(tmp_path, "pyproject.toml", text)], environ={}, **options)
    assert "pyproject.toml" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("uv.lock", "version = 2\n", "version 2 of uv's lock"),
        ("uv.lock", "version = 1\n", "it locks no project"),
        ("uv.lock", "version = 1\n[[package]]\nversion = '1'\nsource = {virtual = '.'}\n", r"package\[0\]: name is"),
        ("uv.lock", "version = 1\n[[package]]\nname = 'a'\nversion = 'x'\nsource = {registry='r'}\n", "not a version"),
        ("poetry.lock", "[metadata]\nlock-version = '2.0'\n", "does not say which package is for which group"),
        ("poetry.lock", "[metadata]\nlock-version = '3.0'\n", "not known here"),
        ("poetry.lock", "", "lock-version is missing"),
        ("pdm.lock", "[metadata]\nlock_version = '4.5.0'\nstrategy = []\n", "which package is for which group"),
        ("pdm.lock", "[metadata]\nlock_version = '3.1'\n", "not known here"),
        ("pylock.toml", "lock-version = '2.0'\ncreated-by = 'x'\npackages = []\n", r"not a lock \(PEP 751\)"),
        ("pylock.toml", "lock-version = '1.0'\n", r"not a lock \(PEP 751\)"),
        (
            "pylock.toml",
            (
                "lock-version='1.0'\ncreated-by='x'\n[[packages]]\nname='a'\nversion='1'\n[[packages.wheels]]\n"
                "name='b-1-py3-none-any.whl'\nurl='https://x/b-1-py3-none-any.whl'\nhashes={sha256='aa'}\n"
            ),
            "PEP 751|not a file of a 1|not a sha256 digest",
        ),
        ("Pipfile.lock", "{}", "neither a requirements file nor a lock"),
        ("environment.yml", "", "neither a requirements file nor a lock"),
    ],
)
def test_locks_that_cannot_be_used(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(RequirementsError, match=message):
        read([write(tmp_path, name, text)], environ={})


@pytest.mark.parametrize("path", [UV, POETRY, PDM, PYLOCK], ids=lambda path: path.name)
def test_a_file_of_another_project_is_refused(tmp_path: Path, path: Path) -> None:
    text = path.read_text().replace("click-8.1.8-py3", "clack-8.1.8-py3")
    with pytest.raises(RequirementsError, match=r"clack-8\.1\.8-py3-none-any\.whl|PEP 751"):
        read([write(tmp_path, path.name, text)], environ={})


def test_what_does_not_go_together(tmp_path: Path) -> None:
    requirements = write(tmp_path, "requirements.txt", "click\n")
    with pytest.raises(UsageError, match="a lock is packed alone"):
        read([requirements, str(UV)], environ={})
    with pytest.raises(UsageError, match="--extra and --group"):
        read([requirements], environ={}, extras=["a"])
    both = read([requirements, str(UV.parent / "pyproject.toml")], environ={}).wanted
    assert len(both.requirements) == 6
    assert [name for name, _ in both.sources] == ["requirements.txt", "pyproject.toml"]


def test_uv_workspace_and_conflicting_extras(tmp_path: Path) -> None:
    text = """
version = 1
requires-python = ">=3.10"
conflicts = [[{ package = "app", extra = "one" }, { package = "app", extra = "two" }]]

[[package]]
name = "app"
version = "1"
source = { editable = "." }
dependencies = [{ name = "member" }]

[package.optional-dependencies]
one = [{ name = "leaf", version = "1.0", source = { registry = "https://i.example/simple" } }]
two = [{ name = "leaf", version = "2.0", source = { registry = "https://i.example/simple" } }]

[[package]]
name = "member"
version = "1"
source = { editable = "packages/member" }
dependencies = [
    { name = "only-one", marker = "extra == 'extra-3-app-one' and extra != 'extra-3-app-two'" },
]

[[package]]
name = "leaf"
version = "1.0"
source = { registry = "https://i.example/simple" }

[[package]]
name = "leaf"
version = "2.0"
source = { registry = "https://i.example/simple" }

[[package]]
name = "only-one"
version = "1.0"
source = { registry = "../wheels" }
wheels = [{ path = "only_one-1.0-py3-none-any.whl" }]
"""
    path = Path(write(tmp_path, "uv.lock", text))
    found = lock(path, extras=("one",)).select(TARGETS[0])
    assert {p.project: (p.version, p.elsewhere) for p in found.packages} == {
        "leaf": ("1.0", ""),
        "member": ("1", "a folder"),
        "only-one": ("1.0", ""),
    }
    wheel = found.packages[2].files[0]
    assert (wheel.url, wheel.index) == (
        (tmp_path / "../wheels/only_one-1.0-py3-none-any.whl").as_uri(),
        "",
    )
    assert set(pins(lock(path), TARGETS[0])) == {"member"}
    with pytest.raises(ResolutionError, match=r"installs both leaf 1\.0 and 2\.0"):
        lock(path, extras=("one", "two")).select(TARGETS[0])


def test_a_requirement_that_the_lock_lacks(tmp_path: Path) -> None:
    text = (
        "version = 1\n[[package]]\nname = 'app'\nversion = '1'\nsource = {virtual = '.'}\n"
        "dependencies = [{name = 'mid'}]\n"
        "[[package]]\nname = 'mid'\nversion = '2.0'\nsource = {registry = 'https://i.example'}\n"
        "dependencies = [{name = 'gone'}]\n"
    )
    with pytest.raises(ResolutionError, match=r"has no gone\.\n  uv\.lock → mid 2\.0 → gone"):
        lock(Path(write(tmp_path, "uv.lock", text))).select(TARGETS[0])


def test_extras_in_markers_are_a_set() -> None:
    at = Table({}, "x.lock")
    both = read_marker("(extra == 'a' and extra == 'b') or 'c' != extra", at)
    assert str(both) == '("a" in extras and "b" in extras) or "c" not in extras'
    assert read_marker("", at) is None
    with pytest.raises(RequirementsError, match="not a marker"):
        read_marker("nonsense", at)


def test_chains_without_roots_and_in_circles() -> None:
    versions = {"a": "1", "b": "1", "c": "1", "d": "1"}
    edges = {"a": ["b"], "c": ["d"], "d": ["c"]}
    assert chains("l", versions, edges, ()) == {  # type: ignore[arg-type]
        "a": ("l: a==1",),
        "b": ("l: a==1", "a 1: b"),
        "c": ("l: c==1",),
        "d": ("l: c==1", "c 1: d"),
    }


@pytest.mark.parametrize(
    ("pythons", "fits", "refused"),
    [("^3.10", "3.13", "3.9"), ("~3.11", "3.11.9", "3.12"), (">=3.10,<3.13", "3.12", "3.13"), ("*", "3.6", None)],
)
def test_pythons_as_poetry_spells_them(tmp_path: Path, pythons: str, fits: str, refused: str | None) -> None:
    text = f"[metadata]\nlock-version = '2.1'\npython-versions = '{pythons}'\n"
    found = lock(Path(write(tmp_path, "poetry.lock", text)))
    assert pins(found, make_target(fits, ["linux"])) == {}
    if refused:
        with pytest.raises(ResolutionError, match="was made for Python"):
            found.select(make_target(refused, ["linux"]))
