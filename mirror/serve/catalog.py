"""The catalog: which repositories there are and which files each one holds, in SQLite."""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DatabaseError

from mirror.errors import StorageError

_SCHEMA_VERSION = 2
_BUSY_SECONDS = 60
_WRITES = "airgap_writes"

_metadata = sa.MetaData()

_repositories = sa.Table(
    "repositories",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("settings", sa.String),
)

# One row for each project page. ``tag`` is random and new with every change, in the same transaction: an ETag's stuff.
_projects = sa.Table(
    "projects",
    _metadata,
    sa.Column("repository", sa.ForeignKey("repositories.id"), primary_key=True),
    sa.Column("project", sa.String, primary_key=True),
    sa.Column("tag", sa.String, nullable=False),
    sqlite_with_rowid=False,
)

_files = sa.Table(
    "files",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("repository", sa.ForeignKey("repositories.id"), nullable=False),
    sa.Column("project", sa.String, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("filename", sa.String, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("md5", sa.String, nullable=False),
    sa.Column("blake2_256", sa.String, nullable=False),
    sa.Column("metadata_sha256", sa.String),
    sa.Column("requires_python", sa.String),
    sa.Column("yanked", sa.String),
    sa.Column("upload_time", sa.String, nullable=False),
    sa.Column("summary", sa.String),
    sa.UniqueConstraint("repository", "filename"),
    sa.Index("files_of_project", "repository", "project"),
)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository; ``kind`` is Nexus's word: hosted, proxy or group. ``settings`` are JSON, None for the defaults."""

    name: str
    kind: str
    settings: str | None = None


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """One file of a repository.

    ``project`` is normalised, ``version`` as the file's metadata spell it, ``size`` in bytes, ``upload_time`` UTC in
    PEP 700's form. ``metadata_sha256`` names the blob with a wheel's METADATA; sdists have none (PEP 658).
    ``yanked`` is None or a reason, which may be empty. ``md5`` and ``blake2_256`` are empty where nobody asked.
    """

    project: str
    version: str
    filename: str
    size: int
    sha256: str
    md5: str
    blake2_256: str
    metadata_sha256: str | None
    requires_python: str | None
    yanked: str | None
    upload_time: str
    summary: str | None = None


_FILE_COLUMNS = [_files.c[field.name] for field in fields(CatalogFile)]


class Catalog:
    """One catalog, safe for many threads and processes. The file at *path* is made by the first write.

    Raises StorageError where the disk or another process does not let it work.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._ready = False
        self._reader = sa.create_engine(
            sa.URL.create("sqlite+pysqlite", database=str(path)), connect_args={"timeout": _BUSY_SECONDS}
        )
        event.listen(self._reader, "connect", _on_connect)
        event.listen(self._reader, "begin", _on_begin)
        self._writer = self._reader.execution_options(**{_WRITES: True})

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        self._reader.dispose()

    def repositories(self) -> list[Repository]:
        """All repositories, sorted by name."""
        columns = _repositories.c.name, _repositories.c.kind, _repositories.c.settings
        return [Repository(**row) for row in self._select(sa.select(*columns).order_by(_repositories.c.name))]

    def create_repository(self, repository: Repository) -> None:
        """Enter *repository* unless one of its name is there."""
        with self._write() as connection:
            _repository_id(connection, repository)

    def delete_repository(self, name: str) -> bool:
        """Forget the repository *name* and which files it holds; False where it was not there."""
        with self._write() as connection:
            number = connection.execute(sa.select(_repositories.c.id).where(_repositories.c.name == name)).scalar()
            if number is None:
                return False
            for table in (_files, _projects):
                connection.execute(table.delete().where(table.c.repository == number))
            connection.execute(_repositories.delete().where(_repositories.c.id == number))
            return True

    def projects(self, repository: str) -> list[str]:
        """The projects that *repository* has files of, sorted."""
        query = _of(repository, sa.select(_projects.c.project), _projects).order_by(_projects.c.project)
        return [row["project"] for row in self._select(query)]

    def tag(self, repository: str, project: str) -> str | None:
        """A text that changes whenever the project's page does; None where there is no such project."""
        query = _of(repository, sa.select(_projects.c.tag), _projects).where(_projects.c.project == project)
        rows = self._select(query)
        return str(rows[0]["tag"]) if rows else None

    def files(self, repository: str, project: str) -> list[CatalogFile]:
        """The files of *project*, sorted by name."""
        query = _of(repository, sa.select(*_FILE_COLUMNS), _files).where(_files.c.project == project)
        return [_file(row) for row in self._select(query.order_by(_files.c.filename))]

    def file(self, repository: str, filename: str) -> CatalogFile | None:
        """The file called *filename*, or None."""
        query = _of(repository, sa.select(*_FILE_COLUMNS), _files).where(_files.c.filename == filename)
        rows = self._select(query)
        return _file(rows[0]) if rows else None

    def add(self, repository: Repository, file: CatalogFile) -> CatalogFile:
        """Enter *file*, and *repository* if need be; return the row that is there now.

        That is another one where the name was taken meanwhile: nothing is ever replaced.
        """
        with self._write() as connection:
            number = _repository_id(connection, repository)
            known = (
                connection.execute(
                    sa.select(*_FILE_COLUMNS).where(_files.c.repository == number, _files.c.filename == file.filename)
                )
                .mappings()
                .first()
            )
            if known is not None:
                return _file(known)
            connection.execute(_files.insert().values(repository=number, **asdict(file)))
            _renew_page(connection, number, file.project)
            return file

    def remove(self, repository: str, filename: str) -> CatalogFile | None:
        """Take the file called *filename* out and return what it was; None where there was none."""
        with self._write() as connection:
            query = _of(repository, sa.select(_files.c.repository, *_FILE_COLUMNS), _files)
            row = connection.execute(query.where(_files.c.filename == filename)).mappings().first()
            if row is None:
                return None
            number, file = row["repository"], _file({key: row[key] for key in row if key != "repository"})
            connection.execute(_files.delete().where(_files.c.repository == number, _files.c.filename == filename))
            _renew_page(connection, number, file.project)
            return file

    def set_yanked(self, repository: str, filename: str, reason: str | None) -> bool:
        """Yank a file for a *reason* that may be empty, or with None take that back (PEP 592); False: no such file."""
        with self._write() as connection:
            query = _of(repository, sa.select(_files.c.repository, _files.c.project), _files)
            row = connection.execute(query.where(_files.c.filename == filename)).mappings().first()
            if row is None:
                return False
            this = (_files.c.repository == row["repository"]) & (_files.c.filename == filename)
            connection.execute(_files.update().where(this).values(yanked=reason))
            _renew_page(connection, row["repository"], row["project"])
            return True

    def listed(
        self, repositories: Sequence[str], *, after: tuple[str, str, str], limit: int
    ) -> list[tuple[str, CatalogFile]]:
        """At most *limit* files with their repositories, by repository, project and name, from behind *after* on."""
        key = sa.tuple_(_repositories.c.name, _files.c.project, _files.c.filename)
        query = (
            sa.select(_repositories.c.name.label("in_repository"), *_FILE_COLUMNS)
            .join(_repositories, _repositories.c.id == _files.c.repository)
            .where(_repositories.c.name.in_(list(repositories)), key > sa.tuple_(*map(sa.literal, after)))
            .order_by(_repositories.c.name, _files.c.project, _files.c.filename)
            .limit(limit)
        )
        return [
            (row["in_repository"], _file({k: row[k] for k in row if k != "in_repository"}))
            for row in self._select(query)
        ]

    def search(
        self, repositories: Sequence[str], *, names: Sequence[str], summaries: Sequence[str], limit: int
    ) -> list[CatalogFile]:
        """Files whose project contains one of *names* or whose summary one of *summaries*, in any case; by project."""
        conditions = [_files.c.project.icontains(name, autoescape=True) for name in names]
        conditions += [_files.c.summary.icontains(text, autoescape=True) for text in summaries]
        query = (
            sa.select(*_FILE_COLUMNS)
            .join(_repositories, _repositories.c.id == _files.c.repository)
            .where(_repositories.c.name.in_(list(repositories)), sa.or_(sa.false(), *conditions))
            .order_by(_files.c.project, _files.c.filename)
            .limit(limit)
        )
        return [_file(row) for row in self._select(query)]

    def blobs(self) -> dict[str, int]:
        """Every digest that a file or its metadata needs, with the size in bytes; -1 for metadata."""
        rows = self._select(sa.select(_files.c.sha256, _files.c.size, _files.c.metadata_sha256))
        sizes = {str(row["metadata_sha256"]): -1 for row in rows if row["metadata_sha256"]}
        return sizes | {str(row["sha256"]): int(row["size"]) for row in rows}

    def _select(self, query: sa.Select[Any]) -> Sequence[sa.RowMapping]:
        with self._explained():
            if not self._prepare(create=False):
                return []
            with self._reader.connect() as connection:
                return connection.execute(query).mappings().all()

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._explained():
            self._prepare(create=True)
            with self._writer.begin() as connection:
                yield connection

    def _prepare(self, *, create: bool) -> bool:
        """Make the tables where they are missing; False where there is no catalog and none is to be made."""
        if self._ready:
            return True
        with self._lock:
            if not create and not self._path.exists():
                return False
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._writer.begin() as connection:
                version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
                if version > _SCHEMA_VERSION:
                    raise StorageError(
                        f"{self._path} has schema version {version}; this airgap knows {_SCHEMA_VERSION}.",
                        hint="Use the airgap version that wrote it, or a later one.",
                    )
                _metadata.create_all(connection)
                if version == 1:
                    connection.exec_driver_sql("ALTER TABLE repositories ADD COLUMN settings VARCHAR")
                    connection.exec_driver_sql("ALTER TABLE files ADD COLUMN summary VARCHAR")
                connection.exec_driver_sql(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            self._ready = True
        return True

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, DatabaseError) as error:
            cause = error.orig if isinstance(error, DatabaseError) else error
            raise StorageError(
                f"The catalog {self._path} can't be used: {cause}.",
                hint="Check the disk's space and permissions, and that the folder is on a local disk.",
            ) from error


def _file(row: Any) -> CatalogFile:
    return CatalogFile(**row)


def _renew_page(connection: sa.Connection, repository: int, project: str) -> None:
    """Give the project's page a new tag, or forget it where no file is left."""
    connection.execute(_projects.delete().where(_projects.c.repository == repository, _projects.c.project == project))
    any_file = sa.select(_files.c.id).where(_files.c.repository == repository, _files.c.project == project).limit(1)
    if connection.execute(any_file).first() is not None:
        values = {"repository": repository, "project": project, "tag": secrets.token_hex(8)}
        connection.execute(_projects.insert().values(**values))


def _repository_id(connection: sa.Connection, repository: Repository) -> int:
    query = sa.select(_repositories.c.id).where(_repositories.c.name == repository.name)
    number = connection.execute(query).scalar()
    if number is None:
        connection.execute(_repositories.insert().values(**asdict(repository)))
        number = connection.execute(query).scalar_one()
    return int(number)


def _of(repository: str, query: sa.Select[Any], table: sa.Table) -> sa.Select[Any]:
    return query.join(_repositories, _repositories.c.id == table.c.repository).where(_repositories.c.name == repository)


def _on_connect(connection: Any, _: object) -> None:
    # The driver's own way of opening transactions is switched off: _on_begin decides which kind it is.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    # An answer to an upload is a promise: with FULL a commit is on the disk before it is given.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
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
