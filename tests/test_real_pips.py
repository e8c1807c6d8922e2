"""What is unpacked from a bundle, the pips of every Python at hand install: offline, hashes required, sdists built.

Each Python describes itself with the script for isolated machines, so each is a target as a user would have it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import mirror
from mirror.targets import described_target
from tests.build_support import PYPROJECT, backend, leaving_traces, project, secretive
from tests.index_support import Warehouse, airgap, warehouse
from tests.interpreters import pythons_with_pip
from tests.test_direct import repository
from tests.wheelhouse import Built, make_sdist, make_wheel

SCRIPT = Path(mirror.__file__).with_name("describe_target.py")
EXAMPLES = Path(__file__).parents[1] / "lockfiles" / "examples"
LIVE = os.environ.get("AIRGAP_TEST_LIVE") == "1"


@dataclass(frozen=True)
class Machine:
    """A Python that stands for an isolated machine."""

    python: str
    target: str
    description: Path


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> list[Machine]:
    folder = tmp_path_factory.mktemp("machines")
    found: list[Machine] = []
    for number, python in enumerate(pythons_with_pip()):
        printed = subprocess.run([python, "-I", SCRIPT], capture_output=True, text=True, check=True).stdout
        path = folder / f"{number}.json"
        path.write_text(printed)
        found.append(Machine(python, described_target(json.loads(printed), "x").name, path))
    return found


@dataclass
class Case:
    """A folder and an index, and what pack is told."""

    folder: Path
    at: Warehouse
    machines: list[Machine]

    def publish(self, *built: Built) -> None:
        for each in built:
            self.at.publish(each)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def pack(self, *arguments: str | Path, output: str = "bundle.tar.zst") -> Path:
        described = [part for machine in self.machines for part in ("--target-file", machine.description)]
        index = ("--index-url", self.at.url(), "--retries", "0")
        ran = airgap("pack", *arguments, "-o", self.folder / output, "-q", *index, *described)
        assert ran.code == 0, ran.err
        return self.folder / output


def lines(*built: Built) -> str:
    """A requirements file with hashes."""
    parts = [(each.filename.removesuffix(".tar.gz").split("-"), each.sha256) for each in built]
    return "".join(f"{stem[0]}=={stem[1]} --hash=sha256:{sha256}\n" for stem, sha256 in parts)


def wheels(case: Case) -> Path:
    """Wheels and versions of every kind, extras that pull extras, markers, names in odd spellings; in a delta."""
    case.publish(make_wheel("stable", "0.9"), make_wheel("old"))
    case.pack(case.write("base.in", "stable\nold\n"), output="base.tar.zst")
    case.publish(
        make_wheel("app", requires=["Mid.Dle[more]>=1", "stable", "old; python_version < '3.11'", "local", "epoch"]),
        make_wheel("mid-dle", "1.5", requires=["leaf[x]; extra == 'more'"], extras=["more"]),
        make_wheel("leaf", "2.0.post1", requires=["tail==1.0rc1; extra == 'x'"], extras=["x"]),
        make_wheel("tail", "1.0rc1"),
        make_wheel("tail", "0.9"),
        make_wheel("stable", tag="cp37-abi3-manylinux_2_5_x86_64.manylinux1_x86_64"),
        make_wheel("stable", tag="cp37-abi3-win_amd64"),
        make_wheel("local", "1.0+cpu.2"),
        make_wheel("epoch", "1!2.0"),
        *(make_wheel("each", tag=f"cp3{minor}-cp3{minor}-manylinux_2_17_x86_64") for minor in range(9, 16)),
        make_wheel("each", "0.9"),
        make_wheel("built-twice", build="1"),
        make_wheel("built-twice", build="2"),
    )
    return case.pack(
        case.write("r.txt", "APP\neach\nbuilt_twice\ntail==1.0rc1\n"), "--since", case.folder / "base.tar.zst"
    )


def sdists(case: Case) -> Path:
    """A lock with hashes, whose sdist is built with what is itself only an sdist."""
    pyproject = '[build-system]\nrequires = ["tiny-backend", "tool"]\nbuild-backend = "tiny_backend"\n'
    files = {"tiny.json": project("by-hand", requires=["pure"], imports=["tool"])}
    tool = make_sdist("tool", pyproject=PYPROJECT, files={"tiny.json": project("tool")})
    built = [make_sdist("by-hand", requires=["pure"], pyproject=pyproject, files=files), tool, make_wheel("pure")]
    built += backend()
    case.publish(*built, make_wheel("pure", "2.0"))
    return case.pack(case.write("r.txt", lines(built[0])), "-c", case.write("c.txt", lines(*built[1:])))


def of_all_kinds(case: Case) -> Path:
    """What goes along is not installed and does not run; a wheel by URL, a commit as an sdist, an own wheel; a wheel
    built here for the targets like this machine, and its sdist for the others. In one bundle: a pip takes a second.
    """
    pytest.importorskip("pyproject_hooks")
    case.publish(
        leaving_traces("careful", case.folder / "trace"),
        make_wheel("careful"),
        make_wheel("careful", tag="cp39-abi3-manylinux_2_5_x86_64"),
    )
    case.publish(secretive("dynamic", requires=["pure"], asks=["asked"]), make_wheel("asked"))
    remote = make_wheel("remote", requires=["pure"])
    case.publish(remote, make_wheel("pure"), *backend())
    make_wheel("own", requires=["pure"]).save(case.folder / "dist")
    tree = PYPROJECT + '[project]\nname = "from-git"\nversion = "1.0"\n'
    files = {"pyproject.toml": tree.encode(), "tiny.json": project("from-git")}
    commit = repository(case.folder / "repository", files)
    git = f"git+{(case.folder / 'repository').as_uri()}@{commit}"
    url = f"{case.at.url()}files/{remote.filename}#sha256={remote.sha256}"
    lines = case.write("r.txt", f"careful\ndynamic\nremote @ {url}\nfrom-git @ {git}\n")
    options = ("--with-sdists", "--all-wheels", "--build-wheels", "dynamic")
    return case.pack(lines, *options, "--include", case.folder / "dist")


LOCKED = (make_wheel("app", requires=["leaf", "old; python_version < '3.11'"]), make_wheel("leaf"), make_wheel("old"))
OLD = "python_version < '3.11'"


def locks(case: Case) -> Path:
    """Locks of every kind that name the same files; newer versions are there, and stay there.

    What is unpacked from their bundles is the same, so that the pips need to install only one of them.
    """
    case.publish(*LOCKED, make_wheel("app", "2.0"), make_wheel("leaf", "2.0"))
    made = [kind(case) for kind in (pylock, uv, poetry, pdm)]
    given: list[dict[str, bytes]] = []
    for bundle in made:
        folder = case.folder / f"{bundle.name} unpacked"
        ran = airgap("unpack", bundle, folder, "-q")
        assert ran.code == 0, ran.err
        paths = [*folder.glob("packages/*"), *folder.glob("locks/*.txt")]
        given.append({path.name: path.read_bytes() for path in paths})
    expected = {each.filename for each in LOCKED} | {f"{machine.target}.txt" for machine in case.machines}
    assert expected <= given[0].keys()
    assert all(each == given[0] for each in given)
    return made[0]


def locked(case: Case, name: str, head: str, package: Callable[[Built, str, str], str], tail: str = "") -> Path:
    """Pack the lock *name* of LOCKED."""
    texts = [package(each, each.filename.split("-")[0], f"{case.at.url()}files/{each.filename}") for each in LOCKED]
    return case.pack(case.write(name, "".join([head, *texts, tail])), output=f"{name}.tar.zst")


def pylock(case: Case) -> Path:
    def package(built: Built, name: str, url: str) -> str:
        marker = f'marker = "{OLD}"\n' if name == "old" else ""
        file = f"{{name = '{built.filename}', url = '{url}', hashes = {{sha256 = '{built.sha256}'}}}}"
        return f"[[packages]]\nname = '{name}'\nversion = '1.0'\n{marker}wheels = [{file}]\n"

    return locked(case, "pylock.toml", "lock-version = '1.0'\ncreated-by = 'test'\n", package)


def uv(case: Case) -> Path:
    def package(built: Built, name: str, url: str) -> str:
        needs = f"dependencies = [{{name = 'leaf'}}, {{name = 'old', marker = \"{OLD}\"}}]\n" if name == "app" else ""
        return (
            f"[[package]]\nname = '{name}'\nversion = '1.0'\nsource = {{registry = '{case.at.url()}'}}\n{needs}"
            f"wheels = [{{url = '{url}', hash = 'sha256:{built.sha256}'}}]\n"
        )

    root = "[[package]]\nname = 'root'\nversion = '1'\nsource = {virtual = '.'}\ndependencies = [{name = 'app'}]\n"
    return locked(case, "uv.lock", f"version = 1\nrequires-python = '>=3.9'\n{root}", package)


def poetry(case: Case) -> Path:
    def package(built: Built, name: str, _: str) -> str:
        marker = f'markers = "{OLD}"\n' if name == "old" else ""
        file = f"{{file = '{built.filename}', hash = 'sha256:{built.sha256}'}}"
        return f"[[package]]\nname = '{name}'\nversion = '1.0'\ngroups = ['main']\n{marker}files = [{file}]\n"

    return locked(case, "poetry.lock", "", package, "[metadata]\nlock-version = '2.1'\npython-versions = '>=3.9'\n")


def pdm(case: Case) -> Path:
    def package(built: Built, name: str, url: str) -> str:
        marker = f'marker = "{OLD}"\n' if name == "old" else ""
        file = f"{{url = '{url}', hash = 'sha256:{built.sha256}'}}"
        return f"[[package]]\nname = '{name}'\nversion = '1.0'\ngroups = ['default']\n{marker}files = [{file}]\n"

    head = "[metadata]\ngroups = ['default']\nstrategy = ['inherit_metadata', 'static_urls']\nlock_version = '4.5.0'\n"
    return locked(case, "pdm.lock", head, package)


CASES = (wheels, sdists, of_all_kinds, locks)


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_every_pip_installs_the_bundle(make: Callable[[Case], Path], machines: list[Machine], tmp_path: Path) -> None:
    with warehouse() as at:
        bundle = make(Case(tmp_path, at, machines))
    base = tmp_path / "base.tar.zst"
    options: list[str | Path] = ["--base", base] if base.exists() else []
    install_everywhere(bundle, machines, tmp_path, *options)
    assert not (tmp_path / "trace").exists()


def install_everywhere(bundle: Path, machines: Sequence[Machine], folder: Path, *options: str | Path) -> None:
    """Unpack, and have each machine's pip install what is its own, with nobody to ask for more."""
    ran = airgap("unpack", bundle, folder / "wheels", *options)
    assert ran.code == 0, ran.err
    pins = {
        target["name"]: target["pins"]
        for target in json.loads((folder / "wheels" / "manifest.json").read_bytes())["targets"]
    }
    for machine in machines:
        site, lock = folder / "site" / machine.target, folder / "wheels" / "locks" / f"{machine.target}.txt"
        assert f"pip install -r {lock}" in ran.err
        done = subprocess.run(
            [machine.python, "-I", "-m", "pip", "install", "--no-compile", "--target", site, "-r", lock],
            cwd=folder,
            # It would read all that is installed where it is, which no isolated machine has.
            env={
                **os.environ,
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                "PIP_NO_WARN_CONFLICTS": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{machine.target}\n{done.stdout}{done.stderr}"
        assert installed(site) == pins[machine.target], machine.target


def installed(site: Path) -> dict[str, str]:
    names = [path.name.removesuffix(".dist-info").rpartition("-") for path in site.glob("*.dist-info")]
    return {name.lower().replace("_", "-").replace(".", "-"): version for name, _, version in names}


@pytest.mark.network
@pytest.mark.timeout(900)
@pytest.mark.skipif(not LIVE, reason="AIRGAP_TEST_LIVE is not 1")
@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_every_pip_installs_the_examples(path: Path, machines: list[Machine], tmp_path: Path) -> None:
    # web.txt has its versions from Python 3.10.
    machines = [machine for machine in machines if path.name != "web.txt" or not machine.target.startswith("cp39")]
    described = [part for machine in machines for part in ("--target-file", machine.description)]
    ran = airgap("pack", path, "-o", tmp_path / "bundle.tar.zst", "-q", *described)
    assert ran.code == 0, ran.err
    install_everywhere(tmp_path / "bundle.tar.zst", machines, tmp_path)
