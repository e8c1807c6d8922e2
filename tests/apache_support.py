"""A real Apache httpd, with few words of configuration; the test is skipped where there is none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.push_support import process

_PROGRAMS = "/usr/sbin:/usr/local/sbin:/opt/homebrew/bin:"
_MODULES = [Path("/usr/lib/apache2/modules"), Path("/usr/lib64/httpd/modules"), Path("/opt/homebrew/lib/httpd/modules")]
_NEEDED = ("mpm_event", "unixd", "authz_core", "dir", "mime")


@contextmanager
def apache(root: Path, configuration: str, *, ready: str = "/simple/") -> Iterator[str]:
    """Serve a copy of *root* with *configuration*, where ROOT means the copy, until *ready* answers; yields its URL.

    A copy, because Apache reads as another user than root, from whom pytest's folders are hidden.
    """
    path = _PROGRAMS + os.environ["PATH"]
    program = shutil.which("apache2", path=path) or shutil.which("httpd", path=path)
    modules = next((folder for folder in _MODULES if (folder / "mod_dir.so").is_file()), None)
    if program is None or modules is None:
        pytest.skip("Apache httpd is not installed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(root, folder / "root")
        port = free_port()
        loaded = "".join(
            f"<IfModule !{module}_module>\nLoadModule {module}_module {modules}/mod_{module}.so\n</IfModule>\n"
            for module in _NEEDED
            if (modules / f"mod_{module}.so").is_file()
        )
        user = "User #65534\nGroup #65534\n" if os.geteuid() == 0 else ""
        (folder / "httpd.conf").write_text(
            f"ServerRoot {folder}\nServerName 127.0.0.1\nListen 127.0.0.1:{port}\nPidFile {folder}/pid\n"
            f"DefaultRuntimeDir {folder}\nErrorLog /dev/stderr\n{loaded}{user}TypesConfig /dev/null\n"
            # What Debian and others begin with: nothing may be read that is not allowed.
            "AddType text/html .html\n<Directory />\nRequire all denied\n</Directory>\n"
            f"DocumentRoot {folder}/root\n{configuration.replace('ROOT', str(folder / 'root'))}\n"
        )
        url = f"http://127.0.0.1:{port}"
        command = [program, "-f", str(folder / "httpd.conf"), "-DFOREGROUND"]
        with process(command, f"{url}{ready}", folder / "log"):
            yield url
