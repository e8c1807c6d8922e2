"""URLs without their secrets: what may be logged, written into a manifest, or compared. Pure."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit, urlunsplit


def redact(url: str) -> str:
    """Return *url* as pip shows it: ``user:****@host``, a lone token as ``****@host``, no query values kept.

    >>> redact("https://bob:secret@nexus.example/simple/")
    'https://bob:****@nexus.example/simple/'
    """
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if at:
        user, colon, _ = userinfo.partition(":")
        userinfo = f"{user}:****" if colon else "****"
    query = "****" if parts.query else ""
    return urlunsplit((parts.scheme, f"{userinfo}{at}{host}", parts.path, query, parts.fragment))


def without_credentials(url: str) -> str:
    """Return *url* without its userinfo part."""
    parts = urlsplit(url)
    found = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return url if found == url else found  # not a second copy: the same URL of an index is in every file


def credentials(url: str) -> tuple[str, str] | None:
    """Return the decoded ``(user, password)`` that *url* carries, or None. A lone token is the user, as in pip."""
    userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    if not at:
        return None
    user, _, password = userinfo.partition(":")
    return unquote(user), unquote(password)


def origin(url: str) -> tuple[str, str, int]:
    """Return ``(scheme, host, port)`` in lower case with the scheme's default port filled in."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(scheme, 0)


def basename(url: str) -> str:
    """Return the last path segment of *url*, decoded, without query and fragment."""
    return unquote(urlsplit(url).path.rsplit("/", 1)[-1])


def with_slash(url: str) -> str:
    """Return *url* with exactly one slash at the end of its path; an index URL without it loses its last segment."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/"))
