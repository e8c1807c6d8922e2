"""``airgap serve``."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import click

from mirror.config.served import MOST_WORKERS


@click.command()
@click.option("--host", help="Address to listen on. Default: 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes a free one. Default: 8081.")
@click.option(
    "--tls-cert",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificate in PEM, followed by the intermediates that lead to the root.",
)
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its key, if elsewhere.")
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), help="Processes that answer. Default: 1.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def serve(
    host: str | None, port: int | None, tls_cert: Path | None, tls_key: Path | None, workers: int | None, quiet: bool
) -> None:
    """Serve the embedded repositories over HTTP with Nexus's URL layout, until interrupted.

    pip reads http://HOST:PORT/repository/pypi-all/simple/ and twine uploads to
    http://HOST:PORT/repository/pypi-hosted/. The data is in the folder that AIRGAP_HOME names; [serve] in airgap.toml
    says the rest, and options beat it. Without users everybody may read, and on a loopback address also write.
    """
    from mirror.cli.settings import configured
    from mirror.errors import UsageError
    from mirror.ops.remotes import remote_client
    from mirror.serve import serve as run
    from mirror.urls import with_slash, without_credentials

    config = configured()
    home = config.home.value
    given = {"host": host, "port": port, "tls_cert": tls_cert, "tls_key": tls_key, "workers": workers}
    settings = dataclasses.replace(
        config.serve,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    if settings.tls_key is not None and settings.tls_cert is None:
        raise UsageError("--tls-key needs --tls-cert.")

    def announce(url: str) -> None:
        if not quiet:
            click.echo(f"Serving {url}/ from {home}", err=True)

    run(
        home,
        settings=settings,
        announce=announce,
        remote=with_slash(without_credentials(config.index_url.value)),
        connect=partial(remote_client, config=config),
    )
