"""Runs the steps of a plan in threads, each as soon as everything that it needs is complete."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from heapq import heappop, heappush
from itertools import chain

from mirror.push.plan import Step

# So many steps that wait to be settled do not wait for what still runs, too.
_MANY = 16


def run_steps(
    steps: Sequence[Step],
    work: Callable[[Step], bool | None],
    *,
    workers: int,
    cost: Mapping[str, int],
    stop: threading.Event,
    settle: Callable[[Sequence[Step]], Collection[Step]] = list,
) -> dict[Step, str]:
    """Call *work* for each of *steps*, at most *workers* at a time, and return the steps that could not begin.

    *steps* come dependencies first. *work* says whether the step is complete now; if not, what depends on it, however
    indirectly, is never begun, and is returned with the project that it would have waited for. Among steps that could
    begin, the one with the longest way to go wins: *cost* (any unit, by project) adds up along the dependents.

    Where *work* says None, *settle* will tell: it gets many such steps together, when nothing else could begin, and
    returns those that are complete.

    *stop* is for *work* to watch: it is set where this function leaves with an exception, Ctrl-C for one, so that
    what is under way ends early.
    """
    dependents = _dependents(steps)
    way = _longest_ways(steps, dependents, cost)
    waiting = [len(step.after) for step in steps]  # each project of it is complete once
    ready = [(-way[position], position) for position, left in enumerate(waiting) if not left]
    ready.sort()
    blocked: dict[int, str] = {}
    unsettled: list[Step] = []
    running: set[Future[list[tuple[Step, bool | None]]]] = set()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="airgap-push")

    def one(step: Step) -> list[tuple[Step, bool | None]]:
        return [(step, work(step))]

    def together(steps: Sequence[Step]) -> list[tuple[Step, bool | None]]:
        complete = set(settle(steps))
        return [(step, step in complete) for step in steps]

    try:
        while ready or running or unsettled:
            while ready and len(running) < workers:
                running.add(executor.submit(one, steps[heappop(ready)[1]]))
            if unsettled and not ready and (not running or (len(unsettled) >= _MANY and len(running) < workers)):
                running.add(executor.submit(together, unsettled))
                unsettled = []
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for step, complete in chain.from_iterable(future.result() for future in done):
                if complete is None:
                    unsettled.append(step)
                elif not complete:
                    _block(step, steps, dependents, blocked)
                else:
                    for position in chain.from_iterable(dependents.get(project, ()) for project in step.projects):
                        waiting[position] -= 1
                        if not waiting[position]:
                            heappush(ready, (-way[position], position))
    except BaseException:
        stop.set()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    return {steps[position]: project for position, project in blocked.items()}


def in_order(steps: Sequence[Step], cost: Mapping[str, int]) -> list[Step]:
    """*steps* in the order in which :func:`run_steps` would begin them if each took no time."""
    way = _longest_ways(steps, _dependents(steps), cost)
    return [steps[position] for position in sorted(range(len(steps)), key=lambda position: -way[position])]


def _dependents(steps: Sequence[Step]) -> dict[str, list[int]]:
    """The positions of the steps that wait for each project."""
    found: dict[str, list[int]] = {}
    for position, step in enumerate(steps):
        for project in step.after:
            found.setdefault(project, []).append(position)
    return found


def _longest_ways(steps: Sequence[Step], dependents: Mapping[str, Sequence[int]], cost: Mapping[str, int]) -> list[int]:
    way = [0] * len(steps)
    for position in reversed(range(len(steps))):
        projects = steps[position].projects
        after = (way[dependent] for project in projects for dependent in dependents.get(project, ()))
        way[position] = sum(cost.get(project, 0) for project in projects) + max(after, default=0)
    return way


def _block(
    failed: Step, steps: Sequence[Step], dependents: Mapping[str, Sequence[int]], blocked: dict[int, str]
) -> None:
    """Mark everything that needs *failed*; a step marked already has its cause."""
    spread = [failed]
    while spread:
        for project in spread.pop().projects:
            for position in dependents.get(project, ()):
                if position not in blocked:
                    blocked[position] = failed.projects[0]
                    spread.append(steps[position])
