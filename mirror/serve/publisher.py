"""The publisher for an embedded repository: a push without a server, through the same code as an upload."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol

from mirror.config.served import Served
from mirror.models import Hashes
from mirror.serve.audit import local_actor
from mirror.serve.blobs import DIGESTS
from mirror.serve.home import Home
from mirror.serve.hosted import Claims

_CHUNK = 1024 * 1024


class FileToAdd(Protocol):
    """What is read of a push's ``Upload``."""

    @property
    def filename(self) -> str: ...
    @property
    def project(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def hashes(self) -> Hashes: ...
    @property
    def path(self) -> Path: ...


class EmbeddedPublisher:
    """Satisfies push's ``Publisher`` for the hosted repository *name* in the folder *home*.

    Raises ConfigError where there is no such repository.
    """

    def __init__(self, home: Path, name: str, declared: Mapping[str, Served] | None = None) -> None:
        self._home = Home(home, declared)
        self._repository = self._home.hosted(name)

    def __enter__(self) -> EmbeddedPublisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the catalog."""
        self._home.close()

    @property
    def digests(self) -> Collection[str]:
        return ()  # the repository hashes for itself what it stores

    @property
    def url(self) -> str:
        return f"embedded:{self._repository.name}"

    def projects(self) -> Collection[str] | None:
        return None  # a listing costs no request

    def listing(self, project: str) -> Mapping[str, Hashes]:
        return {file.filename: Hashes((("sha256", file.sha256),)) for file in self._repository.files(project)}

    def digest(self, project: str, filename: str) -> str | None:
        file = self._repository.file(filename)
        if file is None or file.project != project:
            return None
        sha256 = hashlib.sha256()
        with self._repository.blob(file.sha256).open("rb", buffering=0) as stream:
            while chunk := stream.read(_CHUNK):
                sha256.update(chunk)
        return sha256.hexdigest()

    def upload(self, upload: FileToAdd) -> None:
        digests = {algorithm: digest for algorithm, digest in upload.hashes if algorithm in DIGESTS}
        self._repository.add(
            upload.path, upload.filename, Claims(upload.project, upload.version, digests), actor=local_actor()
        )
