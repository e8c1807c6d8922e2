"""What an index answered about a page: kept for the next run, and asked for again only if it has changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirror.errors import NotFoundError
from mirror.urls import without_credentials

if TYPE_CHECKING:  # importing it costs an HTTP library, which whoever has a Client has paid for
    from mirror.net import Client, Response

#: What pip sends: JSON before HTML.
ACCEPT: Final = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
#: Bytes; the largest pages of the largest index are a tenth of it.
PAGE_LIMIT: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A page as a note in the store: one line of JSON, then the body."""

    url: str
    kind: str
    etag: str
    modified: str
    body: bytes

    @classmethod
    def of(cls, answer: Response) -> Answer:
        headers = answer.headers
        return cls(
            url=without_credentials(answer.url),
            kind=headers.get("content-type", ""),
            etag=headers.get("etag", ""),
            modified=headers.get("last-modified", ""),
            body=answer.body,
        )

    @classmethod
    def read(cls, note: bytes | None) -> Answer | None:
        if note is None:
            return None
        head, _, body = note.partition(b"\n")
        try:
            url, kind, etag, modified = json.loads(head)
        except ValueError:  # another version of airgap wrote it
            return None
        return cls(url, kind, etag, modified, body)

    def head(self) -> bytes:
        return json.dumps([self.url, self.kind, self.etag, self.modified]).encode() + b"\n"

    @property
    def digest(self) -> str:
        """SHA-256 of all that a page is parsed from."""
        found = hashlib.sha256(json.dumps([self.url, self.kind]).encode() + b"\n")
        found.update(self.body)
        return found.hexdigest()

    def conditions(self) -> dict[str, str]:
        """Request headers that ask for the page only if it has changed; none where the server gave no validator."""
        return _conditions(self.etag, self.modified)


@dataclass(frozen=True, slots=True)
class Asked:
    """That *index* was asked about a project, and what it said: the SHA-256 of all that counts, "" for no such project.

    ``index`` carries no credentials.
    """

    index: str
    project: str
    digest: str = ""
    etag: str = ""
    modified: str = ""

    @classmethod
    def of(cls, index: str, project: str, answer: Answer | None) -> Asked:
        index = without_credentials(index)
        if answer is None:
            return cls(index, project)
        return cls(index, project, answer.digest, answer.etag, answer.modified)

    @property
    def has_validator(self) -> bool:
        """Whether the server can say that nothing has changed: that there is no such project, it always says."""
        return not self.digest or bool(self.etag or self.modified)

    def still_true(self, client: Client, url: str) -> bool:
        """Ask again, at *url*: whether the answer is the same. A NetworkError where there is none."""
        headers = {"accept": ACCEPT, **_conditions(self.etag, self.modified)}
        try:
            answer = client.get(url, headers=headers, limit=PAGE_LIMIT)
        except NotFoundError:
            return not self.digest
        if answer.status == 304:
            return bool(self.digest)
        return Answer.of(answer).digest == self.digest


def _conditions(etag: str, modified: str) -> dict[str, str]:
    if etag:
        return {"if-none-match": etag}
    return {"if-modified-since": modified} if modified else {}
