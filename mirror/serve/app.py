"""The HTTP side of embedded repositories, in Nexus's layout: simple index, files, uploads, search, REST."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from itertools import islice
from typing import TypeVar
from urllib.parse import quote, unquote

import anyio
import anyio.to_thread
from packaging.utils import canonicalize_name, is_normalized_name
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
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
from mirror.config.served import Served
from mirror.errors import AirgapError, HashMismatchError, NetworkError
from mirror.index import simple
from mirror.serve import rest, search, web
from mirror.serve.access import Access, Forwarded
from mirror.serve.answers import (
    base_url,
    explain_error,
    explain_status,
    negotiated,
    page_headers,
    root_page,
    unchanged,
)
from mirror.serve.body import Body
from mirror.serve.catalog import CatalogFile
from mirror.serve.group import GroupRepository
from mirror.serve.guard import Guard
from mirror.serve.home import Home
from mirror.serve.hosted import HostedRepository
from mirror.serve.repository import FILE_LIMIT, Content, Readable, file_path
from mirror.serve.sending import blob_response
from mirror.serve.upload import FORM_LIMIT, UploadForm, too_large
from mirror.serve.users import Users
from mirror.serve.watch import Watch

#: Seconds between two pieces of an upload.
UPLOAD_TIMEOUT = 60.0

T = TypeVar("T")

_PIECE = 1024 * 1024
_THREADS = 200


def make_app(
    home: Home,
    *,
    access: Access | None = None,
    trusted_proxies: Sequence[str] = (),
    metrics: str = "read",
    file_limit: int = FILE_LIMIT,
    upload_timeout: float = UPLOAD_TIMEOUT,
) -> ASGIApp:
    """Return the ASGI application that serves *home*. *file_limit* is in bytes, *upload_timeout* in seconds."""
    access = access or Access(Users(home.folder / "users.json"))
    handlers = _Handlers(home, access, file_limit, upload_timeout)
    watch = Watch(home, access, metrics)
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
            Route(api + "/repositories", handlers.repositories, methods=get),
            Route(api + "/components", handlers.components, methods=get),
            Route(api + "/components", handlers.upload_component, methods=["POST"]),
            Route(api + "/search", handlers.search, methods=get),
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
            *watch.routes(),
        ],
        exception_handlers={HTTPException: explain_status, AirgapError: explain_error},
    )
    app = Guard(watch.counted(app))
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

    async def repositories(self, request: Request) -> Response:
        return await self._in_thread(self._repositories, request)

    async def components(self, request: Request) -> Response:
        return await self._in_thread(self._listing, request, rest.components)

    async def search(self, request: Request) -> Response:
        return await self._in_thread(self._listing, request, rest.search)

    async def assets(self, request: Request) -> Response:
        return await self._in_thread(self._listing, request, rest.assets)

    async def xmlrpc(self, request: Request) -> Response:
        body = bytearray()
        async for piece in Body(request, self._upload_timeout):
            body += piece
            if len(body) > search.REQUEST_LIMIT:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is no search.")
        return await self._in_thread(self._xmlrpc, request, bytes(body))

    async def file(self, request: Request) -> Response:
        found = await self._in_thread(self._content, request)
        headers = {"cache-control": "max-age=31536000, immutable"}
        if found.sha256:
            headers["etag"] = f'"{found.sha256}"'
        same = unchanged(request, headers, found.blob)
        if same is not None:
            return same
        kind = "application/octet-stream"
        blob = found.blob
        if found.flight is not None:
            blob = await found.flight.begun()
            if blob is None and request.method == "GET" and "range" not in request.headers:
                if found.flight.size is not None:
                    headers["content-length"] = str(found.flight.size)
                return StreamingResponse(found.flight.follow(), media_type=kind, headers=headers)
            blob = blob or await found.flight.stored()
        if blob is None:
            return Response(found.data, media_type=kind, headers=headers)
        return blob_response(request, blob, headers)

    async def upload(self, request: Request) -> Response:
        return await self._take(request, request.path_params["repository"], "content", _stored)

    async def upload_component(self, request: Request) -> Response:
        name = request.query_params.get("repository", "")
        if not name:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, "Say ?repository=NAME.")
        taken = Response(status_code=HTTPStatus.NO_CONTENT)
        answer = await self._take(request, name, "pypi.asset", lambda *_: taken)
        return answer if answer is taken else rest.refused(answer)

    async def delete(self, request: Request) -> Response:
        await self._in_thread(self._delete, request)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        if self._threads is None:  # not before the event loop runs
            # Many, since some of them may wait for a remote while others only look into the catalog.
            self._threads = anyio.CapacityLimiter(_THREADS)
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self._threads)

    def _front(self, request: Request) -> Response:
        return HTMLResponse(web.front(self._shown(request), base_url(request)), headers=dict(web.HEADERS))

    def _about(self, request: Request) -> Response:
        name = self._readable(request).name
        question = request.query_params.get("q", "").strip()[:200]
        holders = self._home.holders(name)
        hits: Sequence[search.Hit] = ()
        projects: Sequence[str] = ()
        count = 0
        if question:
            hits = search.find(self._home.catalog, holders, names=question.split(), summaries=question.split())
        else:
            listed = self._home.stored_projects(holders)
            projects = list(islice(listed, web.MOST_PROJECTS))
            count = len(projects) + sum(1 for _ in listed)
        shown = web.repository(self._home.get(name), base_url(request), projects, count, question, hits)
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

    def _shown(self, request: Request) -> list[Served]:
        """The repositories that the user may read; who may read none is asked who it is."""
        readable = [served for served in self._home.repositories().values() if self._may_read(request, served.name)]
        if not readable:
            self._access.check(request, "read", "*")
        return readable

    def _may_read(self, request: Request, name: str) -> bool:
        try:
            self._check_read(request, name)
        except HTTPException:
            return False
        return True

    def _check_read(self, request: Request, name: str) -> None:
        # First by itself: which repositories there are is not for everybody.
        self._access.check(request, "read", name)
        self._access.check(request, "read", name, self._home.holders(name))

    def _root(self, request: Request) -> Response:
        return root_page(request, self._readable(request).projects())

    def _page(self, request: Request) -> Response:
        repository = self._readable(request)
        asked = request.path_params["project"]
        project = canonicalize_name(asked)
        path = f"/repository/{repository.name}/simple/{project}/"
        if request.url.path != path:
            return RedirectResponse(quote(path), HTTPStatus.MOVED_PERMANENTLY)
        kind = negotiated(request)
        page = repository.page(project, whole="if-none-match" not in request.headers)
        if page is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"{repository.name} has no project {project[:200]}.")
        # The tag is older than the files: a page that is newer than its tag is asked for again, never the other way.
        headers = page_headers(f'"{page.tag}-{kind[-4:]}-{__version__}"')
        response = unchanged(request, headers)
        if response is None:
            render = simple.render_json if kind == simple.JSON_TYPE else simple.render_html
            response = Response(render(project, page.read(), page.status), media_type=kind, headers=headers)
        if page.failed:
            response.headers["x-airgap-failed-members"] = ", ".join(page.failed)
        return response

    def _content(self, request: Request) -> Content:
        repository = self._readable(request)
        project, version, filename = (request.path_params[name] for name in ("project", "version", "filename"))
        # A name such as ".." would become part of the URL that a proxy asks its remote for.
        found = repository.content(project, version, filename) if is_normalized_name(project) else None
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"{repository.name} has no such file.")
        return found

    def _listing(self, request: Request, render: Callable[[rest.Query, str], object]) -> Response:
        asked = request.query_params.get("repository", "")
        if asked:
            self._check_read(request, asked)
            names = [asked]
        else:
            names = [name for name in self._home.names() if self._may_read(request, name)]
            if not names:
                self._access.check(request, "read", "*")
        return JSONResponse(render(rest.Query.of(self._home, request.query_params, names), base_url(request)))

    def _repositories(self, request: Request) -> Response:
        return JSONResponse(rest.repositories(self._shown(request), base_url(request)))

    def _delete(self, request: Request) -> None:
        name, filename = rest.asset_of(request.path_params["asset"])
        actor, repository = self._writable(request, name, "admin")
        repository.remove(filename, actor=actor)

    def _xmlrpc(self, request: Request, body: bytes) -> Response:
        name = self._readable(request).name
        return Response(search.answer(body, self._home.catalog, self._home.holders(name)), media_type="text/xml")

    async def _take(
        self, request: Request, name: str, part: str, answer: Callable[[Request, str, CatalogFile], Response]
    ) -> Response:
        body = Body(request, self._upload_timeout)
        try:
            actor, repository = await self._in_thread(self._writable, request, name, "write")
            repository.check_writable()
            stored = await self._receive(request, body, repository, actor, part)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        except (AirgapError, HTTPException) as error:
            # A client that is still sending would not read the answer: take the rest, within reason, and drop it.
            if not self._declares_too_much(request):
                await body.drain(self._file_limit)
            return explain_error(request, error) if isinstance(error, AirgapError) else explain_status(request, error)
        return answer(request, name, stored)

    async def _receive(
        self,
        request: Request,
        body: Body,
        repository: HostedRepository,
        actor: str,
        part: str,
    ) -> CatalogFile:
        if self._declares_too_much(request):
            raise too_large(self._file_limit)
        kind = request.headers.get("content-type", "")
        with UploadForm(repository, kind, limit=self._file_limit, actor=actor, part=part) as form:
            gathered = bytearray()
            async for piece in body:
                gathered += piece
                if len(gathered) >= _PIECE:
                    await run_in_threadpool(form.feed, bytes(gathered))
                    gathered.clear()
            return await run_in_threadpool(form.finish if part == "content" else form.finish_component, bytes(gathered))

    def _declares_too_much(self, request: Request) -> bool:
        declared = request.headers.get("content-length", "")
        return declared.isdecimal() and int(declared) > self._file_limit + FORM_LIMIT

    def _readable(self, request: Request) -> Readable:
        if self._home.loop in request.headers.get("via", ""):
            raise HTTPException(
                HTTPStatus.LOOP_DETECTED,
                "A proxy repository here has this server as its remote. Give it the URL of another index.",
            )
        name = request.path_params["repository"]
        self._access.check(request, "read", name)
        repository = self._home.open(name)
        if isinstance(repository, GroupRepository):
            self._access.check(request, "read", name, repository.below())
        return repository

    def _writable(self, request: Request, name: str, right: str) -> tuple[str, HostedRepository]:
        if "origin" in request.headers:
            # Browsers always send it with a POST. A page anywhere could make them write to a server on this machine.
            raise HTTPException(HTTPStatus.FORBIDDEN, "Nothing is taken from web pages. Use twine, uv or airgap.")
        self._access.check(request, right, name)
        repository = self._home.hosted(name)
        # A group hands uploads on: who may not write there may not write there through a group either.
        return self._access.check(request, right, repository.name), repository


def _description(repository: Readable, entries: Sequence[simple.PageEntry]) -> str:
    """What the metadata of the newest release with a wheel say, as HTML."""
    wheels = [entry for entry in entries if entry.metadata is not None and entry.yanked is None]
    wheels.sort(key=lambda entry: web.order_of(entry.filename))
    for entry in wheels[-1:]:
        project, version, filename = (unquote(part) for part in entry.url.split("/")[-3:])
        try:
            found = repository.content(project, version, f"{filename}.metadata")
        except (NetworkError, HashMismatchError):  # a page without a description is better than none
            return ""
        if found is not None:
            return web.described(found.blob.data() if found.blob else found.data)
    return ""


def _stored(request: Request, name: str, stored: CatalogFile) -> Response:
    path = file_path(stored.project, stored.version, stored.filename)
    return PlainTextResponse(
        f"{stored.filename} is in {name}.\n",
        headers={"location": f"{base_url(request)}/repository/{name}/{path}"},
    )
