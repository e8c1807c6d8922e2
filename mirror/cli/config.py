"""``airgap config``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli.options import index_options
from mirror.cli.units import table

if TYPE_CHECKING:
    from mirror.config import Overrides


@click.command()
@click.option(
    "--config-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Instead of ~/.pypirc."
)
@click.option("as_json", "--json", is_flag=True, help="Print JSON.")
@index_options
def config(config_file: Path | None, as_json: bool, overrides: Overrides) -> None:
    """Show the merged configuration, and for every value where it comes from. Secrets are left out.

    Read are pip's configuration, .pypirc, airgap.toml and the environment; options given here count as they would
    for another command.
    """
    from mirror.cli.settings import configured
    from mirror.config.show import rows

    found = configured(overrides, config_file=config_file)
    if as_json:
        document = {
            "settings": {row.key: {"value": row.value, "source": row.source} for row in rows(found)},
            "files": [str(path) for path in found.files],
        }
        click.echo(json.dumps(document, indent=2))
        return
    for line in table([(row.key, _text(row.value), row.source) for row in rows(found)]):
        click.echo(line)
    for path in found.files:
        click.echo(f"read: {path}")


def _text(value: object) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
