"""Search: Nexus's XML-RPC ``search``, which ``pip search`` speaks, and what it finds."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass
from xml.parsers.expat import ExpatError

from packaging.version import Version

from mirror.serve.catalog import Catalog

#: Bytes.
REQUEST_LIMIT = 64 * 1024
_MOST_HITS = 100
_MOST_WORDS = 20
_MOST_FILES = 20_000


@dataclass(frozen=True, slots=True)
class Hit:
    """A project in its latest version that is here."""

    name: str
    version: str
    summary: str


def find(
    catalog: Catalog, repositories: Sequence[str], *, names: Sequence[str] = (), summaries: Sequence[str] = ()
) -> list[Hit]:
    """Projects whose name contains one of *names* or whose summary one of *summaries*; the best names first."""
    files = catalog.search(repositories, names=names, summaries=summaries, limit=_MOST_FILES)
    best: dict[str, Hit] = {}
    for file in files:
        known = best.get(file.project)
        if known is None or Version(known.version) < Version(file.version):
            best[file.project] = Hit(file.project, file.version, file.summary or "")
    wanted = {name.lower() for name in names}
    return sorted(best.values(), key=lambda hit: (hit.name not in wanted, len(hit.name), hit.name))[:_MOST_HITS]


def answer(body: bytes, catalog: Catalog, repositories: Sequence[str]) -> bytes:
    """Answer one XML-RPC call; what is not ``search`` with names and summaries gets a fault."""
    try:
        names, summaries = _wanted(body)
    except (ValueError, TypeError, ArithmeticError, ExpatError, xmlrpc.client.Error, LookupError) as error:
        return xmlrpc.client.dumps(xmlrpc.client.Fault(1, f"{error}"), methodresponse=True).encode()
    hits = find(catalog, repositories, names=names, summaries=summaries)
    found = [
        {"name": hit.name, "version": hit.version, "summary": hit.summary, "_pypi_ordering": len(hits) - place}
        for place, hit in enumerate(hits)
    ]
    return xmlrpc.client.dumps((found,), methodresponse=True).encode()


def _wanted(body: bytes) -> tuple[list[str], list[str]]:
    """Which names and which summaries a call asks for."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body or b"\0" in body:  # UTF-16 would hide the others
        raise ValueError("no document types here, and no encoding but UTF-8")
    arguments, method = xmlrpc.client.loads(body)
    if method != "search":
        raise ValueError(f"the only method here is search, not {str(method)[:80]!r}")
    spec = arguments[0] if arguments else None
    if not isinstance(spec, dict):
        raise TypeError("search takes a struct such as {name: [...], summary: [...]}")
    return _words(spec.get("name")), _words(spec.get("summary"))


def _words(value: object) -> list[str]:
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, str) and item][:_MOST_WORDS]
