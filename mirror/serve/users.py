"""Users: who may read, write and administer which repository. A file with scrypt hashes (RFC 7914), no secret in it."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mirror.durable import write_whole
from mirror.errors import ConfigError, StorageError
from mirror.store import locked

#: Rights, each of which includes those before it.
RIGHTS = ("none", "read", "write", "admin")
#: The name in ``rights`` that stands for every repository.
EVERY = "*"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_COST, _BLOCK, _LANES = 2**14, 8, 1
_SHORTEST = 8
_REMEMBERED = 1024
_FAILURES, _WINDOW = 10, 60.0


@dataclass(frozen=True, slots=True)
class Token:
    """A user token as in Nexus: a name code and a pass code that stand for a user without showing the password."""

    name_code: str
    pass_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class User:
    """``rights`` maps repositories, or EVERY, to one of RIGHTS; the repository's own entry wins."""

    name: str
    password_hash: str = field(repr=False)
    rights: Mapping[str, str]
    tokens: tuple[Token, ...] = ()

    def may(self, right: str, repository: str) -> bool:
        """Whether *right*, or one that includes it, is given for *repository*."""
        given = self.rights.get(repository, self.rights.get(EVERY, "none"))
        return RIGHTS.index(given) >= RIGHTS.index(right)


class TooManyFailuresError(Exception):
    """Log-ins from one address failed too often; ``seconds`` says when to try again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many failed log-ins; try again in {seconds} s")
        self.seconds = seconds


class Users:
    """The users in the file at *path*, for this and other processes. Without the file there are none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int, int], dict[str, User]] | None = None
        self._key = secrets.token_bytes(32)
        self._proved: OrderedDict[bytes, str] = OrderedDict()
        self._failures: OrderedDict[str, dict[bytes, float]] = OrderedDict()
        self._hashing = threading.Semaphore(2)  # each needs 16 MiB and a core
        self._nobody = _hashed(secrets.token_hex(8))

    def all(self) -> Mapping[str, User]:
        """Every user by name, as the file has them now."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return {}
        stamp = status.st_mtime_ns, status.st_size, status.st_ino
        with self._lock:
            if self._read is None or self._read[0] != stamp:
                self._read = stamp, self._load()
                self._proved.clear()
                self._failures.clear()
            return self._read[1]

    def authenticate(self, name: str, password: str, *, address: str) -> User | None:
        """The user, whose password or token this is; None where it is nobody's.

        Takes the same time for users that exist and for others. Raises TooManyFailuresError after several different
        guesses; a client that repeats one wrong password guesses nothing.
        """
        users = self.all()
        proof = hmac.digest(self._key, json.dumps([name, password]).encode(), "sha256")
        with self._lock:
            proved = self._proved.get(proof)
            if proved is not None and proved in users:
                return users[proved]
            if proof in self._recent_failures(address):
                return None
        user, known = _find(users, name)
        with self._hashing:
            with self._lock:  # again: many may have come at once, and waited here
                self._recent_failures(address)
            right = _matches(password, known or self._nobody)
        with self._lock:
            if user is not None and known is not None and right:
                self._proved[proof] = user.name
                if len(self._proved) > _REMEMBERED:
                    self._proved.popitem(last=False)
                return user
            self._failures.setdefault(address, {})[proof] = time.monotonic()
            if len(self._failures) > _REMEMBERED:
                self._failures.popitem(last=False)
        return None

    def add(self, name: str, password: str, rights: Mapping[str, str]) -> None:
        """Enter a new user; ConfigError where one of that name is there."""
        if not _NAME.match(name):
            raise ConfigError(f"{name[:80]!r} can't be a user's name.", hint="Use letters, digits and . _ @ -.")
        for repository, right in rights.items():
            if right not in RIGHTS:
                raise ConfigError(f"{right!r} for {repository} is no right.", hint=f"Rights are {', '.join(RIGHTS)}.")
        _check_password(password)
        with self._changed() as users:
            if name in users:
                raise ConfigError(f"There is a user {name} already.", hint="airgap user passwd changes the password.")
            users[name] = User(name, _hashed(password), dict(rights))

    def set_password(self, name: str, password: str) -> None:
        """Give the user another password; tokens stay."""
        _check_password(password)
        with self._changed() as users:
            users[name] = replace(_existing(users, name), password_hash=_hashed(password))

    def make_token(self, name: str) -> tuple[str, str]:
        """Give the user one more token and return its name code and its pass code, which is not kept."""
        name_code, pass_code = secrets.token_urlsafe(8), secrets.token_urlsafe(32)
        with self._changed() as users:
            user = _existing(users, name)
            users[name] = replace(user, tokens=(*user.tokens, Token(name_code, _hashed(pass_code))))
        return name_code, pass_code

    def drop_tokens(self, name: str) -> int:
        """Make all tokens of the user useless; return how many there were."""
        with self._changed() as users:
            user = _existing(users, name)
            users[name] = replace(user, tokens=())
        return len(user.tokens)

    def remove(self, name: str) -> None:
        """Forget the user and the tokens."""
        with self._changed() as users:
            del users[_existing(users, name).name]

    def _recent_failures(self, address: str) -> Mapping[bytes, float]:
        """The wrong guesses from an address in the last minute; TooManyFailuresError where they are too many."""
        now = time.monotonic()
        recent = {proof: at for proof, at in self._failures.pop(address, {}).items() if now - at < _WINDOW}
        if recent:
            self._failures[address] = recent
        if len(recent) >= _FAILURES:
            raise TooManyFailuresError(int(_WINDOW - (now - min(recent.values()))) + 1)
        return recent

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, User]]:
        """The users, to be changed and then written, while no other process does the same."""
        with locked(self._path.with_suffix(".lock")):
            users = dict(self._load())
            yield users
            self._save(users)

    def _load(self) -> dict[str, User]:
        try:
            document = json.loads(self._path.read_bytes())
            return {name: _user(name, value) for name, value in document["users"].items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StorageError(f"{self._path} can't be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self._path} is not a file of users, or is damaged.") from error

    def _save(self, users: Mapping[str, User]) -> None:
        document = {
            "version": 1,
            "users": {
                user.name: {
                    "password": user.password_hash,
                    "rights": dict(user.rights),
                    "tokens": [[token.name_code, token.pass_hash] for token in user.tokens],
                }
                for user in users.values()
            },
        }
        try:
            write_whole(self._path, json.dumps(document, indent=2).encode(), mode=0o600)
        except OSError as error:
            raise StorageError(f"{self._path} can't be written: {error.strerror}.") from error


def _find(users: Mapping[str, User], name: str) -> tuple[User | None, str | None]:
    """The user whose name or whose token's name code *name* is, and the hash that belongs to it."""
    if name in users:
        return users[name], users[name].password_hash
    for user in users.values():
        for token in user.tokens:
            if hmac.compare_digest(token.name_code.encode(), name.encode()):
                return user, token.pass_hash
    return None, None


def _existing(users: Mapping[str, User], name: str) -> User:
    if name not in users:
        raise ConfigError(f"There is no user {name[:80]!r}.", hint=f"There are: {', '.join(users) or 'none'}.")
    return users[name]


def _check_password(password: str) -> None:
    if len(password) < _SHORTEST:
        raise ConfigError(f"A password needs at least {_SHORTEST} characters.")


def _hashed(password: str) -> str:
    salt = secrets.token_bytes(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=_COST, r=_BLOCK, p=_LANES)
    return f"scrypt${_COST}${_BLOCK}${_LANES}${salt.hex()}${digest.hex()}"


def _matches(password: str, hashed: str) -> bool:
    _, cost, block, lanes, salt, digest = hashed.split("$")
    found = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=int(cost), r=int(block), p=int(lanes))
    return hmac.compare_digest(found, bytes.fromhex(digest))


def _user(name: str, value: Any) -> User:
    rights = {str(repository): str(right) for repository, right in value["rights"].items()}
    if not set(rights.values()) <= set(RIGHTS):
        raise ValueError(f"unknown right of {name}")
    tokens = tuple(Token(str(code), str(hashed)) for code, hashed in value["tokens"])
    for hashed in (value["password"], *(token.pass_hash for token in tokens)):
        if not hashed.startswith("scrypt$") or len(hashed.split("$")) != 6:
            raise ValueError(f"unknown hash of {name}")
    return User(name, value["password"], rights, tokens)
