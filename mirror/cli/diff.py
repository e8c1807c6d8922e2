"""``airgap diff``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mirror.cli.units import count, human_bytes, table

if TYPE_CHECKING:
    from mirror.bundle import BundledFile
    from mirror.ops.diff import Difference, ProjectChange

_MARKS = {"added": "+", "changed": "~", "removed": "-"}


@click.command()
@click.argument("old", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("new", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("as_json", "--json", is_flag=True, help="Print the result as JSON on standard output.")
def diff(old: Path, new: Path, as_json: bool) -> None:
    """Show what NEW has that OLD has not, and the other way round: projects, files, sizes, and pins by target.

    OLD and NEW are bundles, deltas too, or their manifests; nothing but the manifest is read.
    """
    from mirror.ops.delta import open_rows
    from mirror.ops.diff import diff as run

    with open_rows(old) as before, open_rows(new) as after:
        found = run(before, after)
    if as_json:
        click.echo(json.dumps(as_document(found), indent=2))
    else:
        click.echo("\n".join(listing(found)))


def as_document(found: Difference) -> dict[str, Any]:
    """The ``--json`` result. Keys are only ever added."""
    return {
        "projects": [
            {
                "project": change.project,
                "change": change.kind,
                "old-versions": change.old_versions,
                "new-versions": change.new_versions,
                "added": [_file(file) for file in change.added],
                "removed": [_file(file) for file in change.removed],
                "replaced": [_file(file) for file in change.replaced],
            }
            for change in found.projects
        ],
        "targets": [
            {
                "target": target.name,
                "change": target.kind,
                "pins": {
                    project: {"old": before or None, "new": after or None} for project, before, after in target.pins
                },
            }
            for target in found.targets
        ],
        "added-size": sum(change.added_size for change in found.projects),
        "removed-size": sum(change.removed_size for change in found.projects),
    }


def listing(found: Difference) -> list[str]:
    """What people read: added, changed, removed, then each target."""
    if not found:
        return ["Nothing differs."]
    rows = [
        (_MARKS[kind], change.project, _versions(change), _sizes(change))
        for kind in _MARKS
        for change in found.of_kind(kind)
    ]
    lines = table(rows)
    for change in found.projects:
        lines += [f"! {file.filename} has other bytes now" for file in change.replaced]
    for target in found.targets:
        lines += ["", f"{_MARKS[target.kind]} target {target.name}: {count(len(target.pins), 'project')}"]
        if target.kind == "changed":
            pins = [(f"  {project}", f"{before or '-'} → {after or '-'}") for project, before, after in target.pins]
            lines += table(pins)
    kinds = ", ".join(f"{len(found.of_kind(kind))} {kind}" for kind in _MARKS)
    added = human_bytes(sum(change.added_size for change in found.projects))
    removed = human_bytes(sum(change.removed_size for change in found.projects))
    return [*lines, "", f"{kinds}; {added} more to carry, {removed} no longer needed."]


def _file(file: BundledFile) -> dict[str, Any]:
    return {"filename": file.filename, "size": file.size, "sha256": file.sha256, "targets": file.targets}


def _versions(change: ProjectChange) -> str:
    before, after = ", ".join(change.old_versions), ", ".join(change.new_versions)
    return before if before == after else " → ".join(filter(None, (before, after)))


def _sizes(change: ProjectChange) -> str:
    parts = [f"+{human_bytes(change.added_size)}"] if change.added or change.replaced else []
    parts += [f"-{human_bytes(change.removed_size)}"] if change.removed else []
    return " ".join(parts)
