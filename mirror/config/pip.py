"""pip's configuration: its files at every level, ``PIP_*`` variables, and how pip turns them into options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mirror.config.files import abbreviate, read_ini
from mirror.config.values import Setting
from mirror.errors import ConfigError

#: Sections that count, later ones win: airgap does what ``pip download`` would.
SECTIONS = ("global", "download")
#: Longer spellings that pip's parser knows for the same option.
ALIASES = {"pypi-url": "index-url", "default-timeout": "timeout"}

_TRUE = {"y", "yes", "t", "true", "on", "1"}
_FALSE = {"n", "no", "f", "false", "off", "0"}


@dataclass(frozen=True, slots=True)
class PipValues:
    """Option values as text by long name without dashes, and the two format options in the order they apply."""

    values: Mapping[str, Setting[str]]
    formats: tuple[tuple[str, Setting[str]], ...]
    files: tuple[Path, ...]
    warnings: tuple[str, ...]

    def text(self, name: str) -> Setting[str] | None:
        return self.values.get(name)

    def words(self, name: str) -> Setting[tuple[str, ...]] | None:
        """A repeatable option: pip splits its value at white space."""
        found = self.values.get(name)
        return Setting(tuple(found.value.split()), found.source) if found else None

    def flag(self, name: str) -> Setting[bool] | None:
        found = self.values.get(name)
        if found is None:
            return None
        word = found.value.lower()
        if word not in _TRUE | _FALSE:
            raise _bad(name, found, "yes or no")
        return Setting(word in _TRUE, found.source)

    def number(self, name: str) -> Setting[float] | None:
        found = self.values.get(name)
        if found is None:
            return None
        try:
            return Setting(float(found.value), found.source)
        except ValueError:
            raise _bad(name, found, "a number") from None

    def integer(self, name: str) -> Setting[int] | None:
        found = self.values.get(name)
        if found is None:
            return None
        try:
            return Setting(int(found.value), found.source)
        except ValueError:
            raise _bad(name, found, "a whole number") from None


def _bad(name: str, setting: Setting[str], expected: str) -> ConfigError:
    return ConfigError(f"{name} from {setting.source} must be {expected}, not {setting.value[:40]!r}.")


def normalize(name: str) -> str:
    """Return a configuration key as pip compares it."""
    return name.lower().replace("_", "-").removeprefix("--")


def read_pip(files: Iterable[str], *, environ: Mapping[str, str], home: str) -> PipValues:
    """Merge *files* (later win) and ``PIP_*``. A section beats another in any file; an empty value counts as unset."""
    sections: dict[str, dict[str, Setting[str]]] = {name: {} for name in (*SECTIONS, ":env:")}
    seen: list[Path] = []
    warnings: list[str] = []
    for file in files:
        source = abbreviate(file, home)
        parser = read_ini(Path(file), name=source, warnings=warnings, normalize=normalize)
        if parser is None:
            continue
        seen.append(Path(file))
        for section in SECTIONS:
            if parser.has_section(section):
                for key, value in parser.items(section):
                    sections[section][key] = Setting(value, f"{source} [{section}]")
    for variable, value in environ.items():
        if variable.startswith("PIP_"):
            sections[":env:"][normalize(variable[4:])] = Setting(value, variable)
    values: dict[str, Setting[str]] = {}
    formats: list[tuple[str, Setting[str]]] = []
    for section_values in sections.values():
        for key, setting in section_values.items():
            if not setting.value:
                continue
            if key in ("no-binary", "only-binary"):
                formats.append((key, setting))
            else:
                values[ALIASES.get(key, key)] = setting
    return PipValues(values, tuple(formats), tuple(seen), tuple(warnings))
