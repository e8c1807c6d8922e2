"""What a plan says besides its pins: projects that differ between targets, project statuses, extra files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mirror.cli.units import count

if TYPE_CHECKING:
    from mirror.models import Difference, Plan

_MOST_NAMES = 3


def findings_document(plan: Plan) -> dict[str, Any]:
    """The part of ``--json`` about them."""
    return {
        "differences": [
            {"project": found.project, "versions": dict(found.versions), "reasons": list(found.reasons)}
            for found in plan.differences
        ],
        "statuses": [
            {"project": found.project, "status": found.status, "reason": found.reason, "index": found.index}
            for found in plan.statuses
        ],
        "extras": [file.filename for file in plan.extras],
    }


def findings(plan: Plan) -> list[str]:
    """Lines for people."""
    lines: list[str] = []
    if plan.differences:
        lines.append(f"{count(len(plan.differences), 'project')} could not have one version on every target:")
        for found in plan.differences:
            lines.append(f"  {found.project}: {_versions(found)}")
            lines += [f"    {reason}" for reason in found.reasons]
    lines += [f"{status}." for status in plan.statuses]
    if plan.extras:
        lines.append(f"{count(len(plan.extras), 'file')} beyond what the targets install.")
    return lines


def _versions(found: Difference) -> str:
    targets: dict[str, list[str]] = {}
    for target, version in found.versions.items():
        targets.setdefault(version, []).append(target)
    return "; ".join(f"{version} on {_named(names)}" for version, names in targets.items())


def _named(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
