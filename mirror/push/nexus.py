"""Publisher for Nexus Repository 3: files go in through its REST API, which also knows digests that its index lacks.

What is there is what the index shows, because that is what installers read. Nexus up to 3.40 shows MD5 there; its REST
API knows SHA-256 of the same files. What the REST API refuses is done through :class:`LegacyPublisher`.

=====================================================  ==============================================================
``GET  service/rest/v1/repositories``                  is this Nexus, and is the repository hosted, a proxy, a group?
``GET  service/rest/v1/search?repository=…&name=…``    checksums of a project's files, in pages
``GET  service/rest/v1/repositories/pypi/hosted/…``    its settings, which administrators may read
``POST service/rest/v1/components?repository=…``       an upload, the file as ``pypi.asset``; 204 where it was taken
=====================================================  ==============================================================
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from mirror.errors import ConfigError, HTTPError, IntegrityError, NotFoundError
from mirror.models import Event, Hashes, Reporter, Stage, silent
from mirror.net import Client, SendError
from mirror.push.legacy import LegacyPublisher
from mirror.push.publisher import PageByPage, Upload
from mirror.push.sending import NO_RIGHT, check_accepted, post, words

_LAYOUT = re.compile(r"(?P<above>.*)/repository/(?P<name>[^/]+)(?:/simple)?/?")
# A user who may upload need not have the right to use the REST API, and proxies in front may keep it closed.
_CLOSED = frozenset({403, 404, 405})
_JSON = {"accept": "application/json", "cache-control": "no-cache"}


@dataclass(frozen=True, slots=True)
class Place:
    """A repository by Nexus's layout: where its server's REST API is, with a slash at the end, and its name."""

    api: str
    name: str

    @classmethod
    def of(cls, url: str) -> Place | None:
        """Read the URL of a repository, or of its index; None where it is not of Nexus's layout.

        >>> Place.of("https://host/nexus/repository/pypi-hosted/simple/")
        Place(api='https://host/nexus/service/rest/v1/', name='pypi-hosted')
        """
        parts = urlsplit(url)
        found = _LAYOUT.fullmatch(parts.path)
        if found is None:
            return None
        api = urlunsplit((parts.scheme, parts.netloc, f"{found['above']}/service/rest/v1/", "", ""))
        return cls(api, unquote(found["name"]))


@dataclass(frozen=True, slots=True)
class Kept:
    """A repository that Nexus lists: hosted, proxy or group; ``writable`` where Python packages may be uploaded."""

    name: str
    kind: str
    format: str
    writable: bool

    @property
    def what(self) -> str:
        """Which kind of repository it is, in words."""
        return f"a {self.kind} repository" if self.format == "pypi" else f"a {self.kind} repository for {self.format}"


def repositories(client: Client, place: Place) -> list[Kept] | None:
    """What the server lists to this user; None where it gives no such list: it is no Nexus, or does not say."""
    try:
        answer = client.send("GET", f"{place.api}repositories", headers=_JSON)
    except SendError:
        return None  # whoever asks next is told why
    found = _json(answer.body) if answer.status == 200 else None
    if not isinstance(found, list) or not all(isinstance(item, dict) and "name" in item for item in found):
        return None
    return [_kept(item) for item in found]


def write_policy(client: Client, place: Place) -> str | None:
    """Which uploads a hosted repository takes: ``ALLOW``, ``ALLOW_ONCE`` or ``DENY``; None where that is not told."""
    url = f"{place.api}repositories/pypi/hosted/{quote(place.name, safe='')}"
    try:
        answer = client.send("GET", url, headers=_JSON)
    except SendError:
        return None
    found = _json(answer.body) if answer.status == 200 else None
    storage = found.get("storage") if isinstance(found, dict) else None
    policy = storage.get("writePolicy") if isinstance(storage, dict) else None
    return policy.upper() if isinstance(policy, str) else None


def hosted(listed: Iterable[Kept]) -> list[str]:
    """The names of those that Python packages are uploaded to."""
    return sorted(kept.name for kept in listed if (kept.kind, kept.format) == ("hosted", "pypi"))


def nexus_publisher(
    client: Client, url: str, *, index_url: str | None = None, report: Reporter = silent, required: bool = False
) -> NexusPublisher | None:
    """The publisher for *url* where it is of Nexus's layout and its server answers as Nexus does, else None.

    With *required* the user says that it is Nexus: the answer does not matter then; another layout is a ConfigError.
    """
    place = Place.of(url)
    if place is None:
        if required:
            raise ConfigError(
                "The URL of a repository in Nexus ends with /repository/NAME/.",
                hint='Correct it, or leave out type = "nexus".',
            )
        return None
    listed = repositories(client, place)
    if listed is None and not required:
        return None
    return NexusPublisher(client, url, place, listed or (), index_url=index_url, report=report)


class NexusPublisher(PageByPage):
    """The repository at *place*, whose upload URL is *upload_url*; *listed* is what its server says it has.

    *index_url* is where the repository is read, if not below its own URL: a group that has it as a member.
    """

    def __init__(
        self,
        client: Client,
        upload_url: str,
        place: Place,
        listed: Collection[Kept],
        *,
        index_url: str | None = None,
        report: Reporter = silent,
    ) -> None:
        self._client = client
        self._plain = LegacyPublisher(client, upload_url, index_url=index_url, report=report)
        self._place = place
        self._report = report
        self._kept = next((kept for kept in listed if kept.name == place.name), None)
        self._hosted = hosted(listed)
        self._lock = threading.Lock()
        self._closed: set[str] = set()
        self._uploaded = False
        if self._misplaced:
            report(Event("warning", Stage.LOOK, f"{self._what_it_is()} {self._advice()}"))
        elif self._kept is None and self._hosted:
            names = ", ".join(self._hosted)
            text = f"Nexus lists no repository {place.name} to this user; Python packages go to: {names}."
            report(Event("warning", Stage.LOOK, text))

    @property
    def url(self) -> str:
        return self._plain.url

    @property
    def digests(self) -> Collection[str]:
        return self._plain.digests

    def projects(self) -> Collection[str] | None:
        return self._plain.projects()

    def listing(self, project: str) -> Mapping[str, Hashes]:
        shown = self._plain.listing(project)
        return self._with_checksums(project, shown) if _lacks_sha256(shown.values()) else shown

    def listing_for(self, project: str, sent: Mapping[str, Hashes]) -> Mapping[str, Hashes]:
        shown = self._plain.listing(project)
        # What only the index need know is not asked of the search, which takes as long as a page.
        unclear = [hashes for name, hashes in shown.items() if name in sent and not hashes.agrees(sent[name])]
        return self._with_checksums(project, shown) if _lacks_sha256(unclear) else shown

    def _with_checksums(self, project: str, shown: Mapping[str, Hashes]) -> Mapping[str, Hashes]:
        known = self._checksums(project)
        # Two digests that contradict each other are no answer: the bytes will be.
        return {
            filename: known[filename] if filename in known and hashes.agrees(known[filename]) is not False else hashes
            for filename, hashes in shown.items()
        }

    def digest(self, project: str, filename: str) -> str | None:
        return self._plain.digest(project, filename)

    def upload(self, upload: Upload) -> None:
        if "uploads" in self._closed:
            self._plain.upload(upload)
            return
        url = f"{self._place.api}components?repository={quote(self._place.name, safe='')}"
        answer = post(self._client, url, upload, [], part="pypi.asset")
        denied = answer.status == 400 and NO_RIGHT.search(words(answer)) is not None
        if (denied or answer.status in _CLOSED) and not self._uploaded and not self._misplaced:
            self._close("uploads", answer.status, "lets this user upload nothing" if denied else "")
            self._plain.upload(upload)
            return
        try:
            check_accepted(self._client, answer, upload, shown=self.url, listing=self._plain.listing)
        except HTTPError as error:
            reason = self._behind(upload, error)
            if reason is None:
                raise
            raise reason from error
        self._uploaded = True

    def _behind(self, upload: Upload, error: HTTPError) -> HTTPError | None:
        """What is behind *error*, where that is known."""
        if self._misplaced and error.status in (400, 404, 405):
            return NotFoundError(str(error), status=error.status, reason=error.reason, hint=self._advice())
        if error.status == 400 and upload.filename not in self._plain.listing(upload.project):
            there = self._checksums(upload.project).get(upload.filename)
            if there is not None and there.agrees(upload.hashes):
                return HTTPError(
                    f"{upload.filename}: {self.url} has these bytes, but its index page for {upload.project} does not "
                    "show them.",
                    status=error.status,
                    reason=error.reason,
                    hint=f"Delete simple/{upload.project}/ in Nexus's browse view: the page is then made anew.",
                )
        return None

    @property
    def _misplaced(self) -> bool:
        return self._kept is not None and not self._kept.writable

    def _what_it_is(self) -> str:
        return f"{self.url} is {self._kept.what if self._kept is not None else ''}, which takes no uploads."

    def _advice(self) -> str:
        names = ", ".join(self._hosted)
        where = f"Upload to a hosted one: {names}." if names else "Upload to a hosted one."
        return f"{where} --index-url reads through a group that has it as a member."

    def _checksums(self, project: str) -> dict[str, Hashes]:
        """The digests of the files of *project* by their names; empty where the REST API does not tell."""
        if "checksums" in self._closed:
            return {}
        try:
            return dict(self._assets(project))
        except HTTPError as error:
            if error.retryable or error.status == 401:
                raise
            self._close("checksums", error.status)
        except IntegrityError:
            self._close("checksums", None)
        return {}

    def _assets(self, project: str) -> Iterator[tuple[str, Hashes]]:
        query = {"repository": self._place.name, "format": "pypi", "name": project}
        seen: set[str] = set()
        while True:
            url = f"{self._place.api}search?{urlencode(query)}"
            page = _json(self._client.get(url, headers=_JSON).body)
            items = page.get("items") if isinstance(page, dict) else None
            if not isinstance(items, list):
                raise IntegrityError("The answer to a search is no page of components.")
            for item in items:
                yield from _files(item, self._place.name)
            token = page.get("continuationToken")
            if not isinstance(token, str) or token in seen:
                return
            seen.add(token)
            query["continuationToken"] = token

    def _close(self, what: str, status: int | None, why: str = "") -> None:
        """Do without the REST API for *what* from now on, and say so once."""
        with self._lock:
            if what in self._closed:
                return
            self._closed.add(what)
        why = why or f"answers with {status if status is not None else 'something else'}"
        instead = {
            "uploads": "uploading as twine does",
            "checksums": "comparing bytes where the index shows no SHA-256",
        }
        text = f"Nexus's REST API at {urlsplit(self._place.api).hostname} {why}: {instead[what]}."
        self._report(Event("info", Stage.LOOK if what == "checksums" else Stage.UPLOAD, text))


def _lacks_sha256(shown: Iterable[Hashes]) -> bool:
    return not all(hashes.sha256 for hashes in shown)


def _kept(item: Mapping[str, Any]) -> Kept:
    attributes = item.get("attributes")
    group = attributes.get("group") if isinstance(attributes, dict) else None
    kind, format_ = str(item.get("type", "")), str(item.get("format", ""))
    # Where a kind that is not known here takes no uploads, its server says so itself.
    writable = kind not in ("proxy", "group") or (isinstance(group, dict) and bool(group.get("writableMember")))
    return Kept(str(item["name"]), kind, format_, writable and format_ == "pypi")


def _files(component: object, repository: str) -> Iterator[tuple[str, Hashes]]:
    """The files of a component that *repository* holds, and what is known of their digests."""
    assets = component.get("assets") if isinstance(component, dict) else None
    for asset in assets if isinstance(assets, list) else ():
        if not isinstance(asset, dict) or asset.get("repository") != repository:
            continue
        path, checksum = asset.get("path"), asset.get("checksum")
        if isinstance(path, str) and isinstance(checksum, dict):
            digests = {name: digest for name, digest in checksum.items() if isinstance(digest, str)}
            yield path.rpartition("/")[2], Hashes.of(digests)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
