"""Where a catalog is: a file of SQLite's, or a PostgreSQL server that many nodes share (extra ``postgres``)."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError
from sqlalchemy.exc import TimeoutError as BusyError

from mirror.errors import ConfigError, MissingExtraError, StorageError
from mirror.serve.tables import SCHEMA_VERSION, bring_up_to_date

T = TypeVar("T")

_BUSY_SECONDS = 60
# What each connection to SQLite may keep of the file; its own default is 2,000.
_CACHE_KIB = 512
_CONNECT_SECONDS = 10
_WRITES = "airgap_writes"
#: Taken while the tables are made; any number that no other program uses.
_SCHEMA_LOCK = 0x61697267617001
_ATTEMPTS = 20
#: Another transaction was in the way: serialization failure, deadlock, and what unique and foreign keys say of rows
#: that came or went meanwhile. The work is done once more from its beginning.
_COLLISIONS = frozenset({"40001", "40P01", "23505", "23503"})


class Database(ABC):
    """A database with the catalog's tables, which the first write makes; safe for many threads and processes.

    Raises StorageError where disk, server or another process does not let it work. ``place`` says where it is.
    """

    hint: ClassVar[str]

    def __init__(self, place: str) -> None:
        self.place = place
        self._lock = threading.Lock()
        self._ready = False
        self._engine = self._open()

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        self._engine.dispose()

    def select(self, query: sa.Select[Any], **parameters: str) -> Sequence[sa.RowMapping]:
        """The rows of *query* with *parameters*; none where there are no tables yet."""

        def work() -> Sequence[sa.RowMapping]:
            if not self._prepare(create=False):
                return []
            with self._reading() as connection:
                return connection.execute(query, parameters).mappings().all()

        return self._persist(work)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run *work* in a transaction and return its result. It may run more than once, each time from the beginning.

        Where the connection breaks at the commit nobody knows whether it was done: *work* must then do no harm.
        """

        def attempt() -> T:
            self._prepare(create=True)
            with self._writing() as connection:
                return work(connection)

        return self._persist(attempt)

    @abstractmethod
    def lock(self, connection: sa.Connection, digests: Collection[str]) -> None:
        """Until the transaction ends, let nobody else have these *digests* locked."""

    @abstractmethod
    def _open(self) -> sa.Engine: ...

    @abstractmethod
    def _reading(self) -> AbstractContextManager[sa.Connection]: ...

    @abstractmethod
    def _writing(self) -> AbstractContextManager[sa.Connection]: ...

    @abstractmethod
    def _exists(self) -> bool: ...

    @abstractmethod
    def _make(self) -> None: ...

    @abstractmethod
    def _again(self, error: DatabaseError, attempt: int) -> bool:
        """Whether to run a failed piece of work once more."""

    def _prepare(self, *, create: bool) -> bool:
        """Make the tables where they are missing; False where there are none and none are to be made."""
        if self._ready:
            return True
        with self._lock:
            if not create and not self._exists():
                return False
            self._make()
            self._ready = True
        return True

    def _check_version(self, version: int) -> None:
        if version > SCHEMA_VERSION:
            raise StorageError(
                f"{self.place} has schema version {version}; this airgap knows {SCHEMA_VERSION}.",
                hint="Use the airgap version that wrote it, or a later one.",
            )

    def _persist(self, work: Callable[[], T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                return work()
            except (OSError, DatabaseError, BusyError) as error:
                if isinstance(error, DatabaseError) and self._again(error, attempt):
                    time.sleep(random.uniform(0, 0.005 * attempt))  # noqa: S311 - so that two don't meet again
                    continue
                cause = error.orig if isinstance(error, DatabaseError) else error
                said = " ".join(str(cause).split())
                raise StorageError(f"The catalog {self.place} can't be used: {said}.", hint=self.hint) from error


class SQLite(Database):
    """A file at *path*. Writers queue up at the beginning of their transactions; readers never wait."""

    hint = "Check the disk's space and permissions, and that the folder is on a local disk."

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(str(path))

    def lock(self, connection: sa.Connection, digests: Collection[str]) -> None:
        pass  # whoever writes is alone

    def _open(self) -> sa.Engine:
        url = sa.URL.create("sqlite+pysqlite", database=str(self._path))
        # The last one first: each connection that is used fills a cache of its own.
        engine = sa.create_engine(url, connect_args={"timeout": _BUSY_SECONDS}, pool_use_lifo=True)
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
        return engine

    def _reading(self) -> AbstractContextManager[sa.Connection]:
        return self._engine.connect()

    def _writing(self) -> AbstractContextManager[sa.Connection]:
        return self._engine.execution_options(**{_WRITES: True}).begin()

    def _exists(self) -> bool:
        return self._path.exists()

    def _make(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._writing() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            self._check_version(version)
            bring_up_to_date(connection, version)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _again(self, error: DatabaseError, attempt: int) -> bool:
        return False


class PostgreSQL(Database):
    """A database at a URL without a password, which libpq has from PGPASSWORD or ``~/.pgpass``.

    Who changes a page holds its row, and who enters or removes a blob holds its digest; READ COMMITTED does the rest.
    """

    hint = "Check that the server runs and takes connections, and PGPASSWORD or ~/.pgpass."

    def __init__(self, url: str) -> None:
        try:
            self._url = sa.make_url(url).set(drivername="postgresql+psycopg")
        except ArgumentError:
            raise ConfigError("The catalog's URL can't be read.") from None
        shown = self._url.set(drivername="postgresql", query={})  # a query may carry a key's password
        super().__init__(shown.render_as_string(hide_password=True))

    def select(self, query: sa.Select[Any], **parameters: str) -> Sequence[sa.RowMapping]:
        try:
            return super().select(query, **parameters)
        except StorageError as error:
            if isinstance(error.__cause__, DataError) and "NUL" in str(error):
                return []  # somebody asked for a name that can't be: no text there has this character
            raise

    def lock(self, connection: sa.Connection, digests: Collection[str]) -> None:
        for digest in sorted(digests):  # in one order, or two could wait for each other
            number = int.from_bytes(bytes.fromhex(digest[:16]), "big", signed=True)
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))

    def _open(self) -> sa.Engine:
        given = {"connect_timeout": _CONNECT_SECONDS, "application_name": "airgap"}
        given = {key: value for key, value in given.items() if key not in self._url.query}
        try:
            return sa.create_engine(self._url, connect_args=given, isolation_level="READ COMMITTED")
        except ModuleNotFoundError as error:
            raise MissingExtraError("A catalog in PostgreSQL", "postgres") from error

    def _reading(self) -> AbstractContextManager[sa.Connection]:
        return self._engine.execution_options(isolation_level="AUTOCOMMIT").connect()

    def _writing(self) -> AbstractContextManager[sa.Connection]:
        return self._engine.begin()

    def _exists(self) -> bool:
        with self._reading() as connection:
            return self._version(connection) is not None

    def _make(self) -> None:
        with self._reading() as connection:
            version = self._version(connection)
        if version != SCHEMA_VERSION:  # else no right to make tables is needed
            with self._writing() as connection:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
                version = self._version(connection)
                self._check_version(version or 0)
                bring_up_to_date(connection, version or 0)
                connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS airgap_schema (version integer NOT NULL)")
                connection.exec_driver_sql("DELETE FROM airgap_schema")
                connection.execute(sa.text("INSERT INTO airgap_schema VALUES (:version)"), {"version": SCHEMA_VERSION})

    @staticmethod
    def _version(connection: sa.Connection) -> int | None:
        if connection.exec_driver_sql("SELECT to_regclass('airgap_schema')").scalar() is None:
            return None
        return connection.exec_driver_sql("SELECT version FROM airgap_schema").scalar()

    def _again(self, error: DatabaseError, attempt: int) -> bool:
        if error.connection_invalidated:  # the server was restarted: the pool is empty now
            return attempt == 1
        return attempt < _ATTEMPTS and getattr(error.orig, "sqlstate", None) in _COLLISIONS


def _on_connect(connection: Any, _: object) -> None:
    # The driver's own way of opening transactions is switched off: _on_begin decides which kind it is.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    # An answer to an upload is a promise: with FULL a commit is on the disk before it is given.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Sixteen uploads at a time are as many connections, and what one writes empties the others' caches anyway.
    connection.execute(f"PRAGMA cache_size = {-_CACHE_KIB}")
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:  # noqa: PERF203 - another process switches it just now: no timeout covers that
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _on_begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later could fail half-way: writers queue up at their beginning.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
