"""The HTTP side of embedded repositories, in Nexus's layout: simple index, files, uploads, search, REST."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote

import anyio
import anyio.to_thread
from packaging.utils import canonicalize_name
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp

from mirror import __version__
from mirror.errors import AirgapError, NetworkError, StorageError
from mirror.index import simple
from mirror.serve import rest, search, web
from mirror.serve.access import Access, Forwarded
from mirror.serve.catalog import CatalogFile
from mirror.serve.home import Home
from mirror.serve.hosted import HostedRepository
from mirror.serve.repository import Content, Readable, file_path
from mirror.serve.upload import FORM_LIMIT, RefusedError, UploadForm, too_large
from mirror.serve.users import Users

#: Bytes of one file. PyTorch's largest wheels have some 4 GB.
FILE_LIMIT = 16 * 1024**3
#: Seconds between two pieces of an upload.
UPLOAD_TIMEOUT = 60.0

T = TypeVar("T")

_PIECE = 1024 * 1024
_THREADS = 200
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


def make_app(
    home: Home,
    *,
    access: Access | None = None,
    trusted_proxies: Sequence[str] = (),
    file_limit: int = FILE_LIMIT,
    upload_timeout: float = UPLOAD_TIMEOUT,
) -> ASGIApp:
    """Return the ASGI application that serves *home*. *file_limit* is in bytes, *upload_timeout* in seconds."""
    handlers = _Handlers(home, access or Access(Users(home.folder / "users.json")), file_limit, upload_timeout)
    get = ["GET"]  # Starlette adds HEAD
    repository = "/repository/{repository}"
    packages = repository + "/packages/{project}/{version}/{filename}"
    api = "/service/rest/v1"
    app: ASGIApp = Starlette(
        routes=[
            Route("/", handlers.front, methods=get),
            Route(web.STYLE_PATH, handlers.style, methods=get),
            Route("/browse/{repository}/", handlers.about, methods=get),
            Route("/browse/{repository}/{project}/", handlers.project, methods=get),
            Route(api + "/status", handlers.status, methods=get),
            Route(api + "/status/writable", handlers.status, methods=get),
            Route(api + "/components", handlers.components, methods=get),
            Route(api + "/components", handlers.upload_component, methods=["POST"]),
            Route(api + "/search", handlers.components, methods=get),
            Route(api + "/search/assets", handlers.assets, methods=get),
            Route(api + "/assets/{asset}", handlers.delete, methods=["DELETE"]),
            Route(repository, handlers.upload, methods=["POST"]),
            Route(repository + "/", handlers.upload, methods=["POST"]),
            Route(repository + "/pypi", handlers.xmlrpc, methods=["POST"]),
            Route(repository + "/pypi/", handlers.xmlrpc, methods=["POST"]),
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
    return Forwarded(app, trusted_proxies) if trusted_proxies else app


class _Handlers:
    """One method for each kind of request. What touches the disk or a remote runs in threads."""

    def __init__(self, home: Home, access: Access, file_limit: int, upload_timeout: float) -> None:
        self._home = home
        self._access = access
        self._file_limit = file_limit
        self._upload_timeout = upload_timeout
        self._threads: anyio.CapacityLimiter | None = None

    async def front(self, request: Request) -> Response:
        return await self._in_thread(self._front, request)

    async def status(self, request: Request) -> Response:
        await self._in_thread(self._home.names)
        return Response()

    async def about(self, request: Request) -> Response:
        return await self._in_thread(self._about, request)

    async def project(self, request: Request) -> Response:
        return await self._in_thread(self._project, request)

    async def style(self, request: Request) -> Response:
        return Response(web.STYLE, media_type="text/css", headers={"cache-control": "max-age=3600"})

    async def add_slash(self, request: Request) -> Response:
        return RedirectResponse(f"{request.url.path}/", HTTPStatus.MOVED_PERMANENTLY)

    async def root(self, request: Request) -> Response:
        return await self._in_thread(self._root, request)

    async def page(self, request: Request) -> Response:
        return await self._in_thread(self._page, request)

    async def components(self, request: Request) -> Response:
        return await self._in_thread(self._listing, request, rest.components)

    async def assets(self, request: Request) -> Response:
        return await self._in_thread(self._listing, request, rest.assets)

    async def xmlrpc(self, request: Request) -> Response:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > search.REQUEST_LIMIT:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is no search.")
        return await self._in_thread(self._xmlrpc, request, bytes(body))

    async def file(self, request: Request) -> Response:
        found = await self._in_thread(self._content, request)
        etag = f'"{found.sha256}"' if found.sha256 else ""
        unchanged = _unchanged(request, etag, found.path)
        if unchanged is not None:
            return unchanged
        headers = {"cache-control": "max-age=31536000, immutable", **({"etag": etag} if etag else {})}
        kind = "application/octet-stream"
        path = found.path
        if found.flight is not None:
            path = await found.flight.begun()
            if path is None and request.method == "GET" and "range" not in request.headers:
                if found.flight.size is not None:
                    headers["content-length"] = str(found.flight.size)
                return StreamingResponse(found.flight.follow(), media_type=kind, headers=headers)
            path = path or await found.flight.stored()
        if path is None:
            return Response(found.data, media_type=kind, headers=headers)
        return _BlobResponse(path, stat_result=path.stat(), media_type=kind, headers=headers)

    async def upload(self, request: Request) -> Response:
        return await self._take(request, request.path_params["repository"], "content", _stored)

    async def upload_component(self, request: Request) -> Response:
        name = request.query_params.get("repository", "")
        if not name:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, "Say ?repository=NAME.")
        return await self._take(request, name, "pypi.asset", lambda *_: Response(status_code=HTTPStatus.NO_CONTENT))

    async def delete(self, request: Request) -> Response:
        await self._in_thread(self._delete, request)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        if self._threads is None:  # not before the event loop runs
            # Many, since some of them may wait for a remote while others only look into the catalog.
            self._threads = anyio.CapacityLimiter(_THREADS)
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._threads)

    def _front(self, request: Request) -> Response:
        readable = [served for served in self._home.repositories().values() if self._may_read(request, served.name)]
        if not readable:
            self._access.check(request, "read", "*")
        return HTMLResponse(web.front(readable, _base(request)), headers=dict(web.HEADERS))

    def _about(self, request: Request) -> Response:
        name = self._readable(request).name
        question = request.query_params.get("q", "").strip()[:200]
        holders = self._home.holders(name)
        hits: Sequence[search.Hit] = ()
        projects: Sequence[str] = ()
        if question:
            hits = search.find(self._home.catalog, holders, names=question.split(), summaries=question.split())
        else:
            projects = sorted({project for holder in holders for project in self._home.catalog.projects(holder)})
        shown = web.repository(self._home.get(name), _base(request), projects, question, hits)
        return HTMLResponse(shown, headers=dict(web.HEADERS))

    def _project(self, request: Request) -> Response:
        repository = self._readable(request)
        project = canonicalize_name(request.path_params["project"])
        page = repository.page(project)
        if page is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"{repository.name} has no project {project[:200]}.")
        entries = page.read()
        description = _description(repository, entries)
        return HTMLResponse(web.project(repository.name, project, entries, description), headers=dict(web.HEADERS))

    def _may_read(self, request: Request, name: str) -> bool:
        try:
            self._access.check(request, "read", name)
        except HTTPException:
            return False
        return True

    def _root(self, request: Request) -> Response:
        repository = self._readable(request)
        kind = _negotiated(request)
        names = repository.projects()
        body = simple.render_root_json(names) if kind == simple.JSON_TYPE else simple.render_root_html(names)
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        return _unchanged(request, etag) or _page_response(body, kind, etag)

    def _page(self, request: Request) -> Response:
        repository = self._readable(request)
        asked = request.path_params["project"]
        project = canonicalize_name(asked)
        path = f"/repository/{repository.name}/simple/{project}/"
        if request.url.path != path:
            return RedirectResponse(quote(path), HTTPStatus.MOVED_PERMANENTLY)
        kind = _negotiated(request)
        page = repository.page(project)
        if page is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"{repository.name} has no project {project[:200]}.")
        # The tag is older than the files: a page that is newer than its tag is asked for again, never the other way.
        etag = f'"{page.tag}-{kind[-4:]}-{__version__}"'
        response = _unchanged(request, etag)
        if response is None:
            render = simple.render_json if kind == simple.JSON_TYPE else simple.render_html
            response = _page_response(render(project, page.read(), page.status), kind, etag)
        if page.failed:
            response.headers["x-airgap-failed-members"] = ", ".join(page.failed)
        return response

    def _content(self, request: Request) -> Content:
        repository = self._readable(request)
        place = (request.path_params[name] for name in ("project", "version", "filename"))
        found = repository.content(*place)
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"{repository.name} has no such file.")
        return found

    def _listing(self, request: Request, render: Callable[[rest.Query, str], object]) -> Response:
        query = rest.Query.of(self._home, request.query_params)
        for name in {query.repository, *query.holders}:
            if name:
                self._access.check(request, "read", name)
        return JSONResponse(render(query, _base(request)))

    def _delete(self, request: Request) -> None:
        repository, filename = rest.asset_of(request.path_params["asset"])
        actor = self._access.check(request, "admin", repository)
        self._known(repository)
        self._home.hosted(repository).remove(filename, actor=actor)

    def _xmlrpc(self, request: Request, body: bytes) -> Response:
        name = self._readable(request).name
        return Response(search.answer(body, self._home.catalog, self._home.holders(name)), media_type="text/xml")

    async def _take(
        self, request: Request, name: str, part: str, answer: Callable[[Request, str, CatalogFile], Response]
    ) -> Response:
        pieces = request.stream()
        try:
            actor, repository = await self._in_thread(self._writable, request, name)
            stored = await self._receive(request, pieces, repository, actor, part)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        except (AirgapError, HTTPException) as error:
            # A client that is still sending would not read the answer: take the rest, within reason, and drop it.
            if not self._declares_too_much(request):
                await self._drain(pieces)
            return _explain_error(request, error) if isinstance(error, AirgapError) else _explain_status(request, error)
        return answer(request, name, stored)

    async def _receive(
        self,
        request: Request,
        pieces: AsyncGenerator[bytes, None],
        repository: HostedRepository,
        actor: str,
        part: str,
    ) -> CatalogFile:
        if self._declares_too_much(request):
            raise too_large(self._file_limit)
        kind = request.headers.get("content-type", "")
        with UploadForm(repository, kind, limit=self._file_limit, actor=actor, part=part) as form:
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
            return await run_in_threadpool(form.finish if part == "content" else form.finish_component)

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

    def _readable(self, request: Request) -> Readable:
        if self._home.loop in request.headers.get("via", ""):
            raise HTTPException(
                HTTPStatus.LOOP_DETECTED,
                "A proxy repository here has this server as its remote. Give it the URL of another index.",
            )
        name = request.path_params["repository"]
        self._access.check(request, "read", name)
        self._known(name)
        return self._home.open(name)

    def _writable(self, request: Request, name: str) -> tuple[str, HostedRepository]:
        actor = self._access.check(request, "write", name)
        self._known(name)
        repository = self._home.hosted(name)
        repository.check_writable()
        return actor, repository

    def _known(self, name: str) -> None:
        known = self._home.names()
        if name not in known:
            message = f"There is no such repository here. There are: {', '.join(known)}."
            raise HTTPException(HTTPStatus.NOT_FOUND, message)


def _description(repository: Readable, entries: Sequence[simple.PageEntry]) -> str:
    """What the metadata of the newest release with a wheel say, as HTML."""
    wheels = [entry for entry in entries if entry.metadata is not None and entry.yanked is None]
    wheels.sort(key=lambda entry: web.order_of(entry.filename))
    for entry in wheels[-1:]:
        project, version, filename = (unquote(part) for part in entry.url.split("/")[-3:])
        found = repository.content(project, version, f"{filename}.metadata")
        if found is not None:
            return web.described(found.path.read_bytes() if found.path else found.data)
    return ""


def _stored(request: Request, name: str, stored: CatalogFile) -> Response:
    path = file_path(stored.project, stored.version, stored.filename)
    return PlainTextResponse(
        f"{stored.filename} is in {name}.\n",
        headers={"location": f"{_base(request)}/repository/{name}/{path}"},
    )


class _BlobResponse(FileResponse):
    """A file with ranges (RFC 9110, 14), read in pieces that keep the threads' overhead small."""

    chunk_size = 512 * 1024


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
    elif isinstance(error, NetworkError):
        status = HTTPStatus.BAD_GATEWAY
    elif isinstance(error, AirgapError):
        status = HTTPStatus.BAD_REQUEST
    else:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    hint = getattr(error, "hint", "")
    return PlainTextResponse(f"{int(status)} {error}{f' {hint}' if hint else ''}\n", status, headers)
