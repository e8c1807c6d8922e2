"""``airgap targets``."""

from __future__ import annotations

import json
import textwrap
from importlib import resources
from typing import TYPE_CHECKING, Any, TextIO

import click

from mirror.cli.target_options import Machines, target_options_but_names
from mirror.cli.units import count, table

if TYPE_CHECKING:
    from mirror.models import Target


@click.command()
@click.argument("names", nargs=-1)
@target_options_but_names
@click.option(
    "--describe-script",
    type=click.File("w", encoding="utf-8", lazy=True),
    metavar="FILE",
    help="Write the script that describes an isolated machine for --target-file, and nothing else; '-': print it.",
)
@click.option("as_json", "--json", is_flag=True, help="Print the result as JSON on standard output.")
def targets(machines: Machines, describe_script: TextIO | None, as_json: bool) -> None:
    """Show what targets mean: their wheel tags, best first, and the values of environment markers.

    NAMES are those that --target of pack takes. Without any, and without other options, the machine at hand and every
    target of airgap.toml are listed.

    --describe-script describe_target.py writes a script to carry over. There any Python from 3.6 on runs it, and what
    it prints describes that machine: python3 describe_target.py > machine.json
    """
    if describe_script is not None:
        describe_script.write(resources.files("mirror").joinpath("describe_target.py").read_text("utf-8"))
        return
    from mirror.config import load

    config = load()
    listing = machines == Machines()
    chosen = (Machines(names=("this", *config.targets)) if listing else machines).targets(config)
    if as_json:
        click.echo(json.dumps({"targets": [as_document(target) for target in chosen]}, indent=2))
    elif listing:
        click.echo("\n".join(overview(chosen)))
    else:
        click.echo("\n\n".join("\n".join(in_full(target)) for target in chosen))


def as_document(target: Target) -> dict[str, Any]:
    """One target for machines. Keys are only ever added."""
    return {"name": target.name, "tags": list(target.tags), "markers": target.environment}


def overview(chosen: tuple[Target, ...]) -> list[str]:
    """One line for each target."""
    rows = [
        (target.name, f"Python {target.python}", target.environment["sys_platform"], target.tags[0])
        for target in chosen
    ]
    return list(table(rows))


def in_full(target: Target) -> list[str]:
    """Everything about one target: markers, then its tags in order, those of one interpreter and ABI together."""
    lines = [target.name, "  markers"]
    lines += [f"    {line}" for line in table(sorted((name, repr(value)) for name, value in target.markers))]
    lines.append(f"  {count(len(target.tags), 'tag')}, best first")
    groups: list[tuple[str, list[str]]] = []
    for tag in target.tags:
        kind, _, platform = tag.rpartition("-")
        if not groups or groups[-1][0] != kind:
            groups.append((kind, []))
        groups[-1][1].append(platform)
    for kind, platforms in groups:
        lines += textwrap.wrap(
            f"{kind}-{platforms[0]}" if len(platforms) == 1 else f"{kind}-{{{', '.join(platforms)}}}",
            width=118,
            initial_indent="    ",
            subsequent_indent="        ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
