from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.models import Hashes
from mirror.push.plan import Step, dependency_waves, plan, undecided
from mirror.push.schedule import run_steps


@dataclass(frozen=True)
class Entry:
    filename: str
    project: str
    sha256: str = "0" * 64
    requires: tuple[str, ...] = ()
    version: str = "1"
    size: int = 1
    carrier: str | None = None


def sha(digit: str) -> Hashes:
    return Hashes.of({"sha256": digit * 64})


def test_files_are_new_present_or_in_conflict() -> None:
    files = [Entry("c.whl", "c"), Entry("b.whl", "b"), Entry("a.whl", "a"), Entry("a2.whl", "a")]
    found = plan(files, {"a": {"a.whl": sha("0"), "other.whl": sha("5")}, "b": {"b.whl": sha("1")}, "c": {}})
    assert [file.filename for file in found.present] == ["a.whl"]
    assert [file.filename for file in found.conflicts] == ["b.whl"]
    assert [file.filename for file in found.new] == ["a2.whl", "c.whl"]


def test_only_sha256_decides() -> None:
    files = [Entry("a.whl", "a"), Entry("b.whl", "b"), Entry("c.whl", "c"), Entry("d.whl", "d")]
    listings = {
        "a": {"a.whl": Hashes.of({"md5": "0" * 32})},
        "b": {"b.whl": Hashes()},
        "c": {"c.whl": sha("0")},
    }
    assert [file.filename for file in undecided(files, listings)] == ["a.whl", "b.whl"]


def test_waves_put_dependencies_first_and_cycles_together() -> None:
    files = [
        Entry("app.whl", "app", requires=("lib", "cycle-a", "elsewhere")),
        Entry("lib.whl", "lib", requires=("lib",)),
        Entry("lib2.whl", "lib", requires=("base",)),
        Entry("a.whl", "cycle-a", requires=("cycle-b",)),
        Entry("b.whl", "cycle-b", requires=("cycle-a", "base")),
        Entry("base.whl", "base"),
    ]
    assert dependency_waves(files) == (
        (Step(("base",), ()),),
        (Step(("cycle-a", "cycle-b"), ("base",)), Step(("lib",), ("base",))),
        (Step(("app",), ("cycle-a", "lib")),),
    )


def test_a_very_long_chain_does_not_exhaust_the_stack() -> None:
    files = [Entry(f"{i}.whl", f"p{i}", requires=(f"p{i + 1}",)) for i in range(5000)]
    assert len(dependency_waves(files)) == 5000


names = st.sampled_from([f"p{i}" for i in range(12)])
graphs = st.dictionaries(names, st.frozensets(names, max_size=4), min_size=1)


def entries(graph: dict[str, frozenset[str]]) -> list[Entry]:
    return [Entry(f"{name}.whl", name, requires=tuple(requires)) for name, requires in graph.items()]


def reachable(graph: dict[str, frozenset[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        for name in graph.get(todo.pop(), frozenset()):
            if name in graph and name not in seen:
                seen.add(name)
                todo.append(name)
    return seen


@given(graphs)
def test_every_project_comes_once_after_all_that_it_needs(graph: dict[str, frozenset[str]]) -> None:
    waves = dependency_waves(entries(graph))
    flat = [project for wave in waves for step in wave for project in step.projects]
    assert sorted(flat) == sorted(graph)
    done: set[str] = set()
    for wave in waves:
        for step in wave:
            for project in step.projects:
                needed = reachable(graph, project)
                assert needed - set(step.projects) <= done
                # A step is exactly a cycle: whoever is in it needs all of it.
                assert len(step.projects) == 1 or needed >= set(step.projects)
        done.update(project for step in wave for project in step.projects)


@given(graphs, st.frozensets(names, max_size=3), st.integers(1, 4))
def test_nothing_begins_before_what_it_needs_or_after_its_failure(
    graph: dict[str, frozenset[str]], failing: frozenset[str], workers: int
) -> None:
    steps = [step for wave in dependency_waves(entries(graph)) for step in wave]
    finished: list[str] = []
    lock = threading.Lock()

    def work(step: Step) -> bool:
        with lock:
            assert set(step.after) <= set(finished)
        if failing & set(step.projects):
            return False
        with lock:
            finished.extend(step.projects)
        return True

    stop = threading.Event()
    blocked = run_steps(steps, work, workers=workers, cost={}, stop=stop)
    assert not stop.is_set()
    broken = {name for step in steps if failing & set(step.projects) for name in step.projects}
    expected = {name for name in graph if reachable(graph, name) & broken} - broken
    held_back = {name for step in blocked for name in step.projects}
    assert expected - held_back == set()
    assert set(finished) | broken | held_back == set(graph)
    assert set(finished) & held_back == set()
    assert all(cause in broken for cause in blocked.values())


@given(graphs, st.frozensets(names, max_size=5), st.frozensets(names, max_size=3), st.integers(1, 4))
def test_what_is_settled_together_holds_back_only_what_needs_it(
    graph: dict[str, frozenset[str]], later: frozenset[str], failing: frozenset[str], workers: int
) -> None:
    """Steps of *later* are settled after they ran; those of *failing* are found to be incomplete then."""
    steps = [step for wave in dependency_waves(entries(graph)) for step in wave]
    failing &= later
    began: list[str] = []
    complete: set[str] = set()
    lock = threading.Lock()

    def work(step: Step) -> bool | None:
        with lock:
            assert set(step.after) <= complete
            began.extend(step.projects)
            if later & set(step.projects):
                return None
            complete.update(step.projects)
        return True

    def settle(accepted: Sequence[Step]) -> list[Step]:
        with lock:
            found = [step for step in accepted if not failing & set(step.projects)]
            complete.update(project for step in found for project in step.projects)
        return found

    blocked = run_steps(steps, work, workers=workers, cost={}, stop=threading.Event(), settle=settle)
    expected: set[str] = set()
    broken: set[str] = set()
    for step in steps:
        if (expected | broken).intersection(step.after):
            expected.update(step.projects)
        elif failing & set(step.projects):
            broken.update(step.projects)
    assert {name for step in blocked for name in step.projects} == expected
    assert sorted(began) == sorted(set(graph) - expected)
    assert complete == set(graph) - expected - broken


def test_steps_that_are_ready_go_before_the_settling_of_others() -> None:
    steps = [Step((f"p{number}",), ()) for number in range(40)]
    events: list[int] = []

    def settle(accepted: Sequence[Step]) -> Sequence[Step]:
        events.append(len(accepted))
        return accepted

    run_steps(steps, lambda _: None, workers=2, cost={}, stop=threading.Event(), settle=settle)
    assert sum(events) == 40
    assert len(events) <= 3


def test_the_longest_way_goes_first() -> None:
    steps = [Step(("big",), ()), Step(("leaf",), ()), Step(("root",), ()), Step(("top",), ("root",))]
    order: list[str] = []

    def work(step: Step) -> bool:
        order.extend(step.projects)
        return True

    run_steps(steps, work, workers=1, cost={"big": 5, "leaf": 1, "root": 1, "top": 9}, stop=threading.Event())
    assert order == ["root", "top", "big", "leaf"]


def test_an_exception_in_a_step_stops_the_others() -> None:
    stop = threading.Event()

    def work(step: Step) -> bool:
        if step.projects == ("bad",):
            raise ZeroDivisionError
        return stop.wait(30)

    with pytest.raises(ZeroDivisionError):
        run_steps([Step(("slow",), ()), Step(("bad",), ())], work, workers=2, cost={}, stop=stop)
    assert stop.is_set()
