"""Peak memory of ``airgap pack --dry-run``: long pages, and many projects."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pytest

from mirror.index.simple import HTML_TYPE, JSON_TYPE, PageEntry, render_html, render_json
from mirror.models import Hashes
from tests.http_support import Server
from tests.memory_support import run_measured
from tests.wheelhouse import core_metadata

MIB = 2**20
ROOT = Path(__file__).parent.parent
PLATFORMS = ("manylinux_2_17_x86_64.manylinux2014_x86_64", "musllinux_1_2_x86_64", "macosx_11_0_arm64", "win_amd64")
TAGS = [f"cp3{minor}-cp3{minor}-{platform}" for minor, platform in product(range(6, 15), PLATFORMS)]


def pack(server: Server, lines: Iterable[str], folder: Path) -> tuple[dict[str, str], int]:
    """Resolve *lines*; the versions chosen, and the peak memory in bytes."""
    (folder / "requirements.txt").write_text("\n".join(lines))
    command = [sys.executable, "-m", "mirror", "pack", "requirements.txt", "--dry-run", "--quiet", "--json"]
    command += ["--index-url", f"{server.url}/simple/", "--target", "cp312-manylinux_2_28_x86_64"]
    environ = {"PYTHONPATH": str(ROOT), "HOME": str(folder), "AIRGAP_CACHE": str(folder / "cache")}
    environ |= {"PIP_CONFIG_FILE": os.devnull, "PATH": os.environ["PATH"]}
    output, peak = run_measured(command, cwd=folder, env=environ)
    (target,) = json.loads(output)["targets"].values()
    return target["pins"], peak


def put_long_page(server: Server, project: str, kind: str) -> int:
    """A page with a hundred versions of 36 wheels, and the metadata of one of the newest; its bytes."""
    entries = []
    for version, tag in product(range(100), TAGS):
        filename = f"{project}-{version}.0-{tag}.whl"
        digest = hashlib.sha256(filename.encode()).hexdigest()
        url = f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{filename}"
        hashes = Hashes((("sha256", digest),))
        entries.append(PageEntry(filename, url, hashes, 1000, ">=3.6", None, "2026-01-01T00:00:00.000001Z", Hashes()))
        if version == 99 and tag.startswith("cp312-cp312-manylinux"):
            server.add(f"{url}.metadata", core_metadata(project, "99.0"))
    body = (render_json if kind == JSON_TYPE else render_html)(project, entries)
    server.add(f"/simple/{project}/", body, content_type=kind)
    return len(body)


@pytest.mark.parametrize("kind", [HTML_TYPE, JSON_TYPE])
def test_long_pages(kind: str, tmp_path: Path) -> None:
    """90,000 links: of one that nobody looks at, a few bytes stay in memory."""
    names = [f"lengthy{number}" for number in range(25)]
    with Server() as server:
        assert sum(put_long_page(server, name, kind) for name in names) > 30 * MIB
        pins, peak = pack(server, names, tmp_path)
    assert pins == dict.fromkeys(names, "99.0")
    assert peak < 120 * MIB
