"""Reading a bundle that is not trusted: the manifest says what must come, byte by byte, and nothing else is accepted.

Headers are not interpreted but compared with the ones that the manifest calls for, so no path of the archive ever
reaches a file system; contents are hashed while they are read, and no more is decompressed than the manifest allows.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path

from mirror.bundle import manifest, tar
from mirror.bundle.archive import FRAME_HEADER, Archive, disk, parameters
from mirror.bundle.manifest import MANIFEST, MANIFEST_LIMIT, BundledFile, Entry, Section, frames_of
from mirror.bundle.rows import Rows, read_manifest, reading
from mirror.bundle.seektable import DIGEST_FRAME, TRAILING_FRAMES, Frame
from mirror.bundle.spool import Budget
from mirror.bundle.streams import FrameReader, MemberReader, VerifiedStream, copy
from mirror.bundle.threads import run
from mirror.errors import BundleError, UsageError
from mirror.models import Event, Reporter, Stage, silent

#: Bytes of windows that all threads of one reader hold together when they decompress for verify, spool and unpack.
_WINDOWS = 2**26
# Bytes of the manifest that are decompressed at a time.
_CHUNK = 2**18
#: An index page or lock is read whole to compare it with the manifest.
_DOCUMENT_LIMIT = 2**26


@contextmanager
def bundle_rows(path: Path) -> Iterator[Rows]:
    """Read the manifest of the bundle at *path* without holding it; of the rest, only the seek table is looked at.

    Raises what opening a :class:`BundleReader` does.
    """
    with Archive(path) as archive, archive.named(), reading(partial(_manifest_lines, archive)) as rows:
        yield rows


class BundleReader(AbstractContextManager["BundleReader"]):
    """A bundle on the disk; a context manager, safe to use from several threads.

    Opening it, or an archive that is open, reads seek table and manifest only. Raises a UsageError where *source* is no
    file, a BundleError where it is no bundle of format 1 or its manifest is wrong.
    """

    def __init__(self, source: Path | Archive) -> None:
        self.archive = source if isinstance(source, Archive) else Archive(source)
        self._windows = Budget(_WINDOWS)
        with self.archive.closing(), self.archive.named():
            self.manifest = read_manifest(partial(_manifest_lines, self.archive))
            self._check_layout()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the archive."""
        self.archive.close()

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.archive.path

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
            with self.archive.named(), self._window(section):
                for file, stream in self.files(project):
                    path = folder / file.filename
                    with disk(path), path.open("xb") as target:
                        paths.append(path)
                        copy(stream, target)
        except BaseException:
            for path in paths:
                with suppress(OSError):
                    path.unlink()
            raise
        return paths

    def check(self, stop: threading.Event, report: Reporter = silent) -> None:
        """See :meth:`Archive.check`."""
        self.archive.check(stop, report)

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
            lambda stop: digests.append(self.archive.digest(stop)),
            self._check_end,
        ]
        sections = manifest.project_sections.values()
        with self.archive.named():
            run(chain(tasks, (partial(check, section) for section in sections)), threads)
            # Last, because all other checks name the member that is wrong.
            self.archive.check_digest(digests[0])
        report(Event("end", Stage.VERIFY))

    # Layout

    def _check_layout(self) -> None:
        expected = self.manifest.end_frame + TRAILING_FRAMES
        if len(self.archive.frames) != expected:
            raise BundleError(
                f"The archive has {len(self.archive.frames)} frames, the manifest accounts for {expected}."
            )
        for section in self.manifest.project_sections.values():
            if any(frame.content != manifest.FRAME_LIMIT for frame in self._frames_of(section)[:-1]):
                raise BundleError(f"The frames of {section.name} are not cut as format 1 has it.")
        if (self.archive.frames[-1].size, self.archive.frames[-1].content) != (DIGEST_FRAME, 0):
            raise BundleError("The last frame is not the digest.")

    def _section(self, project: str) -> Section:
        section = self.manifest.project_sections.get(project)
        if section is None:
            raise UsageError(f"The bundle {self.path.name} has no project {project!r} with files in it.")
        return section

    def _frames_of(self, section: Section) -> tuple[Frame, ...]:
        return self.archive.frames[section.frame : section.frame + frames_of(section.size)]

    @contextmanager
    def _window(self, section: Section) -> Iterator[None]:
        """Wait until the memory that decompressing *section* takes is free."""
        headers = [self.archive.pread(frame.offset, FRAME_HEADER) for frame in self._frames_of(section)]
        with self._windows.hold(max(parameters(header).window_size for header in headers)):
            yield

    # Members

    def _entries(self, section: Section) -> Iterator[tuple[Entry, VerifiedStream]]:
        """Yield every member of *section*, header checked; raises unless the section is exactly what it should be."""
        frames = FrameReader(self.archive.pread, self._frames_of(section), section.frame)
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

    def _check_end(self, _: threading.Event) -> None:
        frame = self.manifest.end_frame
        stream = FrameReader(self.archive.pread, self.archive.frames[frame : frame + 1], frame)
        data = stream.read(len(tar.END) + tar.BLOCK)
        if any(data):
            raise self._foreign(data, None)
        if len(data) != len(tar.END):
            raise BundleError("The archive does not end with two blocks of zeros.")
        stream.finish()

    def _check_members(self, stop: threading.Event) -> None:
        from mirror.bundle.documents import check_document, is_as_written  # a push reads none of them

        for entry, stream in self._entries(self.manifest.member_section):
            if is_as_written(self.manifest, entry):
                stream.drain(stop)
            elif entry.size > _DOCUMENT_LIMIT:
                raise BundleError(f"{entry.path} has {entry.size} bytes, more than any such page.")
            else:
                check_document(self.manifest, entry.path, stream.read())


def _content(section: Section) -> int:
    return sum(entry.size for entry in section.entries)


def _manifest_lines(archive: Archive) -> Iterable[bytes]:
    """The manifest, line by line as it is decompressed."""
    frames = FrameReader(archive.pread, archive.frames[:1], 0)
    header = frames.read(tar.BLOCK)
    found = tar.describe(header)
    if found is None or found[0] != MANIFEST or header != tar.header(MANIFEST, size := max(found[2], 0)):
        what = found[0] if found else "something else"
        raise BundleError(f"The first member is {what[:200]!r}, not {MANIFEST}.", hint="It is not a bundle.")
    if size > MANIFEST_LIMIT:
        raise BundleError(f"{MANIFEST} has {size} bytes, more than any manifest.")
    return io.BufferedReader(MemberReader(frames, size), _CHUNK)
