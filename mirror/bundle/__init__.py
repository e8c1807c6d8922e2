"""Bundle format 1: manifest, writer, reader. ``docs/bundle-format.md`` says what every byte means."""

from mirror.bundle.content import BundleContent, Prepared, Since, as_delta, prepare
from mirror.bundle.frames import Frames
from mirror.bundle.hashed import hashed_path
from mirror.bundle.manifest import BundledFile, BundledTarget, Manifest, Member
from mirror.bundle.reader import BundleReader, VerifiedStream, bundle_rows, unpack
from mirror.bundle.rows import Rows, parse_manifest, reading
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
