"""Which machines a command is about: by name, by profile, by description, or in pip's terms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mirror.config import Config
from mirror.config.targets import TargetProfile
from mirror.errors import UsageError
from mirror.models import Target
from mirror.targets import DESCRIBING, described_target, make_target, named_target, product, this_machine


def machines(
    config: Config,
    *,
    names: Sequence[str] = (),
    files: Sequence[Path] = (),
    pythons: Sequence[str] = (),
    platforms: Sequence[str] = (),
    implementation: str = "cp",
    abis: Sequence[str] = (),
) -> tuple[Target, ...]:
    """Return every target asked for, in order; nothing asked for is the machine at hand.

    A name is ``this``, a profile of airgap.toml, or what :func:`~mirror.targets.named_target` reads. *files* are what
    ``mirror/describe_target.py`` printed. *pythons* times *platforms* are taken as pip takes them. Raises a UsageError
    for what can't be understood, and where two different machines have the same name, or names of which a bundle can't
    tell the files.
    """
    found: dict[str, Target] = {}
    stems: dict[str, str] = {}  # of files, for people whose systems know no case; a lock's name has no dots
    for target in _machines(config, names, files, pythons, platforms, implementation, abis):
        if found.setdefault(target.name, target) != target:
            raise UsageError(
                f"Two different targets are called {target.name}.",
                hint="Give one of them a name of its own, as [targets.NAME] in airgap.toml.",
            )
        alike = stems.setdefault(target.name.replace(".", "_").lower(), target.name)
        if alike != target.name:
            raise UsageError(
                f"The targets {alike} and {target.name} have names that are too much alike for files.",
                hint="Give one of them another name, as [targets.NAME] in airgap.toml.",
            )
    return tuple(found.values())


def _machines(
    config: Config,
    names: Sequence[str],
    files: Sequence[Path],
    pythons: Sequence[str],
    platforms: Sequence[str],
    implementation: str,
    abis: Sequence[str],
) -> Iterator[Target]:
    for name in names:
        yield _named(config, name)
    for file in files:
        yield _described(file)
    in_pips_terms = bool(pythons or platforms or abis or implementation != "cp")
    if in_pips_terms or not (names or files):
        yield from product(pythons, platforms, implementation=implementation, abis=abis)


def _named(config: Config, name: str) -> Target:
    if name == "this":
        return this_machine()
    profile = config.targets.get(name)
    if profile is not None:
        return _from_profile(profile)
    try:
        return named_target(name)
    except UsageError as error:
        known = ", ".join(config.targets)
        hint = f"airgap.toml has {known}. {error.hint}" if known else error.hint
        raise UsageError(str(error), hint=hint) from error


def _from_profile(profile: TargetProfile) -> Target:
    if profile.file is not None:
        target = _described(profile.file)
    else:
        try:
            target = make_target(
                profile.python or "",
                profile.platforms,
                implementation=profile.implementation,
                abis=profile.abis,
            )
        except UsageError as error:
            raise UsageError(f"{profile.source}: {error}", hint=error.hint) from error
    return replace(target, name=profile.name)


def _described(path: Path) -> Target:
    try:
        document = json.loads(path.read_bytes())  # in UTF-16 too, which PowerShell's ">" writes
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is not JSON: {error}.", hint=f"It is not what the script printed. {DESCRIBING}"
        ) from error
    return described_target(document, str(path))
