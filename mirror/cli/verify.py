"""``airgap verify``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli.options import base_option, number_or_all, output_options
from mirror.cli.progress import progress
from mirror.cli.units import count, human_bytes, table
from mirror.errors import IncompleteError

if TYPE_CHECKING:
    from mirror.ops.install import Check
    from mirror.push.receipt import Receipt


@click.command()
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@base_option("a bundle that it builds on; verified too. All must hold what the delta leaves out.")
@click.option(
    "--install",
    is_flag=True,
    help="Also let every pip and uv at hand try to install each target from the bundle alone; nothing stays.",
)
@click.option(
    "--allow-build",
    multiple=True,
    metavar="NAME",
    help="With --install: let this project's sdist be built, which runs its code. Repeatable.",
)
@click.option(
    "--against-repo",
    metavar="NAME|URL",
    help="Also compare with what this repository holds. Exit code 6: something is missing; 7: other bytes are there.",
)
@click.option(
    "--verify-download",
    callback=number_or_all,
    metavar="N|all",
    default="0",
    help="With --against-repo: fetch the N largest files from there, or all, and hash them.",
)
@output_options
def verify(
    bundle: Path,
    bases: tuple[Path, ...],
    install: bool,
    allow_build: tuple[str, ...],
    against_repo: str | None,
    verify_download: int,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Check every digest in BUNDLE and every promise of its format.

    Exit code 0: it is whole; 5: it is not; 3: it is, but with --install an installer at hand could not install a
    target from it. Targets that no installer here can act for are named, with the reason.
    """
    from packaging.utils import canonicalize_name

    from mirror.bundle import BundleReader
    from mirror.ops.delta import check_bases

    if verify_download and against_repo is None:
        raise click.UsageError("--verify-download goes with --against-repo: it says where to fetch from.")
    if allow_build and not install:
        raise click.UsageError("--allow-build goes with --install: nothing else here builds anything.")
    with ExitStack() as stack:
        report = stack.enter_context(progress(quiet=quiet, verbose=verbose))
        reader = stack.enter_context(BundleReader(bundle))
        reader.verify(report=report)
        manifest = reader.manifest
        others = [stack.enter_context(BundleReader(path)) for path in bases]
        for other in others:
            other.verify(report=report)
        if others:
            check_bases(manifest, [other.manifest for other in others])
        checks: tuple[Check, ...] = ()
        if install:
            from mirror.ops.install import check_install

            checks = check_install(reader, frozenset(map(canonicalize_name, allow_build)), report, others)
        proved: Receipt | None = None
        if against_repo is not None:
            from mirror.cli.push import open_publisher
            from mirror.cli.settings import configured
            from mirror.push.run import prove

            with open_publisher(against_repo, configured(report=report), report=report) as publisher:
                proved = prove(reader, publisher, verify_download=verify_download, report=report)
    size = sum(file.size for file in manifest.carried)
    if as_json:
        files = len(manifest.carried)
        document: dict[str, object] = {"bundle": str(bundle), "identity": manifest.identity}
        document |= {"files": files, "size": size}
        document["expected"] = len(manifest.expected)
        if proved is not None:
            document["repository"] = {"url": proved.repository, "files": len(proved.files)}
        if install:
            document["install"] = [asdict(check) for check in checks]
        click.echo(json.dumps(document, indent=2))
    elif not quiet:
        click.echo(f"{bundle}: {count(len(manifest.carried), 'file')}, {human_bytes(size)}, all as promised.", err=True)
        if manifest.expected:
            where = "found in the bundles given" if bases else "expected in the repository"
            click.echo(f"a delta   {count(len(manifest.expected), 'further file')}, {where}.", err=True)
        click.echo(f"identity  {manifest.identity}", err=True)
        if proved is not None:
            click.echo(f"{proved.repository}: all {count(len(proved.files), 'file')} are there.", err=True)
        for line in table([_row(check) for check in checks], right=()):
            click.echo(f"  {line}", err=True)
    failed = [check for check in checks if check.outcome == "fails"]
    if failed:
        told = "\n".join(f"{check.target}: {check.installer}:\n{check.reason}" for check in failed)
        raise IncompleteError(
            f"Installers can't install from the bundle alone:\n{told}",
            missing=[check.target for check in failed],
            hint="If the installer is right, pack again; the proof that pack makes missed something: please report it.",
        )


def _row(check: Check) -> tuple[str, str, str]:
    told = {"installs": "installs", "fails": "fails", "unchecked": f"not checked: {check.reason}"}
    return check.target, check.installer, told[check.outcome]
