"""The proof that a bundle is complete: every target resolved once more from the bundle's own files alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from packaging.requirements import Requirement
from packaging.utils import NormalizedName
from packaging.version import Version

from mirror.errors import IncompleteError, MetadataError, ResolutionError
from mirror.fetch import Fetched
from mirror.metadata.core import identity, parse, trusted
from mirror.metadata.sdist import build_requires, sdist_metadata
from mirror.metadata.unpack import check_unpacks
from mirror.metadata.wheel import wheel_metadata
from mirror.models import Event, File, Metadata, Plan, Reporter, RequirementSet, Stage, TargetPlan, silent
from mirror.ops.builds import Builds
from mirror.resolver import MetadataSource, Resolution
from mirror.resolver.pages import FilePage
from mirror.store import Scratch, Store
from mirror.urls import redact

_MOST_CONTRASTS = 4


class _BundledIndex:
    """The index that the isolated side will see."""

    def __init__(self, files: Iterable[File]) -> None:
        self._projects: dict[NormalizedName, list[File]] = {}
        for file in files:
            self._projects.setdefault(file.project, []).append(file)

    def pages(self, project: NormalizedName) -> tuple[FilePage, ...]:
        files = self._projects.get(project)
        return (FilePage(tuple(files), "the bundle"),) if files else ()


@dataclass(frozen=True, slots=True)
class _Texts(Mapping[str, bytes]):
    """Texts by name, each read anew."""

    _read: Mapping[str, Callable[[], bytes]]

    def __getitem__(self, name: str) -> bytes:
        return self._read[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)

    def __contains__(self, name: object) -> bool:
        return name in self._read


class BundledMetadata:
    """Core metadata as the fetched files themselves hold it, whatever an index said.

    Of an sdist that does not tell, *builds* knows what its build told. *read* is what the index said, parsed and
    checked: where a file says the same, letter by letter, that need not be done again.
    """

    def __init__(
        self,
        store: Store,
        fetched: Mapping[str, Fetched],
        builds: Builds | None = None,
        read: Callable[[File], Metadata | None] = lambda _: None,
    ) -> None:
        self._store = store
        self._fetched = fetched
        self._builds = builds
        self._read = read
        self._known: dict[str, Metadata] = {}
        self._unpackable: set[str] = set()
        self._scratch: Scratch | None = None

    def read(self, file: File) -> Metadata:
        known = self._known.get(file.filename)
        learned = self._builds.learned(file) if self._builds is not None else None
        if known is None and learned is not None:
            known = self._known[file.filename] = learned.metadata
        if known is None:
            raw = self._extract(file)
            told = self._read(file)
            if told is not None and told.raw == raw:
                self._known[file.filename] = told
                return told
            self._check(file, raw)
            if not file.is_wheel and not trusted(raw):
                raise MetadataError(f"{file.filename}: what it requires is known only once it is built.")
            found = parse(raw, filename=file.filename)
            known = self._known[file.filename] = replace(found, text=self._kept(raw))
        return known

    def documents(self, plan: Plan) -> Mapping[str, bytes]:
        """The metadata of every file of *plan* as it is inside, by file name, its text read when it is asked for.

        Of an sdist that no target builds only name and version matter: nobody resolves with the rest.
        """
        extras = {file.filename for file in plan.extras if not file.is_wheel}
        return _Texts(
            {
                name: self._kept(self._check(file, self._extract(file))) if name in extras else self.read(file).text
                for name, file in plan.files().items()
            }
        )

    def _kept(self, raw: bytes) -> Callable[[], bytes]:
        self._scratch = self._scratch or self._store.scratch()
        return self._scratch.keep(raw)

    def _extract(self, file: File) -> bytes:
        extract = wheel_metadata if file.is_wheel else sdist_metadata
        with self._store.open(self._fetched[file.filename].sha256) as stream:
            return extract(stream, file.filename)

    @staticmethod
    def _check(file: File, raw: bytes) -> bytes:
        """Return *raw*, which says inside *file* that it is what its name says."""
        name, version = identity(raw, filename=file.filename)
        if name != file.project or version != Version(file.version):
            raise MetadataError(
                f"{file.filename} says inside that it is {name} {version}.",
                hint=f"Report it to the maintainers of {file.project}, and pin another version.",
            )
        return raw

    def build_requires(self, file: File) -> tuple[Requirement, ...]:
        learned = self._builds.learned(file) if self._builds is not None else None
        if learned is not None:
            return learned.requires
        with self._store.open(self._fetched[file.filename].sha256) as stream:
            if file.filename not in self._unpackable:
                check_unpacks(stream, file.filename)
                self._unpackable.add(file.filename)
            return build_requires(stream, file.filename)


def check_offered(plan: Plan, offered: MetadataSource, inside: BundledMetadata) -> None:
    """Refuse a wheel whose PEP 658 file, which the targets were resolved with, is not the METADATA inside it.

    Both digests may be as the index promised, and an installer that believes the one installs something else than one
    that opens the wheel.
    """
    for target in plan.targets:
        for pin in target.every_pin():
            file = pin.file
            if not file.is_wheel or file.metadata is None:
                continue
            told, true = offered.read(file), inside.read(file)
            if told is not true and told.raw != true.raw:
                raise MetadataError(
                    f"{file.filename}.metadata on {redact(file.index)} is not the METADATA inside the wheel (PEP 658): "
                    f"{_contrast(told, true)}.",
                    hint="An index must not serve that. Report it to whoever runs the index, and pin another version.",
                )


def _contrast(told: Metadata, true: Metadata) -> str:
    """In what the two differ, as far as a resolver reads them."""
    found = []
    for field, ours, theirs in (
        ("Requires-Dist", map(str, told.requires_dist), map(str, true.requires_dist)),
        ("Requires-Python", filter(None, [told.requires_python]), filter(None, [true.requires_python])),
        ("Provides-Extra", told.provides_extra, true.provides_extra),
    ):
        left, right = set(ours), set(theirs)
        found += [f"{field} {text!r} is not in the wheel" for text in sorted(left - right)]
        found += [f"{field} {text!r} is only in the wheel" for text in sorted(right - left)]
    return "; ".join(found[:_MOST_CONTRASTS]) or "they differ in other fields"


def prove(
    plan: Plan,
    wanted: RequirementSet | Callable[[TargetPlan], RequirementSet],
    fetched: Mapping[str, Fetched],
    metadata: BundledMetadata,
    report: Reporter = silent,
) -> None:
    """Resolve every target of *plan* from its own files; IncompleteError names what is missing.

    *wanted* is the same for every target, or, as where a lock decided, one for each.

    Files are chosen by the same rules as on the connected side, so that one whose metadata lied, one that the index
    showed but did not deliver, or one that only another target can use, is found here and not beyond the gap. Where the
    bundle has nothing but wheels, a walk along the pins shows that they are a solution, and whoever searches finds one;
    a search says what is wrong where they are not, and settles what sdists would lead to.
    """
    files = list(plan.files().values())
    report(Event("begin", Stage.PROVE, items=len(plan.targets)))
    missing = [file.filename for file in files if file.filename not in fetched]
    if missing:
        raise IncompleteError(f"{len(missing)} files were not fetched: {', '.join(missing[:5])}", missing=missing)
    only_wheels = all(file.is_wheel for file in files)
    for target in plan.targets:
        mine = wanted if isinstance(wanted, RequirementSet) else wanted(target)
        with Resolution(mine, _BundledIndex(files), metadata, workers=0) as resolution:
            try:
                if not (only_wheels and resolution.holds(target)):
                    resolution.plan([target.target])
            except ResolutionError as error:
                raise IncompleteError(
                    f"The bundle would not install on {target.target.name}:\n{error}",
                    missing=[target.target.name],
                    hint=error.hint,
                ) from error
        report(Event("advance", Stage.PROVE, target.target.name, items=1))
    report(Event("end", Stage.PROVE))
