"""A plan with wheels that were built here in place of sdists, and what remains unknown of its other sdists."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from packaging.utils import NormalizedName

from mirror.fetch import Fetched
from mirror.metadata.sdist import may_ask_for_more
from mirror.models import FormatControl, Pin, Plan, RequirementSet, Target, TargetPlan
from mirror.ops.builds import Builds
from mirror.store import Store
from mirror.targets import Ranks

#: Marker values in which a target must equal this machine, for a wheel built here to be right there.
_SAME = ("implementation_name", "platform_machine", "python_version", "sys_platform")


def with_wheels(plan: Plan, builds: Builds) -> tuple[Plan, dict[str, Mapping[str, str]]]:
    """Put wheels built here in place of the sdists that ``building.wheels`` names, for targets that match this machine.

    Returns the plan, and how each wheel was built, by file name.
    """
    origins: dict[str, Mapping[str, str]] = {}

    def built(target: Target, pin: Pin) -> Pin:
        if pin.file.is_wheel or pin.project not in builds.building.wheels or not _alike(target, builds.host):
            return pin
        wheel = builds.wheel(pin.file)
        filename = wheel.fetched.file.filename
        portable = filename.endswith("-none-any.whl") or builds.host.tags[0] in target.tags
        if not portable or Ranks(target).wheel(filename) is None:
            return pin
        origins[filename] = wheel.origin
        return replace(pin, file=wheel.fetched.file)

    targets = []
    for each in plan.targets:
        pins = tuple(built(each.target, pin) for pin in each.pins)
        build_pins = [
            replace(build, pins=tuple(built(each.target, pin) for pin in build.pins)) for build in each.builds
        ]
        targets.append(_pruned(replace(each, pins=pins, builds=tuple(build_pins))))
    return replace(plan, targets=tuple(targets)), origins


def unasked(plan: Plan, builds: Builds, store: Store, fetched: Mapping[str, Fetched]) -> list[str]:
    """The projects whose sdists a target builds, and whose backends may need more than anybody knows; sorted."""
    sdists = {pin.file.filename: pin.file for target in plan.targets for pin in target.every_pin()}
    found: set[str] = set()
    for filename, file in sdists.items():
        if file.is_wheel or builds.learned(file) is not None:
            continue
        with store.open(fetched[filename].sha256) as stream:
            if may_ask_for_more(stream, filename):
                found.add(file.project)
    return sorted(found)


def idle(plan: Plan, builds: Builds, built: Collection[str]) -> list[str]:
    """What to say of names that the user let be built, and that changed nothing; a misspelt one is among them."""
    files = plan.files()
    present = {file.project for file in files.values()}
    made = {files[name].project for name in built}
    told = [
        f"--allow-build {name}: no such project is in it." for name in builds.building.allowed - present - builds.used
    ]
    return sorted(told) + [
        f"--build-wheels {name}: no target that is like this machine installs its sdist, so no wheel was packed."
        for name in sorted((builds.building.wheels & present) - made)
    ]


def accepting(wanted: RequirementSet, plan: Plan, built: Collection[str]) -> RequirementSet:
    """*wanted*, as an installer must be told once the wheels *built* are in the plan: --no-binary spares them."""
    files = plan.files()
    spared = {files[name].project for name in built}
    no_binary = set(wanted.format_control.no_binary)
    if spared and ":all:" in no_binary:
        no_binary |= {file.project for file in files.values()}
        no_binary -= {":all:"}
    control = FormatControl(frozenset(no_binary - spared), wanted.format_control.only_binary)
    return replace(wanted, format_control=control)


def _pruned(plan: TargetPlan) -> TargetPlan:
    """Drop the builds whose sdist nobody builds any more."""
    builds = {(build.project, build.version): build for build in plan.builds}
    needed: set[tuple[NormalizedName, str]] = set()
    waiting = list(plan.pins)
    while waiting:
        pin = waiting.pop()
        key = (pin.project, pin.version)
        if not pin.file.is_wheel and key in builds and key not in needed:
            needed.add(key)
            waiting.extend(builds[key].pins)
    return replace(plan, builds=tuple(build for key, build in builds.items() if key in needed))


def _alike(target: Target, host: Target) -> bool:
    there, here = target.environment, host.environment
    return all(there.get(name) == here.get(name) for name in _SAME)
