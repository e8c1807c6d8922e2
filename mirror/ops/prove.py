"""The proof that a bundle is complete: every target resolved once more from the bundle's own files alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import NormalizedName
from packaging.version import Version

from mirror.errors import IncompleteError, MetadataError, ResolutionError
from mirror.fetch import Fetched
from mirror.metadata.core import parse, trusted
from mirror.metadata.sdist import build_requires, sdist_metadata
from mirror.metadata.wheel import wheel_metadata
from mirror.models import Event, File, Metadata, Plan, Reporter, RequirementSet, Stage, silent
from mirror.resolver import Resolution
from mirror.store import Store


@dataclass(frozen=True, slots=True)
class _Page:
    """A project as the bundle's index will show it."""

    files: tuple[File, ...]
    index: str = "the bundle"

    @property
    def filenames(self) -> Sequence[str]:
        return [file.filename for file in self.files]

    def file(self, position: int) -> File:
        return self.files[position]


class _BundledIndex:
    """The index that the isolated side will see."""

    def __init__(self, files: Iterable[File]) -> None:
        self._projects: dict[NormalizedName, list[File]] = {}
        for file in files:
            self._projects.setdefault(file.project, []).append(file)

    def pages(self, project: NormalizedName) -> tuple[_Page, ...]:
        files = self._projects.get(project)
        return (_Page(tuple(files)),) if files else ()


class BundledMetadata:
    """Core metadata as the fetched files themselves hold it, whatever an index said."""

    def __init__(self, store: Store, fetched: Mapping[str, Fetched]) -> None:
        self._store = store
        self._fetched = fetched
        self._known: dict[str, Metadata] = {}

    def read(self, file: File) -> Metadata:
        known = self._known.get(file.filename)
        if known is None:
            extract = wheel_metadata if file.is_wheel else sdist_metadata
            with self._store.open(self._fetched[file.filename].sha256) as stream:
                raw = extract(stream, file.filename)
            if not file.is_wheel and not trusted(raw):
                raise MetadataError(f"{file.filename}: what it requires is known only once it is built.")
            known = self._known[file.filename] = parse(raw, filename=file.filename)
            if known.name != file.project or Version(known.version) != Version(file.version):
                raise MetadataError(
                    f"{file.filename} says inside that it is {known.name} {known.version}.",
                    hint=f"Report it to the maintainers of {file.project}, and pin another version.",
                )
        return known

    def build_requires(self, file: File) -> tuple[Requirement, ...]:
        with self._store.open(self._fetched[file.filename].sha256) as stream:
            return build_requires(stream, file.filename)


def prove(
    plan: Plan,
    wanted: RequirementSet,
    fetched: Mapping[str, Fetched],
    metadata: BundledMetadata,
    report: Reporter = silent,
) -> None:
    """Resolve every target of *plan* from its own files; IncompleteError names what is missing.

    The search is the same as on the connected side, so that a file whose metadata lied to it, one that the index
    showed but did not deliver, or one that only another target can use, is found here and not beyond the gap.
    """
    files = list(plan.files().values())
    report(Event("begin", Stage.PROVE, items=len(plan.targets)))
    missing = [file.filename for file in files if file.filename not in fetched]
    if missing:
        raise IncompleteError(f"{len(missing)} files were not fetched: {', '.join(missing[:5])}", missing=missing)
    for target in plan.targets:
        with Resolution(wanted, _BundledIndex(files), metadata, workers=0) as resolution:
            try:
                resolution.plan([target.target])
            except ResolutionError as error:
                raise IncompleteError(
                    f"The bundle would not install on {target.target.name}:\n{error}",
                    missing=[target.target.name],
                    hint=error.hint,
                ) from error
        report(Event("advance", Stage.PROVE, target.target.name, items=1))
    report(Event("end", Stage.PROVE))
