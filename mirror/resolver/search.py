"""resolvelib's search for sets of thousands of projects: the same steps in the same order, in little time and memory.

resolvelib keeps a copy of everything for each pin, to go back to, and looks at everything again for the next one: both
grow with the square of the number of projects. Here a step keeps what it changed, which is taken back where the search
goes back, and only what changed is looked at again. Everything else, and above all which version is tried next, is as
in resolvelib 1.2: the tests compare the two.
"""

from __future__ import annotations

from collections import ChainMap, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any

from resolvelib.resolvers import (
    Criterion,
    InconsistentCandidate,
    RequirementInformation,
    RequirementsConflicted,
    ResolutionImpossible,
    ResolutionTooDeep,
)
from resolvelib.structs import IteratorMapping

from mirror.resolver.needs import Candidate, Need

if TYPE_CHECKING:
    from resolvelib import BaseReporter

    from mirror.resolver.candidates import Matches
    from mirror.resolver.provider import Key, Provider

    Cause = RequirementInformation[Need, Candidate]
    Asked = Criterion[Need, Candidate]

# The part of the rounds for which the search may jump back further than is safe.
_OPTIMISTIC = 0.1


@dataclass(slots=True)
class _Step:
    """What one step of the search changed: ``criteria`` as they were before, None where there were none.

    ``pins`` are the pins made in it, in order, each with what it took the place of; nearly always one. ``causes`` is
    the last conflict before it.
    """

    causes: Sequence[Cause]
    pins: tuple[tuple[Key, Candidate, Candidate | None], ...] = ()
    criteria: dict[Key, Asked | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Saved:
    """Where to go on from, should jumping back further than is safe find nothing."""

    pins: dict[Key, Candidate]
    criteria: dict[Key, Asked]
    steps: list[_Step]


class Search:
    """One search; *provider* and *reporter* are resolvelib's."""

    def __init__(self, provider: Provider, reporter: BaseReporter[Need, Candidate, Key]) -> None:
        self._provider = provider
        self._reporter = reporter
        self._pins: dict[Key, Candidate] = {}
        self._criteria: dict[Key, Asked] = {}
        self._steps: list[_Step] = []
        #: What is not pinned to a candidate that everybody accepts.
        self._open: set[Key] = set()
        # By preference; what is no longer so is passed over.
        self._queue: list[tuple[Any, Key]] = []
        self._optimistic = True
        self._saved: _Saved | None = None

    def resolve(self, requirements: Iterable[Need], max_rounds: int) -> dict[Key, Candidate]:
        """Return a candidate for each project and extra that *requirements* lead to.

        Raises resolvelib's ResolutionImpossible or, after *max_rounds*, its ResolutionTooDeep.
        """
        self._steps.append(_Step(()))
        for need in requirements:
            added: dict[Key, Asked] = {}
            try:
                self._add(added, need, None)
            except RequirementsConflicted as conflicted:
                raise ResolutionImpossible(conflicted.criterion.information) from conflicted
            self._change(added)
        self._push()
        last = None
        for number in range(max_rounds):
            if self._optimistic and self._saved is not None:
                if last is None:
                    last = number + int((max_rounds - number) * _OPTIMISTIC)
                if number >= last:
                    self._roll_back(self._saved)
                    continue
            if not self._open:
                return self._wanted()
            conflicts = self._pin(self._next())
            if not conflicts:
                self._push()
                continue
            causes = list({id(cause): cause for criterion in conflicts for cause in criterion.information}.values())
            self._reporter.resolving_conflicts(causes=causes)
            if self._jump_back(causes):
                self._steps[-1].causes = causes
            elif self._optimistic and self._saved is not None:
                self._roll_back(self._saved)
            else:
                raise ResolutionImpossible(causes)
        raise ResolutionTooDeep(max_rounds)

    def _next(self) -> Key:
        """The open project that is pinned next."""
        causes = self._steps[-1].causes
        if len(self._open) > 1 and causes:
            narrowed = [*self._provider.narrow_requirement_selection(self._open, self._pins, {}, {}, causes)]
            if len(narrowed) < len(self._open):
                return min(narrowed, key=self._preference)
        while True:
            preference, key = self._queue[0]
            if key in self._open and preference == self._preference(key):
                return key
            heappop(self._queue)

    def _preference(self, key: Key) -> Any:
        asked = {key: iter(self._criteria[key].information)}
        return self._provider.get_preference(key, self._pins, {}, asked, ())

    def _pin(self, key: Key) -> list[Asked]:
        """Pin *key* to the first candidate whose dependencies can be had; where there is none, what stood against."""
        criterion = self._criteria[key]
        conflicts: list[Asked] = []
        for candidate in criterion.candidates:
            added: dict[Key, Asked] = {}
            try:
                for need in self._provider.get_dependencies(candidate):
                    self._add(added, need, candidate)
            except RequirementsConflicted as conflicted:
                self._reporter.rejecting_candidate(conflicted.criterion, candidate)
                conflicts.append(conflicted.criterion)
                continue
            if not all(self._provider.is_satisfied_by(need, candidate) for need in criterion.iter_requirement()):
                raise InconsistentCandidate(candidate, criterion)
            self._reporter.pinning(candidate)
            closed = {other for other in added if other in self._pins and other not in self._open}
            step = self._steps[-1]
            step.pins += ((key, candidate, self._pins.get(key)),)
            self._pins[key] = candidate
            self._change(added)
            self._look(key)
            self._forget(closed & self._open)
            return []
        self._look(key)  # its rejections made it more urgent
        return conflicts

    def _add(self, added: dict[Key, Asked], need: Need, parent: Candidate | None) -> None:
        """Put into *added* what becomes of the criterion of its project by *need*."""
        self._reporter.adding_requirement(need, parent)
        key = self._provider.identify(need)
        criteria = ChainMap(added, self._criteria)
        known = criteria.get(key)
        excluded = known.incompatibilities if known else ()
        matches = self._matches(key, criteria, [need], excluded)
        information = (*(known.information if known else ()), RequirementInformation(need, parent))
        criterion: Asked = Criterion(matches, information, excluded)
        if not matches:
            raise RequirementsConflicted(criterion)
        added[key] = criterion

    def _matches(
        self, key: Key, criteria: Mapping[Key, Asked], needs: Collection[Need], excluded: Collection[Candidate]
    ) -> Matches:
        return self._provider.find_matches(
            key,
            IteratorMapping(criteria, methodcaller("iter_requirement"), {key: needs}),
            IteratorMapping(criteria, attrgetter("incompatibilities"), {key: excluded}),
        )

    def _forget(self, parents: Collection[Key]) -> None:
        """Drop what *parents* asked for: they are about to be pinned to other candidates."""
        if not parents:
            return
        changed: dict[Key, Asked] = {}
        for key, criterion in self._criteria.items():
            left = [
                cause
                for cause in criterion.information
                if cause.parent is None or self._provider.identify(cause.parent) not in parents
            ]
            if len(left) < len(criterion.information):
                changed[key] = Criterion(criterion.candidates, left, criterion.incompatibilities)
        self._change(changed)

    # Going forward and back.

    def _push(self) -> None:
        self._steps.append(_Step(self._steps[-1].causes))

    def _change(self, criteria: Mapping[Key, Asked]) -> None:
        """Let *criteria* take the place of others, whose needs they have: with more behind them, or without some.

        What was pinned to everybody's liking need only please whoever has come since.
        """
        before = self._steps[-1].criteria
        for key, criterion in criteria.items():
            old = self._criteria.get(key)
            before.setdefault(key, old)
            self._criteria[key] = criterion
            known = len(old.information) if old is not None and key in self._pins and key not in self._open else 0
            self._look(key, known)

    def _look(self, key: Key, known: int = 0) -> None:
        """See whether *key* is open, and how urgent it is; its pin is known to do for the first *known* needs."""
        criterion, pin = self._criteria.get(key), self._pins.get(key)
        if criterion is None or (
            pin is not None
            and all(
                self._provider.is_satisfied_by(need, pin) for need in islice(criterion.iter_requirement(), known, None)
            )
        ):
            self._open.discard(key)
        else:
            self._open.add(key)
            heappush(self._queue, (self._preference(key), key))

    def _jump_back(self, causes: Sequence[Cause]) -> bool:
        """Go back to a step that *causes* may come from, and exclude what was pinned there; False where none is left.

        At first, steps that have nothing to do with the conflict are jumped over, although that may miss a solution;
        how things were is kept, to go on from without that should nothing be found.
        """
        identify = self._provider.identify
        clashing = {identify(cause.parent) for cause in causes if cause.parent is not None}
        clashing |= {identify(cause.requirement) for cause in causes}
        while len(self._steps) >= 3:
            self._undo(self._steps.pop())
            while True:
                step = self._steps.pop()
                if not step.pins:
                    return False
                key, candidate, _ = step.pins[-1]
                if key not in clashing:
                    if not self._optimistic:
                        break
                    if self._saved is None:
                        self._saved = self._before(step)
                if not clashing.isdisjoint(map(identify, self._provider.get_dependencies(candidate))):
                    break
                if len(self._pins) == 1:
                    break
                if len(self._steps) <= 1:
                    return False
                self._undo(step)
            excluded = {other: [*c.incompatibilities] for other, c in self._criteria.items() if c.incompatibilities}
            self._undo(step)
            self._push()
            if self._exclude([*excluded.items(), (key, [candidate])]):
                return True
        return False

    def _exclude(self, excluded: Iterable[tuple[Key, list[Candidate]]]) -> bool:
        """Take *excluded* out of what may be pinned; False where nothing is left of one of them."""
        for key, candidates in excluded:
            criterion = self._criteria.get(key)
            if criterion is None:
                continue
            matches = self._matches(key, self._criteria, (), candidates)
            if not matches:
                return False
            incompatibilities = [*candidates, *criterion.incompatibilities]
            self._change({key: Criterion(matches, criterion.information, incompatibilities)})
        return True

    def _undo(self, step: _Step) -> None:
        _take_back(step, self._pins, self._criteria)
        for key in {key for key, _, _ in step.pins} | step.criteria.keys():
            self._look(key)

    def _before(self, step: _Step) -> _Saved:
        """How things were before *step*, which is about to be undone."""
        saved = _Saved(dict(self._pins), dict(self._criteria), list(self._steps))
        _take_back(step, saved.pins, saved.criteria)
        return saved

    def _roll_back(self, saved: _Saved) -> None:
        self._pins, self._criteria, self._steps = saved.pins, saved.criteria, saved.steps
        self._optimistic, self._saved = False, None
        self._open.clear()
        for key in self._criteria:
            self._look(key)

    def _wanted(self) -> dict[Key, Candidate]:
        """The pins without those that nobody asks for any more."""
        asked: dict[int, list[Key]] = {}
        found: dict[Key, None] = {}
        for key, criterion in self._criteria.items():
            for parent in criterion.iter_parent():
                if parent is None:
                    found[key] = None
                else:
                    asked.setdefault(id(parent), []).append(key)
        queue = deque(found)
        while queue:
            pin = self._pins.get(queue.popleft())
            further = [key for key in asked.get(id(pin), ()) if key not in found]
            found.update(dict.fromkeys(further))
            queue.extend(further)
        return {key: pin for key, pin in self._pins.items() if key in found}


def _take_back(step: _Step, pins: dict[Key, Candidate], criteria: dict[Key, Asked]) -> None:
    for key, _, before in reversed(step.pins):
        if before is None:
            del pins[key]
        else:
            pins[key] = before
    for key, criterion in step.criteria.items():
        if criterion is None:
            del criteria[key]
        else:
            criteria[key] = criterion
