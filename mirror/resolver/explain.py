"""Says why a target can't be resolved: who asks for what, along which path, and what became of the candidates."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from packaging.utils import NormalizedName
from packaging.version import Version

from mirror.errors import MetadataError, NeedsBuildError, ResolutionError
from mirror.resolver.candidates import Finder, Refusal
from mirror.resolver.needs import Need

_MOST_REFUSALS = 6
_MOST_GROUPS = 6
#: Files whose refusal says enough about all the others.
_ENOUGH = 200
_MOST_VERSIONS = 6
_MOST_TAGS = 10


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
    """The files of versions that everybody would accept; many versions fail for one reason."""
    groups: dict[str, list[Refusal]] = {}
    refusals = list(islice(finder.refusals(project, needs), _ENOUGH + 1))
    for refusal in refusals[:_ENOUGH]:
        groups.setdefault(refusal.reason, []).append(refusal)
    for reason, refused in islice(groups.items(), _MOST_REFUSALS):
        versions = list(dict.fromkeys(refusal.version for refusal in refused))
        if len(versions) > 1:
            yield f"  {project} {_newest(versions)}: {reason}"
        else:
            others = f" and {len(refused) - 1} more of that version" if len(refused) > 1 else ""
            yield f"  {refused[0].filename}{others}: {reason}"
        if reason.startswith("no tag") and len(refused) > 1:
            newest = [refusal.filename for refusal in refused if refusal.version == versions[0]]
            yield f"    the wheels of {versions[0]} are for {_made_for(newest)}"
    if len(groups) > _MOST_REFUSALS or len(refusals) > _ENOUGH:
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
        yield f"  {project} {_newest(versions)}: excluded by {words}"
    if len(groups) > _MOST_GROUPS:
        yield f"  and {sum(len(versions) for _, versions in groups[_MOST_GROUPS:])} older versions"


def _made_for(wheels: Sequence[str]) -> str:
    """The interpreters and platforms in the names of *wheels*."""
    parts = [name.removesuffix(".whl").split("-")[-3:] for name in wheels]
    pythons = dict.fromkeys(tag for python, _, _ in parts for tag in python.split("."))
    platforms = dict.fromkeys(tag for _, _, platform in parts for tag in platform.split("."))
    return f"{_some(sorted(pythons, key=_natural))} on {_some(sorted(platforms))}"


def _natural(tag: str) -> tuple[str, int]:
    """Sorts cp39 before cp310."""
    name = tag.rstrip("0123456789")
    return name, int(tag[len(name) :] or 0)


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:_MOST_TAGS]) + (", …" if len(words) > _MOST_TAGS else "")


def _newest(versions: Sequence[Version | str]) -> str:
    shown = ", ".join(map(str, versions[:_MOST_VERSIONS]))
    return shown + (f" and {len(versions) - _MOST_VERSIONS} older" if len(versions) > _MOST_VERSIONS else "")


def tried(helps: Sequence[str]) -> str:
    """The hint about changes that were tried and help; empty where none did."""
    return f"Tried, and it resolves: {'; or '.join(helps)}." if helps else ""


def summed_up(failures: Mapping[str, ResolutionError], *, resolved: int) -> ResolutionError:
    """One error for the targets that failed, by name, beside *resolved* others that did not."""
    (first, *others) = failures.values()
    hints: dict[str, list[str]] = {}
    for target, failure in failures.items():
        hints.setdefault(failure.hint, []).append(target)
    sdists = [failure.sdists for failure in failures.values() if isinstance(failure, NeedsBuildError)]
    if len(sdists) == len(failures):  # one command will do for all
        hints = {NeedsBuildError(dict(ChainMap(*sdists))).hint: list(failures)}
    lines = list(hints) if len(hints) == 1 else [f"{', '.join(names)}: {text}" for text, names in hints.items() if text]
    if resolved:
        others_resolve = f"{resolved} targets resolve" if resolved > 1 else "target resolves"
        lines.append(f"Without {', '.join(failures)} the other {others_resolve}; a marker keeps a line from a target.")
    told = "\n".join(lines)
    if not others:  # its own kind of error
        first.hint = told
        return first
    return ResolutionError("\n".join(dict.fromkeys(map(str, failures.values()))), hint=told)


def blamed(finder: Finder, project: NormalizedName, needs: Sequence[Need]) -> MetadataError | None:
    """What is wrong with the metadata of the newest release that everybody would accept, where it says what to do.

    That comes before what was tried: nobody tries what runs a package's code.
    """
    for version in finder.versions(project):
        fault = finder.fault(project, version)
        if fault is not None and fault.hint and all(need.accepts(version) for need in needs):
            return fault
    return None


def hint(finder: Finder, project: NormalizedName, needs: Sequence[Need]) -> str:
    """The next thing to try, as far as the refusals tell; empty where they don't."""
    status = finder.status(project)
    if status is not None and status.status == "quarantined":
        return f"An index quarantines what may be malware: find out why before you take {project} from anywhere else."
    if not finder.versions(project):
        return "Check the name and the index (airgap config shows it); a private project needs the index that has it."
    reasons = {refusal.reason.partition(":")[0] for refusal in islice(finder.refusals(project, needs), _ENOUGH)}
    if any(reason.startswith("sdists are excluded") for reason in reasons):
        return f"Allow its sdist (drop --only-binary for {project}), or pick a version that has a wheel for the target."
    if any(reason.startswith("its digest") for reason in reasons):
        return "Lock again: the index offers other files than the lock names."
    if any(reason.startswith("its lines") for reason in reasons):
        return f"Lock again, or take the --hash values of {project} out of all lines but one."
    if reasons and all(reason.startswith("requires Python") for reason in reasons):
        return "Drop the target, or give it a Python that the newest or an older version takes."
    if any(reason.startswith("no tag") for reason in reasons):
        return "Pick a version that has a wheel for the target, or drop the target."
    if any(reason.startswith("yanked") for reason in reasons):
        return f"Pin {project} with == to take a yanked release."
    return ""
