"""Whether the members of a bundle that are no distribution files say what its manifest says."""

from __future__ import annotations

import hashlib

from mirror.bundle.manifest import Entry, Manifest, lock_path
from mirror.bundle.pylock import check_lock, render_lock
from mirror.bundle.static import check_page, check_root


def is_as_written(manifest: Manifest, member: Entry) -> bool:
    """Whether *member* needs no look: it is not of *manifest*'s words, or a lock as this airgap writes it.

    A large set's lock takes ten times its size when it is parsed; another version's may say the same otherwise.
    """
    if not member.path.startswith(("simple/", "locks/")):
        return True
    return member.path.startswith("locks/") and member.sha256 == _lock_digest(manifest, member.path)


def check_document(manifest: Manifest, path: str, body: bytes) -> None:
    """Raise a BundleError unless an index page or lock says what *manifest* says."""
    folder, *rest = path.split("/")
    if folder == "locks":
        check_lock(manifest, path, body)
    elif len(rest) == 1:
        check_root(manifest, path, body)
    else:
        check_page(manifest, path, body)


def _lock_digest(manifest: Manifest, path: str) -> str:
    """The SHA-256 of the lock at *path* as this airgap writes it."""
    digest = hashlib.sha256()
    for target in manifest.targets:
        if lock_path(target.name) == path:
            for piece in render_lock(target, manifest.files):
                digest.update(piece)
    return digest.hexdigest()
