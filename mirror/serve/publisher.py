"""The publisher for an embedded repository: a push without a server, through the same code as an upload."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager

from mirror.models import Hashes
from mirror.push.publisher import PageByPage, Upload
from mirror.serve.audit import local_actor
from mirror.serve.blobs import DIGESTS
from mirror.serve.home import Home
from mirror.serve.hosted import Claims


class EmbeddedPublisher(PageByPage, AbstractContextManager["EmbeddedPublisher"]):
    """Satisfies push's ``Publisher`` for the hosted repository *name* in *home*, which it closes.

    Raises ConfigError where there is no such repository.
    """

    def __init__(self, home: Home, name: str) -> None:
        self._home = home
        try:
            self._repository = home.hosted(name)
        except BaseException:
            home.close()
            raise

    def __exit__(self, *_: object) -> None:
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
        blob = self._repository.blob(file.sha256)
        for chunk in blob.read(0, blob.size):
            sha256.update(chunk)
        return sha256.hexdigest()

    def upload(self, upload: Upload) -> None:
        digests = {algorithm: digest for algorithm, digest in upload.hashes if algorithm in DIGESTS}
        self._repository.add(
            upload.path, upload.filename, Claims(upload.project, upload.version, digests), actor=local_actor()
        )
