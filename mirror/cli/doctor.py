"""``airgap doctor``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirror.cli.options import connection_options
from mirror.cli.repositories import embedded_names, unknown_repository
from mirror.errors import ConfigError, NetworkError

if TYPE_CHECKING:
    from mirror.config import Overrides

_MARKS = {"fine": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@click.command()
@click.option("-r", "--repo", "repository", metavar="NAME|URL", help="A repository that is pushed to.")
@click.option("-i", "--index-url", metavar="URL", help="An index that is read. Default: the repository's, or pip's.")
@click.option(
    "--config-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Instead of ~/.pypirc."
)
@click.option(
    "--write-chain",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the certificates that the server sends to this PEM file.",
)
@click.option("as_json", "--json", is_flag=True, help="Print the findings as JSON.")
@connection_options
def doctor(
    repository: str | None,
    index_url: str | None,
    config_file: Path | None,
    write_chain: Path | None,
    as_json: bool,
    overrides: Overrides,
) -> None:
    """Check everything between here and a repository, from DNS to the right to upload, and say what to do.

    Nothing is changed and no file uploaded. Exit code 0: it will work; 4: there are problems.
    """
    from mirror.cli.settings import configured
    from mirror.ops.doctor import Level, examine
    from mirror.ops.push import find_repository

    config = configured(overrides, config_file=config_file)
    found = find_repository(repository, config) if repository is not None else None
    if repository is not None and found is None:
        if repository in embedded_names(config):
            raise ConfigError(
                f"{repository} is embedded in {config.home.value}: there is no server to examine.",
                hint="'airgap repo check' proves that it is sound; while 'airgap serve' runs, name it by its URL.",
            )
        raise unknown_repository(repository, config)
    findings = []
    for finding in examine(config, repository=found, index_url=index_url, chain_file=write_chain):
        findings.append(finding)
        if not as_json:
            click.echo(f"{_MARKS[finding.level.value]}  {finding.check}: {finding.text}")
            if finding.remedy:
                click.echo(f"         {finding.remedy}")
    if as_json:
        document = [{**asdict(finding), "level": finding.level.value} for finding in findings]
        click.echo(json.dumps(document, indent=2))
    if any(finding.level is Level.PROBLEM for finding in findings):
        sys.exit(NetworkError.exit_code)
