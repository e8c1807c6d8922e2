"""Every error that airgap raises on purpose, and the exit code that each one means.

::

    AirgapError                  1   anything below, and what fits nowhere else
    ├── UsageError               2   the command line or an input file can't be used as it is
    │   ├── ConfigError              pip.conf, .pypirc, airgap.toml or the environment
    │   ├── RequirementsError        a requirements file or a lock; says file, line and column
    │   └── MissingExtraError        an optional dependency of airgap is not installed
    ├── ResolutionError          3   no set of files satisfies the requirements for a target
    │   ├── MetadataError            a file's metadata can't be read or must not be trusted
    │   │   └── NeedsBuildError      only a build tells them, which nobody allowed; says of which sdists
    │   ├── MissingHashesError       hashes are required; says of what there are none
    │   └── IncompleteError          the proof failed: a closure has holes
    ├── NetworkError             4   no usable answer; ``retryable`` says whether trying again may help
    │   ├── TLSError                 certificate or handshake
    │   ├── HTTPError                the server answered with an error status
    │   │   ├── AuthError            401, 403 or 407
    │   │   └── NotFoundError        404 or 410
    │   └── IndexPageError           an answer that is not a simple index (PEP 503, PEP 691)
    ├── IntegrityError           5   bytes are not what they were promised to be
    │   ├── HashMismatchError
    │   └── BundleError              not a bundle, damaged, or hostile
    ├── PushError                6   not every file is in the repository now
    │   └── ConflictError        7   the repository holds another file under the same name
    └── StorageError             8   disk full, no permission, a lock held by another process

Exit code 130 is Ctrl-C. A message says what happened and where; ``hint`` says what to do next. Neither may carry a
credential: URLs go through :func:`mirror.urls.redact` first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


class AirgapError(Exception):
    """Root of the tree. ``str(error)`` is one paragraph for people, without the hint."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.hint = hint
        self.retryable = retryable


class UsageError(AirgapError):
    """The command line or an input file can't be used as it is."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or environment variable is wrong or contradicts another."""


class RequirementsError(UsageError):
    """A requirements file or lock can't be read; ``file``, ``line`` and ``column`` (both from 1) say where."""

    def __init__(self, message: str, *, file: str, line: int = 0, column: int = 0, hint: str = "") -> None:
        place = ":".join([file, *(str(number) for number in (line, column) if number)])
        super().__init__(f"{place}: {message}", hint=hint)
        self.file = file
        self.line = line
        self.column = column


class MissingExtraError(UsageError):
    """A feature needs packages that ``pip install airgap-mirror[EXTRA]`` brings."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs packages that are not installed.",
            hint=f"Install them with: pip install 'airgap-mirror[{extra}]'",
        )
        self.extra = extra


class ResolutionError(AirgapError):
    """No set of files satisfies the requirements for a target."""

    exit_code = 3


class MetadataError(ResolutionError):
    """Metadata of a distribution file can't be read, contradicts the file, or must not be trusted."""


class NeedsBuildError(MetadataError):
    """What *sdists* (file names by project) require is known only once they are built, and nobody allowed that.

    *target* is the one that they are for, where only one is; *ways* say, a line each, how they come in.
    """

    def __init__(self, sdists: Mapping[str, str], *, target: str = "", ways: Iterable[str] = ()) -> None:
        projects = sorted(sdists)
        names = ", ".join(sdists[project] for project in projects)
        flags = " ".join(f"--allow-build {project}" for project in projects)
        if len(projects) == 1:
            told = "what it requires is known only once it is built, and building would run its code."
            hint = (
                f"If you trust it, {flags} lets it be built here, in isolation; or choose a version that has a wheel "
                "for the target."
            )
        else:
            told = "what they require is known only once they are built, and building would run their code."
            hint = (
                f"If you trust them, {flags} lets them be built here, in isolation; or choose versions that have "
                "wheels for the target."
            )
        place = f"{target}: " if target else ""
        super().__init__("\n  ".join([f"{place}{names}: {told}", *ways]), hint=hint)
        self.sdists = dict(sdists)


class MissingHashesError(ResolutionError):
    """Hashes are required, and some projects have none; ``lines`` are what a requirements file would say of them."""

    def __init__(self, message: str, *, lines: Iterable[str]) -> None:
        self.lines = tuple(dict.fromkeys(lines))
        listed = "".join(f"\n  {line}" for line in self.lines)
        super().__init__(message, hint=f"Add this to the lock, or to a file that --constraint names:{listed}")

    @classmethod
    def behind(cls, error: BaseException) -> MissingHashesError | None:
        """The one that *error* is, or comes from directly."""
        return next((each for each in (error, error.__cause__) if isinstance(each, cls)), None)

    @classmethod
    def joined(cls, errors: Sequence[AirgapError]) -> MissingHashesError:
        """One for *errors*, each of which has one behind it."""
        found = [line for error in errors if (missing := cls.behind(error)) for line in missing.lines]
        return cls("\n".join(map(str, errors)), lines=found)


class IncompleteError(ResolutionError):
    """The closure of at least one target can't be installed from the bundle's own files; ``missing`` names what."""

    def __init__(self, message: str, *, missing: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.missing = tuple(missing)


class NetworkError(AirgapError):
    """No usable answer from a server."""

    exit_code = 4


class TLSError(NetworkError):
    """The certificate was refused or the handshake failed."""


class HTTPError(NetworkError):
    """The server answered with status ``status`` (400 to 599); ``reason`` is what it said, shortened."""

    def __init__(self, message: str, *, status: int, reason: str = "", hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.status = status
        self.reason = reason


class AuthError(HTTPError):
    """401, 403 or 407: credentials are missing, wrong, or lack the right."""


class NotFoundError(HTTPError):
    """404 or 410."""


class IndexPageError(NetworkError):
    """An answer that is not a simple repository page (PEP 503, PEP 691)."""


class IntegrityError(AirgapError):
    """Bytes are not what they were promised to be."""

    exit_code = 5


class HashMismatchError(IntegrityError):
    """A digest differs from the promised one."""


class BundleError(IntegrityError):
    """Not a bundle, damaged, or built to do harm."""


class PushError(AirgapError):
    """Not every file of the bundle is in the repository now."""

    exit_code = 6


class ConflictError(PushError):
    """The repository holds files with the same names and other digests; ``filenames`` lists them."""

    exit_code = 7

    def __init__(self, message: str, *, filenames: Sequence[str], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.filenames = tuple(filenames)


class StorageError(AirgapError):
    """Disk full, no permission, or a lock that another process holds."""

    exit_code = 8
