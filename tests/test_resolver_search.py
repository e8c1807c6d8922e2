"""The search takes resolvelib's steps, one by one, whatever the releases are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, reject, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from resolvelib import BaseReporter, ResolutionImpossible, ResolutionTooDeep, Resolver

from mirror.models import RequirementLine
from mirror.resolver.candidates import Finder, Rules
from mirror.resolver.dependencies import Markers, root_needs
from mirror.resolver.needs import Candidate, Need
from mirror.resolver.prefetch import Prefetcher
from mirror.resolver.provider import Key, Provider, SearchReporter
from mirror.resolver.releases import Catalog
from mirror.resolver.search import Search
from mirror.targets import make_target
from tests.memory_support import run_measured
from tests.test_resolver import World

TARGET = make_target("3.12", ["manylinux_2_28_x86_64"])
Releases = Mapping[str, dict[str, Any]]


class Steps(SearchReporter):
    """Every step in words."""

    def __init__(self, rejected: Callable[[Candidate], None]) -> None:
        self.taken: list[str] = []
        super().__init__(lambda candidate: self.taken.append(f"pin {candidate}"), rejected)

    def adding_requirement(self, requirement: Need, parent: Candidate | None) -> None:
        self.taken.append(f"{parent or 'user'} asks for {requirement.text}[{requirement.extra}]")
        super().adding_requirement(requirement, parent)

    def rejecting_candidate(self, criterion: Any, candidate: Candidate) -> None:
        self.taken.append(f"reject {candidate}")
        super().rejecting_candidate(criterion, candidate)


Solve = Callable[[Provider, BaseReporter[Need, Candidate, Key], Sequence[Need], int], Mapping[Key, Candidate]]


def resolvelib(
    provider: Provider, reporter: BaseReporter[Need, Candidate, Key], needs: Sequence[Need], rounds: int
) -> Mapping[Key, Candidate]:
    return Resolver(provider, reporter).resolve(needs, max_rounds=rounds).mapping


def ours(
    provider: Provider, reporter: BaseReporter[Need, Candidate, Key], needs: Sequence[Need], rounds: int
) -> Mapping[Key, Candidate]:
    return Search(provider, reporter).resolve(needs, max_rounds=rounds)


def steps(releases: Releases, wanted: Sequence[str], solve: Solve, rounds: int) -> tuple[list[str], object]:
    world, markers = World(dict(releases)), Markers(TARGET)
    with Prefetcher(world, workers=0, pinned=lambda _: None) as prefetcher:
        provider = Provider(Finder(Catalog(world), world, TARGET, Rules()), markers, world, prefetcher)
        reporter = Steps(provider.rejected)
        needs = root_needs([RequirementLine(Requirement(text), f"line {text}") for text in wanted], markers)
        try:
            found: object = {key: str(candidate) for key, candidate in solve(provider, reporter, needs, rounds).items()}
        except ResolutionImpossible as impossible:
            found = [(str(cause.requirement), str(cause.parent)) for cause in impossible.causes]
        except ResolutionTooDeep:
            found = "too deep"
    return reporter.taken, found


NAMES = [f"p{number}" for number in range(7)]
VERSIONS = ["1", "2", "3", "4a1"]
ASKED = st.builds(
    "{}{}{}".format,
    st.sampled_from(NAMES),
    st.sampled_from(["", "", "", "[x]"]),
    st.sampled_from(["", "<2", "<3", ">=2", ">2", "==1", "==2", "!=3", "==4a1", ">=3"]),
)


@st.composite
def indexes(draw: st.DrawFn) -> Releases:
    found: dict[str, dict[str, Any]] = {}
    for name in NAMES:
        for version in sorted(draw(st.sets(st.sampled_from(VERSIONS), min_size=1))):
            asked = draw(st.lists(ASKED, max_size=3))
            extra = [f"{text} ; extra == 'x'" for text in draw(st.lists(ASKED, max_size=1))]
            found[f"{name} {version}"] = {"requires": asked + extra, "extras": ["x"]}
    return found


@settings(max_examples=80, deadline=None)
@given(indexes(), st.lists(ASKED, min_size=1, max_size=5), st.sampled_from([3, 15, 400]))
def test_the_steps_are_those_of_resolvelib(releases: Releases, wanted: list[str], rounds: int) -> None:
    """Few rounds are also few in which the search may jump back further than is safe."""
    try:
        theirs = steps(releases, wanted, resolvelib, rounds)
    except RecursionError:  # it follows projects round a circle that no line leads to any more
        reject()
    assert steps(releases, wanted, ours, rounds) == theirs


class Counting(Provider):
    """Counts what it is asked for each project: the search's work."""

    asked = 0

    def is_satisfied_by(self, requirement: Need, candidate: Candidate) -> bool:
        self.asked += 1
        return super().is_satisfied_by(requirement, candidate)

    def get_preference(self, *args: Any, **keywords: Any) -> Any:
        self.asked += 1
        return super().get_preference(*args, **keywords)


def layered(projects: int) -> tuple[World, list[Need]]:
    """Projects that each ask for the next four, all of them in the user's lines."""
    names = [f"p{number}" for number in range(projects)]
    releases = {
        f"{name} {version}": {"requires": [f"{other}>=1" for other in names[number + 1 : number + 5]]}
        for number, name in enumerate(names)
        for version in (1, 2)
    }
    markers = Markers(TARGET)
    return World(releases), root_needs([RequirementLine(Requirement(name), name) for name in names], markers)


def work(projects: int) -> int:
    world, needs = layered(projects)
    with Prefetcher(world, workers=0, pinned=lambda _: None) as prefetcher:
        provider = Counting(Finder(Catalog(world), world, TARGET, Rules()), Markers(TARGET), world, prefetcher)
        assert len(Search(provider, BaseReporter()).resolve(needs, max_rounds=10_000)) == projects
    return provider.asked


def test_the_work_grows_with_the_number_of_projects_and_not_with_its_square() -> None:
    assert work(400) < 2.2 * work(200)


def test_memory_grows_with_the_number_of_projects_and_not_with_its_square(tmp_path: Path) -> None:
    """resolvelib takes 200 MiB for 1,500 projects."""
    script = "from tests.test_resolver_search import work; work(1500)"
    root = Path(__file__).parent.parent
    environ = {**os.environ, "PYTHONPATH": str(root)}
    _, peak = run_measured([sys.executable, "-c", script], cwd=tmp_path, env=environ)
    assert peak < 120 * 2**20
