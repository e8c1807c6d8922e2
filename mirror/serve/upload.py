"""The form of the legacy upload API as it arrives: text fields in memory, the file straight to the disk."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, ExitStack

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from mirror.errors import IntegrityError
from mirror.serve.blobs import DIGESTS, Incoming
from mirror.serve.catalog import CatalogFile
from mirror.serve.hosted import Claims, HostedRepository, check_filename

#: Bytes of all text fields together; the longest descriptions on PyPI are far below.
FORM_LIMIT = 16 * 1024 * 1024
_MOST_PARTS = 10_000


class RefusedError(IntegrityError):
    """An upload that can't be taken; ``status`` is what HTTP calls the reason."""

    def __init__(self, message: str, *, status: int = 400, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class UploadForm(AbstractContextManager["UploadForm"]):
    """One upload. Feed it the body, then ``finish``; a context manager that leaves nothing behind on the way out.

    ``feed`` and ``finish`` block on the disk, and raise RefusedError or another IntegrityError as soon as they know.
    """

    def __init__(
        self, repository: HostedRepository, content_type: str, *, limit: int, actor: str, part: str = "content"
    ) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise RefusedError("An upload is a form of type multipart/form-data with a boundary.", hint=_HOW)
        self._repository = repository
        self._actor = actor
        self._part = part
        self._limit = limit
        self._cleanup = ExitStack()
        self._fields: dict[str, str] = {}
        self._filename = ""
        self._incoming: Incoming | None = None
        self._room = FORM_LIMIT
        self._parts = 0
        self._ended = False
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._name = ""
        self._value = bytearray()
        self._is_content = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise RefusedError(f"The form's boundary can't be used: {error}.") from error

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the body."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise RefusedError(f"The upload is not a well-formed form: {error}.") from error

    def finish(self, chunk: bytes = b"") -> CatalogFile:
        """Take the last piece, judge the whole upload and store it."""
        self.feed(chunk)
        if not self._ended:
            raise RefusedError("The upload ended in the middle of the form.", hint="Upload the file again.")
        action = self._fields.get(":action")
        if action != "file_upload":
            raise RefusedError(f"The only :action known here is file_upload, not {str(action)[:80]!r}.", hint=_HOW)
        if self._incoming is None:
            raise RefusedError(f"The upload has no file: its part must be called {self._part}.", hint=_HOW)
        name, version = self._fields.get("name"), self._fields.get("version")
        if not name or not version:
            raise RefusedError("The upload does not say name and version.", hint=_HOW)
        return self._admit(Claims(name, version, self._claimed()))

    def finish_component(self, chunk: bytes = b"") -> CatalogFile:
        """Judge and store what Nexus's REST API calls a component: a file, and nothing said about it."""
        self.feed(chunk)
        if not self._ended:
            raise RefusedError("The upload ended in the middle of the form.", hint="Upload the file again.")
        return self._admit(Claims())

    def _admit(self, claims: Claims) -> CatalogFile:
        if self._incoming is None:
            raise RefusedError(f"The upload has no file: its part must be called {self._part}.", hint=_HOW)
        return self._repository.admit(self._incoming, self._filename, claims, actor=self._actor)

    def _claimed(self) -> dict[str, str]:
        """The digests that the fields have named so far."""
        return {
            algorithm: claimed.lower()
            for algorithm in DIGESTS
            if (claimed := self._fields.get(f"{algorithm}_digest", "").strip())
        }

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise RefusedError(f"The form has more than {_MOST_PARTS} fields.", status=413)
        self._disposition = b""
        self._value = bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._take_room(end - start)
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._take_room(end - start)
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_content = self._name == self._part
        if not self._is_content:
            return
        if self._incoming is not None:
            raise RefusedError("The upload has more than one file.", hint=_HOW)
        # Taken from the header itself: what reads it for browsers would cut the path off that makes a name bad.
        found = re.search(rb'filename="((?:[^"\\]|\\.)*)"', self._disposition)
        raw = found[1] if found else options.get(b"filename", b"")
        self._filename = raw.decode("utf-8", "replace")
        check_filename(self._filename)
        self._incoming = self._cleanup.enter_context(self._repository.incoming(self._claimed()))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        piece = memoryview(data)[start:end]
        if self._is_content and self._incoming is not None:
            if self._incoming.size + len(piece) > self._limit:
                raise too_large(self._limit)
            self._incoming.write(piece)
            return
        self._take_room(len(piece))
        self._value += piece

    def _take_room(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise RefusedError(f"The form's fields are larger than {FORM_LIMIT} bytes.", status=413)

    def _on_part_end(self) -> None:
        if not self._is_content:
            self._fields.setdefault(self._name, self._value.decode("utf-8", "replace"))

    def _on_end(self) -> None:
        self._ended = True


def too_large(limit: int) -> RefusedError:
    """The refusal of a file of more than *limit* bytes."""
    return RefusedError(f"The file is larger than the {limit} bytes that this server takes.", status=413)


_HOW = "Use twine upload, uv publish, airgap push or anything else that speaks the legacy upload API."
