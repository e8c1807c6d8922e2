"""Says why a target can't be resolved: who asks for what, along which path, and what became of the candidates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from packaging.utils import NormalizedName

from mirror.resolver.candidates import Finder, Need

_MOST_REFUSALS = 6
_MOST_VERSIONS = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """One side of a clash: the need, and the way from the user's line to whoever has it."""

    need: Need
    path: tuple[str, ...]


def conflict(finder: Finder, project: NormalizedName, asked: Sequence[Asked]) -> str:
    """Explain why no candidate of *project* satisfies everyone in *asked*."""
    target = finder.target.name
    versions = finder.versions(project)
    needs = [item.need for item in asked]
    if not versions:
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
    refusals = finder.refusals(project, needs)
    lines += [f"  {refusal.filename}: {refusal.reason}" for refusal in refusals[:_MOST_REFUSALS]]
    if len(refusals) > _MOST_REFUSALS:
        lines.append(f"  and {len(refusals) - _MOST_REFUSALS} more files refused")
    if versions and not refusals:
        shown = ", ".join(str(version) for version in versions[:_MOST_VERSIONS])
        more = f" and {len(versions) - _MOST_VERSIONS} older ones" if len(versions) > _MOST_VERSIONS else ""
        lines.append(f"  the index has {shown}{more}")
    return "\n".join(lines)


def hint(finder: Finder, project: NormalizedName, needs: Iterable[Need]) -> str:
    """The next thing to try, as far as the refusals tell."""
    needs = list(needs)
    if not finder.versions(project):
        return "Check the name and the index (--index-url); a private project needs the index that has it."
    reasons = {refusal.reason.partition(":")[0] for refusal in finder.refusals(project, needs)}
    if any(reason.startswith("sdists are excluded") for reason in reasons):
        return f"Allow its sdist (drop --only-binary for {project}), or pick a version that has a wheel for the target."
    if any(reason.startswith("its digest") for reason in reasons):
        return "Lock again: the index offers other files than the lock names."
    if any(reason.startswith("no tag") for reason in reasons):
        return "Pick a version that has a wheel for the target, or drop the target."
    if any(reason.startswith("yanked") for reason in reasons):
        return f"Pin {project} with == to take a yanked release."
    return "Relax one of the lines above, or drop the target."
