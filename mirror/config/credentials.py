"""Which user and password belong to a URL. Secrets are looked up as late as possible and are never printed."""

from __future__ import annotations

import functools
import itertools
import json
import netrc
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from mirror import urls
from mirror.config.files import home_folder
from mirror.config.pypirc import DEFAULT_URLS
from mirror.config.values import Config, Repository
from mirror.errors import ConfigError
from mirror.models import Event, Reporter, Stage, silent

#: Seconds that a keyring helper may take; it may have to wait for a person to unlock it.
KEYRING_TIMEOUT = 60.0

#: ``(service, user or None)`` to ``(user, password)``.
_Lookup = Callable[[str, "str | None"], "tuple[str, str] | None"]
#: ``(URL, user or None)`` to what a person says: ``(user, password)``.
Ask = Callable[[str, "str | None"], "tuple[str, str]"]


class CredentialStore:
    """Finds credentials for a URL, as pip and twine would; call it with the URL.

    In this order: the *repository* that is being pushed to (``TWINE_USERNAME`` and ``TWINE_PASSWORD``, which go to
    no other server, then what its file says), the userinfo of configured index URLs and of *index_urls* (those that
    requirements files add), configured repositories, netrc, keyring. Only values of the same origin (scheme, host,
    port) count; among several the one whose path is most like the URL's. A user without a password is completed
    from netrc or keyring, else sent with an empty one, as pip does with a lone token. Before that, if *ask* is given,
    a person is asked once about the *repository*: for the password of a user, or, once refused, for both.

    Safe for threads. Raises ConfigError where airgap.toml names a variable for the password that is not set.
    """

    def __init__(
        self,
        config: Config,
        *,
        repository: Repository | None = None,
        index_urls: Sequence[str] = (),
        environ: Mapping[str, str] = os.environ,
        ask: Ask | None = None,
        report: Reporter = silent,
    ) -> None:
        self._ask = ask
        self._told: tuple[str, str] | None = None
        self._repository = repository
        self._repositories = tuple(config.repositories.values())
        self._index_urls = (
            config.index_url.value,
            *config.extra_index_urls.value,
            *config.find_links.value,
            *index_urls,
        )
        self._environ = environ
        self._report = report
        self._provider = config.keyring_provider.value
        self._keyring: _Lookup | None = None
        self._lock = threading.Lock()
        self._warned: set[str] = set()

    def __call__(self, url: str, *, refused: bool = False) -> tuple[str, str] | None:
        """Return ``(user, password)`` for *url*, or None.

        Where neither a user nor a keyring-provider is configured, keyring is asked only when the index has *refused* a
        request without credentials, as pip does: opening a key store takes time, and may ask its owner.
        """
        with self._lock:
            user: str | None = None
            services: list[str] = []  # what keyring may know the password under, most telling first
            for service, found_user, password in self._configured(url):
                if found_user and password is not None and user in (None, found_user):
                    return found_user, password
                user = user or found_user
                services.append(service)
            services.append(urlsplit(urls.without_credentials(url)).netloc)
            if self._pushes_to(url):  # as twine, which knows no netrc; for an index as pip
                found = self._from_keyring(services, user) or self._from_netrc(url, user)
            else:
                found = self._from_netrc(url, user)
                if found is None and (user or refused or self._provider != "auto"):
                    found = self._from_keyring(services, user)
            if found is None and self._ask is not None and self._pushes_to(url):
                if self._told is None and (user or refused):
                    self._told = self._ask(urls.redact(urls.without_credentials(url)), user)
                found = self._told
            return found or ((user, "") if user else None)

    def _pushes_to(self, url: str) -> bool:
        repository = self._repository
        return repository is not None and bool(repository.url) and bool(_closest(url, [repository.url or ""]))

    def _configured(self, url: str) -> Iterator[tuple[str, str | None, str | None]]:
        """What configuration says about the origin of *url*: ``(URL without credentials, user, password)``."""
        if self._repository is not None and self._pushes_to(url):
            yield self._of_repository(self._repository, pushing=True)
        for index in _closest(url, self._index_urls):
            yield urls.without_credentials(index), *_userinfo(index)
        by_url = {repository.url: repository for repository in self._repositories if repository.url}
        for closest in _closest(url, by_url):
            yield self._of_repository(by_url[closest], pushing=False)

    def _of_repository(self, repository: Repository, *, pushing: bool) -> tuple[str, str | None, str | None]:
        user, password = repository.username, repository.password
        if pushing:
            user = self._environ.get("TWINE_USERNAME") or user
            password = self._environ.get("TWINE_PASSWORD") or password
            if password is None and repository.password_env:
                raise ConfigError(
                    f"The password of {repository.name} is to come from {repository.password_env}, which is not set.",
                    hint=f"Set {repository.password_env}, or take password-env out of {repository.source}.",
                )
        if password is not None and user is None and repository.url in DEFAULT_URLS.values():
            user = "__token__"  # PyPI takes nothing but API tokens
        return repository.url or "", user, password

    def _from_keyring(self, services: Sequence[str], user: str | None) -> tuple[str, str] | None:
        if self._keyring is None:
            self._keyring = _open_keyring(self._provider, self._environ, self._warn)
        try:
            for service in dict.fromkeys(services):
                found = self._keyring(service, user)
                if found is not None:
                    return found
        except Exception as error:  # noqa: BLE001  # backends are plug-ins and raise whatever they like
            self._warn(f"keyring is not used: it failed with {type(error).__name__}.")
            self._keyring = _no_keyring
        return None

    def _from_netrc(self, url: str, user: str | None) -> tuple[str, str] | None:
        path = self._netrc_file()
        host = urlsplit(url).hostname
        if path is None or not host:
            return None
        try:
            entry = netrc.netrc(path).authenticators(host)
        except netrc.NetrcParseError as error:
            # The message quotes the file's words, any of which may be a password.
            self._warn(f"{path} is ignored: line {error.lineno} is not valid.")
            return None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            self._warn(f"{path} is ignored: {reason}.")
            return None
        if entry is None:
            return None
        login, account, password = entry
        login = login or account or ""
        if user and login != user:
            return None
        return (login, password or "") if login or password else None

    def _netrc_file(self) -> Path | None:
        named = self._environ.get("NETRC")
        home = home_folder(self._environ)
        candidates = [Path(named)] if named else [Path(home, ".netrc"), Path(home, "_netrc")]
        return next((path for path in candidates if os.path.isfile(path)), None)  # noqa: PTH113  # never raises

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._report(Event("warning", Stage.LOOK, text))


def _userinfo(url: str) -> tuple[str | None, str | None]:
    found = urls.credentials(url)
    if found is None:
        return None, None
    # "token@" has no password, "user:@" an empty one
    with_password = ":" in urlsplit(url).netloc.rpartition("@")[0]
    return found[0] or None, found[1] if with_password else None


def _closest(url: str, candidates: Iterable[str]) -> list[str]:
    """Return the *candidates* of the same origin as *url*, those first that share most of its path."""
    path = urlsplit(url).path.strip("/").split("/")

    def shared(candidate: str) -> int:
        pairs = zip(path, urlsplit(candidate).path.strip("/").split("/"), strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    same = [candidate for candidate in candidates if _has_origin(candidate, urls.origin(url))]
    return sorted(same, key=shared, reverse=True)


def _has_origin(url: str, origin: tuple[str, str, int]) -> bool:
    try:
        return urls.origin(url) == origin
    except ValueError:  # a local path may look like a URL with a strange port
        return False


def _open_keyring(provider: str, environ: Mapping[str, str], warn: Callable[[str], None]) -> _Lookup:
    """Return the lookup that *provider* names; ``auto`` takes the package, else the command, else nothing."""
    if provider in ("auto", "import"):
        try:
            import keyring
        except ImportError:
            if provider == "import":
                warn("keyring-provider is 'import', but the keyring package is not installed.")
        else:
            return functools.partial(_ask_package, keyring, quiet=provider == "auto")
    if provider in ("auto", "subprocess"):
        command = shutil.which("keyring", path=environ.get("PATH"))
        if command is not None:
            return functools.partial(_ask_command, command, environ)
        if provider == "subprocess":
            warn("keyring-provider is 'subprocess', but there is no keyring command on the PATH.")
    return _no_keyring


def _no_keyring(_service: str, _user: str | None) -> tuple[str, str] | None:
    return None


def _ask_package(keyring: ModuleType, service: str, user: str | None, *, quiet: bool) -> tuple[str, str] | None:
    try:
        found = keyring.get_credential(service, user)
    except keyring.errors.NoKeyringError:
        if quiet:  # installed as somebody's dependency on a machine that has no key store
            return None
        raise
    return (found.username, found.password) if found is not None else None


def _ask_command(command: str, environ: Mapping[str, str], service: str, user: str | None) -> tuple[str, str] | None:
    """Ask the command, which prints the secret into a pipe: nothing secret is in its arguments."""
    done = subprocess.run(
        [command, "--mode=creds", "--output=json", "get", service, *([user] if user else [])],
        env={**environ, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=KEYRING_TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        return None
    answer = json.loads(done.stdout)
    return answer["username"], answer["password"]
