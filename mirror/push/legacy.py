"""Publisher for every repository that twine can upload to: the legacy upload API and a simple index to read back."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Collection, Iterator, Mapping
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from packaging.utils import canonicalize_name

from mirror.errors import IntegrityError, NetworkError, NotFoundError
from mirror.index.simple import parse_page, parse_root
from mirror.models import Event, File, Hashes, Reporter, Stage, silent
from mirror.net import SEND_LIMIT, Client, Response, SendError
from mirror.push.flat import PAGE_HEADERS, FlatFolder
from mirror.push.form import form_fields
from mirror.push.publisher import Upload
from mirror.push.sending import check_accepted, post
from mirror.urls import origin, redact, with_slash, without_credentials

_ABSENT = frozenset({404, 410})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PYPI = {"upload.pypi.org": "pypi.org", "test.pypi.org": "test.pypi.org"}
#: In every URL of Pulp's content app, unless somebody changed it there.
PULP_CONTENT = "/pulp/content/"
#: What to do about an index that Pulp's content app does not serve.
PULP_REMEDY = (
    "Pulp publishes this repository, and its content app serves no publication of it: set autopublish to false and "
    "delete the repository's publications; the index is then made from the repository itself."
)
_NEXUS_PATH = re.compile(r"(.*/repository/[^/]+)(?:/simple)?/?")


def index_url_for(upload_url: str) -> str:
    """Return where the simple index of a repository is, going by the URL that takes its uploads.

    Nexus, pypiserver, Gitea, GitLab and Artifactory have it in ``simple/`` below, Pulp beside ``legacy/``, PyPI on
    another host. devpi's ``+simple/`` shows only in its answers: :class:`LegacyPublisher` finds it out.

    >>> index_url_for("https://nexus.example/repository/pypi-hosted/")
    'https://nexus.example/repository/pypi-hosted/simple/'
    """
    parts = urlsplit(with_slash(upload_url))
    host = _PYPI.get(parts.hostname or "")
    if host is not None:
        return f"https://{host}/simple/"
    path = parts.path
    for ending in ("/legacy/", "/simple/", "/+simple/"):
        if path.endswith(ending):
            path = path[: -len(ending)] + ("/+simple/" if ending == "/+simple/" else "/simple/")
            break
    else:
        path += "simple/"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def upload_url_for(url: str) -> str:
    """Return where uploads belong when *url* is what people write by mistake for a repository of Nexus's layout.

    ``/repository/NAME`` is answered with 400 there, and ``/repository/NAME/simple/`` is the index. Any other URL is
    left as it is: Gitea's, for one, has no slash at its end.

    >>> upload_url_for("https://nexus.example/repository/pypi-hosted/simple")
    'https://nexus.example/repository/pypi-hosted/'
    """
    parts = urlsplit(url)
    found = _NEXUS_PATH.fullmatch(parts.path)
    return urlunsplit(parts._replace(path=f"{found[1]}/")) if found else url


def index_url_meant(url: str) -> str:
    """Return the simple index where *url* is what people write by mistake for one of Nexus's layout, else *url*.

    >>> index_url_meant("https://nexus.example/repository/pypi-all")
    'https://nexus.example/repository/pypi-all/simple/'
    """
    parts = urlsplit(url)
    found = _NEXUS_PATH.fullmatch(parts.path)
    return urlunsplit(parts._replace(path=f"{found[1]}/simple/")) if found else url


class LegacyPublisher:
    """The legacy upload API (``:action=file_upload``) at *upload_url*; *index_url* where the index is elsewhere.

    Either URL may carry credentials, which are used for its origin and shown nowhere.
    """

    def __init__(
        self, client: Client, upload_url: str, *, index_url: str | None = None, report: Reporter = silent
    ) -> None:
        self._client = client
        self._upload_url = upload_url_for(upload_url)
        if self._upload_url != upload_url:
            report(Event("info", Stage.LOOK, f"Uploads go to {self.url}, which is what that URL must mean."))
        self._index_known = index_url is not None
        self._index_url = with_slash(_same_login(index_url, upload_url) if index_url else index_url_for(upload_url))
        self._report = report
        self._home = self._index_url
        self._has_moved = False
        self._elsewhere: set[str] = set()
        self._is_nexus = False
        self._folder = FlatFolder(client, self._index_url)
        self._shown: int | None = None
        self._first: frozenset[str] | None = None

    @property
    def digests(self) -> Collection[str]:
        # Each of them costs more time than sending the file to a near server does. Only PyPI looks at blake2_256, only
        # Nexus at md5, which twine stopped sending; sha256 goes to everyone.
        parts = urlsplit(self._upload_url)
        if parts.hostname in _PYPI:
            return ("blake2_256",)
        return ("md5",) if self._is_nexus or "/repository/" in parts.path else ()

    @property
    def url(self) -> str:
        return redact(without_credentials(self._upload_url))

    def projects(self) -> Collection[str] | None:
        try:
            answer = self._client.send("GET", self._index_url, headers=PAGE_HEADERS)
            self._learn(answer)
            if answer.status != 200 or len(answer.body) >= SEND_LIMIT:
                return None
            names = parse_root(answer.body, answer.headers.get("content-type", ""), answer.url)
        except (NetworkError, IntegrityError):
            return None
        found = frozenset(map(canonicalize_name, names))
        self._shown = len(found)
        self._first = found if self._first is None else self._first
        return found

    def listing(self, project: str) -> Mapping[str, Hashes]:
        return {file.filename: file.hashes for file in self._files(project)}

    def listing_for(self, project: str, sent: Mapping[str, Hashes]) -> Mapping[str, Hashes]:
        found = self.listing(project)
        self._folder.try_out(self._shown)  # before projects wait to be asked for together
        return found

    @property
    def lists_all(self) -> bool:
        return self._folder.lists

    def listings(self, projects: Collection[str]) -> Mapping[str, Hashes] | None:
        return self._folder.files() if self._folder.is_cheaper(len(projects), self._shown) else None

    def arrived(self, projects: Collection[str]) -> Collection[str]:
        # The list costs a look into every file, and each page one at every name; the root page is one of these.
        if self._first is None or not self._folder.lists:
            return ()
        return (frozenset(self.projects() or ()) - self._first).intersection(projects)

    def digest(self, project: str, filename: str) -> str | None:
        link = next((file.url for file in self._files(project) if file.filename == filename), None)
        if link is None:
            return None
        sha256 = hashlib.sha256()
        try:
            for chunk in self._client.download(link):
                sha256.update(chunk)
        except NotFoundError:
            return None
        return sha256.hexdigest()

    def upload(self, upload: Upload) -> None:
        answer = post(self._client, self._upload_url, upload, form_fields(upload))
        check_accepted(self._client, answer, upload, shown=self.url, listing=self.listing)
        if self._shown is not None:
            self._shown += 1  # or none, where the project is known: this is a bound

    def _files(self, project: str) -> Iterator[File]:
        began = time.monotonic()
        page = self._page(project)
        if page is None:
            return
        took = time.monotonic() - began
        kind = page.headers.get("content-type", "")
        parsed = parse_page(page.body, kind, page.url, project=project, index=self._index_url)
        # What no installer takes (another project's file, an egg) is nothing that a bundle could hold.
        unusable = {filename for filename, _ in parsed.skipped}
        for position, filename in enumerate(parsed.filenames):
            if filename not in unusable:
                file = parsed.file(position)
                self._folder.learn(project, file.url, took)
                yield file

    def _page(self, project: str) -> Response | None:
        """The project's page, or None where this repository has no such project."""
        url = urljoin(self._index_url, f"{quote(project)}/")
        answer = self._first_look(url)
        if answer is None:
            answer = self._client.get(url, headers=PAGE_HEADERS, accept=_ABSENT)
        if answer.status not in _ABSENT:
            self._learn(answer)
            return answer
        if self._has_moved and PULP_CONTENT in self._index_url and self._is_back(project):
            return self._page(project)
        return self._page(project) if self._learn(answer) else None

    def _learn(self, answer: Response) -> bool:
        """Take from *answer* which software it is; True where the index is elsewhere, so that asking again is due."""
        self._is_nexus = self._is_nexus or answer.headers.get("server", "").startswith("Nexus/")
        devpi = "x-devpi-api-version" in answer.headers and "/+simple/" not in answer.url
        if not devpi or self._index_known or answer.status not in _ABSENT:
            return False
        self._index_url = with_slash(self._upload_url) + "+simple/"
        return True

    def _first_look(self, url: str) -> Response | None:
        """One try that follows nothing; None where ``Client.get`` has to do it properly.

        pypiserver answers for a project that it does not have with a redirect to PyPI. Following it would take PyPI's
        files for the repository's own, or wait for a host that no isolated network can reach.
        """
        try:
            answer = self._client.send("GET", url, headers=PAGE_HEADERS)
        except SendError:
            return None
        if answer.status in _REDIRECTS:
            target = urljoin(url, answer.headers.get("location", ""))
            if origin(target) == origin(url):
                return None
            if self._moved(target):
                return self._first_look(target)
            self._warn_elsewhere(target)
            return Response(answer.url, 404, answer.reason, answer.headers, b"")
        complete = answer.status == 200 and len(answer.body) < SEND_LIMIT
        return answer if complete or answer.status in _ABSENT else None

    def _moved(self, target: str) -> bool:
        """Whether all of the index is at another origin, that of *target*; then it is read there from now on.

        That is so with Pulp, which has its content on a host or port of its own, and where http means https.
        """
        if origin(target) == origin(self._index_url):
            return True
        same_host = urlsplit(target).hostname == urlsplit(self._index_url).hostname
        if self._has_moved or not (same_host or PULP_CONTENT in target):
            return False
        try:
            root = self._client.send("GET", self._index_url, headers=PAGE_HEADERS)
        except SendError:
            return False
        place = urljoin(root.url, root.headers.get("location", ""))
        if root.status not in _REDIRECTS or origin(place) != origin(target):
            return False
        self._index_url = with_slash(place)
        self._has_moved = True
        return True

    def _is_back(self, project: str) -> bool:
        """Whether Pulp makes the index itself again; then it is read there again.

        Pulp sends readers to its content app while the repository's newest version has a publication, which ends with
        the next upload. A NetworkError where the content app has no index at all: nobody can install from that one.
        """
        place = self._index_url
        answer = self._client.send("GET", urljoin(self._home, f"{quote(project)}/"), headers=PAGE_HEADERS)
        if answer.status in _REDIRECTS:
            if self._client.get(place, headers=PAGE_HEADERS, accept=_ABSENT).status not in _ABSENT:
                return False
            text = (
                f"{self.url} sends readers of its index to {redact(without_credentials(place))}, which does not exist."
            )
            # It may be about to be published.
            raise NetworkError(text, hint=PULP_REMEDY, retryable=True)
        self._index_url = self._home
        self._has_moved = False
        return True

    def _warn_elsewhere(self, target: str) -> None:
        host = urlsplit(target).hostname or ""
        if host not in self._elsewhere:
            self._elsewhere.add(host)
            text = f"{self.url} sends questions about projects that it does not have to {host}: taken as not there."
            self._report(Event("info", Stage.LOOK, text))


def _same_login(index_url: str, upload_url: str) -> str:
    """*index_url* with the user info of *upload_url* where both are on one origin and only the latter has it."""
    index, upload = urlsplit(index_url), urlsplit(upload_url)
    login, at, _ = upload.netloc.rpartition("@")
    if not at or "@" in index.netloc or origin(index_url) != origin(upload_url):
        return index_url
    return urlunsplit(index._replace(netloc=f"{login}@{index.netloc}"))
