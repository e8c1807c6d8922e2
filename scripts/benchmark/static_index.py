"""A static simple index over a folder of wheels, made without any of airgap's own code: that is what is measured."""

from __future__ import annotations

import hashlib
import html
import json
import shutil
import zipfile
from email.parser import BytesHeaderParser
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename


def write_index(root: Path, *, with_json: bool) -> None:
    """Write ``root/simple/`` for the wheels in ``root/packages/``: PEP 503, and on request PEP 691 and 658."""
    shutil.rmtree(root / "simple", ignore_errors=True)
    projects: dict[str, list[Path]] = {}
    for wheel in sorted((root / "packages").glob("*.whl")):
        projects.setdefault(canonicalize_name(parse_wheel_filename(wheel.name)[0]), []).append(wheel)
    for project, wheels in projects.items():
        page = root / "simple" / project
        page.mkdir(parents=True)
        files = [_entry(wheel, with_metadata=with_json) for wheel in wheels]
        links = "".join(_link(file) for file in files)
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>\n{links}</body></html>\n", "utf-8")
        if with_json:
            document = {"meta": {"api-version": "1.1"}, "name": project, "files": files}
            document["versions"] = sorted({str(parse_wheel_filename(wheel.name)[1]) for wheel in wheels})
            (page / "index.json").write_text(json.dumps(document), "utf-8")


def _entry(wheel: Path, *, with_metadata: bool) -> dict[str, object]:
    metadata = _metadata(wheel)
    beside = wheel.with_name(f"{wheel.name}.metadata")
    entry: dict[str, object] = {"filename": wheel.name, "url": f"../../packages/{wheel.name}"}
    entry["hashes"] = {"sha256": _sha256(wheel)}
    entry["size"] = wheel.stat().st_size
    entry["requires-python"] = BytesHeaderParser().parsebytes(metadata)["Requires-Python"]
    if with_metadata:
        beside.write_bytes(metadata)
        entry["core-metadata"] = {"sha256": hashlib.sha256(metadata).hexdigest()}
    else:
        beside.unlink(missing_ok=True)
    return entry


def _link(file: dict[str, object]) -> str:
    digest = file["hashes"]["sha256"]  # type: ignore[index]  # made above
    python = file["requires-python"]
    requires = f' data-requires-python="{html.escape(str(python))}"' if python else ""
    return f'<a href="{file["url"]}#sha256={digest}"{requires}>{file["filename"]}</a><br/>\n'


def _metadata(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        member = next(
            name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1
        )
        return archive.read(member)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
