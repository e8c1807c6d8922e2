"""The HTTP side of embedded repositories, in Nexus's layout: PEP 503, 658, 691, 700 and the legacy upload API."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncGenerator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import anyio
from packaging.utils import canonicalize_name
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from mirror import __version__
from mirror.errors import AirgapError, ConfigError, StorageError
from mirror.index import simple
from mirror.models import Hashes
from mirror.serve.catalog import CatalogFile
from mirror.serve.home import Home
from mirror.serve.hosted import HostedRepository
from mirror.serve.upload import FORM_LIMIT, RefusedError, UploadForm, too_large

#: Bytes of one file. PyTorch's largest wheels have some 4 GB.
FILE_LIMIT = 16 * 1024**3
#: Seconds between two pieces of an upload.
UPLOAD_TIMEOUT = 60.0

_PIECE = 1024 * 1024
_HTML = "text/html"
_FORMATS = {
    simple.JSON_TYPE: simple.JSON_TYPE,
    "application/vnd.pypi.simple.latest+json": simple.JSON_TYPE,
    simple.HTML_TYPE: simple.HTML_TYPE,
    "application/vnd.pypi.simple.latest+html": simple.HTML_TYPE,
    _HTML: _HTML,
    "text/*": _HTML,
    "*/*": _HTML,
}


def make_app(home: Home, *, file_limit: int = FILE_LIMIT, upload_timeout: float = UPLOAD_TIMEOUT) -> Starlette:
    """Return the ASGI application that serves *home*. *file_limit* is in bytes, *upload_timeout* in seconds."""
    handlers = _Handlers(home, file_limit, upload_timeout)
    get = ["GET"]  # Starlette adds HEAD
    repository = "/repository/{repository}"
    packages = repository + "/packages/{project}/{version}/{filename}"
    return Starlette(
        routes=[
            Route("/", handlers.front, methods=get),
            Route("/service/rest/v1/status", handlers.status, methods=get),
            Route("/service/rest/v1/status/writable", handlers.status, methods=get),
            Route(repository, handlers.upload, methods=["POST"]),
            Route(repository + "/", handlers.upload, methods=["POST"]),
            Route(repository, handlers.about, methods=get),
            Route(repository + "/", handlers.about, methods=get),
            Route(repository + "/simple", handlers.add_slash, methods=get),
            Route(repository + "/simple/", handlers.root, methods=get),
            Route(repository + "/simple/{project}", handlers.page, methods=get),
            Route(repository + "/simple/{project}/", handlers.page, methods=get),
            Route(packages, handlers.file, methods=get),
        ],
        exception_handlers={HTTPException: _explain_status, AirgapError: _explain_error},
    )


class _Handlers:
    """One method for each kind of request. What touches the disk runs in threads."""

    def __init__(self, home: Home, file_limit: int, upload_timeout: float) -> None:
        self._home = home
        self._file_limit = file_limit
        self._upload_timeout = upload_timeout

    def front(self, request: Request) -> Response:
        lines = [
            f"{_base(request)}/repository/{repository.name}/simple/  ({repository.kind})"
            for repository in self._home.repositories().values()
        ]
        return PlainTextResponse("airgap: repositories of Python packages\n\n" + "\n".join(lines) + "\n")

    def status(self, request: Request) -> Response:
        self._home.names()
        return Response()

    def about(self, request: Request) -> Response:
        repository = self._repository(request)
        here = f"{_base(request)}/repository/{repository.name}/"
        return PlainTextResponse(f"Install:  pip install --index-url {here}simple/ …\nUpload:   POST {here}\n")

    def add_slash(self, request: Request) -> Response:
        return RedirectResponse(f"{request.url.path}/", HTTPStatus.MOVED_PERMANENTLY)

    def root(self, request: Request) -> Response:
        repository = self._repository(request)
        kind = _negotiated(request)
        names = repository.projects()
        body = simple.render_root_json(names) if kind == simple.JSON_TYPE else simple.render_root_html(names)
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        return _unchanged(request, etag) or _page_response(body, kind, etag)

    def page(self, request: Request) -> Response:
        repository = self._repository(request)
        asked = request.path_params["project"]
        project = canonicalize_name(asked)
        path = f"/repository/{repository.name}/simple/{project}/"
        if request.url.path != path:
            return RedirectResponse(path, HTTPStatus.MOVED_PERMANENTLY)
        kind = _negotiated(request)
        tag = repository.tag(project)
        if tag is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"{repository.name} has no project {project[:200]}.")
        # Read before the files: a page that is newer than its tag is asked for again, never the other way round.
        etag = f'"{tag}-{kind[-4:]}-{__version__}"'
        unchanged = _unchanged(request, etag)
        if unchanged is not None:
            return unchanged
        entries = [_entry(file) for file in repository.files(project)]
        render = simple.render_json if kind == simple.JSON_TYPE else simple.render_html
        return _page_response(render(project, entries), kind, etag)

    def file(self, request: Request) -> Response:
        repository = self._repository(request)
        filename = request.path_params["filename"]
        metadata = filename.endswith(".metadata")
        found = repository.file(filename.removesuffix(".metadata"))
        place = request.path_params["project"], request.path_params["version"]
        if found is None or place != (found.project, found.version) or (metadata and not found.metadata_sha256):
            raise HTTPException(HTTPStatus.NOT_FOUND, f"{repository.name} has no such file.")
        sha256 = found.metadata_sha256 if metadata and found.metadata_sha256 else found.sha256
        path = repository.blob(sha256)
        etag = f'"{sha256}"'
        return _unchanged(request, etag, path) or _BlobResponse(
            path,
            stat_result=path.stat(),
            media_type="application/octet-stream",
            headers={"etag": etag, "cache-control": "max-age=31536000, immutable"},
        )

    async def upload(self, request: Request) -> Response:
        repository = await run_in_threadpool(self._repository, request)
        pieces = request.stream()
        try:
            stored = await self._receive(request, pieces, repository)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        except AirgapError as error:
            # A client that is still sending would not read the answer: take the rest, within reason, and drop it.
            if not self._declares_too_much(request):
                await self._drain(pieces)
            return _explain_error(request, error)
        path = _file_path(stored)
        return PlainTextResponse(
            f"{stored.filename} is in {repository.name}.\n",
            headers={"location": f"{_base(request)}/repository/{repository.name}/{path}"},
        )

    async def _receive(
        self, request: Request, pieces: AsyncGenerator[bytes, None], repository: HostedRepository
    ) -> CatalogFile:
        if self._declares_too_much(request):
            raise too_large(self._file_limit)
        with UploadForm(repository, request.headers.get("content-type", ""), limit=self._file_limit) as form:
            gathered = bytearray()
            try:
                while True:
                    with anyio.fail_after(self._upload_timeout):
                        gathered += await anext(pieces)
                    if len(gathered) >= _PIECE:
                        await run_in_threadpool(form.feed, bytes(gathered))
                        gathered.clear()
            except StopAsyncIteration:
                await run_in_threadpool(form.feed, bytes(gathered))
            except TimeoutError:
                message = f"Nothing arrived for {self._upload_timeout:g} seconds."
                raise RefusedError(message, status=HTTPStatus.REQUEST_TIMEOUT) from None
            return await run_in_threadpool(form.finish)

    def _declares_too_much(self, request: Request) -> bool:
        declared = request.headers.get("content-length", "")
        return declared.isdecimal() and int(declared) > self._file_limit + FORM_LIMIT

    async def _drain(self, pieces: AsyncGenerator[bytes, None]) -> None:
        left = self._file_limit
        with anyio.move_on_after(self._upload_timeout), contextlib.suppress(ClientDisconnect):
            async for piece in pieces:
                left -= len(piece)
                if left < 0:
                    return

    def _repository(self, request: Request) -> HostedRepository:
        try:
            return self._home.hosted(request.path_params["repository"])
        except ConfigError:
            message = f"There is no such repository here. There are: {', '.join(self._home.names())}."
            raise HTTPException(HTTPStatus.NOT_FOUND, message) from None


class _BlobResponse(FileResponse):
    """A file with ranges (RFC 9110, 14), read in pieces that keep the threads' overhead small."""

    chunk_size = 512 * 1024


def _entry(file: CatalogFile) -> simple.PageEntry:
    return simple.PageEntry(
        filename=file.filename,
        url=f"../../{_file_path(file)}",
        hashes=Hashes.of({"sha256": file.sha256}),
        size=file.size,
        requires_python=file.requires_python,
        yanked=file.yanked,
        upload_time=file.upload_time,
        metadata=Hashes.of({"sha256": file.metadata_sha256}) if file.metadata_sha256 else None,
    )


def _file_path(file: CatalogFile) -> str:
    """Where a file is below its repository's URL."""
    return "/".join(["packages", file.project, quote(file.version, safe=""), quote(file.filename, safe="")])


def _base(request: Request) -> str:
    """The URL by which the client reached this server, without a path."""
    return f"{request.url.scheme}://{request.url.netloc}"


def _negotiated(request: Request) -> str:
    """The index format that the client likes best (PEP 691); HTML where it likes none that there is."""
    best, liking = _HTML, 0.0
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


def _page_response(body: bytes, kind: str, etag: str) -> Response:
    # no-cache: keep it, but ask every time. An upload is to be seen at once.
    headers = {"etag": etag, "vary": "accept", "cache-control": "no-cache"}
    return Response(body, media_type=kind, headers=headers)


def _unchanged(request: Request, etag: str, path: Path | None = None) -> Response | None:
    """304 where the client has this already (RFC 9110, 13), else None."""
    known = request.headers.get("if-none-match")
    if known is not None:
        tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
        same = etag in tags or "*" in tags
    else:
        same = path is not None and _is_older(path, request.headers.get("if-modified-since", ""))
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": etag}) if same else None


def _is_older(path: Path, moment: str) -> bool:
    try:
        return int(path.stat().st_mtime) <= parsedate_to_datetime(moment).timestamp()
    except (ValueError, OverflowError):
        return False


def _explain_status(request: Request, error: Exception) -> Response:
    """What Starlette refuses by itself, with a word about what to do."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = error.detail if isinstance(error, HTTPException) else ""
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        said = "Uploads go to /repository/NAME/ by POST; everything else is read by GET."
    elif said == HTTPStatus(status).phrase:
        said = f"Nothing is here. {_base(request)}/ lists the repositories."
    return PlainTextResponse(f"{status} {said}\n", status, headers)


def _explain_error(_: Request, error: Exception) -> Response:
    headers = {}
    if isinstance(error, RefusedError):
        status = error.status
        if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
            headers["connection"] = "close"  # the rest of the body is not waited for
    elif isinstance(error, StorageError):
        status = HTTPStatus.INSUFFICIENT_STORAGE
    elif isinstance(error, AirgapError):
        status = HTTPStatus.BAD_REQUEST
    else:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    hint = getattr(error, "hint", "")
    return PlainTextResponse(f"{int(status)} {error}{f' {hint}' if hint else ''}\n", status, headers)
