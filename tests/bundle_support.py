"""Bundles of small made wheels, and ways to break them."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name

from mirror.bundle import BundleContent, BundleReader, Since, Written, tar, write_bundle
from mirror.bundle.frames import compress
from mirror.bundle.manifest import LEADING_FRAMES, BundledFile, BundledTarget, Manifest, Member, required_members
from mirror.bundle.seektable import DIGEST_MAGIC, seek_table
from mirror.filenames import split_filename
from mirror.models import File, Hashes, Pin, Plan, Target, TargetPlan
from mirror.store import Blob, Store
from tests.wheelhouse import Built, make_sdist, make_wheel

INDEX = "https://index.example/simple/"
MARKERS = {
    "implementation_name": "cpython",
    "implementation_version": "3.12.0",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": "3.12.0",
    "python_version": "3.12",
    "sys_platform": "linux",
}


def target(name: str = "cp312-linux", **markers: str) -> Target:
    tags = ("cp312-cp312-manylinux_2_28_x86_64", "cp312-cp312-linux_x86_64", "cp312-none-any", "py3-none-any")
    return Target(name, tags, tuple(sorted({**MARKERS, **markers}.items())))


@dataclass
class Wanted:
    """One file, and what a plan says of it."""

    built: Built
    targets: Sequence[str] = ("cp312-linux",)
    requires: Sequence[str] = ()
    chain: Sequence[str] = ("requirements.txt asks for it",)
    yanked: str | None = None
    requires_python: str | None = None
    upload_time: str | None = "2024-10-02T11:22:33.123456Z"
    index: str = INDEX


def make_content(
    store: Store,
    wanted: Iterable[Wanted],
    *,
    targets: Iterable[Target] = (),
    sources: Iterable[tuple[str, str]] = (("requirements.txt", "alpha\n"),),
) -> BundleContent:
    wanted = list(wanted)
    plans = {plan.name: plan for plan in targets or [target()]}
    pins: dict[str, list[Pin]] = {name: [] for name in plans}
    for item in wanted:
        parts = split_filename(item.built.filename)
        assert parts is not None
        file = File(
            filename=item.built.filename,
            url=f"{INDEX}../packages/{item.built.filename}",
            project=parts.project,
            version=parts.version,
            hashes=Hashes.of({"sha256": item.built.sha256}),
            index=item.index,
            requires_python=item.requires_python,
            yanked=item.yanked,
            upload_time=item.upload_time,
        )
        requires = tuple(canonicalize_name(name) for name in item.requires)
        for name in item.targets:
            pins[name].append(Pin(parts.project, parts.version, file, requires=requires, chain=tuple(item.chain)))
        store.add(item.built.data)
    return BundleContent(
        plan=Plan(
            tuple(TargetPlan(plans[name], tuple(sorted(pins[name], key=lambda pin: pin.project))) for name in plans)
        ),
        fetched={item.built.filename: Blob(item.built.sha256, len(item.built.data)) for item in wanted},
        metadata={item.built.filename: item.built.metadata for item in wanted},
        sources=tuple(sources),
    )


def since(manifest: Manifest, name: str = "") -> Since:
    """Everything that *manifest* names is where its bundle went."""
    return Since(
        {(file.filename, file.sha256): manifest.identity for file in manifest.files}, {manifest.identity: name}
    )


def large_manifest(projects: int, changed: str = "") -> Manifest:
    """Files for four machines of each of so many projects; the first project has the version *changed*, where given.

    Nothing of it exists but the manifest, which is one that :meth:`Manifest.check` accepts.
    """
    made = random.Random(projects)
    platforms = ("macosx_11_0_arm64", "manylinux_2_28_aarch64", "manylinux_2_28_x86_64", "win_amd64")
    pins = {f"project-{number:05}": f"{number % 7}.{number % 13}" for number in range(projects)}
    if changed:
        pins["project-00000"] = changed
    files: list[BundledFile] = []
    members = [Member(path, 1000, "0" * 64) for path in required_members(pins, (f"cp312-{name}" for name in platforms))]
    for frame, (project, version) in enumerate(pins.items(), LEADING_FRAMES):
        for platform in platforms:
            filename = f"{project.replace('-', '_')}-{version}-cp312-cp312-{platform}.whl"
            metadata = f"{made.getrandbits(256):064x}"
            members.append(Member(f"packages/{filename}.metadata", 8000, metadata))
            files.append(
                BundledFile(
                    filename=filename,
                    project=project,
                    version=version,
                    size=made.randrange(10**4, 10**7),
                    sha256=f"{made.getrandbits(256):064x}",
                    index=INDEX,
                    requires_python=">=3.9",
                    upload_time=f"2024-10-02T11:22:{made.random() * 59:09.6f}Z",
                    targets=(f"cp312-{platform}",),
                    chain=("requirements.txt asks for project-00000", f"project-00000 needs {project}"),
                    requires=tuple(sorted(made.sample(sorted(pins), 3))),
                    frame=frame,
                    metadata_sha256=metadata,
                )
            )
    targets = tuple(BundledTarget(f"cp312-{name}", ("py3-none-any",), MARKERS, pins) for name in platforms)
    return Manifest(targets, tuple(files), tuple(sorted(members, key=lambda member: member.path)))


def small(folder: Path) -> tuple[Store, BundleContent]:
    """Three projects, one of them an sdist, one with two files for two targets."""
    store = Store(folder / "store")
    names = ("cp311-linux", "cp312-linux")
    content = make_content(
        store,
        [
            Wanted(make_wheel("alpha", requires=["beta"]), names, ["beta"]),
            Wanted(make_wheel("beta", "2.0", tag="cp311-cp311-manylinux_2_28_x86_64"), names[:1]),
            Wanted(make_wheel("beta", "2.0", tag="cp312-cp312-manylinux_2_28_x86_64"), names[1:], yanked="broken"),
            Wanted(make_sdist("gamma-thing", "0.1"), names, requires_python=">=3.8"),
        ],
        targets=[target(names[0], python_version="3.11", python_full_version="3.11.0"), target(names[1])],
    )
    return store, content


def write_small(folder: Path) -> Written:
    store, content = small(folder)
    return write_bundle(folder / "bundle.tar.zst", content, store)


def contents(path: Path) -> dict[str, bytes]:
    with BundleReader(path) as reader:
        found = {"manifest.json": reader.manifest.to_bytes()}
        found |= {name: stream.read() for name, stream in reader.members()}
        for project in reader.manifest.projects:
            found |= {file.path: stream.read() for file, stream in reader.files(project)}
        return found


Part = tuple[bytes, bytes]
"""A tar header (with whatever comes before content) and the content."""


def part(path: str, data: bytes) -> Part:
    return tar.header(path, len(data)), data


@dataclass
class Archive:
    """A bundle taken apart into frames of tar members, to be changed and put together again, digest and all."""

    frames: list[list[Part]] = field(default_factory=list)
    end: bytes = tar.END

    @classmethod
    def of(cls, manifest: Manifest, contents: Mapping[str, bytes]) -> Archive:
        members = [part(member.path, contents[member.path]) for member in manifest.members]
        frames = [[part("manifest.json", manifest.to_bytes()), *members]]
        frames += [
            [part(entry.path, contents[entry.path]) for entry in section.entries]
            for section in manifest.project_sections.values()
        ]
        return cls(frames)

    def blobs(self) -> list[bytes]:
        """Each frame before compression."""
        blobs = [b"".join(head + data + bytes(tar.padding(len(data))) for head, data in frame) for frame in self.frames]
        return [*blobs, self.end]

    def write(self, path: Path) -> Path:
        blobs = self.blobs()
        return write_frames(path, [(b"".join(compress([blob], len(blob))), len(blob)) for blob in blobs])


def write_frames(path: Path, frames: Sequence[tuple[bytes, int]]) -> Path:
    """Write compressed frames, each with the size that the seek table will name, with digest and seek table."""
    data = b"".join(frame for frame, _ in frames)
    digest = DIGEST_MAGIC + hashlib.sha256(data).digest()
    table = seek_table([*((len(frame), size) for frame, size in frames), (len(digest), 0)])
    path.write_bytes(data + digest + table)
    return path


def raw_header(path: str, size: int, kind: bytes = b"0", link: str = "") -> bytes:
    """A ustar header as another tool may write it."""
    block = bytearray(tar.header("x", size))
    block[:100] = path.encode().ljust(100, b"\0")
    block[156:157] = kind
    block[157:257] = link.encode().ljust(100, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def seekable_sizes(data: bytes) -> list[tuple[int, int]]:
    """The seek table's entries, read as zstd's own tools do."""
    (count,) = struct.unpack("<I", data[-9:-5])
    table = data[-9 - 8 * count : -9]
    return list(struct.iter_unpack("<II", table))
