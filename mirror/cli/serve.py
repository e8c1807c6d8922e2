"""``airgap serve``."""

from __future__ import annotations

import click


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8081, show_default=True, help="0 takes a free one.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def serve(host: str, port: int, quiet: bool) -> None:
    """Serve the embedded repositories over HTTP with Nexus's URL layout, until interrupted.

    pip reads http://HOST:PORT/repository/pypi-hosted/simple/ and twine uploads to
    http://HOST:PORT/repository/pypi-hosted/. The data is in the folder that AIRGAP_HOME names.
    """
    from mirror.config import load
    from mirror.serve import serve as run

    home = load().home.value

    def announce(url: str) -> None:
        if not quiet:
            click.echo(f"Serving {url}/ from {home}", err=True)

    run(home, host=host, port=port, announce=announce)
