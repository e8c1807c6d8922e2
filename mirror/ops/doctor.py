"""Looks at everything that has to work between this machine and a repository, one step at a time, and changes nothing.

A step that fails ends what builds on it. Every finding that is not fine says what to do.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from enum import Enum
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from mirror.config import Config, CredentialStore, Repository
from mirror.errors import AirgapError, AuthError, IndexPageError, NetworkError, NotFoundError
from mirror.index.simple import ACCEPT, parse_page, parse_root
from mirror.models import File
from mirror.net import Client, Response, Settings, probe
from mirror.net.auth import basic
from mirror.net.certificates import Certificate, misplaced, read_certificate
from mirror.ops.connect import net_settings
from mirror.push.legacy import index_url_for, upload_url_for
from mirror.urls import origin, redact, with_slash, without_credentials

#: A certificate that ends within these is told, and so is a clock that is off by more.
SOON = timedelta(days=30)
CLOCK_TOLERANCE = timedelta(minutes=5)
#: Bytes that should be free for bundles and files on their way.
ROOM = 2**30
#: Bytes of an upload that is announced to find a limit: wheels of this size exist.
LARGE_UPLOAD = 3 * 2**30

_MULTIPART = "multipart/form-data; boundary=airgap-doctor"
# An upload without a file: whoever may upload gets an error, nobody gets a file stored.
_NO_UPLOAD = (
    b'--airgap-doctor\r\nContent-Disposition: form-data; name=":action"\r\n\r\nfile_upload\r\n--airgap-doctor--\r\n'
)


class Level(str, Enum):
    """How bad a finding is."""

    FINE = "fine"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to; ``remedy`` is empty where there is nothing to do."""

    check: str
    level: Level
    text: str
    remedy: str = ""


def examine(
    config: Config, *, repository: Repository | None, index_url: str | None, chain_file: Path | None = None
) -> Iterator[Finding]:
    """Check *index_url* (pip's index where neither is given), and *repository* for uploads.

    The certificates that the first server sends go into *chain_file*.
    """
    yield from _disk(config)
    settings = net_settings(config)
    if repository is not None:
        settings = replace(
            settings,
            ca_bundle=repository.ca_cert or settings.ca_bundle,
            client_cert=repository.client_cert or settings.client_cert,
        )
    settings = replace(settings, retries=0)
    credentials = CredentialStore(config, repository=repository)
    upload_url = upload_url_for(repository.url) if repository is not None and repository.url else None
    if repository is not None and repository.type == "directory":
        yield Finding("repository", Level.FINE, f"{upload_url} is a folder: nothing lies in between.")
        return
    if repository is not None and upload_url != repository.url:
        yield Finding(
            "upload",
            Level.NOTE,
            f"{redact(repository.url or '')} is not where uploads go: airgap sends them to {redact(upload_url or '')}",
            "Correct the URL for other tools, which take it as it is.",
        )
    read = index_url or (repository.index_url if repository is not None else None)
    read = read or (index_url_for(upload_url) if upload_url else config.index_url.value)
    with Client(settings, credentials) as client:
        reached: dict[tuple[str, str, int], bool] = {}
        for url in (upload_url, read):
            if url is not None and origin(url) not in reached:
                found = list(_connection(url, settings, chain_file))
                reached[origin(url)] = all(finding.level is not Level.PROBLEM for finding in found)
                yield from found
        if reached[origin(read)]:
            yield from _index(client, read)
        if upload_url is not None and reached[origin(upload_url)]:
            yield from _upload(client, upload_url, settings, credentials)


def _disk(config: Config) -> Iterator[Finding]:
    places = {"temporary files": Path(tempfile.gettempdir()), "cache": config.cache.value, "home": config.home.value}
    for name, wanted in places.items():
        folder = next((path for path in (wanted, *wanted.parents) if path.is_dir()), Path("/"))
        free = shutil.disk_usage(folder).free
        text = f"{free / 2**30:.1f} GiB are free for {name} in {folder}."
        if free < ROOM:
            variable = {"cache": "AIRGAP_CACHE", "home": "AIRGAP_HOME"}.get(name, "TMPDIR")
            yield Finding("disk", Level.NOTE, text, f"Free some, or set {variable} to a folder with more.")
        else:
            yield Finding("disk", Level.FINE, text)


# --- The way there ------------------------------------------------------------------------------------------------


def _connection(url: str, settings: Settings, chain_file: Path | None) -> Iterator[Finding]:
    scheme, host, port = origin(url)
    proxy = probe.proxy_for(url, settings)
    if proxy is not None:
        # What the machine at hand can't resolve or reach, the proxy may.
        yield Finding("proxy", Level.FINE, f"Requests to {host} go through {redact(proxy)}.")
        return
    try:
        found = probe.addresses(host, port)
    except OSError as error:
        yield Finding(
            "DNS",
            Level.PROBLEM,
            f"{host} has no address here: {error.strerror or error}.",
            "Check the name, this machine's resolver, or whether a proxy is needed (HTTPS_PROXY).",
        )
        return
    yield Finding("DNS", Level.FINE, f"{host} is {', '.join(found)}.")
    try:
        probe.connect(host, port, settings.timeout)
    except OSError as error:
        yield Finding(
            "TCP",
            Level.PROBLEM,
            f"Nobody takes connections on {host} port {port}: {error.strerror or error}.",
            "Check the port in the URL, whether the server runs, and the firewall in between.",
        )
        return
    yield Finding("TCP", Level.FINE, f"{host} takes connections on port {port}.")
    if scheme == "https":
        yield from _tls(url, settings, chain_file)


def _tls(url: str, settings: Settings, chain_file: Path | None) -> Iterator[Finding]:
    _, host, port = origin(url)
    try:
        shaken = probe.handshake(url, settings)
    except (AirgapError, OSError) as error:
        yield Finding("TLS", Level.PROBLEM, str(error), error.hint if isinstance(error, AirgapError) else "")
        return
    if chain_file is not None and shaken.chain:
        chain_file.write_text(shaken.pem(), encoding="ascii")
        yield Finding("TLS", Level.FINE, f"The {len(shaken.chain)} certificates that {host} sends are in {chain_file}.")
    chain = _certificates(shaken.chain)
    wrong = misplaced(chain) if chain else ""
    trusted_anyway = not {host, f"{host}:{port}"}.isdisjoint(settings.trusted_hosts)
    if shaken.error is not None and not trusted_anyway:
        expired = [f"that of {item.subject} ended on {item.not_after:%Y-%m-%d}" for item in chain if _over(item)]
        told = "; ".join([*expired, *([wrong] if wrong else [])])
        yield Finding(
            "TLS",
            Level.PROBLEM,
            f"{shaken.error}{f' Of its certificates: {told}.' if told else ''}",
            ("Have the server's administrator complete its chain. " if wrong else "") + shaken.error.hint,
        )
        return
    yield Finding("TLS", Level.FINE, f"{host} speaks {shaken.version}, its certificate is accepted.")
    if wrong and len(chain) > 1:  # one alone may well be signed by an authority that every client knows
        remedy = "Other clients will refuse it: have its administrator complete the chain."
        yield Finding("TLS", Level.NOTE, f"{host} is trusted here, but {wrong}.", remedy)
    for item in chain[:1]:
        if not _over(item) and item.not_after < datetime.now(timezone.utc) + SOON:
            text = f"The certificate of {host} ends on {item.not_after:%Y-%m-%d}."
            yield Finding("TLS", Level.NOTE, text, "Have it renewed before.")


def _certificates(chain: tuple[bytes, ...]) -> list[Certificate]:
    try:
        return [read_certificate(der) for der in chain]
    except ValueError:
        return []


def _over(certificate: Certificate) -> bool:
    return certificate.not_after < datetime.now(timezone.utc)


# --- Reading ------------------------------------------------------------------------------------------------------


def _index(client: Client, url: str) -> Iterator[Finding]:
    shown = redact(without_credentials(url))
    try:
        answer = client.get(with_slash(url), headers={"accept": ACCEPT}, limit=2**26)
    except NetworkError as error:
        yield _unread(shown, error)
        return
    yield from _clock(answer)
    kind = answer.headers.get("content-type", "")
    try:
        names = parse_root(answer.body, kind, answer.url)
    except IndexPageError as error:
        yield Finding("index", Level.PROBLEM, str(error), _index_remedy(shown))
        return
    if "/simple" not in urlsplit(answer.url).path and "simple" in names:
        yield Finding("index", Level.PROBLEM, f"{shown} is not a simple index.", _index_remedy(shown))
        return
    form = "JSON (PEP 691)" if "json" in kind else "HTML (PEP 503)"
    yield Finding("index", Level.FINE, f"{shown} is an index in {form} with {len(names)} projects.")
    for name in names[:1]:
        yield from _project(client, urljoin(with_slash(answer.url), f"{name}/"), name, shown)


def _unread(shown: str, error: NetworkError) -> Finding:
    if isinstance(error, AuthError):
        return Finding("credentials", Level.PROBLEM, str(error), error.hint)
    if isinstance(error, NotFoundError):
        return Finding("index", Level.PROBLEM, str(error), _index_remedy(shown))
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
        yield Finding("digests", Level.NOTE, text, "Have the server updated: without sha256, bytes must be fetched.")
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


# --- Uploading ----------------------------------------------------------------------------------------------------


def _upload(client: Client, url: str, settings: Settings, credentials: CredentialStore) -> Iterator[Finding]:
    """Send an upload without a file: nobody stores it, and only who may upload gets as far as being told so."""
    shown = redact(without_credentials(url))
    known = credentials(url)
    try:
        answer = client.send("POST", url, content=_NO_UPLOAD, headers={"content-type": _MULTIPART})
    except NetworkError as error:
        yield Finding("upload", Level.PROBLEM, str(error), error.hint)
        return
    if answer.status == 401 and known is None:
        remedy = "Put them into .pypirc, keyring, or TWINE_USERNAME and TWINE_PASSWORD."
        yield Finding("credentials", Level.PROBLEM, f"{shown} wants credentials, and none are known.", remedy)
    elif answer.status == 401:
        text = f"{shown} does not accept user {known[0] if known else ''} with the password that is known."
        yield Finding(
            "credentials", Level.PROBLEM, text, "Renew the password or token; see airgap config for its source."
        )
    elif answer.status == 403:
        text = f"{shown} knows the user, who may not upload there." if known else f"{shown} refuses uploads by anybody."
        yield Finding("credentials", Level.PROBLEM, text, "Ask for the right to add files (in Nexus: edit and add).")
    elif answer.status in (404, 405, 410) or 300 <= answer.status < 400:
        yield Finding("upload", Level.PROBLEM, f"{shown} takes no uploads ({answer.status}).", _upload_remedy(shown))
    elif not urlsplit(url).path.endswith("/") and answer.status == 400:
        yield Finding("upload", Level.PROBLEM, f"{shown} refuses uploads (400).", _upload_remedy(shown))
    elif answer.status in (502, 503, 504):
        text = f"{shown} can't be used now ({answer.status})."
        yield Finding("upload", Level.PROBLEM, text, "Ask its administrator; it may be frozen or starting.")
    else:
        who = f"user {known[0]}" if known else "anybody"
        yield Finding("upload", Level.FINE, f"{shown} takes uploads by {who}.")
        yield from _limit(url, settings, known)


def _upload_remedy(shown: str) -> str:
    path = urlsplit(shown).path
    for ending in ("/simple/", "/simple"):
        if path.endswith(ending):
            return f"That is where an index is read. Uploads usually go to {shown.removesuffix(ending)}/"
    if not path.endswith("/"):
        return f"The URL lacks its last slash: {shown}/"
    return "Give the URL of a hosted repository: a group or a proxy takes no uploads."


def _limit(url: str, settings: Settings, known: tuple[str, str] | None) -> Iterator[Finding]:
    if probe.proxy_for(url, settings) is not None:
        return
    headers = {"content-type": _MULTIPART}
    if known is not None:
        headers["authorization"] = basic(*known)
    status = probe.announce(without_credentials(url), LARGE_UPLOAD, headers, settings)
    if status == 413:
        text = f"An upload of {LARGE_UPLOAD // 2**30} GiB would be refused (413)."
        yield Finding(
            "upload size",
            Level.NOTE,
            text,
            "Raise the limit of the proxy before the repository (nginx: client_max_body_size).",
        )
    else:
        yield Finding("upload size", Level.FINE, f"Nobody objects to an upload of {LARGE_UPLOAD // 2**30} GiB.")
