"""``[receipts]`` in ``airgap.toml``: which key signs receipts here, and whose receipts are believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror.config.document import check_keys, read_document
from mirror.config.files import expand_user
from mirror.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ReceiptSettings:
    """Paths of PEM files: ``sign_key`` of this side's private key, ``trusted_keys`` of public ones by site.

    Where there is a trusted key, no receipt is believed that its site's key has not signed.
    """

    sign_key: Path | None = None
    trusted_keys: Mapping[str, Path] = field(default_factory=dict)


def read_receipts(path: Path, *, home: str) -> ReceiptSettings:
    """Return what *path* says; a ConfigError names what can't be used. Paths in it are relative to its folder."""
    name, document = read_document(path, home)
    table = document.get("receipts", {})
    place = f"{name} [receipts]"
    if not isinstance(table, dict):
        raise ConfigError(f"{place} must be a table.")
    check_keys(table, ("sign-key", "trusted-keys"), place)

    def located(value: Any, key: str) -> Path:
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{place}: {key} must be the path of a file.")
        return path.parent / expand_user(value, home)

    trusted = table.get("trusted-keys", {})
    if not isinstance(trusted, dict):
        raise ConfigError(f"{place}: trusted-keys must name a file for each site.", hint='Like { main = "main.pub" }.')
    return ReceiptSettings(
        located(table["sign-key"], "sign-key") if "sign-key" in table else None,
        {site: located(value, f"trusted-keys.{site}") for site, value in trusted.items()},
    )
