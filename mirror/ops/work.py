"""One source tree, and the environment that its backend runs in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from packaging.requirements import Requirement

from mirror.fetch import Fetched
from mirror.metadata.sdist import BuildSystem
from mirror.models import File, Pin, Target
from mirror.store import Store

if TYPE_CHECKING:  # few runs build anything
    from mirror.build.backend import Backend

_NAMESPACE = "builds"


class Workshop(Protocol):
    """Where the contents of environments come from."""

    @property
    def host(self) -> Target:
        """The machine that everything is built on."""

    def resolve(self, requires: Sequence[Requirement], what: str) -> tuple[Pin, ...]:
        """What an environment needs for *requires*."""

    def fetched(self, file: File) -> Fetched:
        """*file* in the store, checked."""

    def installable(self, pins: Sequence[Pin], folder: Path) -> list[Path]:
        """The wheels of *pins* in the new *folder*."""


class Work:
    """A source tree and the environment that it is built in; made when something must run, for notes may tell already.

    A note holds what a backend said, under everything that it could know: the sdist, this machine's Python, and every
    file of the environment. So a second run builds nothing again, and a wheel built here keeps its bytes.
    """

    def __init__(
        self,
        workshop: Workshop,
        system: BuildSystem,
        folder: Path,
        what: str,
        *,
        tree: Callable[[], Path],
        notes: tuple[Store, str] | None = None,
    ) -> None:
        self.requires = system.requires
        self.pins = workshop.resolve(system.requires, what)
        self._workshop = workshop
        self._system = system
        self._folder = folder
        self._what = what
        self._tree = tree
        self._notes = notes
        self._unpacked: Path | None = None
        self._backends: dict[tuple[Pin, ...], Backend] = {}

    def settle(self, ask: Callable[[Backend], Sequence[Requirement]]) -> None:
        """Add what the backend asks for on top of what its build system names."""
        noted = self.noted("asks", lambda: "\n".join(map(str, ask(self.backend()))).encode())
        asked = (Requirement(text) for text in noted.decode().splitlines())
        requires = tuple(dict.fromkeys([*self.requires, *asked]))
        if requires != self.requires:
            self.requires = requires
            self.pins = self._workshop.resolve(requires, self._what)

    def backend(self) -> Backend:
        """The backend, in an environment that holds ``pins``."""
        from mirror.build.backend import Backend
        from mirror.build.environment import create

        found = self._backends.get(self.pins)
        if found is None:
            place = self._folder / f"environment-{len(self._backends)}"
            place.mkdir()
            environment = create(place, self._workshop.installable(self.pins, place / "wheels"), what=self._what)
            if self._unpacked is None:
                self._unpacked = self._tree()
            found = self._backends[self.pins] = Backend(self._unpacked, self._system, environment, what=self._what)
        return found

    def noted(self, kind: str, make: Callable[[], bytes], *, sound: Callable[[bytes], bool] = lambda _: True) -> bytes:
        """What *make* returns, or what it returned when all was the same and is still *sound*."""
        if self._notes is None:
            return make()
        store, sha256 = self._notes
        host = self._workshop.host
        about = sorted(f"{pin.file.filename} {self._workshop.fetched(pin.file).sha256}" for pin in self.pins)
        key = "\n".join([kind, sha256, host.python, host.tags[0], *about])
        known = store.note(_NAMESPACE, key)
        if known is None or not sound(known):
            known = make()
            store.set_note(_NAMESPACE, key, known)
        return known
