"""Simple index pages: parse and render PEP 503 (HTML) and PEP 691 (JSON), with 592, 629, 658, 700, 714 and 792. Pure.

A page of a big project has thousands of links, and a resolver looks at a few. So parsing only cuts the page into links
and names; a link's attributes are read when its :class:`~mirror.models.File` is asked for.
"""

from __future__ import annotations

import html
import json
import re
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urljoin, urlsplit

from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from mirror.errors import IndexPageError, IntegrityError
from mirror.filenames import Split, split_filename
from mirror.index.answer import ACCEPT as ACCEPT
from mirror.index.rows import Rows
from mirror.index.stream import Take, read_object
from mirror.models import DIGEST_LENGTHS, File, Hashes, is_safe_filename
from mirror.urls import redact, without_credentials

if TYPE_CHECKING:
    from mirror.store import Scratch

JSON_TYPE: Final = "application/vnd.pypi.simple.v1+json"
HTML_TYPE: Final = "application/vnd.pypi.simple.v1+html"

#: The status of a project of which an index says nothing (PEP 792).
ACTIVE: Final = ("active", "")

_S = r"[ \t\r\n]"
_PLAIN_TAGS = (
    "html|head|body|meta|link|h[1-6]|p|br|hr|div|span|ul|ol|li|table|thead|tbody|tr|td|th|pre|b|i|em|strong|small|code"
)
# What may stand around links for the fast path to be sure that it sees what an HTML parser would see.
_PLAIN_GAP = re.compile(
    rf'[^<]*(?:<(?:(?i:{_PLAIN_TAGS})(?:{_S}+[a-z][a-z:-]*="[^"<>]*")*{_S}*/?>|/(?i:{_PLAIN_TAGS}){_S}*>'
    r"|(?i:title)>[^<]*</(?i:title)>|(?i:!doctype) [^<>]*>|!--[^<>-]+-->)[^<]*)*"
)
# Group 1 is all attributes, group 2 is href. Only classes of one excluded character: those are searched many times
# faster than others, and this expression runs over megabytes.
_PLAIN_ANCHOR = re.compile(
    rf'<a{_S}+((?:[a-z][a-z-]*="[^"]*"{_S}+)*?href="([^"]*)"(?:{_S}+[a-z][a-z-]*="[^"]*")*){_S}*>[^<]*</a>'
)
# Python's HTML parsers do not all agree about the others, and a "/", "#" or "?" could hide in them.
_OTHER_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|#34|#39|#x22|#x27);)")
_ATTRIBUTES = re.compile(r'([a-z][a-z:-]*)="([^"]*)"')
_META = re.compile(r"<meta\s([^>]*)>", re.IGNORECASE)

_Attributes = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Link:
    """What a page says about one file, not yet judged. ``url`` may be relative."""

    url: str
    hashes: Hashes
    size: int | None = None
    requires_python: str | None = None
    yanked: str | None = None
    upload_time: str | None = None
    metadata: Hashes | None = None


@dataclass(frozen=True, slots=True)
class ParsedPage:
    """One index page. ``filenames`` has every link, usable or not, in the page's order.

    ``index`` and ``url`` carry no credentials. ``status`` is PEP 792's ``(status, reason)``. ``links`` has each link as
    the page has it, for ``read``.
    """

    project: NormalizedName
    index: str
    url: str
    filenames: Rows
    status: tuple[str, str]
    links: Rows
    read: Callable[[str], _Link]
    malformed: tuple[tuple[str, str], ...] = ()

    @property
    def quarantined(self) -> bool:
        """Whether the index says that nobody should install the project (PEP 792)."""
        return self.status[0] == "quarantined"

    def file(self, position: int) -> File:
        """The file at *position* of ``filenames``; IndexPageError if it is one of ``skipped`` or its link is broken."""
        filename = self.filenames[position]
        parts = split_filename(filename, self.project)
        reason = self._unusable(filename, parts)
        if reason or parts is None:
            raise IndexPageError(f"{filename!r} on {redact(self.url)} can't be used: {reason}.")
        try:
            link = self.read(self.links[position])
            url = urljoin(self.url, link.url)
            scheme = urlsplit(url).scheme
            if scheme not in ("https", "http") and not (scheme == "file" and self.url.startswith("file:")):
                raise IndexPageError(f"{filename} on {redact(self.url)} has a link that is neither http nor https.")
            return File(
                filename=filename,
                url=without_credentials(url),
                project=self.project,
                version=str(Version(parts.version)),
                hashes=link.hashes,
                index=self.index,
                size=link.size,
                requires_python=link.requires_python,
                yanked=link.yanked,
                upload_time=link.upload_time,
                metadata=link.metadata,
            )
        except (IntegrityError, ValueError) as error:
            raise IndexPageError(f"{filename} on {redact(self.url)} can't be used: {error}") from error

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """``(filename, reason)`` of every link that no installer would take."""
        found = ((name, self._unusable(name, split_filename(name, self.project))) for name in self.filenames)
        return self.malformed + tuple((name, reason) for name, reason in found if reason)

    def only(self, project: NormalizedName) -> ParsedPage:
        """The same page reduced to the files of *project*: what a find-links page is to a resolver."""
        kept = [
            position
            for position, name in enumerate(self.filenames)
            if (parts := split_filename(name, project)) and parts.project == project
        ]
        return replace(
            self,
            project=project,
            filenames=Rows.of([self.filenames[position] for position in kept]),
            links=Rows.of([self.links[position] for position in kept]),
            malformed=(),
        )

    def kept_in(self, scratch: Scratch) -> ParsedPage:
        """The same page with its texts in *scratch*; a few bytes for each link stay in memory."""
        return replace(self, filenames=self.filenames.kept_in(scratch), links=self.links.kept_in(scratch))

    def _unusable(self, filename: str, parts: Split | None) -> str:
        if not is_safe_filename(filename):
            return "not a usable file name"
        if parts is None:
            return "neither a wheel nor an sdist"
        if parts.project != self.project:
            return f"belongs to {parts.project}"
        try:
            Version(parts.version)
        except InvalidVersion:
            return f"{parts.version!r} is not a version (PEP 440)"
        return ""


def parse_page(body: bytes, content_type: str, url: str, *, project: str, index: str) -> ParsedPage:
    """Parse a project's page. *url* is where it came from after redirects: links are relative to it.

    JSON (PEP 691) may have any 1.x version. Anything that is not a simple index is an IndexPageError.
    """
    url, index, name = without_credentials(url), without_credentials(index), canonicalize_name(project)
    if _is_json(body, content_type, url):
        return _parse_json(body, url, project=name, index=index)
    document = _read_html(body, content_type, url)
    links = [link if isinstance(link, str) else json.dumps(link) for link in document.links]
    return ParsedPage(
        project=name,
        index=index,
        url=urljoin(url, without_credentials(document.base)) if document.base else url,
        filenames=Rows.of(document.filenames),
        status=(
            document.meta.get("pypi:project-status", "active"),
            document.meta.get("pypi:project-status-reason", ""),
        ),
        links=Rows.of(links),
        read=_read_anchor,
    )


def folder_page(filenames: Sequence[str], url: str) -> ParsedPage:
    """What a folder of distribution files offers; *url* is the folder's, with a slash at its end."""
    return ParsedPage(
        project=canonicalize_name(""),
        index=without_credentials(url),
        url=without_credentials(url),
        filenames=Rows.of(filenames),
        status=("active", ""),
        links=Rows.of(filenames),
        read=lambda filename: _Link(quote(filename), Hashes()),
    )


def parse_root(body: bytes, content_type: str, url: str, *, cut: bool = False) -> list[str]:
    """Names of all projects that an index's root page lists, as written there, without repetition.

    Of a page that is *cut* off somewhere, those that are whole.
    """
    url = without_credentials(url)
    if _is_json(body, content_type, url):
        projects = _load_json(body, url, "projects", _Names, cut=cut).get("projects")
        if not isinstance(projects, _Names):
            raise IndexPageError(f"{redact(url)} is not a simple index: it has no list of projects (PEP 691).")
        return list(projects.found)
    document = _read_html(body[: body.rfind(b">") + 1] if cut else body, content_type, url)
    targets = (_attribute(link, "href").partition("#")[0].partition("?")[0] for link in document.links)
    return list(dict.fromkeys(name for href in targets if (name := unquote(href.rstrip("/").rpartition("/")[2]))))


# --- HTML -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Document:
    """The links of an HTML page: file names, and attributes as written (fast path) or as an HTML parser saw them."""

    filenames: list[str]
    links: list[str] | list[_Attributes]
    meta: Mapping[str, str]
    base: str = ""


def _read_html(body: bytes, content_type: str, url: str) -> _Document:
    text = _decode(body, content_type)
    document = _scan_html(text) or _walk_html(text)
    version = document.meta.get("pypi:repository-version", "1.0")
    if version.partition(".")[0] != "1":
        raise IndexPageError(f"{redact(url)} speaks version {version!r} of the simple API; 1.x is what is known here.")
    return document


def _scan_html(text: str) -> _Document | None:
    """Cut a page made of plain anchors with one regular expression; None where only an HTML parser can be sure."""
    pieces = _PLAIN_ANCHOR.split(text)
    gaps, links, references = dict.fromkeys(pieces[0::3]), pieces[1::3], pieces[2::3]
    if _OTHER_ENTITY.search(text) or "<" in "".join(links) or not all(map(_PLAIN_GAP.fullmatch, gaps)):
        return None
    if "?" in "".join(references):
        references = [reference.partition("#")[0].partition("?")[0] for reference in references]
    names = [reference.partition("#")[0].rpartition("/")[2] for reference in references]
    joined = "".join(names)
    if "&" in joined or " " in joined or not joined.isprintable():
        return None
    if "%" in joined:
        names = [unquote(name) for name in names]
    meta: dict[str, str] = {}
    for attributes in _META.findall("".join(gaps)):
        values = _html_attributes(attributes)
        meta.setdefault(values.get("name", "").lower(), values.get("content", ""))
    return _Document(names, links, meta)


def _walk_html(text: str) -> _Document:
    parser = _Parser()
    parser.feed(text)
    parser.close()
    names = [
        unquote(link["href"].strip().partition("#")[0].partition("?")[0].rpartition("/")[2]) for link in parser.links
    ]
    return _Document(names, parser.links, parser.meta, parser.base)


class _Parser(HTMLParser):
    """Collects anchors with an href, the first base, and meta elements. Of a repeated attribute the first counts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[_Attributes] = []
        self.meta: dict[str, str] = {}
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("a", "base", "meta"):
            return
        values = {name: value or "" for name, value in reversed(attrs)}
        if tag == "a":
            if "href" in values:
                self.links.append(values)
        elif tag == "base":
            self.base = self.base or values.get("href", "").strip()
        else:
            self.meta.setdefault(values.get("name", "").lower(), values.get("content", ""))


def _decode(body: bytes, content_type: str) -> str:
    charset = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", content_type, re.IGNORECASE)
    try:
        return body.decode(charset[1] if charset else "utf-8", errors="replace").removeprefix("\ufeff")
    except LookupError:
        return body.decode("utf-8", errors="replace").removeprefix("\ufeff")


def _html_attributes(text: str) -> dict[str, str]:
    pairs = [(name, html.unescape(value) if "&" in value else value) for name, value in _ATTRIBUTES.findall(text)]
    return dict(reversed(pairs))


def _attribute(link: str | _Attributes, name: str) -> str:
    return (_html_attributes(link) if isinstance(link, str) else link).get(name, "").strip()


def _read_anchor(link: str) -> _Link:
    values = json.loads(link) if link.startswith("{") else _html_attributes(link)
    url, _, fragment = values["href"].strip().partition("#")
    pairs = (item.partition("=") for item in fragment.split("&"))
    return _Link(
        url=url,
        hashes=Hashes.of({name: value for name, _, value in pairs if name in DIGEST_LENGTHS and value}),
        requires_python=_shared(values.get("data-requires-python", "").strip()),
        yanked=values.get("data-yanked"),
        metadata=_read_metadata_attribute(values.get("data-core-metadata", values.get("data-dist-info-metadata"))),
    )


def _read_metadata_attribute(value: str | None) -> Hashes | None:
    """PEP 714's attribute: ``true``, or ``sha256=…``; anything else says nothing."""
    name, _, digest = (value or "").strip().partition("=")
    if name in DIGEST_LENGTHS and digest:
        return Hashes.of({name: digest})
    return Hashes() if name == "true" else None


# --- JSON -------------------------------------------------------------------------------------------------------------


def _is_json(body: bytes, content_type: str, url: str) -> bool:
    """Which of the two formats an answer is in, by its type; by its first bytes where the type says nothing."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in (JSON_TYPE, "application/json"):
        return True
    if kind in (HTML_TYPE, "text/html", "application/xhtml+xml"):
        return False
    start = body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if kind in ("", "application/octet-stream", "text/plain") and start.startswith((b"{", b"<!doctype html", b"<html")):
        return start.startswith(b"{")
    raise IndexPageError(
        f"{redact(url)} is not a simple index: it answered {kind or 'without a content type'}.",
        hint="An index URL usually ends in /simple/.",
    )


def _load_json(body: bytes, url: str, name: str, begin: Callable[[], Take], *, cut: bool = False) -> dict[str, Any]:
    """The page without the elements of the array *name*, which go to what *begin* returns."""
    try:
        page = read_object(body, name, begin, cut=cut)
    except (ValueError, RecursionError) as error:
        raise IndexPageError(f"{redact(url)} answered JSON that can't be read: {error}") from error
    if not isinstance(page, dict):
        raise IndexPageError(f"{redact(url)} is not a simple index: its JSON is not an object (PEP 691).")
    meta = page.get("meta")
    version = meta.get("api-version", "1.0") if isinstance(meta, dict) else "1.0"
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise IndexPageError(f"{redact(url)} speaks version {version!r} of the simple API; 1.x is what is known here.")
    return page


class _Names:
    """The projects of a root page, each once."""

    def __init__(self) -> None:
        self.found: dict[str, None] = {}

    def __call__(self, item: Any, start: int, end: int) -> None:
        if isinstance(item, dict) and isinstance(name := item.get("name"), str) and name:
            self.found[name] = None


class _Files:
    """The files of a project's page: their names, and where their entries are on it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.bounds = array("I")
        self.malformed: list[tuple[str, str]] = []

    def __call__(self, item: Any, start: int, end: int) -> None:
        if isinstance(item, dict) and isinstance(item.get("filename"), str) and isinstance(item.get("url"), str):
            self.names.append(item["filename"])
            self.bounds.extend((start, end))
        else:
            self.malformed.append((repr(item)[:80], "an entry without a file name and a URL"))


def _parse_json(body: bytes, url: str, *, project: NormalizedName, index: str) -> ParsedPage:
    page = _load_json(body, url, "files", _Files)
    files = page.get("files")
    if not isinstance(files, _Files):
        raise IndexPageError(f"{redact(url)} is not a simple index: it has no list of files (PEP 691).")
    status = page.get("project-status")
    status = status if isinstance(status, dict) else {}
    return ParsedPage(
        project=project,
        index=index,
        url=url,
        filenames=Rows.of(files.names),
        status=(_text(status.get("status")) or "active", _text(status.get("reason")) or "") if status else ACTIVE,
        links=Rows.cut(body, files.bounds),
        read=_read_item,
        malformed=tuple(files.malformed),
    )


def _read_item(text: str) -> _Link:
    item = json.loads(text)
    metadata = next(
        (item[key] for key in ("core-metadata", "data-dist-info-metadata", "dist-info-metadata") if key in item), None
    )
    size, yanked, url = item.get("size"), item.get("yanked"), item["url"].strip().partition("#")[0]
    url.encode()  # a ValueError where no request could spell it
    return _Link(
        url=url,
        hashes=_json_hashes(item.get("hashes")) or Hashes(),
        size=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
        requires_python=_shared(_text(item.get("requires-python"))),
        yanked=(_sound(yanked) if isinstance(yanked, str) else "") if yanked else None,
        upload_time=_text(item.get("upload-time")),
        metadata=Hashes() if metadata is True else _json_hashes(metadata),
    )


def _json_hashes(value: object) -> Hashes | None:
    if not isinstance(value, dict):
        return None
    return Hashes.of({name: digest for name, digest in value.items() if isinstance(digest, str) and digest})


def _shared(text: str | None) -> str | None:
    """*text* as an object that all have who say the same; None for an empty one."""
    return sys.intern(text) if text else None


def _text(value: object) -> str | None:
    return _sound(value).strip() or None if isinstance(value, str) else None


def _sound(text: str) -> str:
    """*text* without lone surrogates, which JSON can spell and UTF-8 can't."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# --- Rendering --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PageEntry:
    """One file of a page to be written. ``url`` is relative or absolute, quoted as a URL must be, without a fragment.

    ``size`` is in bytes; ``yanked`` and ``metadata`` are as in :class:`~mirror.models.File`.
    """

    filename: str
    url: str
    hashes: Hashes = Hashes()
    size: int | None = None
    requires_python: str | None = None
    yanked: str | None = None
    upload_time: str | None = None
    metadata: Hashes | None = None


def render_html(project: str, entries: Iterable[PageEntry], status: tuple[str, str] = ACTIVE) -> bytes:
    """A project's page as PEP 503 has it, one line per file in the given order; *status* is PEP 792's."""
    lines = (_render_anchor(entry) for entry in entries)
    names = ("pypi:project-status", "pypi:project-status-reason") if status != ACTIVE else ()
    meta = (f'<meta name="{name}" content="{html.escape(value)}">' for name, value in zip(names, status, strict=False))
    return _html_page(f"Links for {project}", lines, "".join(f"{line}\n" for line in meta))


def _render_anchor(entry: PageEntry) -> str:
    digest = entry.hashes.strongest if entry.hashes.sha256 is None else ("sha256", entry.hashes.sha256)
    attributes = [("href", entry.url + (f"#{digest[0]}={digest[1]}" if digest else ""))]
    if entry.requires_python:
        attributes.append(("data-requires-python", entry.requires_python))
    if entry.yanked is not None:
        attributes.append(("data-yanked", entry.yanked))
    if entry.metadata is not None:
        best = entry.metadata.strongest
        value = f"{best[0]}={best[1]}" if best else "true"
        # Installers from before PEP 714 read only the older name.
        attributes += [("data-core-metadata", value), ("data-dist-info-metadata", value)]
    written = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes)
    return f"<a {written}>{html.escape(entry.filename)}</a><br>"


def render_json(project: str, entries: Iterable[PageEntry], status: tuple[str, str] = ACTIVE) -> bytes:
    """A project's page as PEP 691 has it: version 1.1 (PEP 700) if every size is known, else 1.0.

    A *status* that is not active (PEP 792) makes it 1.4.
    """
    listed = list(entries)
    complete = all(entry.size is not None for entry in listed)
    page: dict[str, object] = {
        "meta": {"api-version": "1.1" if complete else "1.0"},
        "name": canonicalize_name(project),
        "files": [_render_item(entry) for entry in listed],
    }
    if status != ACTIVE:
        page["meta"] = {"api-version": "1.4"}
        page["project-status"] = {"status": status[0], **({"reason": status[1]} if status[1] else {})}
    if complete:
        page["versions"] = _versions(project, listed)
    return json.dumps(page, ensure_ascii=False, separators=(",", ":")).encode()


def _render_item(entry: PageEntry) -> dict[str, object]:
    item: dict[str, object] = {"filename": entry.filename, "url": entry.url, "hashes": dict(entry.hashes)}
    if entry.size is not None:
        item["size"] = entry.size
    if entry.requires_python:
        item["requires-python"] = entry.requires_python
    if entry.yanked is not None:
        item["yanked"] = entry.yanked or True
    if entry.upload_time:
        item["upload-time"] = entry.upload_time
    if entry.metadata is not None:
        item["core-metadata"] = dict(entry.metadata) or True
    return item


def _versions(project: str, entries: Iterable[PageEntry]) -> list[str]:
    """The distinct versions, oldest first; a file name that has none counts for nothing."""
    found: set[Version] = set()
    for entry in entries:
        parts = split_filename(entry.filename, canonicalize_name(project))
        try:
            found.add(Version(parts.version if parts else ""))
        except InvalidVersion:
            continue
    return [str(version) for version in sorted(found)]


def render_root_html(names: Iterable[str]) -> bytes:
    """An index's root page as PEP 503 has it; links are relative and normalised."""
    return "".join(root_html_pieces(names)).encode()


def root_html_pieces(names: Iterable[str]) -> Iterator[str]:
    """The text of :func:`render_root_html`, name by name, for a root that is too long to be held."""
    return _html_pieces("Simple index", map(root_html_item, names))


def root_html_item(name: str) -> str:
    """How a root page as PEP 503 has it names one project, without the end of the line."""
    return f'<a href="{quote(canonicalize_name(name), safe="")}/">{html.escape(name)}</a><br>'


def render_root_json(names: Iterable[str]) -> bytes:
    """An index's root page as PEP 691 has it."""
    return "".join(root_json_pieces(names)).encode()


def root_json_pieces(names: Iterable[str]) -> Iterator[str]:
    """The text of :func:`render_root_json`, name by name."""
    yield '{"meta":{"api-version":"1.1"},"projects":['
    for position, name in enumerate(names):
        yield f"{',' if position else ''}{root_json_item(name)}"
    yield "]}"


def root_json_item(name: str) -> str:
    """How a root page as PEP 691 has it names one project."""
    return f'{{"name":{json.dumps(name, ensure_ascii=False)}}}'


def _html_page(title: str, lines: Iterator[str], meta: str = "") -> bytes:
    return "".join(_html_pieces(title, lines, meta)).encode()


def _html_pieces(title: str, lines: Iterator[str], meta: str = "") -> Iterator[str]:
    yield (
        '<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n<meta name="pypi:repository-version" content="1.1">\n'
        f"{meta}<title>{html.escape(title)}</title>\n</head>\n<body>\n"
    )
    for line in lines:
        yield f"{line}\n"
    yield "</body>\n</html>\n"
