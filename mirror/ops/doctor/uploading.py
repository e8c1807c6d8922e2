"""Who may upload where, and how much at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from mirror.config import CredentialStore
from mirror.errors import NetworkError
from mirror.net import Client, Response, Settings, probe
from mirror.net.auth import basic
from mirror.net.probe import proxy_for
from mirror.ops.doctor.finding import Finding, Level
from mirror.ops.doctor.reading import ROOTLESS, tls_wanted
from mirror.push.knock import MULTIPART, knock
from mirror.push.nexus import Kept, Place, hosted, repositories, write_policy
from mirror.push.sending import words
from mirror.urls import redact, without_credentials

#: Bytes of an upload that is announced to find a limit: wheels of this size exist.
LARGE_UPLOAD = 3 * 2**30

# A hosted repository answers 400 too, because the upload has no file: then other words.
_NOT_HOSTED = re.compile(
    r"(?i)\b(proxy|group) repositor|takes no uploads|read.only|not allowing uploads|not pointing to a repository"
)

_NEXUS_URL = "The URL of a repository in Nexus ends with /repository/NAME/."


def upload(client: Client, url: str, settings: Settings, credentials: CredentialStore) -> Iterator[Finding]:
    """Send an upload without a file: nobody stores it, and only who may upload gets as far as being told so."""
    shown = redact(without_credentials(url))
    known = credentials(url)
    try:
        answer = knock(client, url)
    except NetworkError as error:
        yield Finding("upload", Level.PROBLEM, str(error), error.hint)
        return
    wanted = tls_wanted(answer, shown)
    if wanted is not None:
        yield wanted
        return
    said = client.scrub(words(answer))
    place = Place.of(url)
    listed = repositories(client, place) if place is not None and answer.status != 401 else None
    kept = next((kept for kept in listed or () if place is not None and kept.name == place.name), None)
    if kept is not None and not kept.writable:
        text = f"{shown} is {kept.what}, which takes no uploads ({answer.status})."
        yield Finding("upload", Level.PROBLEM, text, _others(listed))
    elif answer.status == 401 and known is None:
        remedy = "Put them into .pypirc, keyring, or TWINE_USERNAME and TWINE_PASSWORD."
        yield Finding("credentials", Level.PROBLEM, f"{shown} wants credentials, and none are known.", remedy)
    elif answer.status == 401:
        with_password = " with the password that is known" if known and known[1] else ""
        text = f"{shown} does not accept {_who(known)}{with_password}."
        yield Finding(
            "credentials", Level.PROBLEM, text, "Renew the password or token; see airgap config for its source."
        )
    elif answer.status in (400, 403) and _NOT_HOSTED.search(said):
        remedy = "Give the URL of a hosted repository that takes uploads: not a group, a proxy or (Pulp) a publication."
        yield Finding("upload", Level.PROBLEM, f"{shown} takes no uploads ({answer.status}, {said}).", remedy)
    elif answer.status == 403:
        text = (
            f"{shown} says that {_who(known)} may not upload there" if known else f"{shown} refuses uploads by anybody"
        )
        text += f" ({said})." if said else "."
        remedy = "Ask for the right to add files (in Nexus: edit and add)."
        if known:  # some, pypiserver for one, say so of a wrong password
            remedy += " Some servers answer a wrong password in the same way."
        yield Finding("credentials", Level.PROBLEM, text, remedy)
    elif answer.status == 404 and listed and kept is None:
        text = f"Nexus lists no such repository to this user: {shown} takes no uploads (404)."
        yield Finding("upload", Level.PROBLEM, text, _others(listed))
    elif place is None and _is_nexus(answer):
        yield Finding("upload", Level.PROBLEM, f"{shown} takes no uploads ({answer.status}).", _NEXUS_URL)
    elif answer.status in (404, 405, 410) or 300 <= answer.status < 400:
        yield Finding("upload", Level.PROBLEM, f"{shown} takes no uploads ({answer.status}).", _upload_remedy(shown))
    elif answer.status == 400 and _lacks_slash(url):
        yield Finding("upload", Level.PROBLEM, f"{shown} refuses uploads (400).", _upload_remedy(shown))
    elif answer.status in (502, 503, 504):
        text = f"{shown} can't be used now ({answer.status}, {said})."
        yield Finding("upload", Level.PROBLEM, text, "Ask its administrator; it may be frozen or starting.")
    else:
        policy = write_policy(client, place) if place is not None and kept is not None else None
        if policy == "DENY":
            text = f"{shown} takes no uploads: its deployment policy is Read-only."
            yield Finding("upload", Level.PROBLEM, text, "Have the policy changed, or give another repository.")
            return
        # Nexus looks at the rights first, and at the policy only when it has a file.
        unless = ", unless its deployment policy is Read-only" if policy is None and _is_nexus(answer) else ""
        yield Finding("upload", Level.FINE, f"{shown} takes uploads by {_who(known)}{unless}.")
        if policy == "ALLOW":
            text = f"{shown} lets uploads replace files that are there."
            yield Finding("policy", Level.NOTE, text, "airgap replaces none; Disable redeploy keeps others from it.")
        yield from _limit(url, settings, known)


def _who(known: tuple[str, str] | None) -> str:
    """Whose credentials are known; a user without a password may well be a token, which nobody else is to see."""
    if known is None:
        return "anybody"
    return f"user {known[0]}" if known[1] else "the token, or user without a password, that is known"


def _is_nexus(answer: Response) -> bool:
    return "Nexus/" in answer.headers.get("server", "")


def _others(listed: Iterable[Kept] | None) -> str:
    names = hosted(listed or ())
    return f"Give the URL of a hosted one: {', '.join(names)}." if names else "Give the URL of a hosted one."


def _upload_remedy(shown: str) -> str:
    path = urlsplit(shown).path
    for ending in ("/simple/", "/simple"):
        if path.endswith(ending):
            return f"That is where an index is read. Uploads usually go to {shown.removesuffix(ending)}/"
    if _lacks_slash(shown):
        return f"The URL lacks its last slash: {shown}/"
    return "Give the URL of a hosted repository: a group or a proxy takes no uploads."


def _lacks_slash(url: str) -> bool:
    path = urlsplit(url).path or "/"  # which is what is asked for where a URL has none
    return not path.endswith("/") and not ROOTLESS.search(path)


def _limit(url: str, settings: Settings, known: tuple[str, str] | None) -> Iterator[Finding]:
    if proxy_for(url, settings) is not None:
        return
    headers = {"content-type": MULTIPART}
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
