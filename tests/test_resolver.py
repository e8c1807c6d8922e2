"""Resolver cases as data in tests/data/resolver/: each has its pins and the reads allowed, or the error's words."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from mirror.errors import MetadataError, MissingHashesError, NeedsBuildError, ResolutionError
from mirror.filenames import split_filename
from mirror.models import Event, File, FormatControl, Metadata, RequirementLine, RequirementSet, Selection
from mirror.resolver import Resolution
from mirror.resolver.pages import FilePage
from mirror.targets import make_target

CASES = [
    pytest.param(case, id=f"{path.stem}: {case['case']}")
    for path in sorted((Path(__file__).parent / "data" / "resolver").glob("*.json"))
    for case in json.loads(path.read_text(encoding="utf-8"))
]
PLATFORMS = {"linux": "manylinux_2_28_x86_64", "windows": "win_amd64", "macos": "macosx_14_0_arm64"}


class World:
    """An index described by a case: ``{"name version": {"requires": …, "tags": …, "sdist": …, …}}``."""

    def __init__(self, releases: dict[str, dict[str, Any]]) -> None:
        self._files: dict[NormalizedName, list[File]] = {}
        self._metadata: dict[str, Metadata] = {}
        self._broken: dict[str, str] = {}
        self._build: dict[str, tuple[Requirement, ...]] = {}
        self.reads: set[str] = set()
        for key, release in releases.items():
            name, version = key.split(" ")
            stem = f"{name.replace('-', '_')}-{version}"
            names = [
                f"{stem}-{tag}.whl" for tag in release.get("tags", [] if release.get("sdist") else ["py3-none-any"])
            ]
            names += [f"{stem}.tar.gz"] if release.get("sdist") else []
            for filename in names:
                self._add(filename, release)

    def _add(self, filename: str, release: dict[str, Any]) -> None:
        split = split_filename(filename)
        assert split is not None
        version = split.version.replace("_", "-")
        self._files.setdefault(split.project, []).append(
            File(
                filename,
                f"https://index.test/{filename}",
                split.project,
                version,
                index="https://index.test/simple/",
                requires_python=release.get("python"),
                yanked=release.get("yanked"),
                upload_time=release.get("time"),
            )
        )
        self._metadata[filename] = Metadata(
            split.project,
            version,
            tuple(Requirement(text) for text in release.get("requires", ())),
            release.get("inside", release.get("python")),
            frozenset(canonicalize_name(extra) for extra in release.get("extras", ())),
        )
        if "broken" in release:
            self._broken[filename] = release["broken"]
        self._build[filename] = tuple(Requirement(text) for text in release.get("build", ()))

    def pages(self, project: NormalizedName) -> tuple[FilePage, ...]:
        files = self._files.get(project)
        return (FilePage(tuple(files), "https://index.test/simple/"),) if files else ()

    def read(self, file: File) -> Metadata:
        self.reads.add(file.filename)
        if self._broken.get(file.filename) == "needs a build" and not file.is_wheel:
            raise NeedsBuildError({file.project: file.filename})
        if file.filename in self._broken and self._broken[file.filename] != "needs a build":
            raise MetadataError(f"{file.filename}: {self._broken[file.filename]}", hint="Report it.")
        return self._metadata[file.filename]

    def build_requires(self, file: File) -> tuple[Requirement, ...]:
        return self._build[file.filename]


def wanted(case: dict[str, Any]) -> RequirementSet:
    def lines(key: str, origin: str) -> tuple[RequirementLine, ...]:
        return tuple(
            RequirementLine(Requirement(text), f"{origin}:{number}")
            for number, text in enumerate(case.get(key, ()), start=1)
        )

    return RequirementSet(
        lines("wanted", "requirements.txt"),
        lines("constraints", "constraints.txt"),
        pre=case.get("pre", False),
        format_control=FormatControl(frozenset(case.get("no_binary", ())), frozenset(case.get("only_binary", ()))),
        selection=Selection(
            before=datetime.fromisoformat(case["before"]) if "before" in case else None,
            pre=frozenset(map(canonicalize_name, case.get("pre_for", ()))),
        ),
    )


@pytest.mark.parametrize("workers", [0, 8])
@pytest.mark.parametrize("case", CASES)
def test_case(case: dict[str, Any], workers: int) -> None:
    world = World(case["index"])
    targets = [make_target(python, [PLATFORMS[system]]) for python, system in case.get("targets", [["3.12", "linux"]])]
    events: list[Event] = []
    with Resolution(wanted(case), world, world, workers=workers, report=events.append) as resolution:
        if "error" in case:
            with pytest.raises(ResolutionError) as caught:
                resolution.plan(targets)
            for words in case["error"]:
                assert words in f"{caught.value}\n{caught.value.hint}"
            return
        plan = resolution.plan(targets)
    got = [{pin.project: pin.version for pin in target.pins} for target in plan.targets]
    expected = case["pins"] if isinstance(case["pins"], list) else [case["pins"]] * len(targets)
    assert got == expected
    if "files" in case:
        assert sorted(plan.files()) == case["files"]
    if "builds" in case:
        builds = {
            f"{build.project} {build.version}": {pin.project: pin.version for pin in build.pins}
            for build in plan.targets[0].builds
        }
        assert builds == case["builds"]
    if "chains" in case:
        chains = {pin.project: list(pin.chain) for pin in plan.targets[0].pins}
        assert {project: chains[project] for project in case["chains"]} == case["chains"]
    if "differences" in case:
        assert {found.project: list(found.reasons) for found in plan.differences} == case["differences"]
    warnings = [event.text for event in events if event.kind == "warning"]
    assert [words for words in case.get("warnings", ()) if not any(words in text for text in warnings)] == []
    assert bool(warnings) == bool(case.get("warnings"))
    if workers == 0:
        assert len(world.reads) <= case.get("reads", len(plan.files()))


def hashed(text: str, *digests: str) -> RequirementLine:
    return RequirementLine(Requirement(text), f"lock.txt:{text}", tuple(f"sha256:{digest}" for digest in digests))


def test_a_hashed_lock_must_hash_what_its_lines_require() -> None:
    world = World({"a 1.0": {"requires": ["b"]}, "b 1.0": {}})
    digest = hashlib.sha256(b"").hexdigest()
    lock = RequirementSet((hashed("a==1.0", digest),))
    with Resolution(lock, world, world, workers=0) as resolution, pytest.raises(ResolutionError) as caught:
        resolution.plan([make_target("3.12", ["linux"])])
    assert "b 1.0 has no --hash" in str(caught.value)
    assert "a 1.0: b" in str(caught.value)


def test_all_that_lacks_a_hash_is_named_with_the_lines_to_add() -> None:
    releases = {"a 1.0": {"requires": ["b", "c"], "sdist": True, "build": ["d"]}, "b 1.0": {}, "c 1.0": {}, "d 1.0": {}}
    world = World(releases)
    lock = RequirementSet((hashed("a==1.0", "0" * 64),))
    with Resolution(lock, world, world, workers=0) as resolution, pytest.raises(MissingHashesError) as caught:
        resolution.plan([make_target("3.12", ["linux"])])
    assert "b 1.0 and c 1.0 have no --hash" in str(caught.value)
    assert caught.value.lines == ("b==1.0 --hash=sha256:…", "c==1.0 --hash=sha256:…")  # this index shows no digests
    assert caught.value.hint.endswith("\n  b==1.0 --hash=sha256:…\n  c==1.0 --hash=sha256:…")


def test_what_several_builds_lack_is_named_together() -> None:
    releases = {name: {"sdist": True, "build": build} for name, build in (("a 1.0", ["c", "d"]), ("b 1.0", ["d"]))}
    world = World({**releases, "c 1.0": {}, "d 1.0": {}})
    lock = RequirementSet((hashed("a==1.0", "0" * 64), hashed("b==1.0", "0" * 64)))
    with Resolution(lock, world, world, workers=0) as resolution, pytest.raises(MissingHashesError) as caught:
        resolution.plan([make_target("3.12", ["linux"])])
    assert caught.value.lines == ("c==1.0 --hash=sha256:…", "d==1.0 --hash=sha256:…")
    for name in ("a", "b"):
        assert f"building {name} 1.0: d" in str(caught.value)


def test_a_release_candidate_of_python_counts_as_that_python() -> None:
    world = World({"a 1.0": {"python": ">=3.14"}, "a 2.0": {"python": "<3.14"}})
    lines = RequirementSet((RequirementLine(Requirement("a"), "r:1"),))
    with Resolution(lines, world, world, workers=0) as resolution:
        plan = resolution.plan([make_target("3.14.0rc2", ["linux"])])
    assert [pin.version for pin in plan.targets[0].pins] == ["1.0"]


def test_pins_are_told_while_the_search_goes_on() -> None:
    world = World({"a 1.0": {"requires": ["b"]}, "b 1.0": {}})
    told: list[str] = []
    lines = RequirementSet((RequirementLine(Requirement("a"), "r:1"),))
    with Resolution(lines, world, world, workers=0, pinned=lambda file: told.append(file.filename)) as resolution:
        resolution.plan([make_target("3.12", ["linux"])])
    assert told == ["a-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl"]


def test_ten_thousand_versions_cost_one_read() -> None:
    world = World({f"a 1.{number}": {} for number in range(10_000)})
    lines = RequirementSet((RequirementLine(Requirement("a<1.5000"), "r:1"),))
    with Resolution(lines, world, world, workers=0) as resolution:
        plan = resolution.plan([make_target("3.12", ["linux"])])
    assert [pin.version for pin in plan.targets[0].pins] == ["1.4999"]
    assert len(world.reads) == 1
