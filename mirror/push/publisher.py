"""What a push needs from both of its ends: where verified files come from, and a repository that takes them."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mirror.errors import PushError
from mirror.models import Hashes, Reporter, silent


@dataclass(frozen=True, slots=True)
class Upload:
    """One verified file, ready to be sent.

    ``hashes`` holds sha256 and what the publisher wants besides: md5, blake2_256 (BLAKE2b with 256 bits, under the
    legacy API's name). ``metadata`` is the METADATA or PKG-INFO inside the file, empty where it can't be read.
    ``size`` is in bytes.
    """

    filename: str
    project: str
    version: str
    size: int
    hashes: Hashes
    path: Path
    metadata: bytes


class TransientUploadError(PushError):
    """The file is not known to be there, and trying again may help.

    ``ambiguous`` is True where the server had the whole request, so that it may have the file: look, compare, and
    only then try again. ``retry_after`` is the number of seconds that the server asked to wait, or None.
    """

    def __init__(self, message: str, *, ambiguous: bool, retry_after: float | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint, retryable=True)
        self.ambiguous = ambiguous
        self.retry_after = retry_after


class Publisher(Protocol):
    """A hosted repository. Called from several threads at once, but never twice at a time for one project."""

    @property
    def url(self) -> str:
        """The repository as people and the receipt name it, without credentials."""

    @property
    def digests(self) -> Collection[str]:
        """The digests besides sha256 that an upload is to carry: ``md5``, ``blake2_256``."""

    def projects(self) -> Collection[str] | None:
        """Every project that the repository shows, normalised; None where asking that is no cheaper, or not possible.

        Never raises: who asks goes on with :meth:`listing`.
        """

    def listing(self, project: str) -> Mapping[str, Hashes]:
        """What the repository shows of *project* now: file name to digests, empty Hashes where it shows none."""

    def listing_for(self, project: str, sent: Mapping[str, Hashes]) -> Mapping[str, Hashes]:
        """:meth:`listing`, to be compared with files that were *sent*, by name: their digests may be of any kind."""

    @property
    def lists_all(self) -> bool:
        """Whether it is known by now to have one list of all files, so that asking of many projects together pays."""

    def listings(self, projects: Collection[str]) -> Mapping[str, Hashes] | None:
        """:meth:`listing` for all of *projects*, and perhaps others, in one; None where that is no cheaper.

        Never raises: who asks goes on with :meth:`listing`.
        """

    def arrived(self, projects: Collection[str]) -> Collection[str]:
        """Those of *projects* that the repository did not have when :meth:`projects` was first asked, and shows now.

        One question for all of them, and no word of which files there are, or of their digests. Never raises; none
        where that is no cheaper than what else can be asked.
        """

    def digest(self, project: str, filename: str) -> str | None:
        """The sha256 of the bytes that the repository serves for *filename*; None where it has no such file."""

    def upload(self, upload: Upload) -> None:
        """Send one file; returns only when the repository has accepted it.

        Raises TransientUploadError where another try may help, ConflictError where the repository is known to hold
        other bytes under the name, and another of airgap's errors where it refuses.
        """


class PageByPage(ABC):
    """For repositories that have no list of all files, or none that a push should ask for."""

    lists_all = False

    @abstractmethod
    def listing(self, project: str) -> Mapping[str, Hashes]:
        """What :meth:`Publisher.listing` says."""

    def listing_for(self, project: str, sent: Mapping[str, Hashes]) -> Mapping[str, Hashes]:
        """What :meth:`listing` says."""
        return self.listing(project)

    def listings(self, projects: Collection[str]) -> Mapping[str, Hashes] | None:
        """Nothing."""
        return None

    def arrived(self, projects: Collection[str]) -> Collection[str]:
        """None."""
        return ()


class SourceFile(Protocol):
    """What the planner must know of a file; a bundle's ``BundledFile`` has it."""

    @property
    def filename(self) -> str: ...
    @property
    def project(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def requires(self) -> Sequence[str]: ...
    @property
    def carrier(self) -> str | None:
        """None where the source holds the file; else the identity of the bundle that brought it to the repository."""


class SourceManifest(Protocol):
    """Every file of a source, and a digest that names the source."""

    @property
    def files(self) -> Sequence[SourceFile]: ...
    @property
    def identity(self) -> str: ...
    @property
    def since(self) -> Mapping[str, str]:
        """Names for people of the bundles that a delta builds on, by identity."""


class Source(Protocol):
    """Where files come from, one project at a time. ``spool`` is called from several threads at once."""

    @property
    def manifest(self) -> SourceManifest: ...

    def check(self, stop: threading.Event, report: Reporter = silent) -> None:
        """Raise an IntegrityError where any byte was changed by accident; *stop* ends that early.

        It runs besides other work, and nothing is uploaded before it returned. It need not find what was changed on
        purpose: :meth:`spool` does, file by file.
        """

    def spool(self, project: str, folder: Path) -> Sequence[Path]:
        """Put the files of *project* into *folder*, every digest checked before anything is handed out."""
