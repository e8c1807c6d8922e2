"""Reading configuration files. Messages name file and line, never content: these files hold passwords."""

from __future__ import annotations

import configparser
import contextlib
import locale
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mirror.errors import ConfigError


class _Parser(configparser.RawConfigParser):
    """A parser whose keys are compared as *normalize* says."""

    def __init__(self, normalize: Callable[[str], str]) -> None:
        super().__init__()
        self._normalize = normalize

    def optionxform(self, optionstr: str) -> str:
        return self._normalize(optionstr)


def home_folder(environ: Mapping[str, str]) -> str:
    """Return the user's home as *environ* has it, else as the system does."""
    variable = "USERPROFILE" if sys.platform == "win32" else "HOME"
    return environ.get(variable) or os.path.expanduser("~")  # noqa: PTH111  # Path.home() raises where there is none


def abbreviate(path: str | Path, home: str) -> str:
    """Return *path* as people write it, ``~`` for *home*."""
    text = str(path)
    for separator in "/\\":
        if home and text.startswith(home.rstrip("/\\") + separator):
            return "~" + text[len(home.rstrip("/\\")) :]
    return text


def expand_user(path: str, home: str) -> Path:
    """Return *path* with a leading ``~`` replaced by *home*."""
    return Path(home + path[1:]) if path == "~" or path.startswith(("~/", "~\\")) else Path(path)


def read_ini(
    path: Path, *, name: str, warnings: list[str], normalize: Callable[[str], str] = str.lower
) -> configparser.RawConfigParser | None:
    """Parse an INI file the way pip and twine do (no interpolation); None where there is none.

    A file that may not be read is passed over, as pip does it, but leaves a sentence in *warnings*. UTF-8 is tried
    first, a byte order mark is fine, then the encoding of the locale. *name* is what messages call the file. Raises
    ConfigError where the content is not valid.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        warnings.append(f"{name} is ignored, it can't be read: {reason}.")
        return None
    text = _decode(data, name)
    parser = _Parser(normalize)
    try:
        parser.read_string(text, source=name)
    except configparser.Error as error:
        raise ConfigError(_describe(error, name)) from None  # its own text quotes the line, which may be a password
    return parser


def _decode(data: bytes, name: str) -> str:
    with contextlib.suppress(UnicodeDecodeError):
        return data.decode("utf-8-sig")
    try:
        return data.decode(locale.getpreferredencoding(False))
    except UnicodeDecodeError:
        raise ConfigError(f"{name} is not text in UTF-8.", hint="Save it as UTF-8.") from None


def _describe(error: configparser.Error, name: str) -> str:
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"{name}:{error.lineno}: a line before the first [section]."
    if isinstance(error, configparser.DuplicateSectionError):
        return f"{name}:{error.lineno}: section [{error.section}] is there twice."
    if isinstance(error, configparser.DuplicateOptionError):
        return f"{name}:{error.lineno}: {error.option} is set twice in [{error.section}]."
    if isinstance(error, configparser.ParsingError):
        lines = ", ".join(str(line) for line, _ in error.errors)
        return f"{name}: not 'key = value' in line {lines}."
    return f"{name} is not a valid INI file."
