"""The catalog's tables, alike in SQLite and PostgreSQL, and how older ones become these."""

from __future__ import annotations

import sqlalchemy as sa

#: Counted up with every change of the tables.
SCHEMA_VERSION = 3

metadata = sa.MetaData()


def _text() -> sa.types.TypeEngine[str]:
    """Text that sorts by its bytes, as Python does: pages are merged by that order. SQLite does so by itself."""
    return sa.String().with_variant(sa.String(collation="C"), "postgresql")


repositories = sa.Table(
    "repositories",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", _text(), nullable=False, unique=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("settings", sa.String),
)

# One row for each project page. ``tag`` is random and new with every change, in the same transaction: an ETag's stuff.
# Whoever changes a page writes this row first, so that the changes of one page queue up.
projects = sa.Table(
    "projects",
    metadata,
    sa.Column("repository", sa.ForeignKey("repositories.id"), primary_key=True),
    sa.Column("project", _text(), primary_key=True),
    sa.Column("tag", sa.String, nullable=False),
    sqlite_with_rowid=False,
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("repository", sa.ForeignKey("repositories.id"), nullable=False),
    sa.Column("project", _text(), nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("filename", _text(), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String, nullable=False, index=True),
    sa.Column("md5", sa.String, nullable=False),
    sa.Column("blake2_256", sa.String, nullable=False),
    sa.Column("metadata_sha256", sa.String, index=True),
    sa.Column("requires_python", sa.String),
    sa.Column("yanked", sa.String),
    sa.Column("upload_time", sa.String, nullable=False),
    sa.Column("summary", sa.String),
    sa.UniqueConstraint("repository", "filename"),
    sa.Index("files_in_order", "repository", "project", "filename"),
)


def bring_up_to_date(connection: sa.Connection, version: int) -> None:
    """Make the tables, or change those of the schema *version* to be of today's; 0 is an empty database."""
    metadata.create_all(connection)
    if version == 1:
        connection.exec_driver_sql("ALTER TABLE repositories ADD COLUMN settings VARCHAR")
        connection.exec_driver_sql("ALTER TABLE files ADD COLUMN summary VARCHAR")
    for index in files.indexes:
        index.create(connection, checkfirst=True)
    connection.exec_driver_sql("DROP INDEX IF EXISTS files_of_project")  # files_in_order begins as it did
