"""What every answer is made of: the format that a client likes, conditional requests, pages, and errors in words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import chain, islice

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from mirror import __version__
from mirror.errors import AirgapError, NetworkError, StorageError
from mirror.index import simple
from mirror.serve.blobs import Blob
from mirror.serve.home import UnknownRepositoryError
from mirror.serve.upload import RefusedError

HTML = "text/html"
_FORMATS = {
    simple.JSON_TYPE: simple.JSON_TYPE,
    "application/vnd.pypi.simple.latest+json": simple.JSON_TYPE,
    simple.HTML_TYPE: simple.HTML_TYPE,
    "application/vnd.pypi.simple.latest+html": simple.HTML_TYPE,
    HTML: HTML,
    "text/*": HTML,
    "*/*": HTML,
}
#: Names of a root page that are held at once; a longer one is streamed.
_HELD = 2000
_BLOCK = 64 * 1024


def base_url(request: Request) -> str:
    """The URL by which the client reached this server, without a path."""
    return f"{request.url.scheme}://{request.url.netloc}"


def negotiated(request: Request) -> str:
    """The index format that the client likes best (PEP 691); HTML where it likes none that there is."""
    best, liking = HTML, 0.0
    for item in request.headers.get("accept", "").split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        kind = _FORMATS.get(name.lower())
        quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        try:
            weight = float(quality)
        except ValueError:
            weight = 0.0
        if kind is not None and weight > liking:
            best, liking = kind, weight
    return best


def page_headers(etag: str) -> dict[str, str]:
    """The headers of an index page: keep it, but ask every time, since an upload is to be seen at once."""
    return {"etag": etag, "vary": "accept", "cache-control": "no-cache"}


def root_page(request: Request, names: Iterable[str]) -> Response:
    """The root of an index. *names* are read twice where they are many, for the ETag and then while the page goes out.

    A name that comes between is in the page and not in its ETag: the page is asked for again, never the other way.
    """
    kind = negotiated(request)
    hasher = hashlib.sha256(f"{kind} {__version__}".encode())
    reading = iter(names)
    first = list(islice(reading, _HELD))
    for name in chain(first, reading):
        hasher.update(f"\n{name}".encode())
    headers = page_headers(f'"{hasher.hexdigest()[:32]}"')
    same = unchanged(request, headers)
    if same is not None:
        return same
    pieces = simple.root_json_pieces if kind == simple.JSON_TYPE else simple.root_html_pieces
    if len(first) < _HELD:
        return Response("".join(pieces(first)), media_type=kind, headers=headers)
    return StreamingResponse(_blocks(pieces(names)), media_type=kind, headers=headers)


def _blocks(pieces: Iterable[str]) -> Iterator[bytes]:
    block, size = [], 0
    for piece in pieces:
        block.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield "".join(block).encode()
            block, size = [], 0
    yield "".join(block).encode()


def unchanged(request: Request, headers: Mapping[str, str], blob: Blob | None = None) -> Response | None:
    """304 with *headers* where the client has this already (RFC 9110, 13), else None."""
    known, etag = request.headers.get("if-none-match"), headers.get("etag")
    if known is not None:
        tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
        same = etag in tags or "*" in tags
    else:
        same = blob is not None and _is_older(blob, request.headers.get("if-modified-since", ""))
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=dict(headers)) if same else None


def _is_older(blob: Blob, moment: str) -> bool:
    try:
        return int(blob.modified) <= parsedate_to_datetime(moment).timestamp()
    except (ValueError, OverflowError):
        return False


def explain_status(request: Request, error: Exception) -> Response:
    """What Starlette refuses by itself, with a word about what to do."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = error.detail if isinstance(error, HTTPException) else ""
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        said = "Uploads go to /repository/NAME/ by POST; everything else is read by GET."
    elif said == HTTPStatus(status).phrase:
        said = f"Nothing is here. {base_url(request)}/ lists the repositories."
    return PlainTextResponse(f"{status} {said}\n", status, headers)


def explain_error(request: Request, error: Exception) -> Response:
    """What this project's errors mean in HTTP, with what was wrong and what to do."""
    headers = {}
    if isinstance(error, UnknownRepositoryError):
        known = ", ".join(error.known)
        return PlainTextResponse(f"404 There is no such repository here. There are: {known}.\n", HTTPStatus.NOT_FOUND)
    if isinstance(error, RefusedError):
        status = error.status
        if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
            headers["connection"] = "close"  # the rest of the body is not waited for
    elif isinstance(error, StorageError):
        writes = request.method == "POST"
        status = HTTPStatus.INSUFFICIENT_STORAGE if writes else HTTPStatus.INTERNAL_SERVER_ERROR
    elif isinstance(error, NetworkError):
        status = HTTPStatus.BAD_GATEWAY
    elif isinstance(error, AirgapError):
        status = HTTPStatus.BAD_REQUEST
    else:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    hint = getattr(error, "hint", "")
    return PlainTextResponse(f"{int(status)} {error}{f' {hint}' if hint else ''}\n", status, headers)
