"""Files beyond what the targets install: every wheel that any of them takes, every release's sdist."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mirror.models import File, Pin, TargetPlan
from mirror.resolver.candidates import Finder


def extra_files(plans: Iterable[TargetPlan], finders: Iterable[Finder]) -> tuple[File, ...]:
    """The files that the selection adds to *plans*, by name; what building an sdist installs counts as chosen too."""
    plans, finders = list(plans), list(finders)
    pins: dict[tuple[str, str], Pin] = {}
    for plan in plans:
        for pin in plan.every_pin():
            pins.setdefault((pin.project, pin.version), pin)
    installed = {pin.file.filename for plan in plans for pin in plan.every_pin()}
    found: dict[str, File] = {}
    for pin in pins.values():
        for finder in finders:
            for file in finder.further(pin):
                if file.filename not in installed:
                    # 1.0 and 1.0.0 are one release, under the version that the pin gives it.
                    found.setdefault(file.filename, replace(file, version=pin.version))
    return tuple(found[name] for name in sorted(found))
