"""A home whose catalog is in PostgreSQL and whose blobs are in S3, and servers of it in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mirror.config.served import ServeSettings
from tests.postgres_support import Postgres
from tests.s3_support import S3Server


@dataclass(frozen=True)
class Shared:
    """A database, a bucket, and what a process must be told to use them."""

    settings: ServeSettings
    environ: Mapping[str, str] = field(repr=False)

    def write(self, folder: Path) -> None:
        """Say so in the ``airgap.toml`` of *folder*."""
        folder.mkdir(parents=True, exist_ok=True)
        text = f'[serve]\ncatalog = "{self.settings.catalog}"\nblobs = "{self.settings.blobs}"\n'
        (folder / "airgap.toml").write_text(text)

    @contextmanager
    def known(self) -> Iterator[ServeSettings]:
        """Let this process open homes with the settings that are yielded."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environ.items():
                patch.setenv(name, value)
            yield self.settings


def shared_storage(postgres: Postgres, s3_server: S3Server) -> Shared:
    settings = ServeSettings(catalog=postgres.database(), blobs=s3_server.bucket("blobs"))
    return Shared(settings, s3_server.environ())


@contextmanager
def node(folder: Path, *options: str, environ: Mapping[str, str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``airgap serve`` in *folder*, which may have an ``airgap.toml``; yields its URL and the process."""
    command = [sys.executable, "-m", "mirror", "serve", "--port", "0", *options]
    environment = {
        **os.environ,
        **environ,
        "AIRGAP_HOME": str(folder / "home"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("Serving "), line + process.stderr.read()
        yield line.split()[1].rstrip("/"), process
    finally:
        process.terminate()
        process.stderr.close()
        process.wait(60)
