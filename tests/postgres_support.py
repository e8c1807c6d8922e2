"""A PostgreSQL server for tests, started from what the system's packages installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

USER, PASSWORD = "airgap", "p4ss of the tests"


@dataclass(frozen=True)
class Postgres:
    """A server on *port*; it wants the password, which the file ``passwords`` has."""

    port: int
    passwords: Path

    def database(self) -> str:
        """The URL of a new empty database."""
        name = f"test_{uuid.uuid4().hex[:16]}"
        self.execute(f'CREATE DATABASE "{name}" LOCALE_PROVIDER icu ICU_LOCALE "en-US" TEMPLATE template0')
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{name}?passfile={self.passwords}"

    def disconnect(self, name: str) -> None:
        """End all connections to the database *name*."""
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name)

    def execute(self, command: Any, *parameters: str) -> None:
        psycopg = pytest.importorskip("psycopg")
        where = f"host=127.0.0.1 port={self.port} user={USER} dbname=postgres passfile={self.passwords}"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(command, parameters)


def _programs() -> Path:
    found = shutil.which("pg_ctl")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("PostgreSQL's server is not installed")
    return folders[-1]


@contextmanager
def serving_postgres() -> Iterator[Postgres]:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = _programs()
    user = None
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # the server refuses to run as root
        import pwd

        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    # Not below pytest's folder, which no other user may enter.
    folder = Path(tempfile.mkdtemp(prefix="airgap-pg-"))
    try:
        passwords = folder / "passwords"
        passwords.write_text(f"127.0.0.1:*:*:{USER}:{PASSWORD}\n")
        passwords.chmod(0o600)
        first = folder / "first"
        first.write_text(PASSWORD)
        for path in (folder, first):
            if user is not None:
                os.chown(path, user.pw_uid, user.pw_gid)
        options: dict[str, Any] = {"cwd": folder, "env": {**os.environ, "LC_ALL": "C.UTF-8"}}
        if user is not None:
            options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", USER, "-A", "scram-sha-256", "--pwfile", first, "-N"],
            check=True, stdout=subprocess.DEVNULL, **options,
        )  # fmt: skip
        port = free_port()
        control: list[str | Path] = [programs / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"]
        settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        subprocess.run([*control, "-o", settings, "start"], check=True, stdout=subprocess.DEVNULL, **options)
        try:
            yield Postgres(port, passwords)
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, **options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
