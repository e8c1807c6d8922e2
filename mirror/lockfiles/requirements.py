"""pip's requirements file format, read into values.

What pip accepts is accepted, with these exceptions, each refused with a message of its own: what pip would silently
ignore (an option behind a requirement, a second word behind an option), what needs the network to be read
(``-r https://…``), and what airgap can't do yet (``-e``, local paths, ``--config-settings``). Where pip silently drops
something (a second ``-r`` or ``-f`` on a line, ``--extra-index-url`` above ``--index-url``), it counts here.
"""

from __future__ import annotations

import codecs
import difflib
import itertools
import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from mirror import urls
from mirror.errors import RequirementsError
from mirror.models import DIGEST_LENGTHS, FormatControl, RequirementLine, RequirementSet, Selection

#: The only algorithms that pip takes in ``--hash``.
HASH_ALGORITHMS = ("sha256", "sha384", "sha512")

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ENCODING = re.compile(rb"coding[:=]\s*([-\w.]+)")  # PEP 263
_COMMENT_LINE = re.compile(r"\s*#")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_OPTIONS_START = re.compile(r"(?:\A|(?<= ))-")
_REMOTE = re.compile(r"https?:", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:\\\r?\n|\S)+")
_ARCHIVE = re.compile(r"\.(?:whl|zip|tar|tgz|tbz|txz|tlz|tar\.(?:gz|bz2|xz|lzma))\Z", re.IGNORECASE)
_VCS = re.compile(r"(?:git|hg|svn|bzr)\+", re.IGNORECASE)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_HEX = re.compile(r"[0-9a-f]+\Z")

# Every option that a requirements file may hold, and whether it takes a value.
_OPTIONS = {
    "--index-url": True,
    "--pypi-url": True,
    "--extra-index-url": True,
    "--no-index": False,
    "--constraint": True,
    "--requirement": True,
    "--editable": True,
    "--find-links": True,
    "--no-binary": True,
    "--only-binary": True,
    "--prefer-binary": False,
    "--require-hashes": False,
    "--no-require-hashes": False,
    "--pre": False,
    "--all-releases": True,
    "--only-final": True,
    "--trusted-host": True,
    "--use-feature": True,
    "--hash": True,
    "--config-settings": True,
}
_SHORT = {
    "-i": "--index-url",
    "-c": "--constraint",
    "-r": "--requirement",
    "-e": "--editable",
    "-f": "--find-links",
    "-C": "--config-settings",
}


def read_requirements(
    paths: Sequence[str], *, constraints: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> RequirementSet:
    """Read requirements files and constraints files, and every file that they include.

    A path is relative to the process's folder, a path inside a file to that file; ``file:`` URLs are paths too.
    ``${NAME}`` is replaced from *environ*. Names in ``sources`` and ``origin`` carry no folder, so that the same files
    give the same bundle anywhere. ``require_hashes`` is also set where any line has a hash, as pip does it. Raises
    RequirementsError.
    """
    reader = _Reader(environ)
    for path in paths:
        reader.read(path, constraint=False)
    for path in constraints:
        reader.read(path, constraint=True)
    return reader.result()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Where the text from ``offset`` on was written; the text of a variable stands at one place as a whole."""

    offset: int
    line: int
    column: int
    verbatim: bool = True


@dataclass(frozen=True, slots=True)
class _Line:
    """A logical line: continuations joined, comment cut off, variables replaced."""

    file: str
    text: str
    pieces: tuple[_Piece, ...]

    @property
    def number(self) -> int:
        return self.pieces[0].line

    def error(self, offset: int, message: str, hint: str = "") -> RequirementsError:
        """Return an error about the text at *offset*. Messages don't quote the text: variables hold passwords."""
        piece = next(piece for piece in reversed(self.pieces) if piece.offset <= offset)
        column = piece.column + (offset - piece.offset if piece.verbatim else 0)
        unset = _VARIABLE.search(self.text)
        if unset and not hint:
            hint = f"The environment variable {unset[1]} is not set."
        return RequirementsError(message, file=self.file, line=piece.line, column=column, hint=hint)


@dataclass(frozen=True, slots=True)
class _Option:
    """One option of a line by its long name; ``offset`` is where its value starts, or itself if it takes none."""

    name: str
    value: str
    offset: int


@dataclass(slots=True)
class _Options:
    """What the options of all files said so far."""

    index_url: str | None = None
    extra_index_urls: dict[str, None] = field(default_factory=dict)
    find_links: dict[str, None] = field(default_factory=dict)
    no_index: bool = False
    trusted_hosts: dict[str, None] = field(default_factory=dict)
    pre: bool = False
    pre_for: set[NormalizedName] = field(default_factory=set)
    prefer_binary: bool = False
    require_hashes: bool | None = None
    format_control: FormatControl = field(default_factory=FormatControl)


class _Reader:
    """Reads files one after the other and keeps what they said."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._options = _Options()
        self._requirements: list[RequirementLine] = []
        self._constraints: list[RequirementLine] = []
        self._names: dict[str, str] = {}
        self._sources: list[tuple[str, str]] = []

    def result(self) -> RequirementSet:
        options = self._options
        require_hashes = options.require_hashes
        if require_hashes is None:
            require_hashes = any(line.hashes for line in (*self._requirements, *self._constraints))
        return RequirementSet(
            requirements=tuple(self._requirements),
            constraints=tuple(self._constraints),
            index_url=options.index_url,
            extra_index_urls=tuple(options.extra_index_urls),
            find_links=tuple(options.find_links),
            no_index=options.no_index,
            trusted_hosts=tuple(options.trusted_hosts),
            pre=options.pre,
            prefer_binary=options.prefer_binary,
            require_hashes=require_hashes,
            format_control=options.format_control,
            sources=tuple(self._sources),
            selection=Selection(pre=frozenset(options.pre_for)),
        )

    def read(
        self,
        path: str,
        *,
        constraint: bool,
        stack: tuple[str, ...] = (),
        included: tuple[_Line, _Option] | None = None,
    ) -> None:
        """Read one file; *stack* holds the absolute paths of the files that led here."""

        def refuse(message: str, hint: str = "") -> RequirementsError:
            if included is None:
                return RequirementsError(message, file=redacted(path), hint=hint)
            line, option = included
            return line.error(option.offset, message, hint)

        if _REMOTE.match(path):
            raise refuse("a requirements file can't be read from a URL yet.", "Download it and name the local file.")
        if path[:5].lower() == "file:":
            from urllib.request import url2pathname  # brings an HTTP client along, and is hardly ever needed

            try:
                path = url2pathname(urlsplit(path).path)
            except (OSError, ValueError) as error:
                raise refuse("this is not a valid file: URL.") from error
        absolute = os.path.abspath(path)  # noqa: PTH100  # resolve() would follow links, and pip does not
        if absolute in stack:
            names = " → ".join(os.path.basename(name) for name in (*stack[stack.index(absolute) :], absolute))  # noqa: PTH119
            raise refuse(f"the file includes itself: {names}.")
        try:
            data = Path(path).read_bytes()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise refuse(f"{path!r} can't be read: {reason}.") from error
        text = _decode(data, path)
        if absolute not in self._names:
            self._names[absolute] = unique_name(path, self._names.values())
            self._sources.append((self._names[absolute], redacted(text)))
        for line in _logical_lines(text, path, self._environ):
            self._take(line, self._names[absolute], constraint=constraint, stack=(*stack, absolute))

    def _take(self, line: _Line, name: str, *, constraint: bool, stack: tuple[str, ...]) -> None:
        start = _OPTIONS_START.search(line.text)
        end = start.start() if start else len(line.text)
        options = list(_parse_options(line, end))
        if line.text[:end].strip():
            requirement = _requirement(line, line.text[:end])
            if constraint and requirement.extras:
                raise line.error(0, "a constraint can't have extras.", "Constrain the project, without [extras].")
            hashes = dict.fromkeys(_hash(line, option) for option in options)
            found = RequirementLine(requirement, f"{name}:{line.number}", tuple(hashes))
            (self._constraints if constraint else self._requirements).append(found)
            return
        for option in options:
            if option.name in ("--requirement", "--constraint"):
                self.read(
                    _beside(line.file, option.value),
                    constraint=option.name == "--constraint",
                    stack=stack,
                    included=(line, option),
                )
            else:
                self._set(line, option)

    def _set(self, line: _Line, option: _Option) -> None:
        options, value = self._options, option.value
        match option.name:
            case "--index-url" | "--pypi-url":
                options.index_url = _checked_url(line, option)
            case "--extra-index-url":
                options.extra_index_urls[_checked_url(line, option)] = None
            case "--find-links":
                beside = value if "://" in value else _beside(line.file, value)
                located = os.path.exists(beside)  # noqa: PTH110  # a URL is no path
                options.find_links[str(Path(beside).absolute()) if located else value] = None
            case "--no-index":
                options.no_index = True
            case "--trusted-host":
                options.trusted_hosts[value] = None
            case "--pre":
                options.pre = True
            case "--prefer-binary":
                options.prefer_binary = True
            case "--require-hashes" | "--no-require-hashes":
                wanted = option.name == "--require-hashes"
                if options.require_hashes is (not wanted):
                    raise line.error(option.offset, "--require-hashes and --no-require-hashes exclude each other.")
                options.require_hashes = wanted
            case "--no-binary" | "--only-binary":
                if value.startswith("-"):
                    raise line.error(option.offset, f"{option.name} needs project names, :all: or :none:.")
                options.format_control = options.format_control.after(option.name.lstrip("-"), value)
            case "--all-releases" if value == ":all:":
                options.pre = True
            case "--all-releases" if ":" not in value:
                names = [name.strip() for name in value.split(",")]
                options.pre_for.update(canonicalize_name(name) for name in names if name)
            case "--use-feature":
                pass  # chooses between implementations inside pip; what it installs stays the same
            case "--hash":
                raise line.error(option.offset, "--hash stands behind a requirement, on the same line.")
            case "--editable":
                raise line.error(
                    option.offset,
                    "editable requirements are not supported yet.",
                    "Write NAME @ file:///FOLDER, which packs an sdist of it; or --include a wheel of it.",
                )
            case _:
                raise line.error(option.offset, f"{option.name} is not supported yet.")


def _decode(data: bytes, path: str) -> str:
    encoding = "utf-8"
    for mark, name in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            data, encoding = data[len(mark) :], name
            break
    else:
        for line in data.split(b"\n")[:2]:
            declared = _ENCODING.search(line) if line.startswith(b"#") else None
            if declared:
                encoding = declared[1].decode("ascii", "replace")
                break
    try:
        return data.decode(encoding)
    except (LookupError, ValueError) as error:
        if isinstance(error, LookupError):
            raise RequirementsError(f"{encoding!r} is not a known text encoding.", file=path) from error
        raise RequirementsError(
            f"the file is not text in {encoding}.",
            file=path,
            hint="Save it as UTF-8, or declare its encoding in the first line: # -*- coding: latin-1 -*-",
        ) from error


def unique_name(path: str, taken: Collection[str]) -> str:
    """Return the file's name without folders; the second of the same name gets a number."""
    plain = Path(path)
    stem, suffix = (_UNSAFE.sub("_", part) for part in (plain.stem, plain.suffix))
    candidates = itertools.chain([f"{stem}{suffix}"], (f"{stem}-{number}{suffix}" for number in itertools.count(2)))
    return next(name for name in candidates if name.lower() not in {known.lower() for known in taken})


def redacted(text: str) -> str:
    """Return *text* without the passwords and query values of the URLs in it."""

    def clean(match: re.Match[str]) -> str:
        url = match[0]
        if "@" not in url and "?" not in url:
            return url
        try:
            return urls.redact(url)
        except ValueError:
            return "****"

    return _URL.sub(clean, text)


def _logical_lines(text: str, file: str, environ: Mapping[str, str]) -> Iterator[_Line]:
    """Join continuations, cut comments off, replace variables; lines that are then empty are left out."""
    parts: list[tuple[str, int, int]] = []  # text, line, column
    for number, raw in enumerate(text.splitlines(), 1):
        comment = bool(_COMMENT_LINE.match(raw))
        if raw.endswith("\\") and not comment:
            part = raw.lstrip("\\")
            parts.append((part.rstrip("\\"), number, 1 + len(raw) - len(part)))
            continue
        if comment:  # ends a continuation without becoming part of it
            parts.append((" ", number, 1))
        parts.append((raw, number, 1))
        yield from _logical_line(parts, file, environ)
        parts = []
    yield from _logical_line(parts, file, environ)


def _logical_line(parts: Sequence[tuple[str, int, int]], file: str, environ: Mapping[str, str]) -> Iterator[_Line]:
    joined = "".join(part for part, _, _ in parts)
    end = next(
        (i for i, char in enumerate(joined) if char == "#" and not joined[max(i - 1, 0) : i].strip()), len(joined)
    )
    end = len(joined[:end].rstrip())
    start = end - len(joined[:end].lstrip())
    if start == end:
        return
    output: list[str] = []
    pieces: list[_Piece] = []
    written = 0

    def write(begin: int, stop: int, replacement: str | None = None) -> None:
        nonlocal written
        offset = 0
        for part, number, column in parts:
            low, high = max(begin, offset), min(stop, offset + len(part))
            if low < high:
                pieces.append(_Piece(written + low - begin, number, column + low - offset, replacement is None))
                if replacement is not None:  # as a whole it stands where its first character does
                    break
            offset += len(part)
        output.append(joined[begin:stop] if replacement is None else replacement)
        written += len(output[-1])

    for variable in _VARIABLE.finditer(joined, start, end):
        value = environ.get(variable[1])
        if value:  # as in pip: unset or empty leaves the text as it is
            write(start, variable.start())
            write(variable.start(), variable.end(), value)
            start = variable.end()
    write(start, end)
    yield _Line(file, "".join(output), tuple(pieces))


def _words(line: _Line, start: int) -> Iterator[tuple[str, int]]:
    """Split as a POSIX shell would, without comments; yields each word and where it starts."""
    stream = StringIO(line.text[start:])
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    while True:
        rest = line.text[start + stream.tell() :]
        offset = len(line.text) - len(rest.lstrip(lexer.whitespace))
        try:
            word = lexer.get_token()
        except ValueError as error:
            raise line.error(offset, "a quotation mark or backslash is not closed.") from error
        if word is None:
            return
        yield word, offset


def _parse_options(line: _Line, start: int) -> Iterator[_Option]:
    """Read the options of *line* from *start* on: ``--name value``, ``--name=value``, ``-n value``, ``-nvalue``."""
    words = _words(line, start)
    for word, offset in words:
        if word.startswith("--") and word != "--":
            given, equals, value = word.partition("=")
            name = _long_name(line, given, offset)
            value_offset = offset + len(given) + 1
            attached = bool(equals)
        elif word.startswith("-") and word[:2] in _SHORT:
            name, value, value_offset = _SHORT[word[:2]], word[2:], offset + 2
            attached = bool(value)
        elif word.startswith("-"):
            raise line.error(offset, "a requirements file can't hold this option.", _known_options())
        else:
            raise line.error(offset, "nothing but options may follow an option.", "pip would ignore it silently.")
        if not _OPTIONS[name]:
            if attached:
                raise line.error(offset, f"{name} takes no value.")
            yield _Option(name, "", offset)
            continue
        if not attached:
            value, value_offset = next(words, ("", -1))
        if not value:
            raise line.error(offset, f"{name} needs a value.")
        yield _Option(name, value, value_offset)


def _long_name(line: _Line, given: str, offset: int) -> str:
    """Return the option that *given* names; like pip's, the parser takes an unambiguous beginning."""
    if given in _OPTIONS:
        return given
    matches = [name for name in _OPTIONS if name.startswith(given)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise line.error(offset, f"the option is ambiguous: {' or '.join(matches)}.")
    near = difflib.get_close_matches(given, _OPTIONS, n=1)
    hint = f"Did you mean {near[0]}?" if near else _known_options()
    raise line.error(offset, "a requirements file can't hold this option.", hint)


def _known_options() -> str:
    return f"Options are {', '.join([*_SHORT, *_OPTIONS])}."


def _requirement(line: _Line, text: str) -> Requirement:
    try:
        requirement = Requirement(text)
    except (ValueError, SyntaxError, RecursionError) as error:
        raise _explain(line, text, error) from None  # its text quotes the line, which may hold a password
    if _ARCHIVE.search(requirement.name):
        raise _not_yet(line)
    if requirement.url is not None:
        try:
            known = bool(urlsplit(requirement.url).scheme) and urls.origin(requirement.url)
        except ValueError:
            known = False
        if not known:
            raise line.error(text.index("@"), "what follows @ must be a URL, such as https://… or file:///….")
    return requirement


def _explain(line: _Line, text: str, error: Exception) -> RequirementsError:
    head = text.split(";", 1)[0].split(" @", 1)[0].strip()
    if _VCS.match(head) or "://" in head:
        return line.error(0, "a URL needs the project's name in front of it.", "Write NAME @ URL.")
    if head.startswith((".", "~")) or "/" in head or "\\" in head:
        return _not_yet(line)
    syntax = error.__cause__
    _, offset = getattr(syntax, "span", (0, 0))  # from where packaging began to read to where it could not go on
    reason = getattr(syntax, "message", None) or "it can't be read"
    return line.error(offset, f"this is not a requirement (PEP 508): {reason}.")


def _not_yet(line: _Line) -> RequirementsError:
    return line.error(
        0,
        "requirements by a local path are not supported yet.",
        "Write NAME @ file:///PATH for it, or name it with --include.",
    )


def _hash(line: _Line, option: _Option) -> str:
    if option.name == "--config-settings":
        raise line.error(option.offset, "--config-settings is not supported: nothing is built.")
    if option.name != "--hash":
        raise line.error(
            option.offset,
            f"{option.name} must stand on a line of its own.",
            "Behind a requirement pip ignores it silently.",
        )
    algorithm, colon, digest = option.value.partition(":")
    digest = digest.lower()
    if algorithm not in HASH_ALGORITHMS or not colon:
        raise line.error(option.offset, f"--hash must be ALGORITHM:HEX, with {', '.join(HASH_ALGORITHMS)}.")
    if len(digest) != DIGEST_LENGTHS[algorithm] or not _HEX.match(digest):
        raise line.error(option.offset, f"a {algorithm} digest has {DIGEST_LENGTHS[algorithm]} hexadecimal digits.")
    return f"{algorithm}:{digest}"


def _beside(file: str, path: str) -> str:
    """Return *path* as seen from the folder of *file*; a URL stays what it is."""
    if _REMOTE.match(path) or path[:5].lower() == "file:":
        return path
    return os.path.normpath(os.path.join(os.path.dirname(file), path))  # noqa: PTH118, PTH120  # shown as written


def _checked_url(line: _Line, option: _Option) -> str:
    try:
        scheme, host, _ = urls.origin(option.value)
    except ValueError:
        scheme, host = "http", ""
    if scheme in ("http", "https") and not host:
        raise line.error(option.offset, f"{option.name} needs a valid URL.")
    return option.value
