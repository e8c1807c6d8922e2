"""What packing comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirror.models import Plan, Written

if TYPE_CHECKING:
    from mirror.bundle import Manifest


@dataclass(frozen=True, slots=True)
class Packed:
    """What ``pack`` found and, unless it was a dry run, wrote. ``sizes`` are bytes by file name, None where unknown.

    ``manifest`` is that of the bundle, or, where *base* had none written, of the whole set; None after a dry run.
    """

    plan: Plan
    sizes: Mapping[str, int | None]
    sha256: Mapping[str, str | None]
    written: Written | None
    manifest: Manifest | None = None
