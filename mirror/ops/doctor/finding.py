"""What the doctor says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(str, Enum):
    """How bad a finding is."""

    FINE = "fine"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to; ``remedy`` is empty where there is nothing to do."""

    check: str
    level: Level
    text: str
    remedy: str = ""
