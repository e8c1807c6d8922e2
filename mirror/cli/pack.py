"""``airgap pack``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mirror.cli.building import building_options
from mirror.cli.findings import findings, findings_document
from mirror.cli.options import index_options, output_options
from mirror.cli.progress import progress
from mirror.cli.selection import selection_options
from mirror.cli.target_options import Machines, target_options
from mirror.cli.units import count, human_bytes, table
from mirror.errors import StorageError

if TYPE_CHECKING:
    from mirror.config import Overrides
    from mirror.models import Selection
    from mirror.ops.building import Building
    from mirror.ops.packed import Packed


def _output(_: click.Context, param: click.Parameter, path: Path) -> Path:
    """A callback: what can't become a bundle is refused before anything is resolved."""
    from mirror.durable import is_device

    if str(path) == "-" or is_device(path):
        raise click.BadParameter(
            "a bundle is written to a file. --dry-run writes none; to send one on, use cat.", param=param
        )
    return path


def _check_place(output: Path) -> None:
    """Raise a StorageError where the bundle could not be written once everything is downloaded."""
    from mirror.durable import check_writable

    try:
        check_writable(output.parent)
    except OSError as error:
        raise StorageError(f"Can't write {output}: {error.strerror or error}.") from error


@click.command()
@click.argument("requirements", nargs=-1)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("bundle.tar.zst"),
    show_default=True,
    callback=_output,
    help="Where to write the bundle.",
)
@click.option("-c", "--constraint", "constraints", multiple=True, metavar="FILE", help="Constraints, as for pip.")
@click.option("--extra", "extras", multiple=True, metavar="NAME", help="An extra of the project or lock. Repeatable.")
@click.option(
    "--group", "groups", multiple=True, metavar="NAME", help="A dependency group of the project or lock. Repeatable."
)
@target_options
@click.option(
    "--since",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="BUNDLE|MANIFEST|RECEIPT",
    help="Write a delta: leave out the files that this bundle or manifest names or this receipt confirms.",
)
@click.option("--dry-run", is_flag=True, help="Resolve and say what would be fetched; write nothing.")
@building_options
@selection_options
@index_options
@output_options
def pack(
    requirements: tuple[str, ...],
    output: Path,
    constraints: tuple[str, ...],
    extras: tuple[str, ...],
    groups: tuple[str, ...],
    machines: Machines,
    since: Path | None,
    dry_run: bool,
    include: tuple[Path, ...],
    building: Building,
    selection: Selection,
    overrides: Overrides,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Resolve REQUIREMENTS for every target, fetch the closure, prove it complete, and write one bundle.

    REQUIREMENTS are files in pip's format, pyproject.toml, or one lock, which is used as it is: pylock.toml, uv.lock,
    poetry.lock, pdm.lock. Without --target, --python-version or --platform, the target is the Python
    that runs airgap.
    """
    from mirror.cli.settings import configured
    from mirror.lockfiles import read

    if not requirements and not include:
        raise click.UsageError("Name requirements files, or own packages with --include.")
    inputs = read(requirements, constraints=constraints, environ=os.environ, extras=extras, groups=groups)
    config = configured(overrides)
    chosen = machines.targets(config)
    inputs.check(chosen)
    with progress(quiet=quiet, verbose=verbose) as report:
        base = None
        if since is not None:
            from mirror.ops.delta import read_since

            known = read_since(since)
            base = (lambda _: known) if known.carriers else None
        wanted, packed = inputs.choosing(selection), None
        fresh: dict[str, str] = {}
        if not (dry_run or base or include or inputs.lock or building.allowed):
            from mirror.ops.settled import settled

            packed = settled(wanted, chosen, output, config, report, fresh)
        if packed is None:
            from mirror.ops.pack import pack as run

            if not dry_run:
                _check_place(output)
            packed = run(
                wanted,
                chosen,
                None if dry_run else output,
                config,
                report,
                base=base,
                building=building,
                include=include,
                lock=inputs.lock,
                fresh=fresh,
            )
    if as_json:
        click.echo(json.dumps(as_document(packed), indent=2))
    elif not quiet:
        click.echo("\n".join(summary(packed)), err=True)


def as_document(packed: Packed) -> dict[str, Any]:
    """The ``--json`` result. Keys are only ever added."""
    users: dict[str, list[str]] = {}
    for target in packed.plan.targets:
        for pin in target.every_pin():
            targets = users.setdefault(pin.file.filename, [])
            if target.target.name not in targets:
                targets.append(target.target.name)
    origins = (
        {file.filename: dict(file.origin) for file in packed.manifest.files if file.origin} if packed.manifest else {}
    )
    absent = {file.filename for file in packed.manifest.expected} if packed.manifest else set()
    return {
        "bundle": str(packed.written.path) if packed.written else None,
        "sha256": packed.written.sha256 if packed.written else None,
        "identity": packed.written.identity if packed.written else None,
        "targets": {
            target.target.name: {"pins": {pin.project: pin.version for pin in target.pins}}
            for target in packed.plan.targets
        },
        "files": [
            {
                "filename": name,
                "project": file.project,
                "version": file.version,
                "size": packed.sizes[name],
                "sha256": packed.sha256[name],
                "index": file.index,
                "targets": users.get(name, []),
                "carried": name not in absent,
                "origin": origins.get(name),
            }
            for name, file in packed.plan.files().items()
        ],
        **findings_document(packed.plan),
    }


def summary(packed: Packed) -> list[str]:
    """What people read at the end of a run."""
    files = packed.plan.files()
    known = [size for size in packed.sizes.values() if size is not None]
    total = human_bytes(sum(known)) + ("" if len(known) == len(files) else " and files of unknown size")
    rows = [
        (target.target.name, count(len(target.pins), "project"), human_bytes(_size_of(packed, position)))
        for position, target in enumerate(packed.plan.targets)
    ]
    lines = [f"  {line}" for line in table(rows, right=(1, 2))]
    if packed.written is None:
        listing = [
            (name, human_bytes(size) if size is not None else "unknown") for name, size in sorted(packed.sizes.items())
        ]
        lines += findings(packed.plan)
        return [*table(listing, right=(1,)), "", *lines, f"Would fetch {count(len(files), 'file')}, {total}."]
    extras = {file.filename for file in packed.plan.extras}
    sdists = [name for name, file in files.items() if not file.is_wheel and name not in extras]
    return [
        *lines,
        *findings(packed.plan),
        f"{packed.written.path}: {count(len(files), 'file')}, {total}, in {human_bytes(packed.written.size)}.",
        *([f"Sdists, which run code when they are built: {', '.join(sdists)}."] if sdists else []),
        *_built_here(packed),
        *_what_installs(packed),
        f"sha256    {packed.written.sha256}",
        f"identity  {packed.written.identity}",
    ]


def _built_here(packed: Packed) -> list[str]:
    built = (
        [file.filename for file in packed.manifest.files if ("kind", "built") in file.origin] if packed.manifest else []
    )
    return [f"Built here, and marked so in the manifest: {', '.join(built)}."] if built else []


def _what_installs(packed: Packed) -> list[str]:
    manifest = packed.manifest
    if manifest is None or not manifest.expected:
        return ["Every target installs from it alone."]
    carried = human_bytes(sum(file.size for file in manifest.carried))
    others = f"the other {len(manifest.expected)} must be in the repository already"
    return [
        f"A delta: it carries {count(len(manifest.carried), 'file')}, {carried}; {others}.",
        "Every target installs from both together.",
    ]


def _size_of(packed: Packed, position: int) -> int:
    names = {pin.file.filename for pin in packed.plan.targets[position].every_pin()}
    return sum(packed.sizes[name] or 0 for name in names)
