"""The form of the legacy upload API, field by field as twine 7 sends it, and ``md5_digest``. Pure.

Warehouse's form mirrors core metadata with a few names of its own. Nexus takes ``data-requires-python`` from the form
and checks no digest but md5, Gitea refuses a form without ``sha256_digest``: so everyone gets every field.
Which digests there are besides sha256, the publisher decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from packaging.metadata import parse_email

from mirror.push.publisher import Upload

# (field of the form, key of packaging's RawMetadata, header of the metadata file), oldest metadata version first.
_FIELDS = (
    ("metadata_version", "metadata_version", "metadata-version"),
    ("name", "name", "name"),
    ("version", "version", "version"),
    ("platform", "platforms", "platform"),
    ("summary", "summary", "summary"),
    ("description", "description", "description"),
    ("keywords", "keywords", "keywords"),
    ("home_page", "home_page", "home-page"),
    ("author", "author", "author"),
    ("author_email", "author_email", "author-email"),
    ("license", "license", "license"),
    ("supported_platform", "supported_platforms", "supported-platform"),
    ("download_url", "download_url", "download-url"),
    ("classifiers", "classifiers", "classifier"),
    ("requires", "requires", "requires"),
    ("provides", "provides", "provides"),
    ("obsoletes", "obsoletes", "obsoletes"),
    ("maintainer", "maintainer", "maintainer"),
    ("maintainer_email", "maintainer_email", "maintainer-email"),
    ("requires_dist", "requires_dist", "requires-dist"),
    ("provides_dist", "provides_dist", "provides-dist"),
    ("obsoletes_dist", "obsoletes_dist", "obsoletes-dist"),
    ("requires_python", "requires_python", "requires-python"),
    ("requires_external", "requires_external", "requires-external"),
    ("project_urls", "project_urls", "project-url"),
    ("description_content_type", "description_content_type", "description-content-type"),
    ("provides_extra", "provides_extra", "provides-extra"),
    ("dynamic", "dynamic", "dynamic"),
    ("license_expression", "license_expression", "license-expression"),
    ("license_file", "license_files", "license-file"),
)
# Fields that servers take one value of.
_ONCE = frozenset(
    {
        "metadata_version",
        "name",
        "version",
        "summary",
        "description",
        "keywords",
        "home_page",
        "author",
        "author_email",
        "license",
        "download_url",
        "maintainer",
        "maintainer_email",
        "requires_python",
        "description_content_type",
        "license_expression",
    }
)
_DIGESTS = (("md5_digest", "md5"), ("sha256_digest", "sha256"), ("blake2_256_digest", "blake2_256"))


def form_fields(upload: Upload) -> list[tuple[str, str]]:
    """Return every text field of the upload form of one file, in the order in which it is sent.

    Where twine refuses a file because its metadata is malformed, this sends the malformed values as they are: the file
    was published, and a mirror has no say in it. What can't be read at all is left out; ``name`` and ``version``
    then come from the file name.
    """
    wheel = upload.filename.endswith(".whl")
    fields = [
        *_metadata_fields(upload),
        ("pyversion", upload.filename.split("-")[-3] if wheel else "source"),
        ("filetype", "bdist_wheel" if wheel else "sdist"),
    ]
    for field, algorithm in _DIGESTS:
        digest = upload.hashes.get(algorithm)
        if digest is not None:
            fields.append((field, digest))
    return [*fields, (":action", "file_upload"), ("protocol_version", "1")]


def _metadata_fields(upload: Upload) -> Iterator[tuple[str, str]]:
    parsed, malformed = parse_email(upload.metadata)
    raw = cast("Mapping[str, Any]", parsed)
    known = {"metadata_version": "1.0", "name": upload.project, "version": upload.version}
    takes_license_files = _version_tuple(raw.get("metadata_version", "")) >= (2, 4)
    for field, key, header in _FIELDS:
        # setuptools wrote License-File long before metadata 2.4 gave it a meaning; twine leaves it out, too.
        if field == "license_file" and not takes_license_files:
            continue
        if key in raw:
            values = _as_sent(field, raw[key])
        else:
            values = [_text(value) for value in malformed.get(header, ())]
            if field in _ONCE:
                values = values[:1] or ([known[field]] if field in known else [])
        for value in values:
            yield field, _safe_name(value) if field == "name" else value


def _as_sent(field: str, value: Any) -> list[str]:
    if field == "project_urls":
        return [f"{label}, {url}" for label, url in value.items()]
    if field == "keywords":
        return [", ".join(value)]
    return list(value) if isinstance(value, list) else [value]


def _text(value: str | bytes) -> str:
    """The value: packaging hands out a description that is not UTF-8 as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _safe_name(name: str) -> str:
    """The project's name as setuptools and twine spell it in a form: only letters, digits, dots and hyphens."""
    return re.sub("[^A-Za-z0-9.]+", "-", name)


def _version_tuple(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")) if re.fullmatch(r"\d+(\.\d+)*", text) else ()
