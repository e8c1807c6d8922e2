"""One upload over HTTP: the request, and what an answer to it means. The same for every server's upload API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from html import unescape
from urllib.parse import urljoin

from mirror.errors import AirgapError, AuthError, HTTPError, NotFoundError
from mirror.net import PROXY_LOGIN, Client, Response, SendError
from mirror.net.retry import TRANSIENT_STATUS, retry_after
from mirror.push.multipart import MultipartBody
from mirror.push.publisher import TransientUploadError, Upload
from mirror.urls import redact, without_credentials

# Answers to these statuses say that the request was not looked at: nothing was stored.
_NOT_PROCESSED = frozenset({425, 429})
# How Nexus and Pulp say that the repository takes nothing, whatever the file is.
_SHUT = re.compile(
    r"(?i)\bread[- ]only\b|\brepository offline\b|\bnot allowing uploads\b|\bnot pointing to a repository\b"
)
#: How Nexus's REST API tells a user with status 400 that the privilege "edit" is missing.
NO_RIGHT = re.compile(r"(?i)\bnot authorized for requested path\b")
# What Nexus's error page says of the error; above it stand the product's name and version.
_NEXUS_SAYS = re.compile(r'(?is)class="nexus-body".*?class="content-section">(.*?)</div>')


def post(client: Client, url: str, upload: Upload, fields: list[tuple[str, str]], *, part: str = "content") -> Response:
    """Send *fields* and then the file as *part* to *url*, once; a TransientUploadError where there is no answer."""
    body = MultipartBody(fields, part=part, filename=upload.filename, path=upload.path, size=upload.size)
    headers = {"content-type": body.content_type, "content-length": str(body.length)}
    try:
        return client.send("POST", url, content=body, headers=headers)
    except SendError as error:
        raise TransientUploadError(f"{upload.filename}: {error}", ambiguous=error.sent, hint=error.hint) from error


def check_accepted(
    client: Client, answer: Response, upload: Upload, *, shown: str, listing: Callable[[str], Collection[str]]
) -> None:
    """Return where *answer* says that the repository *shown* took the file; raise what it says instead.

    *listing* names the files that the repository has of a project.
    """
    if not 200 <= answer.status < 300:
        raise refusal(client, answer, upload, shown=shown)
    if _is_web_page(answer) and upload.filename not in listing(upload.project):
        # devpi answers like that where it has the file; the login page of a proxy does where nothing was stored.
        raise TransientUploadError(
            f"{upload.filename}: {shown} answered with a web page instead of taking the file.",
            ambiguous=True,
            hint="Is a proxy or a login page in between? NO_PROXY keeps a proxy out.",
        )


def refusal(client: Client, answer: Response, upload: Upload, *, shown: str) -> AirgapError:
    """The error for an answer that is no success: one that may pass, or one that is for good."""
    status = answer.status
    said = client.scrub(words(answer))
    message = f"{upload.filename}: {shown} answered with {status}{f' ({said})' if said else ''}."
    if status in TRANSIENT_STATUS:
        return TransientUploadError(
            message, ambiguous=status not in _NOT_PROCESSED, retry_after=retry_after(answer.headers)
        )
    if status in (400, 403) and _SHUT.search(said):
        return NotFoundError(message, status=status, reason=said, hint="Let it take uploads, or choose another one.")
    if status in (401, 403, 407) or (status == 400 and NO_RIGHT.search(said)):
        return AuthError(message, status=status, reason=said, hint=_login_hint(client, answer))
    if status in (404, 405, 410):
        return NotFoundError(
            message,
            status=status,
            reason=said,
            hint="Give the URL of a hosted repository that takes uploads: not a group, a proxy or an index.",
        )
    if 300 <= status < 400:
        target = redact(without_credentials(urljoin(answer.url, answer.headers.get("location", ""))))
        return NotFoundError(message, status=status, reason=said, hint=f"Uploads belong to {target}.")
    if status == 413:  # of one file: whoever reads about it needs the remedy there
        message += " A server or proxy in between limits the size of a request (nginx: client_max_body_size)."
    return HTTPError(message, status=status, reason=said)


def _login_hint(client: Client, answer: Response) -> str:
    if answer.status == 407:
        return PROXY_LOGIN
    rights = "Check the rights for this repository."
    if answer.status == 400:  # who it is, is known, and what is missing, too
        return rights
    if not client.has_login(answer.url):
        return (
            "No credentials are known for this repository: put them into .pypirc, keyring or netrc, or set "
            "TWINE_USERNAME and TWINE_PASSWORD."
        )
    if answer.status == 401:
        return "Check the user name and password for this repository; 'airgap config' says where they come from."
    return f"{rights} Some servers answer a wrong password in the same way."


def _is_web_page(answer: Response) -> bool:
    return answer.body[:512].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def words(answer: Response) -> str:
    """What the server said in words, on one line: the body without markup, or the reason phrase."""
    text = _messages(answer)
    if text is None:
        text = answer.body[:8192].decode("utf-8", "replace")
        page = _NEXUS_SAYS.search(text)
        text = page[1] if page else text
        text = unescape(re.sub(r"(?is)<(script|style|title)\b.*?</\1>|<[^>]*>", " ", text))
    text = " ".join(text.split())
    text = "".join(letter for letter in text if letter.isprintable())
    if not text or answer.reason.lower() in text.lower():
        return (text or answer.reason)[:300].rstrip(" .")
    return f"{answer.reason}: {text}"[:300].rstrip(" .")


def _messages(answer: Response) -> str | None:
    """The texts in what Nexus's REST API calls validation errors, ``[{"id": "*", "message": …}]``; None for others."""
    try:
        found = json.loads(answer.body)
    except ValueError:
        return None
    items = found if isinstance(found, list) else [found]
    texts = [item["message"] for item in items if isinstance(item, dict) and isinstance(item.get("message"), str)]
    return "; ".join(texts) or None
