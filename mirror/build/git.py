"""A commit of a git repository, checked out (``git+https://host/repository@COMMIT#subdirectory=folder``)."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from mirror.errors import NetworkError, UsageError
from mirror.urls import credentials, redact, without_credentials

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\Z")
_SCHEMES = frozenset({"git+https", "git+http", "git+ssh", "git+file"})
_LINES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class GitReference:
    """A commit: ``url`` has no credentials (those are in ``login``), ``subdirectory`` is where the project lies."""

    url: str
    commit: str
    subdirectory: str = ""
    login: tuple[str, str] | None = None


def parse_reference(url: str, *, where: str) -> GitReference:
    """Read a ``git+…`` URL; anything but a whole commit id is a UsageError, since branches and tags move."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    path, at, commit = parts.path.rpartition("@")
    shown = redact(url)
    if scheme not in _SCHEMES:
        raise UsageError(
            f"{where}: {shown} has a scheme that is not supported.", hint="Use git+https:// or git+ssh://."
        )
    if not at or not _COMMIT.match(commit.lower()):
        raise UsageError(
            f"{where}: {shown} names no commit. A branch or a tag can mean something else tomorrow.",
            hint="Write @ and the commit's whole id of 40 digits behind the URL; git ls-remote shows it.",
        )
    plain = urlunsplit((scheme.removeprefix("git+"), parts.netloc, path, parts.query, ""))
    login = credentials(plain) if scheme in ("git+https", "git+http") else None
    if scheme == "git+ssh" and (credentials(plain) or ("", ""))[1]:
        raise UsageError(f"{where}: {shown} has a password, which ssh does not take from a URL.", hint="Use a key.")
    subdirectory = dict(parse_qsl(parts.fragment)).get("subdirectory", "")
    if subdirectory.startswith("/") or ".." in Path(subdirectory).parts:
        raise UsageError(f"{where}: the subdirectory in {shown} leads out of the repository.")
    return GitReference(without_credentials(plain) if login else plain, commit.lower(), subdirectory, login)


def checkout(reference: GitReference, folder: Path) -> Path:
    """Check the commit out below *folder* and return the project's folder; nothing from the repository runs.

    The user's own git configuration and credential helpers are used. Submodules come along. A commit that can't be had
    is a NetworkError.
    """
    if shutil.which("git") is None:
        raise UsageError(
            f"{reference.url} needs git, which is not installed.", hint="Install git, or name a released version."
        )
    tree = folder / "tree"
    # Blobs come when they are checked out; a server that can't do that sends all of them.
    _git(reference, ["clone", "--quiet", "--no-checkout", "--filter=blob:none", "--", reference.url, str(tree)])
    if not _has(reference, tree):
        _git(reference, ["fetch", "--quiet", "origin", reference.commit], tree)
    _git(reference, ["-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", reference.commit], tree)
    if (tree / ".gitmodules").is_file():
        _git(reference, ["submodule", "--quiet", "update", "--init", "--recursive"], tree)
    project = tree / reference.subdirectory
    if not project.is_dir() or not project.resolve().is_relative_to(tree.resolve()):
        raise UsageError(f"{reference.url} has no folder {reference.subdirectory} at {reference.commit}.")
    return project


def _has(reference: GitReference, tree: Path) -> bool:
    found = subprocess.run(
        ["git", "cat-file", "-e", f"{reference.commit}^{{commit}}"],
        cwd=tree,
        env={**_variables(reference), "GIT_NO_LAZY_FETCH": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return found.returncode == 0


def _git(reference: GitReference, arguments: Sequence[str], cwd: Path | None = None) -> None:
    done = subprocess.run(
        ["git", *arguments],
        cwd=cwd,
        env=_variables(reference),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
        told = "\n".join(f"  {line}" for line in lines[-_LINES_SHOWN:])
        raise NetworkError(
            f"git can't get {reference.commit} of {redact(reference.url)}:\n{told}",
            hint="The commit must be in the repository, and git must be able to reach it without a question: it has "
            "settings of its own for that (http.sslCAInfo, http.proxy, credential.helper, ssh's keys).",
        )


def _variables(reference: GitReference) -> dict[str, str]:
    """The user's variables, and the URL's credentials in them: arguments would show up in the process list."""
    variables = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")}
    settings = [("core.autocrlf", "false"), ("core.hooksPath", os.devnull)]
    if reference.login is not None:
        parts = urlsplit(reference.url)
        token = base64.b64encode(":".join(reference.login).encode()).decode()
        settings.append((f"http.{parts.scheme}://{parts.netloc}/.extraHeader", f"Authorization: Basic {token}"))
    known = int(variables.get("GIT_CONFIG_COUNT", "0") or 0)
    for position, (key, value) in enumerate(settings, known):
        variables[f"GIT_CONFIG_KEY_{position}"] = key
        variables[f"GIT_CONFIG_VALUE_{position}"] = value
    return variables | {"GIT_CONFIG_COUNT": str(known + len(settings)), "GIT_TERMINAL_PROMPT": "0"}
