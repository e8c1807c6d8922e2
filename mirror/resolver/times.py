"""Upload times (PEP 700) and the moment after which nothing counts."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache

from mirror.errors import ResolutionError, UsageError
from mirror.models import File, Selection
from mirror.urls import redact

_AGO = re.compile(r"(\d{1,6}) ?(h|d|w|hours?|days?|weeks?)\Z")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
# Python 3.10 reads neither "Z" nor every number of digits.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,6})?\d*(?:[Zz]|\+00:?00)?\Z")


def cutoff(text: str, now: datetime) -> datetime:
    """The moment from which on files don't exist, as ``--exclude-newer`` says it; *now* has a time zone.

    A day counts whole, in UTC, so that the same date means the same files on every machine.
    """
    text = text.strip()
    ago = _AGO.match(text)
    try:
        if ago is not None:
            return now.astimezone(timezone.utc) - timedelta(**{_UNITS[ago[2][0]]: int(ago[1])})
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc) + timedelta(days=1)
        moment = read_time(text) or datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        pass
    raise UsageError(
        f"--exclude-newer: {text[:40]!r} is neither a date, a time, nor so many hours, days or weeks.",
        hint="Write 2026-01-31, 2026-01-31T12:00:00Z, 12h, 7d or 2w.",
    )


def too_new(file: File, selection: Selection) -> str | None:
    """Say why *file* is excluded by its upload time; None where it is not.

    Raises a ResolutionError where the index does not tell the time and nothing says what to do then. What the user
    named without an index, by a direct reference or a folder, is as old as the user wants it to be.
    """
    if selection.before is None or not file.index or _in_folder(file):
        return None
    uploaded = read_time(file.upload_time or "")
    if uploaded is not None:
        return f"uploaded {file.upload_time}, excluded by --exclude-newer" if uploaded >= selection.before else None
    if selection.missing_time == "allow":
        return None
    if selection.missing_time == "skip":
        return "its index shows no upload time, excluded by --exclude-newer"
    raise ResolutionError(
        f"{redact(file.index)} shows no upload time for {file.filename} (PEP 700): --exclude-newer can't be applied.",
        hint="Use an index with upload times, or say what becomes of such files: --exclude-newer-missing skip|allow.",
    )


@lru_cache(maxsize=65536)
def read_time(text: str) -> datetime | None:
    """A PEP 700 time, which is in UTC; None where it is none."""
    match = _TIME.match(text)
    if match is None:
        return None
    try:
        moment = datetime.strptime(f"{match[1]} {match[2]}", "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return None
    fraction = int((match[3] or ".0")[1:].ljust(6, "0"))
    return moment.replace(microsecond=fraction, tzinfo=timezone.utc)


def _in_folder(file: File) -> bool:
    return file.url.startswith("file:") and file.url.rpartition("/")[0] == file.index.rstrip("/")
