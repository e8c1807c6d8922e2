"""Whether a request may do what it asks for (RFC 7617), and where it really came from behind a reverse proxy."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mirror.serve.users import TooManyFailuresError, Users

_CHALLENGE = {"www-authenticate": 'Basic realm="airgap", charset="UTF-8"'}


class Access:
    """Rules for requests. As long as there is no user, *open_writes* decides whether everybody may write."""

    def __init__(self, users: Users, *, anonymous_read: bool = True, open_writes: bool = True) -> None:
        self._users = users
        self._anonymous_read = anonymous_read
        self._open_writes = open_writes

    def check(self, request: Request, right: str, repository: str, through: Sequence[str] = ()) -> str:
        """Return who asks, such as ``alice@192.0.2.7``; an HTTPException (401, 403, 429) where it may not be.

        *through* are the members that a group leads to: what is kept from a user by name stays so in a group.
        """
        address = request.client.host if request.client else "unknown"
        given = _basic(request.headers.get("authorization", ""))
        if not self._users.all():
            if right == "read" and self._anonymous_read:
                return f"anonymous@{address}"
            if right == "write" and self._open_writes and self._anonymous_read:
                return f"anonymous@{address}"
            raise HTTPException(
                HTTPStatus.UNAUTHORIZED,
                "This server has no users yet, and not everybody may do this. Make one with: airgap user add NAME",
                _CHALLENGE,
            )
        if given is None:
            if right == "read" and self._anonymous_read:
                return f"anonymous@{address}"
            raise HTTPException(
                HTTPStatus.UNAUTHORIZED,
                f"A user with the right to {right} in {repository} is needed, and no credentials came. Check username "
                "and password in .pypirc, pip.conf, netrc or the URL; twine also takes TWINE_USERNAME and "
                "TWINE_PASSWORD.",
                _CHALLENGE,
            )
        try:
            user = self._users.authenticate(*given, address=address)
        except TooManyFailuresError as error:
            raise HTTPException(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"Log-ins from {address} failed too often. Check the password, and try again in {error.seconds} s.",
                {"retry-after": str(error.seconds)},
            ) from None
        if user is None:
            raise HTTPException(
                HTTPStatus.UNAUTHORIZED,
                "User or password is wrong, or the user token was revoked. Check for a space at the end, and that a "
                "token's name code is the user and its pass code the password.",
                _CHALLENGE,
            )
        if not (right == "read" and self._anonymous_read):
            kept = [repository] if not user.may(right, repository) else []
            kept += [name for name in through if name in user.rights and not user.may(right, name)]
            if kept:
                raise HTTPException(
                    HTTPStatus.FORBIDDEN,
                    f"{user.name} may not {right} in {kept[0]}. An administrator gives rights with airgap user.",
                )
        return f"{user.name}@{address}"


class Forwarded:
    """Takes scheme, host and client from ``X-Forwarded-*`` where the connection comes from a *trusted* address."""

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self._app = app
        self._trusted = [ipaddress.ip_network(text, strict=False) for text in trusted]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] == "http" and client and self._is_trusted(client[0]):
            scope = self._rewritten(scope)
        await self._app(scope, receive, send)

    def _rewritten(self, scope: Scope) -> Scope:
        headers = Headers(scope=scope)
        scope = dict(scope)
        scheme = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
        if scheme in ("http", "https"):
            scope["scheme"] = scheme
        host = headers.get("x-forwarded-host", "").rpartition(",")[2].strip()
        if host and not set(host) & set("/\\@?# \t\"'<>"):
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope["headers"] = [*others, (b"host", host.encode("latin-1"))]
        # From the right: every address that a trusted proxy noted, up to the first that is none itself.
        hops = [hop.strip() for hop in ",".join(headers.getlist("x-forwarded-for")).split(",") if hop.strip()]
        for hop in reversed(hops):
            try:
                ipaddress.ip_address(hop)
            except ValueError:
                break
            scope["client"] = (hop, 0)
            if not self._is_trusted(hop):
                break
        return scope

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted)


def _basic(header: str) -> tuple[str, str] | None:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        given = base64.b64decode(value.strip(), validate=True)
    except binascii.Error:
        return "", ""
    try:
        text = given.decode()
    except UnicodeDecodeError:  # requests, and so pip and twine, send what Latin-1 has as Latin-1
        text = given.decode("latin-1")
    user, _, password = text.partition(":")
    return user, password
