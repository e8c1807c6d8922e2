"""The build backend of one source tree, called in its environment (PEP 517)."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from packaging.requirements import InvalidRequirement, Requirement

from mirror.build.environment import Environment
from mirror.errors import MetadataError, MissingExtraError
from mirror.metadata.sdist import BuildSystem

T = TypeVar("T")


class Backend:
    """Calls hooks of the backend that *system* names, for the tree at *source*; *what* is for messages.

    Every failure of the backend is a MetadataError. Its code runs in *environment* and sees nothing of this process.
    """

    def __init__(self, source: Path, system: BuildSystem, environment: Environment, *, what: str) -> None:
        try:
            from pyproject_hooks import BuildBackendHookCaller  # heavy, and an extra
        except ImportError as error:
            raise MissingExtraError("Building packages", "build") from error
        self._what = what
        self._environment = environment
        try:
            self._hooks = BuildBackendHookCaller(
                str(source),
                system.backend,
                backend_path=list(system.backend_path) or None,
                runner=self._run,
                python_executable=str(environment.python),
            )
        except ValueError as error:  # backend-path leads out of the tree
            raise MetadataError(f"{what}: {error}.") from error

    def requires_for_wheel(self) -> tuple[Requirement, ...]:
        """What building a wheel needs besides what the build system names; sorted."""
        return self._requirements(self._call(self._hooks.get_requires_for_build_wheel))

    def requires_for_sdist(self) -> tuple[Requirement, ...]:
        """What making an sdist needs besides what the build system names; sorted."""
        return self._requirements(self._call(self._hooks.get_requires_for_build_sdist))

    def metadata(self) -> bytes:
        """Core metadata of the wheel that would be built; a backend without that hook builds the wheel for it."""
        with tempfile.TemporaryDirectory(prefix="airgap-") as folder:
            name = self._call(lambda: self._hooks.prepare_metadata_for_build_wheel(folder))
            try:
                return (self._made(Path(folder), name) / "METADATA").read_bytes()
            except OSError as error:
                raise MetadataError(f"{self._what}: its build backend made no METADATA.") from error

    def wheel(self, folder: Path) -> Path:
        """Build a wheel into *folder* and return it."""
        return self._made(folder, self._call(lambda: self._hooks.build_wheel(str(folder))))

    def sdist(self, folder: Path) -> Path:
        """Make an sdist in *folder* and return it."""
        return self._made(folder, self._call(lambda: self._hooks.build_sdist(str(folder))))

    def _run(self, cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None) -> None:
        variables = {**self._environment.variables, **(extra_environ or {})}
        Environment(self._environment.python, variables).run(cmd, cwd=cwd, what=self._what)

    def _call(self, hook: Callable[[], T]) -> T:
        import pyproject_hooks

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what a backend warns of is for the project's maintainers
                return hook()
        except pyproject_hooks.BackendUnavailable as error:
            lines = error.traceback.strip().splitlines()
            raise MetadataError(f"{self._what}: its build backend can't be imported: {lines[-1]}") from error
        except (pyproject_hooks.HookMissing, pyproject_hooks.UnsupportedOperation) as error:
            raise MetadataError(f"{self._what}: its build backend can't do that: {error}") from error

    def _requirements(self, texts: Iterable[object]) -> tuple[Requirement, ...]:
        try:
            return tuple(Requirement(text) for text in sorted(map(str, texts)))
        except InvalidRequirement as error:
            reason = str(error).partition("\n")[0]
            raise MetadataError(f"{self._what}: its build backend asks for what can't be read: {reason}.") from error

    def _made(self, folder: Path, name: object) -> Path:
        """What the backend says that it made; a name that leads elsewhere is refused."""
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).exists():
            raise MetadataError(f"{self._what}: its build backend made nothing of the name that it says.")
        return folder / name
