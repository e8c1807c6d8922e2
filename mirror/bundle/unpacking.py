"""A bundle as a folder that pip installs from."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from mirror.bundle.archive import disk
from mirror.bundle.hashed import hashed_path, render_hashed
from mirror.bundle.manifest import MANIFEST
from mirror.bundle.reader import BundleReader
from mirror.bundle.static import absent_pages
from mirror.bundle.streams import copy
from mirror.bundle.threads import run
from mirror.durable import permit
from mirror.errors import UsageError
from mirror.models import Event, Reporter, Stage, silent


def unpack(
    reader: BundleReader,
    folder: Path,
    report: Reporter = silent,
    *,
    complete: Callable[[Path], object] | None = None,
) -> None:
    """Unpack everything into *folder*, which must not exist or be empty; it appears only when all of it is verified.

    The result works as ``--find-links FOLDER/packages`` and as ``--index-url file://FOLDER/simple``, and has a
    ``locks/TARGET.txt`` for ``pip install -r``; that of a delta does where *complete* puts the files that it leaves out
    into the folder ``packages`` that it is called with. Raises a UsageError where *folder* is in use, a BundleError
    where the bundle is wrong, a StorageError where the disk is.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder.", hint="Name one that does not exist yet.")
    manifest = reader.manifest
    report(Event("begin", Stage.READ, items=len(manifest.carried), bytes=sum(file.size for file in manifest.carried)))
    if manifest.expected and complete is None:
        text = f"A delta: {len(manifest.expected)} of the {len(manifest.files)} files that it names are not in it."
        report(Event("warning", Stage.READ, text))
    with disk(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        try:
            permit(temporary, 0o755)  # made for its owner only
            for name in ("packages", *sorted({member.path.rpartition("/")[0] for member in manifest.members})):
                (temporary / name).mkdir(parents=True, exist_ok=True)
            (temporary / MANIFEST).write_bytes(manifest.to_bytes())
            for path, stream in reader.members():
                with (temporary / path).open("xb") as target:
                    copy(stream, target)
            for path, page in absent_pages(manifest):
                (temporary / path).parent.mkdir(parents=True, exist_ok=True)
                (temporary / path).write_bytes(page)
            for each in manifest.targets:
                with (temporary / hashed_path(each.name)).open("xb") as target:
                    target.write(render_hashed(manifest, each.name))
            carried = manifest.project_sections
            run((_unpacking(reader, project, temporary / "packages", report) for project in carried), 2)
            if complete is not None:
                complete(temporary / "packages")
            if folder.exists():
                folder.rmdir()
            temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    report(Event("end", Stage.READ))


def _unpacking(reader: BundleReader, project: str, folder: Path, report: Reporter) -> Callable[[threading.Event], None]:
    def task(_: threading.Event) -> None:
        reader.spool(project, folder)
        files = reader.manifest.carried_of(project)
        report(Event("advance", Stage.READ, project, len(files), sum(file.size for file in files)))

    return task
