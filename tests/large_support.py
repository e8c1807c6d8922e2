"""A catalog with as many files as one likes, written at once and without bytes: for what only reads the catalog."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

import sqlalchemy as sa

from mirror.serve import tables
from mirror.serve.catalog import CatalogFile, Repository, _repository_id
from mirror.serve.home import Home


def fill(home: Home, projects: int, *, of_one: int) -> None:
    """Enter *projects* projects with a file each, and *of_one* files of the first."""
    rows = [entry(number, "1.0") for number in range(projects)]
    rows += [entry(0, f"1.{minor}") for minor in range(1, of_one)]

    def enter(connection: sa.Connection) -> None:
        number = _repository_id(connection, Repository("pypi-hosted", "hosted"))
        connection.execute(tables.files.insert(), [{"repository": number, **asdict(row)} for row in rows])
        pages = [{"repository": number, "project": row.project, "tag": row.sha256[:16]} for row in rows[:projects]]
        connection.execute(tables.projects.insert(), pages)

    home.catalog._database.write(enter)


def entry(number: int, version: str) -> CatalogFile:
    filename = f"project_{number:05}-{version}-py3-none-any.whl"
    digest = hashlib.sha256(filename.encode()).hexdigest()
    return CatalogFile(
        project=f"project-{number:05}",
        version=version,
        filename=filename,
        size=1000,
        sha256=digest,
        md5="",
        blake2_256="",
        metadata_sha256=digest,
        requires_python=">=3.9",
        yanked=None,
        upload_time="2026-01-01T00:00:00.000000Z",
        summary=f"Number {number}",
    )
