"""How a manifest is spelled: canonical JSON, a line an item, so that it is written and read without being held whole.

Knows nothing of what the fields mean; ``docs/bundle-format.md`` has the rules. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from mirror.errors import BundleError

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_HEAD = re.compile(rb'\{?"([^"\\]+)":(.*)\Z', re.DOTALL)
#: Fields whose values differ from one object to the next.
UNIQUE = frozenset({"filename", "metadata-sha256", "path", "sha256", "upload-time"})
#: What :func:`read` yields for a top-level list before its items.
LIST = b"[]"

_T = TypeVar("_T")
_dump = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


class SpellingError(BundleError):
    """Lines that no manifest in canonical form has."""


def spell(values: Mapping[str, object]) -> Iterator[bytes]:
    """Yield the canonical JSON of *values* in pieces; a list at the top, which may be an iterator, an item a line."""
    before = "{"
    for key in sorted(values):
        value = values[key]
        if isinstance(value, (list, Iterator)):
            yield _encode(f"{before}{_dump(key)}:[")
            gap = "\n"
            for item in value:
                yield _encode(f"{gap}{_dump(item)}")
                gap = ",\n"
            yield b"]" if gap == "\n" else b"\n]"
        else:
            yield _encode(f"{before}{_dump(key)}:{_dump(value)}")
        before = ",\n"
    yield b"}\n"


def read(lines: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield every top-level key with its value, and the key of a list with LIST and then with each item, all as JSON.

    Takes for granted that the form is canonical, and raises a SpellingError where it can't be; what follows from the
    values alone, their order among others, is for the caller to compare.
    """
    inside = ""
    for line in lines:
        if inside and line[:1] != b"]":
            yield inside, line.removesuffix(b"\n").removesuffix(b",")
        elif inside:
            inside = ""
        else:
            head = _HEAD.match(line)
            if head is None:
                raise SpellingError("The manifest is not in canonical form.")
            key, value = head[1].decode("utf-8", "replace"), head[2]
            if value == b"[\n":
                inside = key
                yield key, LIST
            elif value in (b"[],\n", b"[]}\n"):
                yield key, LIST
            else:
                yield key, value[:-2]  # without "," or "}" and the end of the line


def parse(text: bytes) -> object:
    """The JSON value *text*; a SpellingError where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpellingError(f"The manifest is not JSON: {error}.") from error


def _encode(text: str) -> bytes:
    # What only a forged manifest holds must be spelled, too, so that somebody can say what is wrong with it.
    return text.encode("utf-8", "surrogatepass")


class Fields:
    """One JSON object, read strictly: every field once, of its type, and none that nobody asked for.

    *shared* makes equal values one object: thousands of files have the same index, target or version. What
    :data:`UNIQUE` names is not worth looking up.
    """

    def __init__(self, values: object, where: str, shared: dict[Any, Any]) -> None:
        if not isinstance(values, dict):
            raise BundleError(f"The manifest's {where.removesuffix('.')} is not an object.")
        self._values: dict[str, object] = values
        self._where = where
        self._shared = shared

    def error(self, key: str, problem: str) -> BundleError:
        return BundleError(f"The manifest's {self._where}{key} {problem}.")

    def has(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str):
            raise self.error(key, "is not a text")
        value = self._clean(value, key)
        return value if key in UNIQUE else self._share(value)

    def text_or_none(self, key: str) -> str | None:
        if key in self._values and self._values[key] is None:
            del self._values[key]
            return None
        return self.text(key)

    def matching(self, key: str, pattern: re.Pattern[str]) -> str:
        value = self.text(key)
        if not pattern.match(value):
            raise self.error(key, f"is malformed: {value[:80]!r}")
        return value

    def digest(self, key: str) -> str:
        return self.matching(key, _SHA256)

    def digest_or_none(self, key: str) -> str | None:
        value = self.text_or_none(key)
        if value is not None and not _SHA256.match(value):
            raise self.error(key, f"is malformed: {value[:80]!r}")
        return value

    def integer(self, key: str) -> int:
        value = self._take(key)
        if type(value) is not int or not 0 <= value < 2**63:
            raise self.error(key, "is not a count")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "is not a list of texts")
        return self._share(tuple([self._clean(item, key) for item in value]))

    def list_(self, key: str) -> None:
        """Take a list that was read already, item by item."""
        if not isinstance(self._take(key), list):
            raise self.error(key, "is not a list")

    def mapping(self, key: str) -> dict[str, str]:
        return self._mapping(key, self._take(key))

    def mappings(self, key: str) -> dict[str, dict[str, str]]:
        value = self._take(key)
        if not isinstance(value, dict):
            raise self.error(key, "is not a mapping")
        return {self._clean(name, key): self._mapping(key, item) for name, item in value.items()}

    def done(self) -> None:
        for key in self._values:
            raise self.error(key[:80], "is unknown to format 1")

    def _mapping(self, key: str, value: object) -> dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.error(key, "is not a mapping of texts")
        return {
            self._share(self._clean(name, key)): self._share(self._clean(item, key)) for name, item in value.items()
        }

    def _take(self, key: str) -> object:
        if key not in self._values:
            raise self.error(key, "is missing")
        return self._values.pop(key)

    def _clean(self, value: str, key: str) -> str:
        """A lone surrogate, which JSON can spell and UTF-8 can't, would come back as an encoding error later."""
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise self.error(key, "is not Unicode text")
        return value

    def _share(self, value: _T) -> _T:
        known: _T = self._shared.setdefault(value, value)
        return known
