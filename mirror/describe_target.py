#!/usr/bin/env python3
"""Describe this machine and this Python, for ``airgap pack --target-file``.

Run it with the Python that will install, on the isolated machine, and carry over what it prints:

    python3 describe_target.py > machine.json

It needs nothing but Python 3.6 or later, on Linux (glibc or musl), macOS or Windows; it writes no file and changes
nothing. What it prints are facts, and airgap works the wheel tags out of them: version, implementation and ABI of the
interpreter, the C library or the release of macOS, and the values of environment markers (PEP 508).
"""

import glob
import json
import os
import platform
import re
import struct
import subprocess
import sys
import sysconfig
from typing import Any, Dict, List, Optional

FORMAT = 1


def implementation() -> str:
    """The abbreviation that wheel tags begin with (PEP 425)."""
    name = sys.implementation.name
    return {"cpython": "cp", "pypy": "pp"}.get(name, name)


def is_debug() -> bool:
    configured = sysconfig.get_config_var("Py_DEBUG")
    if configured is not None:
        return bool(configured)
    from importlib.machinery import EXTENSION_SUFFIXES

    return hasattr(sys, "gettotalrefcount") or "_d.pyd" in EXTENSION_SUFFIXES


def abis() -> List[str]:
    """The ABIs of extension modules that this interpreter loads, its own first."""
    if implementation() != "cp":
        suffix = sysconfig.get_config_var("EXT_SUFFIX") or ""
        parts = suffix.partition(".")[2].split(".")[0].split("-")
        return ["_".join(parts[:2])] if len(parts) > 1 else []
    version = "cp{}{}".format(*sys.version_info[:2])
    debug = "d" if is_debug() else ""
    if sys.version_info < (3, 8):  # noqa: UP036  # this script runs on 3.6
        pymalloc = sysconfig.get_config_var("WITH_PYMALLOC")
        return [version + debug + ("m" if pymalloc or pymalloc is None else "")]
    threads = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return [version + threads + debug] + ([version + threads] if debug else [])


def glibc() -> Optional[str]:
    """The version of glibc that this process runs on, such as 2.28; None where it is another C library."""
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, OSError, ValueError):
        text = None
    if text and text.startswith("glibc "):
        return text.split()[1]
    try:
        import ctypes

        version = ctypes.CDLL(None).gnu_get_libc_version
    except (ImportError, OSError, AttributeError, TypeError):
        return None
    version.restype = ctypes.c_char_p
    return str(version().decode("ascii"))


def musl(pattern: str = "/lib/ld-musl-*.so.1") -> Optional[str]:
    """The version of musl, which its loader prints where it is called without arguments; None where there is none."""
    for loader in sorted(glob.glob(pattern)):  # noqa: PTH207  # an absolute pattern
        process = subprocess.Popen([loader], stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        found = re.search(r"^Version (\d+\.\d+)", process.communicate()[1], re.MULTILINE)
        if found:
            return found.group(1)
    return None


def macos() -> str:
    """The release of macOS; a Python that was built on an old one must be told not to hide it."""
    version = platform.mac_ver()[0]
    if version.startswith("10.16"):
        code = "import platform; print(platform.mac_ver()[0])"
        environment = dict(os.environ, SYSTEM_VERSION_COMPAT="0")
        version = subprocess.check_output(
            [sys.executable, "-sS", "-c", code], env=environment, universal_newlines=True
        ).strip()
    return version


def markers() -> Dict[str, str]:
    """The environment that markers are evaluated in (PEP 508)."""
    version = sys.implementation.version
    full = "{}.{}.{}".format(*version[:3])
    if version.releaselevel != "final":
        full += version.releaselevel[0] + str(version.serial)
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": full,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": "{}.{}".format(*sys.version_info[:2]),
        "sys_platform": sys.platform,
    }


def describe() -> Dict[str, Any]:
    """Everything, as one document."""
    system = platform.system()
    libc = {"glibc": glibc()} if system == "Linux" else {}
    if system == "Linux" and not libc["glibc"]:
        libc = {"musl": musl()}
    return {
        "airgap-target": FORMAT,
        "implementation": implementation(),
        "abis": abis(),
        "platform": platform.mac_ver()[2] if system == "Darwin" else sysconfig.get_platform(),
        "bits": struct.calcsize("P") * 8,
        "macos": macos() if system == "Darwin" else None,
        "glibc": libc.get("glibc"),
        "musl": libc.get("musl"),
        "markers": markers(),
    }


if __name__ == "__main__":
    print(json.dumps(describe(), indent=2, sort_keys=True))
