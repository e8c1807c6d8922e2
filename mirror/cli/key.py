"""``airgap key``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mirror.errors import BundleError


@click.group()
def key() -> None:
    """Make keys that sign receipts, and check what they signed.

    The private half stays on the isolated side: sign-key in [receipts] of its airgap.toml. The public half goes to the
    connected side: trusted-keys there. Needs the extra 'sign'.
    """


@key.command()
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
def create(path: Path) -> None:
    """Make a pair of keys: FILE, which is secret, and FILE.pub."""
    from mirror.signing import create_key

    public, fingerprint = create_key(path)
    click.echo(f"{path} is the private key: keep it where receipts are written.", err=True)
    click.echo(f"{public} is the public key: it goes to who reads them.", err=True)
    click.echo(fingerprint)


@key.command()
@click.argument("receipts", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--key",
    "public",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The public key of who is said to have signed them.",
)
def check(receipts: tuple[Path, ...], public: Path) -> None:
    """Check the signatures of RECEIPTS. Exit code 5: one is missing or wrong."""
    from mirror.signing import verify

    for path in receipts:
        try:
            fingerprint = verify(json.loads(path.read_bytes()), public)
        except (ValueError, AttributeError, RecursionError) as error:
            raise BundleError(f"{path} is not a receipt: {error}.") from error
        except BundleError as error:
            raise BundleError(f"{path}: {error}", hint=error.hint) from error
        click.echo(f"{path}: signed with {fingerprint}")
