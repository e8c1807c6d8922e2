"""Real indexes on a loopback port, and the command line beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from mirror.cli import main
from mirror.filenames import split_filename
from mirror.index.simple import JSON_TYPE, PageEntry, render_html, render_json
from mirror.models import Hashes
from tests.http_support import Server
from tests.wheelhouse import Built

LINUX = ("--target", "cp312-manylinux_2_28_x86_64")


@dataclass
class Warehouse:
    """Indexes at ``URL/NAME/``, with files at ``URL/NAME/files/``: JSON with PEP 658, or HTML without."""

    server: Server
    html: bool = False
    pages: dict[tuple[str, str], list[PageEntry]] = field(default_factory=dict)

    def url(self, index: str = "simple") -> str:
        return f"{self.server.url}/{index}/"

    def publish(
        self,
        built: Built,
        *,
        index: str = "simple",
        time: str | None = None,
        yanked: str | None = None,
        python: str | None = None,
        metadata: bytes | None = None,
        sha256: str | None = None,
        filename: str | None = None,
        project: str | None = None,
    ) -> None:
        """Offer *built*; the rest is what the index says about it, true or not. *metadata* is the PEP 658 file."""
        filename = filename or built.filename
        parts = split_filename(filename)
        assert parts is not None
        project = project or parts.project
        path = f"/{index}/files/{filename}"
        self.server.add(path, built.data)
        told = None
        if built.filename.endswith(".whl") and not self.html:
            offered = built.metadata if metadata is None else metadata
            self.server.add(f"{path}.metadata", offered)
            told = Hashes.of({"sha256": hashlib.sha256(offered).hexdigest()})
        entries = self.pages.setdefault((index, project), [])
        entries.append(
            PageEntry(
                filename,
                f"../files/{filename}",
                Hashes.of({"sha256": sha256 or built.sha256}),
                None if self.html else len(built.data),
                python,
                yanked,
                time,
                told,
            )
        )
        self.page(project, index=index)

    def page(self, project: str, *, index: str = "simple", more: Mapping[str, object] | None = None) -> None:
        """Write the page of *project* again; *more* goes to the top of its JSON."""
        entries = self.pages.get((index, project), [])
        path = f"/{index}/{canonicalize_name(project)}/"
        if self.html:
            self.server.add(path, render_html(project, entries), content_type="text/html")
        else:
            document = {**json.loads(render_json(project, entries)), **(more or {})}
            self.server.add(path, json.dumps(document).encode(), content_type=JSON_TYPE)


@contextmanager
def warehouse(*, html: bool = False) -> Iterator[Warehouse]:
    with Server() as server:
        yield Warehouse(server, html)


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Its ``--json``; only where it succeeded."""
        assert self.code == 0, self.err
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def pins(self) -> dict[str, str]:
        """Of its only target."""
        (target,) = self.document["targets"].values()
        pins: dict[str, str] = target["pins"]
        return pins


def airgap(*arguments: str | Path) -> Ran:
    """Run the command line in this process."""
    with pytest.MonkeyPatch.context() as patch:
        out, err = StringIO(), StringIO()
        patch.setattr("sys.argv", ["airgap", *map(str, arguments)])
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", err)
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert isinstance(code, int)
    return Ran(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Desk:
    """A folder from which ``airgap pack`` is run."""

    folder: Path
    at: Warehouse

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle.tar.zst"

    def pack(self, lines: str | Mapping[str, str], *options: str, targets: tuple[str, ...] = LINUX) -> Ran:
        """Pack requirements, one text or several files of which the first is named on the command line."""
        files = {"requirements.txt": lines} if isinstance(lines, str) else lines
        for name, text in files.items():
            (self.folder / name).write_text(text)
        index = () if "--index-url" in options else ("--index-url", self.at.url())
        return airgap(
            "pack", self.folder / next(iter(files)), "-o", self.bundle, "--json", "--retries", "0", *index, *targets,
            *options,
        )  # fmt: skip
