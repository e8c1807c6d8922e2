"""What would help a target that can't be resolved: small changes, each of them tried before it is recommended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import islice

from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName
from packaging.version import Version

from mirror.models import Selection
from mirror.resolver.candidates import Finder, Rules
from mirror.resolver.needs import Need

#: How many changes are tried, and how many that help are enough.
MOST_TRIALS = 8
_ENOUGH = 2
_END_OF_TIME = datetime.max.replace(tzinfo=timezone.utc)
#: How the words of the last resort begin.
LEAVING_OUT = "leave out"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that the user could do: in words, and what then holds instead.

    ``project`` is what it is about, ``line`` the line that it changes, if it does.
    """

    words: str
    project: NormalizedName
    roots: Sequence[Need]
    rules: Rules
    line: Need | None = None


@dataclass(frozen=True, slots=True)
class Clash:
    """Where a search ended: the ``project`` in question, the needs for it, and everything on the way to those.

    ``culprits`` are those of the user's needs that led there; ``way`` are the projects that lie between.
    """

    project: NormalizedName
    needs: Sequence[Need]
    culprits: Sequence[Need]
    way: Sequence[NormalizedName]

    @classmethod
    def of(cls, project: NormalizedName, needs: Sequence[Need], first: Mapping[NormalizedName, Need]) -> Clash:
        """Follow *needs* back to the user's; *first* is the need that first brought each project in."""
        culprits: list[Need] = []
        way: list[NormalizedName] = []
        for need in needs:
            while need.parent is not None:
                way.append(need.parent.project)
                need = first[need.parent.project]
            culprits.append(need)
        return cls(project, needs, culprits, way)


def advise(
    finder: Finder,
    roots: Sequence[Need],
    clash: Clash,
    solve: Callable[[Change], Mapping[NormalizedName, Version] | None],
) -> list[str]:
    """Return what was tried and helps, the smallest change first; *solve* tries one and returns the versions."""
    if not finder.versions(clash.project):
        changes: Iterable[Change] = _without_lines(finder.rules, roots, clash)
    else:
        changes = _changes(finder, roots, clash)
    found: list[str] = []
    relaxed: list[Need] = []
    for change in islice(changes, MOST_TRIALS):
        if change.line in relaxed:
            continue  # relaxing it is enough
        versions = solve(change)
        if versions is not None:
            version = versions.get(change.project)
            found.append(change.words + (f" (gives {change.project} {version})" if version else ""))
            relaxed += [change.line] if change.line else []
            if len(found) == _ENOUGH:
                break
    return found


def _changes(finder: Finder, roots: Sequence[Need], clash: Clash) -> Iterator[Change]:
    rules, project = finder.rules, clash.project
    reasons = {refusal.reason for refusal in islice(finder.refusals(project, clash.needs), 200)}
    yield from _formats(rules, roots, project, reasons)
    for name in dict.fromkeys((project, *clash.way)):
        if not finder.welcomes_pre(name) and any(version.is_prerelease for version in finder.versions(name)):
            selection = replace(rules.selection, pre=rules.selection.pre | {name})
            yield Change(f"add --pre-for {name}", name, roots, replace(rules, selection=selection))
    if any(reason.startswith("yanked") for reason in reasons):
        yield from _yanked(finder, roots, clash)
    for need in dict.fromkeys(clash.culprits):
        if need.specifier:
            yield Change(
                f"relax {need.origin}, {need.text}",
                need.project,
                [replace(root, specifier=SpecifierSet()) if _same_line(root, need) else root for root in roots],
                rules,
                need,
            )
    for name, needs in rules.constraints.items():
        if name == project or name in clash.way:
            for need in needs:
                others = tuple(other for other in needs if not _same_line(other, need))
                left = {**rules.constraints, name: others}
                yield Change(
                    f"drop the constraint {need.origin}, {need.text}", name, roots, replace(rules, constraints=left)
                )
    for words, selection in _times(rules.selection):
        yield Change(words, project, roots, replace(rules, selection=selection))
    yield from _without_lines(rules, roots, clash)


def _times(selection: Selection) -> Iterator[tuple[str, Selection]]:
    if selection.before is None:
        return
    if selection.missing_time == "skip":
        yield "use --exclude-newer-missing allow", replace(selection, missing_time="allow")
    yield "let --exclude-newer end later", replace(selection, before=_END_OF_TIME)


def _formats(rules: Rules, roots: Sequence[Need], project: NormalizedName, reasons: Iterable[str]) -> Iterator[Change]:
    control = rules.format_control
    for option, other, named in (
        ("only-binary", "no-binary", project in control.only_binary),
        ("no-binary", "only-binary", project in control.no_binary),
    ):
        if not any(reason.endswith(f"excluded by --{option}") for reason in reasons):
            continue
        if named:
            gone = {project}
            loosened = replace(control, no_binary=control.no_binary - gone, only_binary=control.only_binary - gone)
            words = f"take {project} out of --{option}"
        else:  # :all: of the one gives way to a name in the other, and so the other half is refused then
            loosened = control.after(other, project)
            words = f"add --{other} {project}"
        yield Change(words, project, roots, replace(rules, format_control=loosened))


def _yanked(finder: Finder, roots: Sequence[Need], clash: Clash) -> Iterator[Change]:
    """A yanked release comes only by an exact pin (PEP 592): the newest that everybody would accept."""
    constraints = finder.rules.constraints.get(clash.project, ())
    needs = [*clash.needs, *constraints]
    version = next((v for v in finder.versions(clash.project) if all(need.accepts(v) for need in needs)), None)
    if version is not None:
        pin = Need(clash.project, None, SpecifierSet(f"=={version}"), clash.project, "a new line")
        yield Change(
            f"add a line {pin.text}, which takes the yanked release", clash.project, [*roots, pin], finder.rules
        )


def _without_lines(rules: Rules, roots: Sequence[Need], clash: Clash) -> Iterator[Change]:
    for need in dict.fromkeys(clash.culprits):
        left = [root for root in roots if not _same_line(root, need)]
        if left:
            yield Change(f"{LEAVING_OUT} {need.origin}, {need.text}", clash.project, left, rules, need)


def _same_line(one: Need, other: Need) -> bool:
    """An extra in a line makes a need of its own."""
    return (one.origin, one.text, one.project) == (other.origin, other.text, other.project)
