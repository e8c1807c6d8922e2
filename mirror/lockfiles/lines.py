"""A requirements file's text: its encoding, logical lines, and words. Pure."""

from __future__ import annotations

import codecs
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

from mirror.errors import RequirementsError

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
_QUOTING = re.compile(r"""["'\\]""")
_PLAIN_WORD = re.compile(r"[^ \t\r\n]+")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Where the text from ``offset`` on was written; the text of a variable stands at one place as a whole."""

    offset: int
    line: int
    column: int
    verbatim: bool = True


@dataclass(frozen=True, slots=True)
class Line:
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


def decode(data: bytes, path: str) -> str:
    """The text of a file by its byte order mark or its PEP 263 declaration, else UTF-8; as pip reads it."""
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


def logical_lines(text: str, file: str, environ: Mapping[str, str]) -> Iterator[Line]:
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


def _logical_line(parts: Sequence[tuple[str, int, int]], file: str, environ: Mapping[str, str]) -> Iterator[Line]:
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
    yield Line(file, "".join(output), tuple(pieces))


def words_of(line: Line, start: int) -> Iterator[tuple[str, int]]:
    """Split as a POSIX shell would, without comments; yields each word and where it starts."""
    if not _QUOTING.search(line.text, start):  # a lock has a thousand hashes, and shlex goes letter by letter
        yield from ((word[0], word.start()) for word in _PLAIN_WORD.finditer(line.text, start))
        return
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
