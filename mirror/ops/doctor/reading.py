"""What an index offers: its format, digests, metadata, ranges, and its server's clock."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

from mirror.errors import AirgapError, AuthError, HTTPError, IndexPageError, NetworkError, NotFoundError
from mirror.index.simple import ACCEPT, parse_page, parse_root
from mirror.models import File
from mirror.net import Client, Response
from mirror.ops.doctor.finding import Finding, Level
from mirror.push.legacy import PULP_CONTENT, PULP_REMEDY
from mirror.urls import redact, with_slash, without_credentials

#: Bytes of the page of all projects that are read: they tell what the index is, and a large one's has 30 times as many.
ENOUGH = 2**20

#: A clock that is off by more is told.
CLOCK_TOLERANCE = timedelta(minutes=5)

#: Gitea's, Forgejo's and GitLab's package registries: URLs without a slash at the end, indexes without a root page.
ROOTLESS = re.compile(r"/api/(packages/[^/]+|v4/[^/]+/[^/]+(/-)?/packages)/pypi(/simple)?/?\Z")

_READ_ONLY = re.compile(r"(?i)\bread[- ]only\b")
# nginx, Apache, Go's server.
_PLAIN = re.compile(rb"(?i)plain HTTP request was sent to HTTPS|speaking plain HTTP to an SSL|HTTP request to an HTTPS")


def index(client: Client, url: str, *, devpi: str | None = None) -> Iterator[Finding]:
    """Check that *url* is a simple index, what it offers, and that files can be fetched.

    *devpi* is where devpi would have the index instead, which only its answers tell.
    """
    shown = redact(without_credentials(url))
    try:
        answer, cut = client.beginning(with_slash(url), ENOUGH, headers={"accept": ACCEPT})
    except NetworkError as error:
        if devpi is not None and isinstance(error, NotFoundError) and _is_devpi(client, url):
            yield from index(client, devpi)
        else:
            yield _tls_wanted(client, url, shown) or _unread(shown, error)
        return
    yield from _clock(answer)
    kind = answer.headers.get("content-type", "")
    try:
        names = parse_root(answer.body, kind, answer.url, cut=cut)
    except IndexPageError as error:
        yield Finding("index", Level.PROBLEM, str(error), _index_remedy(shown))
        return
    if "/simple" not in urlsplit(answer.url).path and "simple" in names:
        yield Finding("index", Level.PROBLEM, f"{shown} is not a simple index.", _index_remedy(shown))
        return
    if _is_something_else(client, answer.url, names):
        yield Finding("index", Level.PROBLEM, f"{shown} is a web page, not a simple index.", _index_remedy(shown))
        return
    form = "JSON (PEP 691)" if "json" in kind else "HTML (PEP 503)"
    count = f"at least {len(names)}" if cut else len(names)
    yield Finding("index", Level.FINE, f"{shown} is an index in {form} with {count} projects.")
    for name in names[:1]:
        yield from _project(client, urljoin(with_slash(answer.url), f"{name}/"), name, shown)


def _is_something_else(client: Client, url: str, names: Sequence[str]) -> bool:
    """Whether *url* lists what has no page below it: a page for people, as servers have it where the index is not."""
    if not names or urlsplit(url).path.rstrip("/").endswith("/simple"):
        return False
    try:
        return client.head(urljoin(with_slash(url), f"{names[0]}/"), accept=(404,)).status == 404
    except NetworkError:
        return False


def _is_devpi(client: Client, url: str) -> bool:
    try:
        return "x-devpi-api-version" in client.send("GET", url).headers
    except NetworkError:
        return False


def _tls_wanted(client: Client, url: str, shown: str) -> Finding | None:
    """The finding where *url* says http and its server wants https, which nginx and Apache answer with 400."""
    if urlsplit(url).scheme != "http":
        return None
    try:
        answer = client.send("GET", url)
    except NetworkError:
        return None
    return tls_wanted(answer, shown)


def tls_wanted(answer: Response, shown: str) -> Finding | None:
    """The finding where *answer* to a request without TLS says that the server wants it there, else None."""
    if answer.status != 400 or not _PLAIN.search(answer.body[:4096]):
        return None
    text = f"{shown} was asked without TLS, which its server wants on this port."
    return Finding("TLS", Level.PROBLEM, text, "Should the URL say https://?")


def _unread(shown: str, error: NetworkError) -> Finding:
    if isinstance(error, AuthError):
        return Finding("credentials", Level.PROBLEM, str(error), error.hint)
    if isinstance(error, NotFoundError) and ROOTLESS.search(urlsplit(shown).path):
        text = f"{shown} has no page of all projects, as always with Gitea, Forgejo and GitLab: nothing to look at."
        return Finding("index", Level.NOTE, text, "To see a project's page, ask for it there by its name.")
    if isinstance(error, NotFoundError):
        sent_on = PULP_CONTENT in str(error) and PULP_CONTENT not in shown
        return Finding("index", Level.PROBLEM, str(error), PULP_REMEDY if sent_on else _index_remedy(shown))
    if isinstance(error, HTTPError) and error.status == 400 and _READ_ONLY.search(error.reason):
        # Nexus up to 3.30 makes a page when it is read, and keeps it in the repository.
        remedy = (
            "Nexus stores a page when it is first read, which its deployment policy forbids here: allow uploads, have "
            "the page read once, and forbid them again."
        )
        return Finding("index", Level.PROBLEM, str(error), remedy)
    return Finding("index", Level.PROBLEM, str(error), error.hint)


def _index_remedy(shown: str) -> str:
    if urlsplit(shown).path.rstrip("/").endswith("/simple"):
        return "Check the repository's name in the URL."
    return f"An index URL usually ends in /simple/: try {with_slash(shown)}simple/"


def _clock(answer: Response) -> Iterator[Finding]:
    try:
        there = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return
    if there.tzinfo is None:  # it said -0000, which is UTC of a place that is not told
        there = there.replace(tzinfo=timezone.utc)
    off = abs(datetime.now(timezone.utc) - there)
    if off > CLOCK_TOLERANCE:
        text = f"This machine's clock and the server's differ by {off.total_seconds() / 60:.0f} minutes."
        yield Finding("clock", Level.NOTE, text, "Set the clock: certificates and tokens depend on it.")
    else:
        yield Finding("clock", Level.FINE, "The clock agrees with the server's.")


def _project(client: Client, url: str, name: str, index: str) -> Iterator[Finding]:
    try:
        answer = client.get(url, headers={"accept": ACCEPT})
        page = parse_page(answer.body, answer.headers.get("content-type", ""), answer.url, project=name, index=index)
        skipped = {filename for filename, _ in page.skipped}
        files = [page.file(at) for at, filename in enumerate(page.filenames) if filename not in skipped]
    except AirgapError as error:
        yield Finding("index", Level.PROBLEM, f"The page of {name} can't be read: {error}", error.hint)
        return
    if not files:
        return
    file = files[0]
    if file.hashes.sha256 is None:
        found = ", ".join(algorithm for algorithm, _ in file.hashes) or "no digest"
        text = f"The index shows {found} for {file.filename}, not sha256."
        remedy = "Have the server updated: without sha256, bytes must be fetched."
        if "Nexus/" in answer.headers.get("server", ""):
            remedy = "airgap push takes sha256 from Nexus's REST API; where that is closed, bytes must be fetched."
        yield Finding("digests", Level.NOTE, text, remedy)
    else:
        yield Finding("digests", Level.FINE, "The index shows sha256.")
    offered = any(one.metadata is not None for one in files)
    text = "offers metadata beside its files (PEP 658)" if offered else "offers no metadata beside its files (PEP 658)"
    yield Finding("metadata", Level.FINE if offered else Level.NOTE, f"The index {text}.")
    yield _ranges(client, file)


def _ranges(client: Client, file: File) -> Finding:
    try:
        status = client.get(file.url, headers={"range": "bytes=0-0"}, limit=2**31).status
    except NetworkError as error:
        return Finding("ranges", Level.PROBLEM, f"{file.filename} is listed, but can't be fetched: {error}", error.hint)
    if status == 206:
        return Finding("ranges", Level.FINE, "Parts of files can be fetched.")
    return Finding(
        "ranges", Level.NOTE, "The server ignores ranges: a broken download starts again from its beginning."
    )
