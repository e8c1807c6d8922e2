"""Writing a bundle: compressed frames in order, one temporary file, synced, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mirror.bundle import tar
from mirror.bundle.ahead import ahead
from mirror.bundle.content import BundleContent, Prepared, prepare
from mirror.bundle.frames import Frames, compress
from mirror.bundle.manifest import MANIFEST, Section
from mirror.bundle.seektable import DIGEST_MAGIC, seek_table
from mirror.durable import is_device, sync_folder, try_lock
from mirror.errors import StorageError
from mirror.models import Event, Reporter, Stage, Written, silent
from mirror.store import Store

#: Manifest, pages and documents are text, and most of what a delta holds.
_DOCUMENT_LEVEL = 9
# Pieces that are compressed before they can be written: of a quarter of a megabyte, of one where a file kept them.
_STEPS_AHEAD = 8


def write_bundle(
    path: Path,
    content: BundleContent | Prepared,
    store: Store,
    *,
    frames: Frames | None = None,
    report: Reporter = silent,
    threads: int = 2,
) -> Written:
    """Write *content* to *path*, replacing what is there only when the new bundle is complete and synced.

    *frames* may have begun to compress projects; without it, *threads* threads do so here. The same content gives the
    same bytes, whatever the timing, the store, the path or what was begun before.

    Raises a StorageError where the disk does not allow it or another process writes the same bundle, and what
    :func:`~mirror.bundle.content.prepare` raises.
    """
    prepared = content if isinstance(content, Prepared) else prepare(content, store.scratch())
    manifest = prepared.manifest
    report(Event("begin", Stage.WRITE, items=len(manifest.carried), bytes=sum(file.size for file in manifest.carried)))
    with ExitStack() as stack:
        stack.enter_context(_disk(path))
        if is_device(path):
            raise StorageError(f"Can't write {path}: it is a device or a pipe, and a bundle is a file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        if frames is None:
            frames = stack.enter_context(Frames(store, path.parent, threads=threads))
        wanted = {
            project: [(file.filename, file.sha256, file.size) for file in manifest.carried_of(project)]
            for project in manifest.project_sections
        }
        for project, files in wanted.items():
            if len(files) > 1:  # neighbours are compared, which takes time; single files go by without a detour
                frames.start(project, files)
        with (
            _temporary(path) as file,
            ahead(_pieces(frames, wanted), _STEPS_AHEAD) as pieces,
            _or_stop(frames),
        ):
            output = _Output(file)
            output.frame(_documents(prepared), manifest.member_section.size)
            for piece in pieces:
                if isinstance(piece, bytes):
                    output.append(piece)
                elif isinstance(piece, int):
                    output.end_frame(piece)
                else:
                    section = manifest.project_sections[piece]
                    report(Event("advance", Stage.WRITE, section.name, len(section.entries), _content(section)))
            output.frame([tar.END], len(tar.END))
            written = output.finish()
    report(Event("end", Stage.WRITE))
    return Written(path, manifest.identity, *written)


@contextmanager
def _or_stop(frames: Frames) -> Iterator[None]:
    """Let go of *frames* at once where the block fails: a project of gigabytes must not keep anybody waiting."""
    try:
        yield
    except BaseException:
        frames.close()
        raise


def _pieces(frames: Frames, wanted: Mapping[str, Sequence[tuple[str, str, int]]]) -> Generator[bytes | int | str]:
    """Yield the bytes of every project's frames in order; after each frame how much it holds, after each project it."""
    for project, files in wanted.items():
        for content, chunks in frames.take(project, files):
            yield from chunks
            yield content
        yield project


class _Output:
    """The bundle file as it grows: hashed while it is written, frame sizes noted.

    Reading and compressing go on in another thread and take longer, so a third one would only hand over.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._sizes: list[tuple[int, int]] = []
        self._written = self._frame = 0

    def frame(self, chunks: Iterable[bytes], content: int) -> None:
        """Compress *chunks* of *content* bytes into one frame."""
        for chunk in compress(chunks, content, level=_DOCUMENT_LEVEL):
            self.append(chunk)
        self.end_frame(content)

    def end_frame(self, content: int) -> None:
        """Take what was appended since the last frame for one, which holds *content* bytes."""
        self._sizes.append((self._written - self._frame, content))
        self._frame = self._written

    def finish(self) -> tuple[str, int]:
        """Append digest and seek table; return the file's SHA-256 and size."""
        self.append(DIGEST_MAGIC + self._hash.digest())
        self.end_frame(0)
        self.append(seek_table(self._sizes))
        return self._hash.hexdigest(), self._written

    def append(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        view = memoryview(chunk)
        while view:  # a disk takes what fits before it says that it is full
            view = view[self._file.write(view) :]
        self._written += len(chunk)


def _documents(prepared: Prepared) -> Iterator[bytes]:
    """The manifest and every other member that is not a distribution file, as tar has them."""
    manifest = prepared.manifest
    yield tar.header(MANIFEST, manifest.size)
    yield from manifest.spelled()
    yield bytes(tar.padding(manifest.size))
    for member in manifest.members:
        yield tar.header(member.path, member.size)
        yield from prepared.members.chunks(member.path)
        yield bytes(tar.padding(member.size))


def _content(section: Section) -> int:
    return sum(entry.size for entry in section.entries)


@contextmanager
def _temporary(path: Path) -> Iterator[BinaryIO]:
    """Yield an empty file beside *path* that takes its name at the end, synced; on an error nothing is left.

    Its name is always the same, so that what a killed run leaves is taken over by the next; a lock keeps two from
    writing it at once.
    """
    temporary = path.with_name(f".{path.name}.part")
    with ExitStack() as stack:
        file = stack.enter_context(_locked(temporary))
        try:
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":  # where an open file can't be renamed
                stack.close()
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Open *path* for writing, created if need be, and hold its lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            if not try_lock(descriptor):
                raise StorageError(
                    f"Another process is writing {path.name[1 : -len('.part')]}.",
                    hint="Wait for it, or write to another path.",
                )
            # Whoever held it before may have renamed it away: then this is not the file that we will rename.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    yield file
                    return


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that says what to do about it."""
    try:
        yield
    except OSError as error:
        hint = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "The folder needs up to twice the size of the bundle while it is written. What was fetched is kept."
        raise StorageError(f"Can't write {path}: {error.strerror or error}.", hint=hint) from error
