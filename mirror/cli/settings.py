"""The configuration, for commands that depend on what people wrote into it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mirror.config import Config, Overrides
    from mirror.models import Reporter


def configured(
    overrides: Overrides | None = None, *, config_file: Path | None = None, report: Reporter | None = None
) -> Config:
    """Load the configuration, and say which file was passed over: who misses what is in it, looks elsewhere."""
    from mirror.config import Overrides, load
    from mirror.models import Event, Stage

    config = load(overrides=overrides or Overrides(), config_file=config_file)
    for text in config.warnings:
        if report is not None:
            report(Event("warning", Stage.LOOK, text))
        else:
            click.echo(f"warning: {text}", err=True)
    return config
