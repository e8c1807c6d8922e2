"""Says why a target can't be resolved: who asks for what, along which path, and what became of the candidates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from packaging.utils import NormalizedName
from packaging.version import Version

from mirror.errors import ResolutionError
from mirror.resolver.candidates import Finder, Need

_MOST_REFUSALS = 6
_MOST_GROUPS = 6
#: Files whose refusal says enough about all the others.
_ENOUGH = 200
_MOST_VERSIONS = 6


@dataclass(frozen=True, slots=True)
class Asked:
    """One side of a clash: the need, and the way from the user's line to whoever has it."""

    need: Need
    path: tuple[str, ...]


def conflict(finder: Finder, project: NormalizedName, asked: Sequence[Asked]) -> str:
    """Explain why no candidate of *project* satisfies everyone in *asked*."""
    target = finder.target.name
    versions = finder.versions(project)
    status = finder.status(project)
    needs = [item.need for item in asked]
    if status is not None and status.status == "quarantined":
        head = f"{target}: {status}."
    elif not versions:
        head = f"{target}: no index has a project {project}."
    elif not any(all(need.accepts(version) for need in needs) for version in versions):
        head = f"{target}: no version of {project} satisfies everyone who asks for it."
    else:
        head = f"{target}: {project} has the versions asked for, but no file of them can be used."
    lines = [head]
    for item in asked:
        lines.append(f"  {item.need.origin} asks for {item.need.text}")
        lines += [f"    because {step}" for step in reversed(item.path)]
    lines += [f"  constraint {need.origin}: {need.text}" for need in finder.rules.constraints.get(project, ())]
    lines += _refused_files(finder, project, needs)
    lines += _refused_versions(finder, project, needs)
    return "\n".join(lines)


def _refused_files(finder: Finder, project: NormalizedName, needs: Sequence[Need]) -> Iterator[str]:
    """The files of versions that everybody would accept; a version's wheels mostly fail for one reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for refusal in islice(finder.refusals(project, needs), _ENOUGH):
        groups.setdefault((refusal.version, refusal.reason), []).append(refusal.filename)
    for (_, reason), filenames in islice(groups.items(), _MOST_REFUSALS):
        others = f" and {len(filenames) - 1} more of that version" if len(filenames) > 1 else ""
        yield f"  {filenames[0]}{others}: {reason}"
    if len(groups) > _MOST_REFUSALS:
        yield "  and files of older versions"


def _refused_versions(finder: Finder, project: NormalizedName, needs: Sequence[Need]) -> Iterator[str]:
    """The versions that somebody's words exclude, newest first, in runs of the same words."""
    groups: list[tuple[str, list[Version]]] = []
    for version in finder.versions(project):
        against = [f"{need.text} ({need.origin})" for need in needs if not need.accepts(version)]
        constraints = finder.rules.constraints.get(project, ())
        against += [f"constraint {need.text} ({need.origin})" for need in constraints if not need.accepts(version)]
        if not against:
            continue
        words = ", ".join(dict.fromkeys(against))
        if not groups or groups[-1][0] != words:
            groups.append((words, []))
        groups[-1][1].append(version)
    for words, versions in groups[:_MOST_GROUPS]:
        shown = ", ".join(map(str, versions[:_MOST_VERSIONS]))
        more = f" and {len(versions) - _MOST_VERSIONS} older" if len(versions) > _MOST_VERSIONS else ""
        yield f"  {project} {shown}{more}: excluded by {words}"
    if len(groups) > _MOST_GROUPS:
        yield f"  and {sum(len(versions) for _, versions in groups[_MOST_GROUPS:])} older versions"


def tried(helps: Sequence[str]) -> str:
    """The hint about changes that were tried and help; empty where none did."""
    return f"Tried, and it resolves: {'; or '.join(helps)}." if helps else ""


def summed_up(failures: Mapping[str, ResolutionError], *, resolved: int) -> ResolutionError:
    """One error for the targets that failed, by name, beside *resolved* others that did not."""
    (first, *others) = failures.values()
    hints: dict[str, list[str]] = {}
    for target, failure in failures.items():
        hints.setdefault(failure.hint, []).append(target)
    lines = list(hints) if len(hints) == 1 else [f"{', '.join(names)}: {text}" for text, names in hints.items() if text]
    if resolved:
        others_resolve = f"{resolved} targets resolve" if resolved > 1 else "target resolves"
        lines.append(f"Without {', '.join(failures)} the other {others_resolve}; a marker keeps a line from a target.")
    told = "\n".join(lines)
    if not others:  # its own kind of error
        first.hint = told
        return first
    return ResolutionError("\n".join(dict.fromkeys(map(str, failures.values()))), hint=told)


def hint(finder: Finder, project: NormalizedName, needs: Iterable[Need]) -> str:
    """The next thing to try, as far as the refusals tell, where no trial has found one."""
    needs = list(needs)
    status = finder.status(project)
    if status is not None and status.status == "quarantined":
        return f"An index quarantines what may be malware: find out why before you take {project} from anywhere else."
    if not finder.versions(project):
        return "Check the name and the index (--index-url); a private project needs the index that has it."
    for version in finder.versions(project):
        fault = finder.fault(project, version)
        if fault is not None and fault.hint and all(need.accepts(version) for need in needs):
            return fault.hint
    reasons = {refusal.reason.partition(":")[0] for refusal in islice(finder.refusals(project, needs), _ENOUGH)}
    if any(reason.startswith("sdists are excluded") for reason in reasons):
        return f"Allow its sdist (drop --only-binary for {project}), or pick a version that has a wheel for the target."
    if any(reason.startswith("its digest") for reason in reasons):
        return "Lock again: the index offers other files than the lock names."
    if any(reason.startswith("no tag") for reason in reasons):
        return "Pick a version that has a wheel for the target, or drop the target."
    if any(reason.startswith("yanked") for reason in reasons):
        return f"Pin {project} with == to take a yanked release."
    return "Relax one of the lines above, or drop the target."
