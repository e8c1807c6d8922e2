"""Reading a bundle that is not trusted: the manifest says what must come, byte by byte, and nothing else is accepted.

Headers are not interpreted but compared with the ones that the manifest calls for, so no path of the archive ever
reaches a file system; contents are hashed while they are read, and no more is decompressed than the manifest allows.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import zstandard

from mirror.bundle import manifest, tar
from mirror.bundle.frames import (
    CHUNK,
    DIGEST_FRAME,
    DIGEST_MAGIC,
    MAX_WINDOW,
    TRAILING_FRAMES,
    ZSTD_MAGIC,
    Frame,
    read_seek_table,
)
from mirror.bundle.hashed import hashed_path, render_hashed
from mirror.bundle.manifest import (
    MANIFEST,
    MANIFEST_LIMIT,
    BundledFile,
    Entry,
    Section,
    frames_of,
    lock_path,
)
from mirror.bundle.pylock import check_lock, render_lock
from mirror.bundle.rows import Rows, read_manifest, reading
from mirror.bundle.spool import Budget
from mirror.bundle.static import absent_pages, check_page, check_root
from mirror.durable import permit
from mirror.errors import BundleError, StorageError, UsageError
from mirror.models import Event, Reporter, Stage, silent

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_DAMAGED = "It was damaged on its way, or tampered with: copy it again."
_BLOCK_HEADER = 3
_RUN_LENGTH = 1
_FRAME_HEADER = 18
_CHECKSUM = 4
# Large, because every chunk waits once for whoever runs Python at the moment; larger ones cost new pages each time.
_DIGEST_CHUNK = 2**20
# The same goes for those who unpack, who do it beside others that send.
_COPY = 2**20
#: Bytes of windows that all threads of one reader hold together when they decompress for verify, spool and unpack.
_WINDOWS = 2**26
# Seconds after which whoever waits for threads looks up: Windows hears Ctrl-C only between two waits.
_LOOK = 1.0
#: An index page or lock is read whole to compare it with the manifest.
_DOCUMENT_LIMIT = 2**26


class _Archive:
    """The file of a bundle, opened, with its seek table."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise UsageError(f"{path} is not a file." if path.exists() else f"{path} does not exist.")
        with _disk(path):
            self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        with self._closing(), self._named():
            self._frames = read_seek_table(self._file)

    def close(self) -> None:
        self._file.close()

    def manifest_lines(self) -> Iterable[bytes]:
        """The manifest, line by line as it is decompressed."""
        frames = _Frames(self._pread, self._frames[:1], 0)
        header = frames.read(tar.BLOCK)
        found = tar.describe(header)
        if found is None or found[0] != MANIFEST or header != tar.header(MANIFEST, size := max(found[2], 0)):
            what = found[0] if found else "something else"
            raise BundleError(f"The first member is {what[:200]!r}, not {MANIFEST}.", hint="It is not a bundle.")
        if size > MANIFEST_LIMIT:
            raise BundleError(f"{MANIFEST} has {size} bytes, more than any manifest.")
        return io.BufferedReader(_Member(frames, size), CHUNK)

    def _pread(self, offset: int, size: int) -> bytes:
        with _disk(self.path):
            if sys.platform == "win32":
                with self._lock:
                    self._file.seek(offset)
                    return self._file.read(size)
            else:
                return os.pread(self._file.fileno(), size, offset)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say in a BundleError which bundle it is about."""
        try:
            yield
        except BundleError as error:
            raise BundleError(f"{self.path.name}: {error}", hint=error.hint) from error

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """Close the file where what follows fails."""
        try:
            yield
        except BaseException:
            self.close()
            raise


@contextmanager
def bundle_rows(path: Path) -> Iterator[Rows]:
    """Read the manifest of the bundle at *path* without holding it; of the rest, only the seek table is looked at.

    Raises what opening a :class:`BundleReader` does.
    """
    archive = _Archive(path)
    with archive._closing(), archive._named(), reading(archive.manifest_lines) as rows:  # noqa: SLF001 - one module
        yield rows
    archive.close()


class BundleReader(_Archive, AbstractContextManager["BundleReader"]):
    """A bundle on the disk; a context manager, safe to use from several threads.

    Opening it reads seek table and manifest only. Raises a UsageError where *path* is no file, a BundleError where it
    is no bundle of format 1 or its manifest is wrong.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._windows = Budget(_WINDOWS)
        with self._closing(), self._named():
            self.manifest = read_manifest(self.manifest_lines)
            self._check_layout()

    def __exit__(self, *_: object) -> None:
        self.close()

    def files(self, project: str) -> Iterator[tuple[BundledFile, VerifiedStream]]:
        """Yield the files of *project* in archive order, each as a stream that is valid until the next one.

        What is left unread is read and checked before the next file comes. A stream's bytes are proved only when it
        has been read to the end; :meth:`spool` hands out nothing that is not.
        """
        section = self._section(project)
        # Entries first: only their own end runs the checks that come after the last file.
        for (_, stream), file in zip(self._entries(section), self.manifest.carried_of(project), strict=False):
            yield file, stream

    def members(self) -> Iterator[tuple[str, VerifiedStream]]:
        """Yield every member that is neither the manifest nor a distribution file, as ``(path, stream)``, sorted."""
        for entry, stream in self._entries(self.manifest.member_section):
            if entry.path != MANIFEST:
                yield entry.path, stream

    def spool(self, project: str, folder: Path) -> list[Path]:
        """Write the files of *project* into *folder*, which exists, and return their paths in archive order.

        Every digest is checked before this returns; on an error, none of the files is left. Safe in several threads.
        """
        paths: list[Path] = []
        section = self._section(project)
        try:
            with self._named(), self._window(section):
                for file, stream in self.files(project):
                    path = folder / file.filename
                    with _disk(path), path.open("xb") as target:
                        paths.append(path)
                        _copy(stream, target)
        except BaseException:
            for path in paths:
                with suppress(OSError):
                    path.unlink()
            raise
        return paths

    def check(self, stop: threading.Event, report: Reporter = silent) -> None:
        """Find any accidental change without decompressing; *stop* ends that early. A BundleError where there is one.

        The digest covers every byte before it, and the seek table after it is compared with what the frames say.
        """
        report(Event("begin", Stage.VERIFY, self.path.name, bytes=self._frames[-1].offset))
        with self._named():
            found = self._digest(stop, report)
            if not stop.is_set():
                self._check_digest(found)
        report(Event("end", Stage.VERIFY))

    def verify(self, *, threads: int = 2, report: Reporter = silent) -> None:
        """Read every byte and check every promise of the format; a BundleError names what breaks one.

        The digest over the compressed bytes finds any accidental change, also one that decompresses to the same.
        """
        manifest = self.manifest
        size = sum(file.size for file in manifest.carried)
        report(Event("begin", Stage.VERIFY, items=len(manifest.carried), bytes=size))

        def check(section: Section, stop: threading.Event) -> None:
            with self._window(section):
                for _, stream in self._entries(section):
                    stream.drain(stop)
            report(Event("advance", Stage.VERIFY, section.name, len(section.entries), _content(section)))

        digests: list[bytes] = []
        tasks: list[Callable[[threading.Event], None]] = [
            self._check_members,
            lambda stop: digests.append(self._digest(stop)),
            self._check_end,
        ]
        sections = manifest.project_sections.values()
        with self._named():
            _run(chain(tasks, (partial(check, section) for section in sections)), threads)
            # Last, because all other checks name the member that is wrong.
            self._check_digest(digests[0])
        report(Event("end", Stage.VERIFY))

    # Layout

    def _check_layout(self) -> None:
        expected = self.manifest.end_frame + TRAILING_FRAMES
        if len(self._frames) != expected:
            raise BundleError(f"The archive has {len(self._frames)} frames, the manifest accounts for {expected}.")
        for section in self.manifest.project_sections.values():
            if any(frame.content != manifest.FRAME_LIMIT for frame in self._frames_of(section)[:-1]):
                raise BundleError(f"The frames of {section.name} are not cut as format 1 has it.")
        if (self._frames[-1].size, self._frames[-1].content) != (DIGEST_FRAME, 0):
            raise BundleError("The last frame is not the digest.")

    def _section(self, project: str) -> Section:
        section = self.manifest.project_sections.get(project)
        if section is None:
            raise UsageError(f"The bundle {self.path.name} has no project {project!r} with files in it.")
        return section

    def _frames_of(self, section: Section) -> tuple[Frame, ...]:
        return self._frames[section.frame : section.frame + frames_of(section.size)]

    @contextmanager
    def _window(self, section: Section) -> Iterator[None]:
        """Wait until the memory that decompressing *section* takes is free."""
        headers = [self._pread(frame.offset, _FRAME_HEADER) for frame in self._frames_of(section)]
        with self._windows.hold(max(_parameters(header).window_size for header in headers)):
            yield

    # Members

    def _entries(self, section: Section) -> Iterator[tuple[Entry, VerifiedStream]]:
        """Yield every member of *section*, header checked; raises unless the section is exactly what it should be."""
        frames = _Frames(self._pread, self._frames_of(section), section.frame)
        for entry in section.entries:
            wanted = tar.header(entry.path, entry.size)
            header = frames.read(len(wanted))
            if header != wanted:
                raise self._foreign(header + frames.read(tar.BLOCK * 2), entry)
            stream = VerifiedStream(frames, entry)
            yield entry, stream
            stream.drain()
            padding = frames.read(tar.padding(entry.size))
            if len(padding) != tar.padding(entry.size) or any(padding):
                raise BundleError(f"{entry.path} is not followed by zeros.")
        if rest := frames.read(tar.BLOCK * 3):
            raise self._foreign(rest, None)
        frames.finish()

    def _foreign(self, data: bytes, expected: Entry | None) -> BundleError:
        """Say what stands in the archive where *expected*, or nothing, should be."""
        where = f"where {expected.path} should be" if expected else "after the last member that belongs there"
        if not data:
            return BundleError(f"The archive ends {where}: it is missing.")
        found = tar.describe(data)
        if found is None:
            return BundleError(f"The archive has no tar header {where}.", hint="It is damaged or tampered with.")
        path, kind, size = found
        sizes = {member.path: member.size for member in self.manifest.member_section.entries}
        sizes |= {file.path: file.size for file in self.manifest.files}
        if kind:
            problem = f"is {kind}"
        elif path.startswith(("/", "\\")) or path[1:2] == ":":
            problem = "is an absolute path"
        elif ".." in path.replace("\\", "/").split("/"):
            problem = "leads out of the folder"
        elif path not in sizes:
            problem = "is not named by the manifest"
        elif size != sizes[path]:
            problem = f"has {size} bytes, {sizes[path]} by the manifest"
        elif expected is None:
            problem = "comes a second time"
        elif path != expected.path:
            problem = "is out of order or comes a second time"
        else:
            problem = "has a header that no bundle has"
        place = "" if expected and path == expected.path else f" {where}"
        return BundleError(f"The archive holds {path[:300]!r}{place}, which {problem}.", hint="Do not use this bundle.")

    # Verification

    def _digest(self, stop: threading.Event, report: Reporter = silent) -> bytes:
        """The SHA-256 of everything before the digest frame, in which every frame must be what the seek table says."""
        end = self._frames[-1].offset
        digest = hashlib.sha256()
        walk = _Walk(islice(self._frames, len(self._frames) - 1))
        for offset in range(0, end, _DIGEST_CHUNK):
            if stop.is_set():
                break
            data = self._pread(offset, min(_DIGEST_CHUNK, end - offset))
            digest.update(data)
            walk.feed(data)
            report(Event("advance", Stage.VERIFY, bytes=len(data)))
        return digest.digest()

    def _check_digest(self, found: bytes) -> None:
        last = self._frames[-1]
        if self._pread(last.offset, last.size) != DIGEST_MAGIC + found:
            raise BundleError("Its bytes do not have the digest that it ends with.", hint=_DAMAGED)

    def _check_end(self, _: threading.Event) -> None:
        frame = self.manifest.end_frame
        stream = _Frames(self._pread, self._frames[frame : frame + 1], frame)
        data = stream.read(len(tar.END) + tar.BLOCK)
        if any(data):
            raise self._foreign(data, None)
        if len(data) != len(tar.END):
            raise BundleError("The archive does not end with two blocks of zeros.")
        stream.finish()

    def _check_members(self, stop: threading.Event) -> None:
        for entry, stream in self._entries(self.manifest.member_section):
            if not entry.path.startswith(("simple/", "locks/")):
                stream.drain(stop)
                continue
            if entry.path.startswith("locks/") and entry.sha256 == self._lock_digest(entry.path):
                stream.drain(stop)  # a large set's lock takes ten times its size when it is parsed
                continue
            if entry.size > _DOCUMENT_LIMIT:
                raise BundleError(f"{entry.path} has {entry.size} bytes, more than any such page.")
            self._check_document(entry.path, stream.read())

    def _lock_digest(self, path: str) -> str:
        """The SHA-256 of the lock at *path* as this airgap writes it; another version's may say the same otherwise."""
        digest = hashlib.sha256()
        for target in self.manifest.targets:
            if lock_path(target.name) == path:
                for piece in render_lock(target, self.manifest.files):
                    digest.update(piece)
        return digest.hexdigest()

    def _check_document(self, path: str, body: bytes) -> None:
        """Raise unless an index page or lock says what the manifest says."""
        folder, *rest = path.split("/")
        if folder == "locks":
            check_lock(self.manifest, path, body)
        elif len(rest) == 1:
            check_root(self.manifest, path, body)
        else:
            check_page(self.manifest, path, body)


class VerifiedStream(io.RawIOBase):
    """The content of one member, hashed while it is read: the end comes only after the digest was right."""

    def __init__(self, frames: _Frames, entry: Entry) -> None:
        super().__init__()
        self._frames = frames
        self._left = entry.size
        self._hash = hashlib.sha256()
        self._checked = False
        self.entry = entry

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill *buffer* as far as possible; a BundleError where the bytes are not those that the manifest promises."""
        view = memoryview(buffer).cast("B")[: self._left]
        count = self._frames.readinto(view) if view else 0
        if count < len(view):
            raise BundleError(f"{self.entry.path} ends {self._left - count} bytes too early.", hint=_DAMAGED)
        self._hash.update(view)
        self._left -= count
        if not self._left and not self._checked:
            if self._hash.hexdigest() != self.entry.sha256:
                raise BundleError(
                    f"{self.entry.path} does not have the SHA-256 that the manifest names.", hint=_DAMAGED
                )
            self._checked = True
        return count

    def drain(self, stop: threading.Event | None = None) -> None:
        """Read and check what is left; *stop* ends that early."""
        buffer = bytearray(min(CHUNK, self._left))
        while not self._checked and not (stop and stop.is_set()):
            self.readinto(buffer)


class _Frames:
    """The decompressed bytes of neighbouring frames, each held to its own size and to the seek table's."""

    def __init__(self, pread: Callable[[int, int], bytes], frames: Sequence[Frame], first: int) -> None:
        self._pread = pread
        self._waiting = list(enumerate(frames, first))
        self._current: BinaryIO | None = None
        self._number = first
        self._left = 0

    def read(self, size: int) -> bytes:
        """Return *size* bytes, fewer only at the end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, view: memoryview) -> int:
        """Fill *view*; return how much there was."""
        done = 0
        while done < len(view):
            if not self._left and not self._next():
                break
            done += self._decompress(view[done : done + self._left])
        return done

    def finish(self) -> None:
        """Raise unless every frame has ended."""
        if self._left or self._next():
            raise BundleError(f"Frame {self._number} holds more than the manifest accounts for.")

    def _next(self) -> bool:
        """Open the next frame that holds anything, when the current one has ended as it should."""
        self._end()
        while self._waiting and not self._left:
            self._number, frame = self._waiting.pop(0)
            self._current = self._open(frame)
            self._left = frame.content
            if not self._left:
                self._end()
        return bool(self._left)

    def _open(self, frame: Frame) -> BinaryIO:
        _check_header(self._pread(frame.offset, min(_FRAME_HEADER, frame.size)), self._number, frame)
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        return decompressor.stream_reader(cast("BinaryIO", _Slice(self._pread, frame)), read_size=_COPY)

    def _decompress(self, view: memoryview) -> int:
        try:
            count: int = self._current.readinto(view)  # type: ignore[union-attr]
        except zstandard.ZstdError as error:
            raise BundleError(f"Frame {self._number} can't be decompressed: {error}.", hint=_DAMAGED) from error
        if not count:
            raise BundleError(f"Frame {self._number} ends too early.", hint=_DAMAGED)
        self._left -= count
        return count

    def _end(self) -> None:
        """Read past the end of the current frame, which makes zstd compare the checksum."""
        if self._current is None:
            return
        try:
            rest = self._current.read(1)
        except zstandard.ZstdError as error:
            raise BundleError(f"Frame {self._number} can't be decompressed: {error}.", hint=_DAMAGED) from error
        if rest:
            raise BundleError(f"Frame {self._number} decompresses to more than it says.")
        self._current = None


class _Member(io.RawIOBase):
    """The first *size* bytes of *frames*, whose digest nobody knows yet."""

    def __init__(self, frames: _Frames, size: int) -> None:
        super().__init__()
        self._frames = frames
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")[: self._left]
        count = self._frames.readinto(view)
        if count < len(view):
            raise BundleError(f"{MANIFEST} ends {self._left - count} bytes too early.", hint=_DAMAGED)
        self._left -= count
        return count


class _Slice(io.RawIOBase):
    """The compressed bytes of one frame, as zstandard reads them."""

    def __init__(self, pread: Callable[[int, int], bytes], frame: Frame) -> None:
        super().__init__()
        self._pread = pread
        self._offset = frame.offset
        self._end = frame.offset + frame.size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._pread(self._offset, min(size, self._end - self._offset) if size >= 0 else self._end - self._offset)
        self._offset += len(data)
        return data


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
    with _disk(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        try:
            permit(temporary, 0o755)  # made for its owner only
            for name in ("packages", *sorted({member.path.rpartition("/")[0] for member in manifest.members})):
                (temporary / name).mkdir(parents=True, exist_ok=True)
            (temporary / MANIFEST).write_bytes(manifest.to_bytes())
            for path, stream in reader.members():
                with (temporary / path).open("xb") as target:
                    _copy(stream, target)
            for path, page in absent_pages(manifest):
                (temporary / path).parent.mkdir(parents=True, exist_ok=True)
                (temporary / path).write_bytes(page)
            for each in manifest.targets:
                with (temporary / hashed_path(each.name)).open("xb") as target:
                    target.write(render_hashed(manifest, each.name))
            carried = manifest.project_sections
            _run((_unpacking(reader, project, temporary / "packages", report) for project in carried), 2)
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


def _run(tasks: Iterable[Callable[[threading.Event], None]], threads: int) -> None:
    """Run all; the first to fail stops the others, and its error is raised."""
    stop = threading.Event()
    lock = threading.Lock()
    waiting = enumerate(tasks)
    failed: dict[int, BaseException] = {}

    def work() -> None:
        while not stop.is_set():
            with lock:
                number, task = next(waiting, (0, None))
            if task is None:
                return
            try:
                task(stop)
            except BaseException as error:  # noqa: BLE001 - raised below
                failed[number] = error
                stop.set()

    threads = max(1, threads)
    with ThreadPoolExecutor(threads, "bundle") as executor:
        left = {executor.submit(work) for _ in range(threads)}
        try:
            while left:
                left = wait(left, _LOOK).not_done
        finally:
            stop.set()
    if failed:
        raise failed[min(failed)]


def _parameters(header: bytes) -> zstandard.FrameParameters:
    if header[: len(ZSTD_MAGIC)] != ZSTD_MAGIC:
        raise BundleError("The seek table names a frame where none begins.", hint=_DAMAGED)
    try:
        parameters = zstandard.get_frame_parameters(header)
    except zstandard.ZstdError as error:
        raise BundleError(f"A frame's header can't be read: {error}.", hint=_DAMAGED) from error
    if parameters.window_size > MAX_WINDOW:
        raise BundleError(f"A frame wants a window of {parameters.window_size} bytes, more than format 1 allows.")
    return parameters


def _check_header(header: bytes, number: int, frame: Frame) -> None:
    """Raise unless the frame says of itself what the seek table says of it."""
    parameters = _parameters(header)
    if parameters.content_size != frame.content or not parameters.has_checksum or parameters.dict_id:
        raise BundleError(f"Frame {number} does not hold the {frame.content} bytes that the seek table names.")


class _Walk:
    """Follows the blocks of neighbouring *frames*, whose bytes are fed piece by piece, from the first one's start on.

    A frame must end where the seek table says. Else a second frame could hide behind it: tar would unpack that, and who
    reads by the seek table would never see it.
    """

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._waiting = enumerate(frames)
        self._kept = b""
        self._start = 0  # of the bytes that are kept, in the archive
        self._at = 0  # of the header that comes next
        self._frame: Frame | None = None
        self._number = 0
        self._open_next()

    def feed(self, data: bytes) -> None:
        """Raise a BundleError where *data*, which comes next, shows that a frame is not what it should be."""
        data = self._kept + data
        end = self._start + len(data)
        while self._frame is not None:
            frame, first = self._frame, self._at == self._frame.offset
            length = min(_FRAME_HEADER, frame.size) if first else _BLOCK_HEADER
            if self._at + length > end:
                break
            position = self._at - self._start
            header = data[position : position + length]
            if first:
                _check_header(header, self._number, frame)
                self._at += zstandard.frame_header_size(header)
            else:
                self._follow(int.from_bytes(header, "little"), frame)
        keep = max(0, min(self._at, end) - self._start)
        self._kept = data[keep:]
        self._start += keep

    def _follow(self, block: int, frame: Frame) -> None:
        last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        self._at += _BLOCK_HEADER + (1 if kind == _RUN_LENGTH else size)
        ends = self._at + _CHECKSUM
        if ends == frame.offset + frame.size and last:
            self._at = ends
            self._open_next()
        elif last or ends >= frame.offset + frame.size:
            raise BundleError(f"Frame {self._number} is not the one zstd frame that the seek table names.")

    def _open_next(self) -> None:
        found = next(self._waiting, None)
        if found is None:
            self._frame = None
        else:
            self._number, self._frame = found


def _copy(stream: VerifiedStream, target: BinaryIO) -> None:
    buffer = memoryview(bytearray(min(_COPY, max(stream.entry.size, 1))))
    while count := stream.readinto(buffer):
        target.write(buffer[:count])
    stream.drain()


def _content(section: Section) -> int:
    return sum(entry.size for entry in section.entries)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{error.filename or path}: {error.strerror or error}.") from error
