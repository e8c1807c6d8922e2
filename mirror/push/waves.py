"""One line for each wave of a push, when all that it uploads is done: what a log should have of a long push."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from mirror.models import Event, Reporter, Stage
from mirror.push.outcomes import THERE, Outcomes
from mirror.push.plan import Step
from mirror.push.publisher import SourceFile


class Waves:
    """Counts the steps of each of *waves* that have files among *new*; safe for threads."""

    def __init__(
        self,
        waves: Sequence[Sequence[Step]],
        new: Mapping[str, Sequence[SourceFile]],
        outcomes: Outcomes,
        report: Reporter,
    ) -> None:
        busy = [[step for step in wave if any(project in new for project in step.projects)] for wave in waves]
        self._waves = [wave for wave in busy if wave]
        self._number = {step: number for number, wave in enumerate(self._waves) for step in wave}
        self._left = [len(wave) for wave in self._waves]
        self._new = new
        self._outcomes = outcomes
        self._report = report
        self._lock = threading.Lock()

    def done(self, step: Step) -> None:
        """*step* is over, well or not."""
        number = self._number.get(step)
        if number is None:
            return
        with self._lock:
            self._left[number] -= 1
            if self._left[number] == 0:
                self._tell(number)

    def close(self) -> None:
        """Tell of the waves that were not finished."""
        for number, left in enumerate(self._left):
            if left:
                self._tell(number)

    def _tell(self, number: int) -> None:
        files = [
            file for step in self._waves[number] for project in step.projects for file in self._new.get(project, ())
        ]
        there = [file for file in files if self._outcomes.state(file.filename) in THERE]
        text = f"wave {number + 1} of {len(self._waves)}: {len(there)} of {len(files)} files"
        self._report(Event("note", Stage.UPLOAD, text, bytes=sum(file.size for file in there)))
