"""Wheel tags (PEP 425, 600, 656) and marker environments (PEP 508) of machines that are not this one. Pure.

A platform may be spelled as pip does (``manylinux_2_28_x86_64``, ``win_amd64``, ``macosx_11_0_arm64``), as uv does
(``x86_64-unknown-linux-gnu``, ``aarch64-manylinux_2_34``), or in short:

======================  ==============================================================
``linux``               ``manylinux_2_28_x86_64``; ``linux-aarch64`` for the other machine
``windows``             ``win_amd64``; ``windows-arm64``
``macos``               ``macosx_14_0_arm64``; ``macos-x86_64`` is ``macosx_13_0_x86_64``
======================  ==============================================================

So macOS without a version means 14.0 on Apple silicon and 13.0 on Intel, also in a triple like
``aarch64-apple-darwin``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from packaging import tags
from packaging.markers import default_environment

from mirror.errors import UsageError
from mirror.models import Target

_MANYLINUX = "manylinux_2_28"
_MUSLLINUX = "musllinux_1_2"
_LEGACY_MANYLINUX = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}
_LEGACY_BY_GLIBC = {minor: name for name, minor in _LEGACY_MANYLINUX.items()}

#: Machines that Linux wheels are built for, as ``platform.machine()`` names them there.
_LINUX_MACHINES = ("x86_64", "aarch64", "i686", "armv7l", "ppc64le", "ppc64", "s390x", "riscv64", "loongarch64")
_WINDOWS_MACHINES = {"win32": "x86", "win_amd64": "AMD64", "win_arm64": "ARM64"}
_WINDOWS_BY_MACHINE = {"i686": "win32", "x86_64": "win_amd64", "aarch64": "win_arm64"}
_MACOS_BY_MACHINE = {"x86_64": "macosx_13_0_x86_64", "aarch64": "macosx_14_0_arm64"}
_SAME_MACHINE = {"amd64": "x86_64", "arm64": "aarch64", "x86": "i686"}

_PYTHON = re.compile(r"(?P<major>\d)\.?(?P<minor>\d+)(?:\.(?P<micro>\d+)(?P<pre>(?:a|b|rc)\d+)?)?(?P<threads>t?)\Z")
_LINUX = re.compile(
    r"(?:manylinux_2_(?P<glibc>\d+)|(?P<legacy>manylinux(?:2014|2010|1))|musllinux_1_(?P<musl>\d\d?)|linux)_(?P<machine>\w+)\Z"
)
_MACOS = re.compile(r"macosx_(?P<major>\d\d)_(?P<minor>\d\d?)_(?P<machine>\w+)\Z")
_FREE_THREADED = re.compile(r"cp\d+d?td?")
_SHORT = re.compile(r"(?P<system>linux|windows|macos)(?:-(?P<machine>\w+))?\Z")
_TRIPLE = re.compile(
    r"(?P<machine>\w+)-(?:(?P<windows>pc-windows-msvc)|(?P<macos>apple-darwin)|"
    r"(?P<gnu>unknown-linux(?:-gnu)?)|(?P<musl>unknown-linux-musl)|(?P<tag>(?:many|musl)linux\w+))\Z"
)
#: How a machine is described, for hints.
DESCRIBING = (
    "airgap targets --describe-script describe_target.py writes the script; on the machine: "
    "python3 describe_target.py > FILE"
)
_EXAMPLES = "manylinux_2_28_x86_64, musllinux_1_2_aarch64, win_amd64, macosx_14_0_arm64, linux, windows, macos-arm64"


class _Python(NamedTuple):
    version: tuple[int, int]
    full: str
    free_threaded: bool

    @property
    def nodot(self) -> str:
        return f"{self.version[0]}{self.version[1]}"

    def tag(self, implementation: str) -> str:
        """How a target's name begins: ``cp312``, ``cp312.4``, ``cp313t``; a patch version of 0 goes without saying."""
        patch = self.full.split(".", 2)[2]
        return f"{implementation}{self.nodot}{'' if patch == '0' else f'.{patch}'}{'t' if self.free_threaded else ''}"


@dataclass(frozen=True, slots=True)
class _Platform:
    """One platform, its tags (best first) and what the interpreter says about the machine there."""

    name: str
    tags: tuple[str, ...]
    system: Literal["Linux", "Windows", "Darwin"]
    machine: str
    release: str = ""


def make_target(
    python: str, platforms: Sequence[str] = (), *, implementation: str = "cp", abis: Sequence[str] = ()
) -> Target:
    """Describe a machine by its Python and its platforms, most wanted first (markers are those of the first).

    *python* is ``3.12`` (taken as 3.12.0), ``3.12.4``, pip's ``312``, or ``3.13t`` for a free-threaded build.
    Without platforms: those of this machine. *implementation* is ``cp``, ``pp`` or ``py``; *abis* replace the usual
    ABI, as pip's ``--abi`` does. What can't be understood is a UsageError.
    """
    version = _read_python(python)
    if any(_FREE_THREADED.fullmatch(abi) for abi in abis):
        version = version._replace(free_threaded=True)
    if version.free_threaded and (implementation != "cp" or version.version < (3, 13)):
        raise UsageError(f"There is no free-threaded build of {implementation} {python}.", hint="It came with 3.13.")
    read = [_read_platform(platform) for platform in platforms] or [_host_platform()]
    merged = tuple(dict.fromkeys(tag for platform in read for tag in platform.tags))
    return Target(
        name=f"{version.tag(implementation)}-{'.'.join(dict.fromkeys(platform.name for platform in read))}",
        tags=tuple(dict.fromkeys(map(str, _tags(version, implementation, list(abis), list(merged), read[0])))),
        markers=_markers(version, implementation, read[0]),
    )


def product(
    pythons: Sequence[str], platforms: Sequence[str], *, implementation: str = "cp", abis: Sequence[str] = ()
) -> list[Target]:
    """Every Python on every platform, in the given order and without repetition; nothing given is this machine.

    Only platforms given: this machine's Python. Only Pythons given: this machine's platform.
    """
    if not pythons and not platforms and implementation == "cp" and not abis:
        return [this_machine()]
    host = default_environment()["python_full_version"].removesuffix("+")
    made = [
        make_target(python, platform, implementation=implementation, abis=abis)
        for python in pythons or [host]
        for platform in [[platform] for platform in platforms] or [[]]
    ]
    return list({target.name: target for target in made}.values())


def this_machine() -> Target:
    """The running interpreter on this machine."""
    supported = [str(tag) for tag in tags.sys_tags()]
    environment = {key: str(value) for key, value in default_environment().items()}
    interpreter, abi, _ = supported[0].split("-")
    version = _read_python(environment["python_full_version"].removesuffix("+"))
    version = version._replace(free_threaded=bool(_FREE_THREADED.fullmatch(abi)))
    return Target(
        name=f"{version.tag(interpreter.rstrip('0123456789'))}-{_host_platform().name}",
        tags=tuple(supported),
        markers=tuple(sorted({**environment, "python_full_version": version.full}.items())),
    )


def named_target(name: str) -> Target:
    """The target that a name as :attr:`Target.name` has it stands for: ``cp312-win_amd64``, ``cp313t-macos-arm64``.

    Without a patch version, as in ``cp312.4-win_amd64``, it is 0. Another text is a UsageError.
    """
    interpreter, dash, platforms = name.partition("-")
    match = re.fullmatch(r"(cp|pp|py)(\d\d+(?:\.\d+(?:(?:a|b|rc)\d+)?)?t?)", interpreter)
    if match is None or not dash:
        raise UsageError(
            f"{name!r} is not the name of a target.",
            hint="It is interpreter and platform, as in cp312-manylinux_2_28_x86_64.",
        )
    return make_target(match[2], platforms.split("."), implementation=match[1])


def described_target(document: object, source: str) -> Target:
    """The machine that ``mirror/describe_target.py`` described; *source* names the file in errors.

    The document holds facts about interpreter and platform; what is missing or makes no sense is a UsageError.
    """
    facts = _Facts(document, source)
    if facts.number("airgap-target") != 1:
        raise facts.wrong(
            "its format is not known here",
            "Describe the machine with the script that this airgap writes: airgap targets --describe-script FILE",
        )
    markers = facts.markers()
    version = _read_python(markers["python_full_version"].removesuffix("+"))
    markers["python_full_version"] = version.full
    abis = facts.texts("abis")
    version = version._replace(free_threaded=any(map(_FREE_THREADED.fullmatch, abis)))
    platform = _read_platform(facts.platform(markers["platform_system"]))
    implementation = facts.text("implementation")
    return Target(
        name=f"{version.tag(implementation)}-{platform.name}",
        tags=tuple(dict.fromkeys(map(str, _tags(version, implementation, abis, list(platform.tags), platform)))),
        markers=tuple(sorted(markers.items())),
    )


class _Facts:
    """Reads a description strictly."""

    def __init__(self, document: object, source: str) -> None:
        self._values = document if isinstance(document, dict) else {}
        self._source = source

    def wrong(self, reason: str, hint: str = "") -> UsageError:
        return UsageError(f"{self._source} does not describe a target: {reason}.", hint=hint or DESCRIBING)

    def number(self, key: str) -> int:
        found = self._values.get(key)
        if not isinstance(found, int):
            raise self.wrong(f"{key} is not a number")
        return found

    def text(self, key: str) -> str:
        found = self._values.get(key)
        if not isinstance(found, str) or not found:
            raise self.wrong(f"{key} is not a text")
        return found

    def texts(self, key: str) -> list[str]:
        found = self._values.get(key)
        if not isinstance(found, list) or not found or not all(isinstance(item, str) and item for item in found):
            raise self.wrong(f"{key} is not a list of texts")
        return list(found)

    def markers(self) -> dict[str, str]:
        found = self._values.get("markers")
        names = default_environment().keys()
        if not isinstance(found, dict) or any(not isinstance(found.get(name), str) for name in names):
            raise self.wrong("markers are not all there")
        return {name: found[name] for name in names}

    def platform(self, system: str) -> str:
        """The platform as a wheel tag."""
        name = self.text("platform").replace("-", "_").replace(".", "_").lower()
        if system == "Darwin":
            major, _, minor = self.text("macos").partition(".")
            return f"macosx_{major}_{minor.partition('.')[0] or 0}_{name}"
        if system != "Linux":
            return name
        machine = name.removeprefix("linux_")
        if self.number("bits") == 32:  # a 32-bit Python on a 64-bit kernel
            machine = {"x86_64": "i686", "aarch64": "armv7l", "armv8l": "armv7l"}.get(machine, machine)
        for libc, tag in (("glibc", "manylinux"), ("musl", "musllinux")):
            if self._values.get(libc):
                major, _, minor = self.text(libc).partition(".")
                return f"{tag}_{major}_{re.split('[^0-9]', minor)[0]}_{machine}"
        return f"linux_{machine}"


class Ranks:
    """How well wheels fit one target. Answers are remembered by tag string: pages repeat few of them very often."""

    def __init__(self, target: Target) -> None:
        self._ranks = {tag: rank for rank, tag in reversed(list(enumerate(target.tags)))}
        self._known: dict[str, int | None] = {}

    def rank(self, filename_tags: tuple[str, str, str]) -> int | None:
        """Rank of a wheel's ``(python, abi, platform)``, each a compressed tag set; 0 is best, None incompatible."""
        return self._rank("-".join(filename_tags))

    def wheel(self, filename: str) -> tuple[int, tuple[()] | tuple[int, str]] | None:
        """Return ``(rank, build tag)`` of a wheel by its file name, or None if the target can't install it.

        Of two wheels of one version the lower rank is better, then the higher build tag. A name that is not a
        wheel's (PEP 427) is None.
        """
        if not filename.endswith(".whl"):
            return None
        parts = filename[:-4].rsplit("-", 3)
        if len(parts) != 4:
            return None
        rank = self._rank(filename[len(parts[0]) + 1 : -4])
        if rank is None:
            return None
        dashes = parts[0].count("-")
        if dashes == 1:
            return rank, ()
        build = re.fullmatch(r"(\d+)(\w*)", parts[0].rpartition("-")[2]) if dashes == 2 else None
        return None if build is None else (rank, (int(build[1]), build[2]))

    def _rank(self, text: str) -> int | None:
        try:
            return self._known[text]
        except KeyError:
            pass
        rank = self._known[text] = min(
            (self._ranks[tag] for tag in _expand(text.lower()) if tag in self._ranks), default=None
        )
        return rank


def _expand(text: str) -> Iterator[str]:
    """Every single tag of a compressed tag set (PEP 425)."""
    if len(text) > 255:  # longer than any file name; a hostile page could ask for billions of combinations
        return
    pythons, abis, platforms = (part.split(".") for part in text.split("-"))
    for python in pythons:
        for abi in abis:
            for platform in platforms:
                yield f"{python}-{abi}-{platform}"


def _read_python(text: str) -> _Python:
    match = _PYTHON.match(text)
    if match is None:
        raise UsageError(
            f"{text!r} is not a Python version.", hint="Write it as 3.12, 3.12.4 or, free-threaded, 3.13t."
        )
    version = int(match["major"]), int(match["minor"])
    full = f"{version[0]}.{version[1]}.{match['micro'] or 0}{match['pre'] or ''}"
    return _Python(version, full, bool(match["threads"]))


def _read_platform(text: str) -> _Platform:
    name = _platform_tag(text.lower())
    if name in _WINDOWS_MACHINES:
        return _Platform(name, (name,), "Windows", _WINDOWS_MACHINES[name])
    if match := _MACOS.match(name):
        version, machine = (int(match["major"]), int(match["minor"])), match["machine"]
        if machine not in ("arm64", "x86_64"):
            raise UsageError(
                f"Platform {text!r} does not name one machine.", hint="End it with arm64 or x86_64, as a Mac has it."
            )
        supported = tuple(tags.mac_platforms(version, machine))
        if not supported:
            raise UsageError(f"There is no macOS {version[0]}.{version[1]}, which {text!r} names.")
        return _Platform(name, supported, "Darwin", machine, _darwin(version))
    match = _LINUX.match(name)
    if match is None or match["machine"] not in _LINUX_MACHINES:
        raise UsageError(
            f"{text!r} is not a platform that is known here.", hint=f"Known are, for example: {_EXAMPLES}."
        )
    return _Platform(name, tuple(_linux_tags(match)), "Linux", match["machine"])


def _platform_tag(text: str) -> str:
    """The wheel platform tag that *text* spells; text that is neither short nor a triple is taken as a tag."""
    if match := _SHORT.match(text):
        default = "aarch64" if match["system"] == "macos" else "x86_64"
        machine = match["machine"] or default
        machine = _SAME_MACHINE.get(machine, machine)
        system = {"linux": "gnu", "windows": "windows", "macos": "macos"}[match["system"]]
    elif match := _TRIPLE.match(text):
        machine = _SAME_MACHINE.get(match["machine"], match["machine"])
        system = match.lastgroup or ""
        if system == "tag":
            return f"{match['tag']}_{machine}"
    else:
        return text.replace("-", "_").replace(".", "_")  # sysconfig.get_platform() spells it with those
    if system == "windows":
        return _WINDOWS_BY_MACHINE.get(machine, text)
    if system == "macos":
        return _MACOS_BY_MACHINE.get(machine, text)
    if machine == "riscv64" and system == "gnu":
        return "manylinux_2_39_riscv64"  # the first glibc that wheels for it are built against
    return f"{_MUSLLINUX if system == 'musl' else _MANYLINUX}_{machine}"


def _linux_tags(match: re.Match[str]) -> Iterator[str]:
    """Every platform tag that the machine takes, newest first; plain ``linux_`` wheels, made elsewhere, last."""
    machine = match["machine"]
    if match["glibc"] or match["legacy"]:
        newest = int(match["glibc"]) if match["glibc"] else _LEGACY_MANYLINUX[match["legacy"]]
        oldest = 5 if machine in ("x86_64", "i686") else 17  # PEP 600: no older glibc was ever built for
        if not oldest <= newest <= 99:
            raise UsageError(f"There is no platform {match[0]}: manylinux begins with glibc 2.{oldest} there.")
        for minor in range(newest, oldest - 1, -1):
            yield f"manylinux_2_{minor}_{machine}"
            if minor in _LEGACY_BY_GLIBC:
                yield f"{_LEGACY_BY_GLIBC[minor]}_{machine}"
    elif match["musl"]:
        for minor in range(int(match["musl"]), -1, -1):
            yield f"musllinux_1_{minor}_{machine}"
    yield f"linux_{machine}"


def _darwin(version: tuple[int, int]) -> str:
    """``platform_release`` on macOS is the kernel's: pyobjc and others have markers that compare it."""
    major, minor = version
    if major == 10:
        return f"{minor + 4}.0.0"
    return f"{major + 9 if major < 16 else major - 1}.0.0"  # 11 is Darwin 20, 15 is 24, and 26 is 25


def _host_platform() -> _Platform:
    """The machine at hand, as a platform like any other, with the tags that the running interpreter accepts."""
    supported = tuple(tags.platform_tags())
    named = [tag for tag in supported if not tag.startswith("linux_")]
    environment = default_environment()
    system = environment["platform_system"]
    return _Platform(
        name=(named or list(supported))[0],
        tags=supported,
        system="Windows" if system == "Windows" else "Darwin" if system == "Darwin" else "Linux",
        machine=environment["platform_machine"],
        release=environment["platform_release"],
    )


def _tags(
    python: _Python, implementation: str, abis: list[str], platforms: list[str], platform: _Platform
) -> Iterable[tags.Tag]:
    interpreter = f"{implementation}{python.nodot}"
    if implementation == "cp":
        yield from tags.cpython_tags(python.version, abis or [_cpython_abi(python, platform)], platforms)
        yield from tags.compatible_tags(python.version, interpreter, platforms)
    elif implementation == "pp":
        yield from tags.generic_tags(interpreter, abis or [f"pypy{python.nodot}_pp73"], platforms)
        yield from tags.compatible_tags(python.version, f"pp{python.version[0]}", platforms)
    elif implementation == "py":
        yield from tags.compatible_tags(python.version, None, platforms)
    else:
        raise UsageError(
            f"{implementation!r} is not an implementation that is known here.",
            hint="Known are cp (CPython), pp (PyPy) and py (whatever it is, pure Python wheels only).",
        )


def _cpython_abi(python: _Python, platform: _Platform) -> str:
    flags = "t" if python.free_threaded else ""
    if python.version < (3, 8):
        flags = "m"
        if python.version < (3, 3) and platform.system == "Linux":
            flags = "mu"  # wide characters, as every distribution builds it and as PEP 513 asks
    return f"cp{python.nodot}{flags}"


def _markers(python: _Python, implementation: str, platform: _Platform) -> tuple[tuple[str, str], ...]:
    pypy = implementation == "pp"
    system = platform.system
    sys_platform = {"Linux": "linux", "Windows": "win32", "Darwin": "darwin"}[system]
    if system == "Linux" and python.version < (3, 3):
        sys_platform = "linux2"
    values = {
        "implementation_name": "pypy" if pypy else "cpython",
        "implementation_version": "7.3.0" if pypy else python.full,
        "os_name": "nt" if system == "Windows" else "posix",
        "platform_machine": platform.machine,
        "platform_python_implementation": "PyPy" if pypy else "CPython",
        "platform_release": platform.release,
        "platform_system": system,
        "platform_version": "",  # free text about one kernel build: unknown of another machine
        "python_full_version": python.full,
        "python_version": f"{python.version[0]}.{python.version[1]}",
        "sys_platform": sys_platform,
    }
    return tuple(sorted(values.items()))
