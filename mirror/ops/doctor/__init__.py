"""Looks at everything that has to work between this machine and a repository, one step at a time, and changes nothing.

A step that fails ends what builds on it. Every finding that is not fine says what to do.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mirror.config import Config, CredentialStore, Repository
from mirror.errors import AirgapError
from mirror.net import Client
from mirror.ops.access import net_settings, open_bucket
from mirror.ops.doctor.finding import Finding, Level
from mirror.ops.doctor.reading import index
from mirror.ops.doctor.uploading import upload
from mirror.ops.doctor.way import connection
from mirror.push.legacy import index_url_for, upload_url_for
from mirror.urls import origin, redact, with_slash

__all__ = ["Finding", "Level", "examine"]

#: Bytes that should be free for bundles and files on their way.
ROOM = 2**30


def examine(
    config: Config, *, repository: Repository | None, index_url: str | None, chain_file: Path | None = None
) -> Iterator[Finding]:
    """Check *index_url* (pip's index where neither is given), and *repository* for uploads.

    The certificates that the first server sends go into *chain_file*.
    """
    yield from _disk(config)
    settings = net_settings(config)
    if repository is not None:
        settings = replace(
            settings,
            ca_bundle=repository.ca_cert or settings.ca_bundle,
            client_cert=repository.client_cert or settings.client_cert,
        )
    settings = replace(settings, retries=0)
    credentials = CredentialStore(config, repository=repository)
    upload_url = upload_url_for(repository.url) if repository is not None and repository.url else None
    if repository is not None and repository.type == "directory":
        yield Finding("repository", Level.FINE, f"{upload_url} is a folder: nothing lies in between.")
        return
    if repository is not None and repository.type == "s3":
        yield _bucket(repository)
        return
    if repository is not None and upload_url != repository.url:
        yield Finding(
            "upload",
            Level.NOTE,
            f"{redact(repository.url or '')} is not where uploads go: airgap sends them to {redact(upload_url or '')}",
            "Correct the URL for other tools, which take it as it is.",
        )
    read = index_url or (repository.index_url if repository is not None else None)
    read = read or (index_url_for(upload_url) if upload_url else config.index_url.value)
    with Client(settings, credentials) as client:
        reached: dict[tuple[str, str, int], bool] = {}
        for url in (upload_url, read):
            if url is not None and origin(url) not in reached:
                found = list(connection(url, settings, chain_file))
                reached[origin(url)] = all(finding.level is not Level.PROBLEM for finding in found)
                yield from found
        if reached[origin(read)]:
            guessed = index_url is None and repository is not None and repository.index_url is None
            yield from index(
                client, read, devpi=f"{with_slash(upload_url)}+simple/" if upload_url and guessed else None
            )
        if upload_url is not None and reached[origin(upload_url)]:
            yield from upload(client, upload_url, settings, credentials)


def _bucket(repository: Repository) -> Finding:
    try:
        open_bucket(repository).get("simple/index.json")
    except AirgapError as error:
        return Finding("repository", Level.PROBLEM, str(error), error.hint)
    return Finding("repository", Level.FINE, f"{repository.url} answers, and lets this user read.")


def _disk(config: Config) -> Iterator[Finding]:
    places = {"temporary files": Path(tempfile.gettempdir()), "cache": config.cache.value, "home": config.home.value}
    for name, wanted in places.items():
        folder = next((path for path in (wanted, *wanted.parents) if _is_folder(path)), Path("/"))
        free = shutil.disk_usage(folder).free
        text = f"{free / 2**30:.1f} GiB are free for {name} in {folder}."
        variable = {"cache": "AIRGAP_CACHE", "home": "AIRGAP_HOME"}.get(name, "TMPDIR")
        if not os.access(folder, os.W_OK | os.X_OK):
            text = f"This user may not write to {folder}, where {wanted} for {name} is or would be."
            yield Finding("disk", Level.NOTE, text, f"Set {variable} to a folder that this user may write.")
        elif free < ROOM:
            yield Finding("disk", Level.NOTE, text, f"Free some, or set {variable} to a folder with more.")
        else:
            yield Finding("disk", Level.FINE, text)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # it lies in one that this user may not look into
        return False
