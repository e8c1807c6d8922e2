"""The catalog: which repositories there are and which files each one holds."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

import sqlalchemy as sa

from mirror.errors import StorageError
from mirror.serve.databases import Database
from mirror.serve.tables import files as _files
from mirror.serve.tables import projects as _projects
from mirror.serve.tables import repositories as _repositories

T = TypeVar("T")

_BATCH = 2000


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


def _of(query: sa.Select[Any], table: sa.Table) -> sa.Select[Any]:
    """*query*, of one repository's rows of *table*; takes the parameter ``repository``, its name."""
    named = _repositories.c.name == sa.bindparam("repository")
    return query.join(_repositories, _repositories.c.id == table.c.repository).where(named)


# Every upload and every page asks these. To make a statement takes longer than to run it, and leaves behind a cycle of
# objects: a push of thousands of files had megabytes of them. Parameters may not have the name of a column that is set.
_PROJECT: sa.BindParameter[str] = sa.bindparam("of_project")
_FILENAME: sa.BindParameter[str] = sa.bindparam("of_filename")
_NUMBER: sa.BindParameter[int] = sa.bindparam("of_repository")
_TAG_OF = _of(sa.select(_projects.c.tag), _projects).where(_projects.c.project == _PROJECT)
_PAGE_OF = (
    _of(sa.select(_projects.c.tag.label("page_tag"), *_FILE_COLUMNS), _files)
    .join(_projects, (_projects.c.repository == _files.c.repository) & (_projects.c.project == _files.c.project))
    .where(_files.c.project == _PROJECT)
    .order_by(_files.c.filename)
)
_FILES_OF = _of(sa.select(*_FILE_COLUMNS), _files).where(_files.c.project == _PROJECT).order_by(_files.c.filename)
_FILE = _of(sa.select(*_FILE_COLUMNS), _files).where(_files.c.filename == _FILENAME)
_FILE_IN = sa.select(*_FILE_COLUMNS).where(_files.c.repository == _NUMBER, _files.c.filename == _FILENAME)
_ADD_FILE = _files.insert()
_RENEW_TAG = _projects.update().where(_projects.c.repository == _NUMBER, _projects.c.project == _PROJECT)
_ADD_TAG = _projects.insert()
_REPOSITORY_ID = sa.select(_repositories.c.id).where(_repositories.c.name == sa.bindparam("repository"))


class Catalog:
    """One catalog, safe for many threads, processes and nodes; *present* says whether a blob is there.

    Raises StorageError where the database does not let it work.
    """

    def __init__(self, database: Database, present: Callable[[str], bool]) -> None:
        self._database = database
        self._present = present
        self._select = database.select

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        self._database.close()

    def repositories(self) -> list[Repository]:
        """All repositories, sorted by name."""
        columns = _repositories.c.name, _repositories.c.kind, _repositories.c.settings
        return [Repository(**row) for row in self._select(sa.select(*columns).order_by(_repositories.c.name))]

    def create_repository(self, repository: Repository) -> None:
        """Enter *repository* unless one of its name is there."""
        self._database.write(lambda connection: _repository_id(connection, repository))

    def delete_repository(self, name: str) -> bool:
        """Forget the repository *name* and which files it holds; False where it was not there."""

        def delete(connection: sa.Connection) -> bool:
            number = connection.execute(sa.select(_repositories.c.id).where(_repositories.c.name == name)).scalar()
            if number is None:
                return False
            for table in (_files, _projects):
                connection.execute(table.delete().where(table.c.repository == number))
            connection.execute(_repositories.delete().where(_repositories.c.id == number))
            return True

        return self._database.write(delete)

    def projects(self, repository: str) -> Iterator[str]:
        """The projects that *repository* has files of, sorted, read in batches while they are taken."""
        query = _of(sa.select(_projects.c.project), _projects).order_by(_projects.c.project).limit(_BATCH)
        last = ""
        while rows := self._select(query.where(_projects.c.project > last), repository=repository):
            for row in rows:
                yield row["project"]
            last = rows[-1]["project"]

    def tag(self, repository: str, project: str) -> str | None:
        """A text that changes whenever the project's page does; None where there is no such project."""
        rows = self._select(_TAG_OF, repository=repository, of_project=project)
        return str(rows[0]["tag"]) if rows else None

    def page(self, repository: str, project: str) -> tuple[str, list[CatalogFile]] | None:
        """What :meth:`tag` and :meth:`files` say, by one query; None where there is no such project."""
        rows = self._select(_PAGE_OF, repository=repository, of_project=project)
        if not rows:
            return None
        return str(rows[0]["page_tag"]), [_file({k: row[k] for k in row if k != "page_tag"}) for row in rows]

    def files(self, repository: str, project: str) -> list[CatalogFile]:
        """The files of *project*, sorted by name."""
        return [_file(row) for row in self._select(_FILES_OF, repository=repository, of_project=project)]

    def file(self, repository: str, filename: str) -> CatalogFile | None:
        """The file called *filename*, or None."""
        rows = self._select(_FILE, repository=repository, of_filename=filename)
        return _file(rows[0]) if rows else None

    def add(self, repository: Repository, file: CatalogFile) -> CatalogFile:
        """Enter *file*, whose blobs are there, and *repository* if need be; return the row that is there now.

        That is another one where the name was taken meanwhile: nothing is ever replaced.
        """
        stored = _storable(file)
        digests = [digest for digest in (file.sha256, file.metadata_sha256) if digest]

        def add(connection: sa.Connection) -> CatalogFile:
            number = _repository_id(connection, repository)
            this = {"of_repository": number, "of_filename": file.filename}
            known = connection.execute(_FILE_IN, this).mappings().first()
            if known is not None:
                # The very same row: it was committed, and only the answer was lost.
                return file if _file(known) == stored else _file(known)
            # A garbage collection removes a blob while it has the digest locked, and only if no row needs it.
            self._database.lock(connection, digests)
            for digest in digests:
                if not self._present(digest):
                    raise StorageError(
                        f"The blob {digest} of {file.filename} was removed by a garbage collection just now.",
                        hint="Upload the file again.",
                        retryable=True,
                    )
            _renew_page(connection, number, file.project)
            connection.execute(_ADD_FILE, {"repository": number, **asdict(stored)})
            return file

        return self._database.write(add)

    def remove(self, repository: str, filename: str) -> CatalogFile | None:
        """Take the file called *filename* out and return what it was; None where there was none."""

        def remove(connection: sa.Connection) -> CatalogFile | None:
            found = _find(connection, repository, filename)
            if found is None:
                return None
            number, file = found
            this = (_files.c.repository == number) & (_files.c.filename == filename)
            if not connection.execute(_files.delete().where(this)).rowcount:  # somebody else did it just now
                return None
            _renew_page(connection, number, file.project)
            of_page = (_projects.c.repository == number) & (_projects.c.project == file.project)
            others = sa.select(_files.c.id).where(_files.c.repository == number, _files.c.project == file.project)
            connection.execute(_projects.delete().where(of_page, ~others.exists()))
            return file

        return self._database.write(remove)

    def set_yanked(self, repository: str, filename: str, reason: str | None) -> bool:
        """Yank a file for a *reason* that may be empty, or with None take that back (PEP 592); False: no such file."""

        def set_yanked(connection: sa.Connection) -> bool:
            found = _find(connection, repository, filename)
            if found is None:
                return False
            number, file = found
            this = (_files.c.repository == number) & (_files.c.filename == filename)
            if not connection.execute(_files.update().where(this).values(yanked=_text(reason))).rowcount:
                return False
            _renew_page(connection, number, file.project)
            return True

        return self._database.write(set_yanked)

    def listed(self, repository: str, *, after: tuple[str, str], limit: int) -> list[CatalogFile]:
        """At most *limit* files by project and name, from behind the project and name in *after* on."""
        key = sa.tuple_(_files.c.project, _files.c.filename)
        query = _of(sa.select(*_FILE_COLUMNS), _files).where(key > sa.tuple_(*map(sa.literal, after)))
        query = query.order_by(_files.c.project, _files.c.filename).limit(limit)
        return [_file(row) for row in self._select(query, repository=repository)]

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

    def unless_needed(self, digest: str, work: Callable[[], T]) -> T | None:
        """Run *work* while no file that needs the blob *digest* can come; None, and it is not run, where one does."""

        def run(connection: sa.Connection) -> T | None:
            self._database.lock(connection, [digest])
            needed = sa.select(_files.c.id).where((_files.c.sha256 == digest) | (_files.c.metadata_sha256 == digest))
            return None if connection.execute(needed.limit(1)).first() is not None else work()

        return self._database.write(run)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """How many files each repository that has any holds, and their bytes."""
        query = (
            sa.select(_repositories.c.name, sa.func.count().label("files"), sa.func.sum(_files.c.size).label("bytes"))
            .join(_files, _files.c.repository == _repositories.c.id)
            .group_by(_repositories.c.name)
        )
        return {row["name"]: (int(row["files"]), int(row["bytes"])) for row in self._select(query)}


def _file(row: Any) -> CatalogFile:
    return CatalogFile(**row)


def _storable(file: CatalogFile) -> CatalogFile:
    texts = {key: _text(value) for key, value in asdict(file).items() if isinstance(value, str)}
    return replace(file, **texts)  # type: ignore[arg-type]  # texts, for fields that are texts


def _text(value: str | None) -> str | None:
    """*value* without what no database keeps: a remote's page may say anything."""
    return value and value.encode("utf-8", "replace").decode().replace("\0", "?")


def _find(connection: sa.Connection, repository: str, filename: str) -> tuple[int, CatalogFile] | None:
    """The number of the repository, and the file called *filename* in it."""
    query = _of(sa.select(_files.c.repository, *_FILE_COLUMNS), _files).where(_files.c.filename == filename)
    row = connection.execute(query, {"repository": repository}).mappings().first()
    return None if row is None else (row["repository"], _file({key: row[key] for key in row if key != "repository"}))


def _renew_page(connection: sa.Connection, repository: int, project: str) -> None:
    """Give the project's page a new tag. Until the transaction ends nobody else can change the page."""
    tag = secrets.token_hex(8)
    if not connection.execute(_RENEW_TAG, {"of_repository": repository, "of_project": project, "tag": tag}).rowcount:
        connection.execute(_ADD_TAG, {"repository": repository, "project": project, "tag": tag})


def _repository_id(connection: sa.Connection, repository: Repository) -> int:
    this = {"repository": repository.name}
    number = connection.execute(_REPOSITORY_ID, this).scalar()
    if number is None:
        connection.execute(_repositories.insert().values(**asdict(repository)))
        number = connection.execute(_REPOSITORY_ID, this).scalar_one()
    return int(number)
