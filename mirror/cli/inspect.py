"""``airgap inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mirror.cli.units import count, human_bytes, table

if TYPE_CHECKING:
    from mirror.bundle import Manifest


@click.command()
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", "targets", multiple=True, metavar="NAME", help="Only what this target needs. Repeatable.")
@click.option("as_json", "--json", is_flag=True, help="Print the manifest as JSON on standard output.")
def inspect(bundle: Path, targets: tuple[str, ...], as_json: bool) -> None:
    """Show what BUNDLE holds, by target and project, from its manifest alone: at once, however big it is.

    Nothing but the manifest is read; 'airgap verify' checks the rest.
    """
    from mirror.bundle import BundleReader
    from mirror.errors import UsageError

    with BundleReader(bundle) as reader:
        manifest = reader.manifest
    known = [target.name for target in manifest.targets]
    for name in targets:
        if name not in known:
            raise UsageError(f"{bundle} has no target {name}.", hint=f"It has: {', '.join(known)}")
    if as_json:
        click.echo(json.dumps(_document(manifest, targets), indent=2))
    else:
        click.echo("\n".join(_listing(manifest, targets)))


def _document(manifest: Manifest, targets: tuple[str, ...]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(manifest.to_bytes())
    document["identity"] = manifest.identity
    if targets:
        document["targets"] = [target for target in document["targets"] if target["name"] in targets]
        document["files"] = [file for file in document["files"] if set(file["targets"]) & set(targets)]
    return document


def _listing(manifest: Manifest, targets: tuple[str, ...]) -> list[str]:
    files = [file for file in manifest.files if not targets or set(file.targets) & set(targets)]
    rows = [
        (file.project, file.version, human_bytes(file.size), file.filename, "" if file.carried else "not carried")
        for file in files
    ]
    heads = [
        (target.name, count(len(target.pins), "project")) for target in manifest.targets if target.name in targets
    ] or [(target.name, count(len(target.pins), "project")) for target in manifest.targets]
    total = human_bytes(sum(file.size for file in files))
    return [
        *table(rows, right=(2,)),
        "",
        *(f"target    {line}" for line in table(heads, right=(1,))),
        f"total     {count(len({file.project for file in files}), 'project')}, {count(len(files), 'file')}, {total}",
        *_needs(manifest),
        f"identity  {manifest.identity}",
    ]


def _needs(manifest: Manifest) -> list[str]:
    """What a delta carries, and what it builds on."""
    if not manifest.expected:
        return []
    carried = human_bytes(sum(file.size for file in manifest.carried))
    return [
        f"carries   {count(len(manifest.carried), 'file')}, {carried}; the others must be in the repository already",
        *(f"builds on {identity} {name}".rstrip() for identity, name in sorted(manifest.since.items())),
    ]
