"""Bundle format 1: manifest, writer, reader. ``docs/bundle-format.md`` says what every byte means."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirror.bundle.content import BundleContent, Prepared, Since, as_delta, prepare
    from mirror.bundle.frames import Frames
    from mirror.bundle.hashed import hashed_path
    from mirror.bundle.manifest import BundledFile, BundledTarget, Manifest, Member
    from mirror.bundle.reader import BundleReader, bundle_rows
    from mirror.bundle.rows import Rows, parse_manifest, reading
    from mirror.bundle.streams import VerifiedStream
    from mirror.bundle.unpacking import unpack
    from mirror.bundle.writer import write_bundle
    from mirror.models import Written

__all__ = [
    "BundleContent",
    "BundleReader",
    "BundledFile",
    "BundledTarget",
    "Frames",
    "Manifest",
    "Member",
    "Prepared",
    "Rows",
    "Since",
    "VerifiedStream",
    "Written",
    "as_delta",
    "bundle_rows",
    "hashed_path",
    "parse_manifest",
    "prepare",
    "reading",
    "unpack",
    "write_bundle",
]

_HOMES = {
    "mirror.bundle.content": ("BundleContent", "Prepared", "Since", "as_delta", "prepare"),
    "mirror.bundle.frames": ("Frames",),
    "mirror.bundle.hashed": ("hashed_path",),
    "mirror.bundle.manifest": ("BundledFile", "BundledTarget", "Manifest", "Member"),
    "mirror.bundle.reader": ("BundleReader", "bundle_rows"),
    "mirror.bundle.rows": ("Rows", "parse_manifest", "reading"),
    "mirror.bundle.streams": ("VerifiedStream",),
    "mirror.bundle.unpacking": ("unpack",),
    "mirror.bundle.writer": ("write_bundle",),
    "mirror.models": ("Written",),
}


def __getattr__(name: str) -> Any:
    """Load what is asked for, and no more: who pushes a bundle needs nothing of what writes one."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
