"""``locks/TARGET.txt`` of an unpacked bundle: what one target installs, for any pip and uv, hashes required. Pure.

The file follows from the manifest alone, so a bundle does not carry it. Before pip 26.1 no pip read the lock beside it.
"""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from mirror.bundle.manifest import BundledFile, Manifest
from mirror.errors import BundleError

# Paths in a requirements file are as seen from its folder, for pip as for uv.
_HEAD = """\
# What {target} installs, from this folder alone:
#     python -m pip install -r {path}
--no-index
--find-links ../packages
--require-hashes
"""


def hashed_path(target: str) -> str:
    """Where the requirements of *target* are, below the folder that a bundle is unpacked into."""
    return f"locks/{target}.txt"


def render_hashed(manifest: Manifest, target: str) -> bytes:
    """Every project that *target* installs, by its version and the digest of its one file; sorted by project.

    A folder shows no digests, so an installer would reach for another target's wheel before it compares: where there is
    one beside the sdist that *target* builds, the file says so. A BundleError where a version is none: the manifest may
    be anybody's, and no line is to become an option.
    """
    mine = sorted((file for file in manifest.files if target in file.targets), key=lambda file: file.project)
    wheels = {(file.project, file.version) for file in manifest.files if file.is_wheel}
    lines = [_HEAD.format(target=target, path=hashed_path(target))]
    lines += [
        f"--no-binary {file.project}\n" for file in mine if (file.project, file.version) in wheels and not file.is_wheel
    ]
    lines += ["\n", *(f"{file.project}=={_version(file)} \\\n    --hash=sha256:{file.sha256}\n" for file in mine)]
    return "".join(lines).encode()


def _version(file: BundledFile) -> Version:
    try:
        return Version(file.version)
    except InvalidVersion as error:
        raise BundleError(f"{file.filename} has no version that an installer could take: {file.version!r}.") from error
