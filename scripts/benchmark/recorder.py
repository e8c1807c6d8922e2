"""The configured index on the loopback address, keeping what is asked for as static files: ``recorder.py FOLDER``.

Prints its port as the first line. ``/html/simple/`` and ``/json/simple/`` are the two indexes. Of a wheel it fetches
the metadata by ranged requests and the whole only if that is asked for. It ends when its standard input does, and
then has the JSON pages promise the metadata that was asked for.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pages import promise_metadata, write_pages

from mirror.config import CredentialStore, load
from mirror.errors import NotFoundError
from mirror.metadata.remote import remote_metadata
from mirror.net import Client
from mirror.ops.access import net_settings
from mirror.urls import with_slash

ACCEPT = "application/vnd.pypi.simple.v1+html, text/html;q=0.5"
JSON_TYPE = "application/vnd.pypi.simple.v1+json"
INDEXES = ("html", "json")


class Recorder:
    """Brings what is asked for into *folder*, once."""

    def __init__(self, folder: Path, index_url: str, client: Client) -> None:
        self._folder = folder
        self._index_url = with_slash(index_url)
        self._client = client
        self._origins: dict[str, str] = {}
        self._pages: set[str] = set()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def provide(self, path: str) -> str:
        """Have what *path* asks for in the folder, if there is such a thing; return its path there."""
        kind, _, project = path.strip("/").partition("/simple/")
        if kind in INDEXES:
            with self._locks[project]:
                if project not in self._pages:
                    self._page(project)
            return f"{path}index.{kind}"
        name = unquote(path)
        with self._locks[name]:
            target = self._folder / name.lstrip("/")
            origin = self._origins.get(name.removesuffix(".metadata"))
            if origin is not None and not target.exists():
                self._file(target, origin)
        return path

    def _page(self, project: str) -> None:
        url = f"{self._index_url}{project}/"
        try:
            answer = self._client.get(url, headers={"accept": ACCEPT})
        except NotFoundError:
            return
        self._origins |= write_pages(self._folder, project, answer.url, answer.body.decode())
        self._pages.add(project)

    def _file(self, target: Path, origin: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        with part.open("wb") as file:
            if target.suffix == ".metadata":
                file.write(remote_metadata(self._client, origin, target.stem).metadata)
            else:
                file.writelines(self._client.download(origin))
        part.replace(target)


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = {".json": JSON_TYPE, ".html": "text/html", "": "application/zip"}  # noqa: RUF012 - as its base

    def __init__(self, *args: object, recorder: Recorder, directory: Path) -> None:
        self._recorder = recorder
        super().__init__(*args, directory=str(directory))  # type: ignore[arg-type]  # as the server calls it

    def send_head(self) -> object:  # type: ignore[override]  # it is a file or None, and stays what it is
        self.path = self._recorder.provide(urlsplit(self.path).path)
        return super().send_head()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing: a tool that gets no answer says so itself."""


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Tools hang up on what they turn out not to need; anything else is worth a trace."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as the server calls it


def main() -> None:
    folder = Path(sys.argv[1])
    config = load()
    with Client(net_settings(config), CredentialStore(config)) as client:
        recorder = Recorder(folder, config.index_url.value, client)
        with Server(("127.0.0.1", 0), partial(Handler, recorder=recorder, directory=folder)) as server:
            print(server.server_port, flush=True)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            sys.stdin.read()
            server.shutdown()
    promise_metadata(folder)


if __name__ == "__main__":
    main()
