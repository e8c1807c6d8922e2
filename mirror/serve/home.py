"""A home: the folder in which embedded repositories keep their catalog, their blobs, and who may do what."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.config.served import Served, ServeSettings
from mirror.config.serving import read_served
from mirror.errors import ConfigError
from mirror.serve import DEFAULT_HOSTED
from mirror.serve.audit import Audit, local_actor
from mirror.serve.blobs import Blobs, FolderBlobs
from mirror.serve.catalog import Catalog, Repository
from mirror.serve.databases import PostgreSQL, SQLite
from mirror.serve.group import GroupRepository
from mirror.serve.hosted import HostedRepository
from mirror.serve.proxy import Connect, ProxyRepository
from mirror.serve.repository import Readable
from mirror.store import Store

if TYPE_CHECKING:
    from mirror.net import Client

PYPI = "https://pypi.org/simple/"
#: Clients of a proxy repeat a request themselves: it is better to tell them soon.
REMOTE_RETRIES = 2
NO_SETTINGS = ServeSettings()


def default_repositories(remote: str = PYPI) -> dict[str, Served]:
    """What every home has unless it says otherwise; *remote* is the index that ``pypi-proxy`` is for."""
    return {
        DEFAULT_HOSTED: Served(DEFAULT_HOSTED, "hosted"),
        "pypi-proxy": Served("pypi-proxy", "proxy", remote=remote),
        "pypi-all": Served("pypi-all", "group", members=(DEFAULT_HOSTED, "pypi-proxy"), deploy_to=DEFAULT_HOSTED),
    }


class UnknownRepositoryError(ConfigError):
    """There is no repository of that name; ``known`` are those that there are."""

    def __init__(self, name: str, folder: Path, known: Iterable[str]) -> None:
        self.known = tuple(known)
        super().__init__(
            f"There is no repository {name[:80]!r} in {folder}.", hint=f"There are: {', '.join(self.known)}."
        )


def plain_client(served: Served) -> Client:
    """A client for a proxy's remote with what the repository's own settings say and nothing else."""
    from mirror.net import Client, Settings

    settings = Settings(ca_bundle=served.ca_cert, client_cert=served.client_cert, retries=REMOTE_RETRIES)

    def credentials(url: str, *, refused: bool = False) -> tuple[str, str] | None:
        return None if refused else served.credentials(url)

    return Client(settings, credentials)


class Home(AbstractContextManager["Home"]):
    """The repositories of one home. The folder appears with the first write; until then the default ones are empty.

    A repository is what *settings* (``airgap.toml``) say, else what ``airgap repo create`` stored, else a default.
    """

    def __init__(
        self,
        folder: Path,
        settings: ServeSettings = NO_SETTINGS,
        *,
        remote: str = PYPI,
        connect: Connect = plain_client,
    ) -> None:
        self.folder = folder
        self.blobs: Blobs = _blobs(folder, settings.blobs)
        self.catalog = Catalog(
            PostgreSQL(settings.catalog) if settings.catalog else SQLite(folder / "catalog.sqlite"), self.blobs.has
        )
        self.audit = Audit(folder / "audit.log")
        self.declared = dict(settings.repositories)
        #: Told of a proxy's name, what it was asked for (page, file), and where that was (hit, miss, stale).
        self.observe: Callable[[str, str, str], None] = lambda *_: None
        #: What this server says of itself to remotes; a request that has it went in a circle.
        self.loop = f"airgap-{secrets.token_hex(8)}"
        self._defaults = default_repositories(remote)
        self._connect = connect
        self._lock = threading.Lock()
        self._proxies: dict[str, tuple[Served, ProxyRepository]] = {}

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, those to remotes included."""
        with self._lock:
            opened, self._proxies = self._proxies, {}
        for _, proxy in opened.values():
            proxy.close()
        self.catalog.close()

    def repositories(self) -> dict[str, Served]:
        """Every repository by its name."""
        found = dict(self._defaults)
        for row in self.catalog.repositories():
            if row.settings is not None:
                found[row.name] = _stored(row, self.folder)
            elif row.name not in found:
                found[row.name] = Served(row.name, row.kind)
        return dict(sorted((found | self.declared).items()))

    def names(self) -> list[str]:
        """The names of all repositories, sorted."""
        return list(self.repositories())

    def writable_names(self) -> list[str]:
        """The names of those that take uploads, sorted."""
        known = self.repositories()
        takers = {name for name, served in known.items() if served.kind == "hosted"}
        return [name for name, served in known.items() if name in takers or served.deploy_to in takers]

    def get(self, name: str) -> Served:
        """The settings of the repository *name*; ConfigError where there is none."""
        return self._get(name, self.repositories())

    def create(self, served: Served) -> None:
        """Store a new repository; ConfigError where one of its name is there or a member is not."""
        known = self.repositories()
        if served.name in known:
            raise ConfigError(f"There is a repository {served.name} already ({known[served.name].source}).")
        for member in served.members:
            if member not in known:
                raise ConfigError(
                    f"{served.name} can't have the member {member}: there is no such repository.",
                    hint=f"There are: {', '.join(known)}.",
                )
        settings = json.dumps(served.table(), sort_keys=True)
        self.catalog.create_repository(Repository(served.name, served.kind, settings))
        self.audit.write(local_actor(), "create", served.name)

    def delete(self, name: str, *, force: bool = False) -> None:
        """Forget a repository that ``create`` made, with *force* also one that has files."""
        served = self.get(name)
        if name in self.declared:
            raise ConfigError(f"{name} is declared in {served.source}: take it out there.")
        groups = [other.name for other in self.repositories().values() if name in other.members]
        if groups:
            raise ConfigError(f"{name} is a member of {', '.join(groups)}.", hint="Change or delete the group first.")
        if served.kind == "hosted" and not force and any(self.catalog.projects(name)):
            raise ConfigError(f"{name} holds files.", hint="Give --force to delete it with all of them.")
        if not self.catalog.delete_repository(name):
            raise ConfigError(f"{name} is one of the default repositories, which are always there.")
        self.audit.write(local_actor(), "drop", name)

    def open(self, name: str) -> Readable:
        """The repository *name*, for reading; ConfigError where there is none."""
        return self._open(name, self.repositories(), ())

    def hosted(self, name: str) -> HostedRepository:
        """The hosted repository *name*, or the one that the group *name* deploys to; ConfigError where it is none."""
        known = self.repositories()
        served = self._get(name, known)
        if served.kind == "group" and served.deploy_to is not None:
            served = self._get(served.deploy_to, known)
        if served.kind == "hosted":
            return HostedRepository(served, self.catalog, self.blobs, self.audit)
        takers = [other.name for other in known.values() if other.kind == "hosted"]
        raise ConfigError(
            f"{name} is a {served.kind} repository and takes no uploads.",
            hint=f"Upload to a hosted one: {', '.join(takers)}.",
        )

    def holders(self, name: str) -> list[str]:
        """The repositories whose files those of *name* are: itself, or the members of a group, in their order."""
        known, found, waiting = self.repositories(), dict[str, None](), [name]
        while waiting:
            served = self._get(waiting.pop(0), known)
            if served.name not in found:
                found[served.name] = None
                waiting[:0] = served.members
        return [holder for holder in found if known[holder].kind != "group"]

    def stored_projects(self, holders: Sequence[str]) -> Iterator[str]:
        """The projects of which *holders* have files here, sorted."""
        return (name for name, _ in groupby(merge(*(self.catalog.projects(holder) for holder in holders))))

    def _get(self, name: str, known: Mapping[str, Served]) -> Served:
        if name not in known:
            raise UnknownRepositoryError(name, self.folder, known)
        return known[name]

    def _open(self, name: str, all_known: Mapping[str, Served], above: tuple[str, ...]) -> Readable:
        served = self._get(name, all_known)
        if name in above:
            raise ConfigError(f"The groups {' > '.join([*above, name])} contain each other.")
        if served.kind == "hosted":
            return HostedRepository(served, self.catalog, self.blobs, self.audit)
        if served.kind == "group":
            return GroupRepository(name, [self._open(each, all_known, (*above, name)) for each in served.members])
        with self._lock:
            known = self._proxies.get(name)
            if known is None or known[0] != served:
                proxy = ProxyRepository(
                    served,
                    self.catalog,
                    self.blobs,
                    Store(self.folder / "proxied" / name),
                    self.audit,
                    self._connect,
                    self.loop,
                    lambda what, result: self.observe(name, what, result),
                )
                known = self._proxies[name] = served, proxy
            return known[1]


def _stored(row: Repository, folder: Path) -> Served:
    return read_served(row.name, json.loads(row.settings or "{}"), f"the catalog in {folder}", folder=folder)


def _blobs(folder: Path, url: str | None) -> Blobs:
    if url is None:
        return FolderBlobs(folder / "blobs")
    from mirror.serve.bucket import BucketBlobs

    return BucketBlobs(url, folder / "incoming")
