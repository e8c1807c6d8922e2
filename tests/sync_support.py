"""Two sides, a gap between them, and an index whose releases a test scripts."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tarfile import BLOCKSIZE, TarInfo

from zstandard import ZstdDecompressor

import mirror
from mirror.bundle import BundleReader, Manifest
from mirror.config import Config, Overrides, load
from mirror.models import Hashes, Target
from mirror.serve import embedded_publisher
from mirror.sync.outcome import Outcome
from mirror.sync.run import run_sync
from mirror.targets import named_target
from tests.wheelhouse import Built, core_metadata, make_wheel

TARGET = "cp312-manylinux_2_28_x86_64"
# A process that has everything imported and forks a child for every line that asks for one: a round in a process of
# its own, without an interpreter's start. Audit events come before what they tell of: the child ends with the file not
# yet opened, moved or deleted.
_HARMED = """
import gc, importlib, json, os, pkgutil, resource, signal, sys
import mirror
for module in pkgutil.walk_packages(mirror.__path__, "mirror."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from mirror.cli import main
gc.freeze()

def run(order, said):
    touched = 0
    def hook(event, arguments):
        nonlocal touched
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(order["folder"]):
            touched += 1
            if touched == order["kill_at"]:
                os.kill(os.getpid(), signal.SIGKILL)
    os.chdir(order["cwd"])
    os.environ.update(order["environ"])
    for stream in (1, 2):
        os.dup2(said, stream)
    if order["largest_file"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"],) * 2)
    sys.addaudithook(hook)
    sys.argv[1:] = ["sync", "plant"]
    main()

for line in sys.stdin:
    heard, said = os.pipe()  # a file of what it says would meet the limit of the others
    child = os.fork()
    if not child:
        try:
            run(json.loads(line), said)
        except SystemExit as ended:
            sys.stderr.flush()
            os._exit(ended.code or 0)  # a round is over; what the interpreter does on its way out is no part of it
    os.close(said)
    with open(heard, "rb") as stream:
        log = stream.read().decode()
    _, status = os.waitpid(child, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), log]), flush=True)
"""


class Nursery:
    """Rounds as processes of their own, which may be killed; see above."""

    def __init__(self) -> None:
        environ = {**os.environ, "PYTHONPATH": str(Path(mirror.__file__).parent.parent)}
        code = [sys.executable, "-c", _HARMED]
        self._process = subprocess.Popen(code, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, order: Mapping[str, object]) -> tuple[int, str]:
        """The exit code of one child, negative for a signal, and what it said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code, log = json.loads(self._process.stdout.readline())
        return code, log


named = functools.cache(named_target)


def targets(names: Sequence[str]) -> tuple[Target, ...]:
    return tuple(named(name) for name in names)


@dataclass
class Index:
    """A static index in a folder, PEP 691 pages behind ``file:``; ``releases`` are project, version, wheel, yanked."""

    folder: Path

    def __post_init__(self) -> None:
        self.releases: dict[tuple[str, str], tuple[Built, bool]] = {}
        self.url = (self.folder / "simple").as_uri()
        (self.folder / "files").mkdir(parents=True)

    def release(self, name: str, version: str, requires: Sequence[str] = (), *, description: str = "") -> Built:
        built = make_wheel(
            name, version, metadata=core_metadata(name, version, requires=requires, description=description)
        )
        built.save(self.folder / "files")
        self.releases[name, version] = built, False
        self._write(name)
        return built

    def yank(self, name: str, version: str) -> None:
        self.releases[name, version] = self.releases[name, version][0], True
        self._write(name)

    def remove(self, name: str, version: str) -> None:
        built, _ = self.releases.pop((name, version))
        (self.folder / "files" / built.filename).unlink()
        self._write(name)

    def _write(self, project: str) -> None:
        files = [
            {
                "filename": built.filename,
                "url": f"../../files/{built.filename}",
                "hashes": {"sha256": built.sha256},
                "size": len(built.data),
                "yanked": yanked,
            }
            for (name, _), (built, yanked) in self.releases.items()
            if name == project
        ]
        page = self.folder / "simple" / project
        page.mkdir(parents=True, exist_ok=True)
        document = {"meta": {"api-version": "1.1"}, "name": project, "files": files}
        (page / "index.json").write_text(json.dumps(document))
        links = "".join(
            f'<a href="{file["url"]}#sha256={file["hashes"]["sha256"]}"{" data-yanked" if file["yanked"] else ""}>'  # type: ignore[index]
            f"{file['filename']}</a>"
            for file in files
        )
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")


class World:
    """``connected`` and ``isolated``, each with home, airgap.toml, inbox and outbox; nothing moves by itself."""

    def __init__(
        self, folder: Path, *, connected: str = "", isolated: str = "", receipts: bool = True, target: str = TARGET
    ) -> None:
        self.folder = folder
        self.index = Index(folder / "index")
        self.log: list[tuple[str, str]] = []
        self._configs: dict[tuple[str, str], Config] = {}
        inbox = 'inbox = "in"' if receipts else ""
        for side, text in (
            ("connected", f'requirements = ["*.in"]\ntargets = ["{target}"]\n{inbox}\n{connected}'),
            ("isolated", f'repo = "pypi-hosted"\ninbox = "in"\n{isolated}'),
        ):
            for name in ("in", "out"):
                (folder / side / name).mkdir(parents=True)
            settle = "" if "settle" in text else "settle = 0\n"
            (folder / side / "airgap.toml").write_text(
                f'[sync.plant]\nside = "{side}"\noutbox = "out"\n{settle}{text}\n', encoding="utf-8"
            )

    def want(self, text: str) -> None:
        (self.folder / "connected" / "wanted.in").write_text(text, encoding="utf-8")

    def config(self, side: str) -> Config:
        folder = self.folder / side
        key = side, (folder / "airgap.toml").read_text(encoding="utf-8")
        if key not in self._configs:
            self._configs[key] = load(
                environ={"HOME": str(folder), "PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": self.index.url},
                overrides=Overrides(home=folder / "home", cache=folder / "cache"),
                airgap_toml=folder / "airgap.toml",
                cwd=folder,
            )
        return self._configs[key]

    def run(self, side: str, *, full: bool = False, dry_run: bool = False) -> Outcome:
        config = self.config(side)
        return run_sync(
            config.syncs["plant"],
            config,
            named_targets=targets,
            open_publisher=lambda name: embedded_publisher(config.home.value, name),
            report=lambda _: None,
            say=lambda level, text: self.log.append((level, text)),
            full=full,
            dry_run=dry_run,
        )

    def run_harmed(self, side: str, nursery: Nursery, *, kill_at: int = 0, largest_file: int = 0) -> int:
        """Run a round as a process of its own and return its exit code.

        SIGKILL ends it when it touches a file for the *kill_at*-th time; no file may grow beyond *largest_file* bytes,
        which is how a full disk looks from here.
        """
        folder = self.folder / side
        order = {
            "folder": str(folder),
            "cwd": str(folder),
            "environ": {
                "HOME": str(folder),
                "AIRGAP_HOME": str(folder / "home"),
                "AIRGAP_CACHE": str(folder / "cache"),
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_INDEX_URL": self.index.url,
            },
            "kill_at": kill_at,
            "largest_file": largest_file,
        }
        code, log = nursery.run(order)
        self.log.append(("info", log))
        return code

    def path(self, side: str, box: str) -> Path:
        return self.folder / side / box

    def carry(self) -> list[Path]:
        """Copy every bundle across that is not there yet; a medium keeps what is on it."""
        done = self.path("isolated", "in") / "done"
        return [
            Path(shutil.copy2(path, self.path("isolated", "in")))
            for path in sorted(self.path("connected", "out").glob("*.tar.zst"))
            if not (done / path.name).exists() and not (self.path("isolated", "in") / path.name).exists()
        ]

    def bring_back(self) -> list[Path]:
        """Move every receipt across."""
        return [
            Path(shutil.move(path, self.path("connected", "in")))
            for path in sorted(self.path("isolated", "out").glob("*.receipt.json"))
        ]

    def bundle(self, number: int) -> Path:
        return self.path("connected", "out") / f"plant-{number:06}.tar.zst"

    def manifest(self, number: int) -> Manifest:
        with BundleReader(self.bundle(number)) as reader:
            return reader.manifest

    def repository(self, projects: Sequence[str]) -> dict[str, str]:
        """File name to SHA-256 of what is in the isolated repository."""
        with embedded_publisher(self.path("isolated", "home")) as publisher:
            listings: list[tuple[str, Hashes]] = [
                item for project in projects for item in publisher.listing(project).items()
            ]
        return {name: hashes.sha256 or "" for name, hashes in listings}

    def carried(self, number: int) -> set[tuple[str, str]]:
        """Names and digests of the files in a bundle, read as JSON and no more: a reader that checks takes ten times as
        long.
        """
        with self.bundle(number).open("rb") as stream, ZstdDecompressor().stream_reader(stream) as archive:
            header = TarInfo.frombuf(archive.read(BLOCKSIZE), "utf-8", "strict")
            assert header.name == "manifest.json"
            files = json.loads(archive.read(header.size))["files"]
        return {(file["filename"], file["sha256"]) for file in files if "carrier" not in file}

    def catalog(self) -> dict[str, str]:
        """The same of all projects, as the catalog's file has it: opening the repository takes thirty times as long."""
        with closing(sqlite3.connect(self.path("isolated", "home") / "catalog.sqlite")) as catalog:
            if not catalog.execute("SELECT 1 FROM sqlite_schema WHERE name = 'files'").fetchone():
                return {}  # whoever wanted to make it was killed
            return dict(catalog.execute("SELECT filename, sha256 FROM files"))

    def said(self, text: str) -> bool:
        return any(text in line for _, line in self.log)
