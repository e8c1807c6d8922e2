"""Answers with a blob in them: whole, or a range of its bytes (RFC 9110, 14), wherever the blob is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from mirror.serve.blobs import Blob

_KIND = "application/octet-stream"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")


class _LocalResponse(FileResponse):
    """A file, read in pieces that keep the threads' overhead small."""

    chunk_size = 512 * 1024


def blob_response(request: Request, blob: Blob, headers: Mapping[str, str]) -> Response:
    """Answer with *blob*, which *headers* may give an ETag."""
    if blob.path is not None:
        moment = int(blob.modified)
        status = os.stat_result((0, 0, 0, 0, 0, 0, blob.size, moment, moment, moment))  # known already
        return _LocalResponse(blob.path, stat_result=status, media_type=_KIND, headers=dict(headers))
    said = {"accept-ranges": "bytes", "last-modified": formatdate(blob.modified, usegmt=True), **headers}
    start, end = 0, blob.size
    code = HTTPStatus.OK
    asked = _asked(request, blob, said)
    if asked is not None:
        start, end = asked
        if start >= end:
            return Response(
                status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                headers={**said, "content-range": f"bytes */{blob.size}"},
            )
        code = HTTPStatus.PARTIAL_CONTENT
        said["content-range"] = f"bytes {start}-{end - 1}/{blob.size}"
    said["content-length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=code, media_type=_KIND, headers=said)
    return StreamingResponse(blob.read(start, end), code, said, _KIND)


def _asked(request: Request, blob: Blob, headers: Mapping[str, str]) -> tuple[int, int] | None:
    """The one range that is asked for, empty where it lies behind the end; None where all of it is the answer.

    Who asks for several at once gets the whole, as anybody may be given.
    """
    found = _RANGE.match(request.headers.get("range", "").strip())
    if found is None or found[0] == "bytes=-" or not _is_same(request.headers.get("if-range"), blob, headers):
        return None
    first, last = found[1], found[2]
    if not first:
        return max(0, blob.size - int(last)), blob.size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, blob.size) if last else blob.size


def _is_same(condition: str | None, blob: Blob, headers: Mapping[str, str]) -> bool:
    """Whether what an ``If-Range`` names is this blob."""
    if condition is None or condition == headers.get("etag"):
        return True
    try:
        return int(blob.modified) == parsedate_to_datetime(condition).timestamp()
    except (ValueError, OverflowError):
        return False
