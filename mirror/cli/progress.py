"""Draws events: bars at a terminal, plain lines in a pipe or a log. Everything goes to standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, NoReturn

import click

from mirror.cli.units import human_bytes
from mirror.models import Event, Reporter, Stage

if TYPE_CHECKING:
    from tqdm import tqdm

#: Seconds between two lines of one stage where there is no terminal.
LINE_EVERY = 10.0


@contextmanager
def progress(*, quiet: bool = False, verbose: bool = False) -> Iterator[Reporter]:
    """Yield the reporter that fits where standard error goes, and leave a clean line behind."""
    if quiet:
        yield _only_warnings
    elif sys.stderr.isatty():
        bars = _Bars(verbose=verbose)
        try:
            yield bars
        finally:
            bars.close()
    else:
        yield _Lines(verbose=verbose)


def undisturbed(report: Reporter) -> AbstractContextManager[None]:
    """Keep *report* from drawing while a person is asked something."""
    return report.hidden() if isinstance(report, _Bars) else nullcontext()


def _only_warnings(event: Event) -> None:
    if event.kind == "warning":
        click.echo(f"warning: {event.text}", err=True)


@dataclass
class _Count:
    """How far a stage is."""

    total_items: int = 0
    total_bytes: int = 0
    items: int = 0
    bytes: int = 0
    started: float = 0.0
    shown: float = 0.0

    def __str__(self) -> str:
        of_items = f" of {self.total_items}" if self.total_items else ""
        of_bytes = f" of {human_bytes(self.total_bytes)}" if self.total_bytes else ""
        amount = f"{human_bytes(self.bytes)}{of_bytes}" if self.bytes else ""
        if amount and not self.items and not self.total_items:
            return amount
        return ", ".join(filter(None, [f"{self.items}{of_items}", amount]))


def _short(text: str, width: int = 44) -> str:
    """The beginning of *text*: a file's name says its project first."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


class _Lines:
    """One line when a stage ends, and one now and then while it lasts."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._counts: dict[Stage, _Count] = {}
        self._lock = Lock()

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        with self._lock:
            if event.kind == "warning":
                click.echo(f"warning: {event.text}", err=True)
                return
            if event.kind == "info":
                if self._verbose:
                    click.echo(event.text, err=True)
                return
            if event.kind == "note":
                click.echo(f"{event.stage.value}, {event.text}, {human_bytes(event.bytes)}", err=True)
                return
            count = self._counts.setdefault(event.stage, _Count(started=now, shown=now))
            if event.kind == "begin":
                count.total_items, count.total_bytes = event.items, event.bytes
            elif event.kind == "advance":
                count.items += event.items
                count.bytes += event.bytes
                if now - count.shown >= LINE_EVERY:
                    count.shown = now
                    click.echo(f"{event.stage.value}: {count}", err=True)
            else:
                del self._counts[event.stage]
                if count.items or count.bytes:
                    click.echo(f"{event.stage.value}: {count}, {now - count.started:.1f} s", err=True)


class _Bars:
    """One tqdm bar for each stage under way: bytes and speed where bytes are known, items elsewhere."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._bars: dict[Stage, tqdm[NoReturn]] = {}
        self._counts: dict[Stage, _Count] = {}
        self._lock = Lock()
        self._later: list[Event] | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._later is not None:
                self._later.append(event)
            else:
                self._tell(event)

    def _tell(self, event: Event) -> None:
        if event.kind == "warning":
            self._write(f"warning: {event.text}")
        elif event.kind == "info":
            if self._verbose:
                self._write(event.text)
        elif event.kind == "end":
            self._end(event.stage)
        elif event.kind != "note":
            self._draw(event)

    def _draw(self, event: Event) -> None:
        count = self._counts.setdefault(event.stage, _Count(started=time.monotonic()))
        if event.kind == "begin":
            count.total_items, count.total_bytes = event.items, event.bytes
        else:
            count.items += event.items
            count.bytes += event.bytes
        by_bytes = count.total_bytes > 0 or count.bytes > 0
        bar = self._bars.get(event.stage)
        if bar is None:
            bar = self._bars[event.stage] = self._new_bar(event.stage, by_bytes=by_bytes)
        elif by_bytes and bar.unit != "B":
            bar.unit, bar.unit_scale, bar.unit_divisor = "B", True, 1024
        bar.total = (count.total_bytes if by_bytes else count.total_items) or None
        if event.text:
            of_items = f"{count.items}/{count.total_items} " if by_bytes and count.total_items else ""
            bar.set_postfix_str(f"{of_items}{_short(event.text)}", refresh=False)
        bar.n = count.bytes if by_bytes else count.items
        bar.update(0)
        if event.kind == "begin":
            bar.refresh()

    @staticmethod
    def _new_bar(stage: Stage, *, by_bytes: bool) -> tqdm[NoReturn]:
        from tqdm import tqdm

        return tqdm(
            desc=stage.value,
            unit="B" if by_bytes else " ",
            unit_scale=by_bytes,
            unit_divisor=1024,
            leave=False,
            file=sys.stderr,
            dynamic_ncols=True,
        )

    def _end(self, stage: Stage) -> None:
        bar = self._bars.pop(stage, None)
        count = self._counts.pop(stage, None)
        if bar is not None:
            bar.close()
            sys.stderr.write("\r")  # tqdm leaves the cursor behind the end of one that others were above
        if count is not None and (count.items or count.bytes):
            self._write(f"{stage.value}: {count}, {time.monotonic() - count.started:.1f} s")

    def _write(self, text: str) -> None:
        if self._bars:
            next(iter(self._bars.values())).write(text, file=sys.stderr)
        else:
            click.echo(text, err=True)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the bars off the screen, and leave it alone meanwhile; what happens then is told afterwards."""
        with self._lock:
            for bar in self._bars.values():
                bar.clear()
            self._later = []
        try:
            yield
        finally:
            with self._lock:
                later, self._later = self._later, None
                for event in later:
                    self._tell(event)

    def close(self) -> None:
        """Take all bars off the screen; also after an error."""
        with self._lock:
            for bar in self._bars.values():
                bar.close()
            self._bars.clear()
