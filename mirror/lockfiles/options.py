"""The options that a line of a requirements file may hold. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from mirror.lockfiles.lines import Line, words_of

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


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a line by its long name; ``offset`` is where its value starts, or itself if it takes none."""

    name: str
    value: str
    offset: int


def parse_options(line: Line, start: int) -> Iterator[Option]:
    """Read the options of *line* from *start* on: ``--name value``, ``--name=value``, ``-n value``, ``-nvalue``."""
    words = words_of(line, start)
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
            yield Option(name, "", offset)
            continue
        if not attached:
            value, value_offset = next(words, ("", -1))
        if not value:
            raise line.error(offset, f"{name} needs a value.")
        yield Option(name, value, value_offset)


def _long_name(line: Line, given: str, offset: int) -> str:
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
