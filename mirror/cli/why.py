"""``airgap why``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mirror.bundle import Manifest


@click.command()
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("project")
@click.option("--target", "targets", multiple=True, metavar="NAME", help="Only on this target. Repeatable.")
@click.option("as_json", "--json", is_flag=True, help="Print the answer as JSON on standard output.")
def why(bundle: Path, project: str, targets: tuple[str, ...], as_json: bool) -> None:
    """Say who brought PROJECT into BUNDLE: the way from a line of the requirements, and everybody who needs it.

    Only the manifest is read. Exit code 2 if the bundle has no such project.
    """
    from packaging.utils import canonicalize_name

    from mirror.bundle import BundleReader
    from mirror.errors import UsageError

    with BundleReader(bundle) as reader:
        manifest = reader.manifest
    name = canonicalize_name(project)
    known = [target.name for target in manifest.targets]
    for target in targets:
        if target not in known:
            raise UsageError(f"{bundle} has no target {target}.", hint=f"It has: {', '.join(known)}")
    document = _document(manifest, name, targets or tuple(known))
    if not document["files"]:
        where = f" for {', '.join(targets)}" if targets else ""
        raise UsageError(f"{bundle} has no {name}{where}.", hint=f"airgap inspect {bundle} lists what it has.")
    click.echo(json.dumps(document, indent=2) if as_json else "\n".join(_listing(document)))


def _document(manifest: Manifest, project: str, targets: tuple[str, ...]) -> dict[str, Any]:
    wanted = set(targets)
    everything = wanted >= {target.name for target in manifest.targets}
    files = [
        file
        for file in manifest.files_of(project)
        if everything or wanted & {*file.targets, *file.builds} or not (file.targets or file.builds)
    ]
    return {
        "project": project,
        "files": [
            {
                "filename": file.filename,
                "version": file.version,
                "index": file.index,
                "source": file.source,
                "targets": [name for name in file.targets if name in wanted],
                "builds": [name for name in file.builds if name in wanted],
                "chain": list(file.chain),
            }
            for file in files
        ],
        "needed-by": [
            {"project": file.project, "version": file.version, "targets": where}
            for file in manifest.files
            if project in file.requires and (where := [name for name in file.targets if name in wanted])
        ],
    }


def _listing(document: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for file in document["files"]:
        lines.append(f"{document['project']} {file['version']}  {file['filename']}")
        lines += [f"  {'  ' * depth}{step}" for depth, step in enumerate(file["chain"])]
        if file["targets"]:
            lines.append(f"  installed on {', '.join(file['targets'])}")
        if file["builds"]:
            lines.append(f"  for building sdists on {', '.join(file['builds'])}")
        if not file["targets"] and not file["builds"]:
            lines.append("  goes along with that version; no target installs it")
        lines.append(f"  from {file['source'] or 'no index'}")
    needed = {f"{asker['project']} {asker['version']}": ", ".join(asker["targets"]) for asker in document["needed-by"]}
    lines += [f"needed by {asker} on {where}" for asker, where in needed.items()]
    return lines
