"""pip's requirements file format, read into values.

What pip accepts is accepted, with these exceptions, each refused with a message of its own: what pip would silently
ignore (an option behind a requirement, a second word behind an option), what needs the network to be read
(``-r https://…``), and what can't be packed as it stands (``-e``, local paths, ``--config-settings``). Where pip
silently drops something (a second ``-r`` or ``-f`` on a line, ``--extra-index-url`` above ``--index-url``), it counts
here.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from mirror import urls
from mirror.errors import RequirementsError
from mirror.lockfiles.lines import Line, decode, logical_lines
from mirror.lockfiles.options import Option, parse_options
from mirror.models import DIGEST_LENGTHS, FormatControl, RequirementLine, RequirementSet, Selection

#: The only algorithms that pip takes in ``--hash``.
HASH_ALGORITHMS = ("sha256", "sha384", "sha512")

_OPTIONS_START = re.compile(r"(?:\A|(?<= ))-")
_REMOTE = re.compile(r"https?:", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:\\\r?\n|\S)+")
_ARCHIVE = re.compile(r"\.(?:whl|zip|tar|tgz|tbz|txz|tlz|tar\.(?:gz|bz2|xz|lzma))\Z", re.IGNORECASE)
_VCS = re.compile(r"(?:git|hg|svn|bzr)\+", re.IGNORECASE)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_ONE_EQUALS = re.compile(r"[\w.-]+\s*(?:\[[^]]*\])?\s*=[^=]")
_HEX = re.compile(r"[0-9a-f]+\Z")


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
        included: tuple[Line, Option] | None = None,
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
            what = "it" if included is None else repr(path)
            raise refuse(f"{what} can't be read: {reason}.") from error
        text = decode(data, path)
        if absolute not in self._names:
            self._names[absolute] = unique_name(path, self._names.values())
            self._sources.append((self._names[absolute], redacted(text)))
        for line in logical_lines(text, path, self._environ):
            self._take(line, self._names[absolute], constraint=constraint, stack=(*stack, absolute))

    def _take(self, line: Line, name: str, *, constraint: bool, stack: tuple[str, ...]) -> None:
        start = _OPTIONS_START.search(line.text)
        end = start.start() if start else len(line.text)
        options = list(parse_options(line, end))
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

    def _set(self, line: Line, option: Option) -> None:
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
                    "an editable requirement can't be packed: its folder is only here.",
                    "Write NAME @ file:///FOLDER, which packs an sdist of it; or --include a wheel of it.",
                )
            case _:
                raise line.error(option.offset, f"{option.name} is not supported.")


def unique_name(path: str, taken: Collection[str]) -> str:
    """Return the file's name without folders, as UTF-8 has it; the second of the same name gets a number."""
    plain = Path(os.fsencode(path).decode("utf-8", "replace"))
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


def _requirement(line: Line, text: str) -> Requirement:
    try:
        requirement = Requirement(text)
    except (ValueError, SyntaxError, RecursionError) as error:
        raise _explain(line, text, error) from None  # its text quotes the line, which may hold a password
    if _ARCHIVE.search(requirement.name):
        raise _local_path(line)
    if requirement.url is not None:
        try:
            known = bool(urlsplit(requirement.url).scheme) and urls.origin(requirement.url)
        except ValueError:
            known = False
        if not known:
            raise line.error(text.index("@"), "what follows @ must be a URL, such as https://… or file:///….")
    return requirement


def _explain(line: Line, text: str, error: Exception) -> RequirementsError:
    head = text.split(";", 1)[0].split(" @", 1)[0].strip()
    if _VCS.match(head) or "://" in head:
        return line.error(0, "a URL needs the project's name in front of it.", "Write NAME @ URL.")
    if head.startswith((".", "~")) or "/" in head or "\\" in head:
        return _local_path(line)
    syntax = error.__cause__
    _, offset = getattr(syntax, "span", (0, 0))  # from where packaging began to read to where it could not go on
    reason = getattr(syntax, "message", None) or "it can't be read"
    hint = "To pin a version, write ==." if _ONE_EQUALS.match(head) else ""
    return line.error(offset, f"this is not a requirement (PEP 508): {reason}.", hint)


def _local_path(line: Line) -> RequirementsError:
    return line.error(
        0,
        "a requirement by a local path doesn't say which project it is.",
        "Write NAME @ file:///PATH for it, or name it with --include.",
    )


def _hash(line: Line, option: Option) -> str:
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


def _checked_url(line: Line, option: Option) -> str:
    try:
        scheme, host, _ = urls.origin(option.value)
    except ValueError:
        scheme, host = "http", ""
    if scheme in ("http", "https") and not host:
        raise line.error(option.offset, f"{option.name} needs a valid URL.")
    return option.value
