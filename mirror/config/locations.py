"""Where configuration and data live on each system. Pure: the platform, the environment and the home come in.

``platform`` is a ``sys.platform``; paths come out as text in that platform's own spelling, so that any machine can
tell (and test) what another one would read.
"""

from __future__ import annotations

import ntpath
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True, slots=True)
class AppFolders:
    """The folders that ``platformdirs`` names for an application without an author."""

    data: str
    cache: str
    config: str


def _flavour(platform: str) -> ModuleType:
    return ntpath if platform == "win32" else posixpath


def _xdg(environ: Mapping[str, str], name: str, default: str) -> str:
    # The XDG base directory specification: a relative path is to be ignored.
    value = environ.get(name, "").strip()
    return value if posixpath.isabs(value) else default


def app_folders(app: str, *, platform: str, environ: Mapping[str, str], home: str) -> AppFolders:
    """Return the user's data, cache and configuration folders of *app*."""
    if platform == "win32":
        local = environ.get("LOCALAPPDATA") or ntpath.join(home, "AppData", "Local")
        data = ntpath.join(local, app)
        return AppFolders(data, ntpath.join(data, "Cache"), data)
    if platform == "darwin":
        support, caches, config = f"{home}/Library/Application Support", f"{home}/Library/Caches", ""
    else:
        support, caches, config = f"{home}/.local/share", f"{home}/.cache", f"{home}/.config"
    return AppFolders(
        posixpath.join(_xdg(environ, "XDG_DATA_HOME", support), app),
        posixpath.join(_xdg(environ, "XDG_CACHE_HOME", caches), app),
        posixpath.join(_xdg(environ, "XDG_CONFIG_HOME", config or support), app),
    )


def pip_files(
    *, platform: str, environ: Mapping[str, str], home: str, prefix: str, exists: Callable[[str], bool]
) -> list[str]:
    """Return pip's configuration files in the order in which later ones win; most of them will not exist.

    *prefix* is the ``sys.prefix`` of the environment that pip runs in. As in pip, an existing ``PIP_CONFIG_FILE``
    takes the place of the user's own files, and ``PIP_CONFIG_FILE=os.devnull`` switches every file off.
    """
    name = "pip.ini" if platform == "win32" else "pip.conf"
    named = environ.get("PIP_CONFIG_FILE")
    if named == _flavour(platform).devnull:
        return []
    if platform == "win32":
        site = [environ.get("ALLUSERSPROFILE") or environ.get("PROGRAMDATA") or "C:\\ProgramData"]
        user = [
            ntpath.join(home, "pip", name),
            ntpath.join(environ.get("APPDATA") or ntpath.join(home, "AppData", "Roaming"), "pip", name),
        ]
    elif platform == "darwin":
        site = ["/Library/Application Support"]
        support = f"{home}/Library/Application Support/pip"
        user = [f"{home}/.pip/{name}", f"{support if exists(support) else f'{home}/.config/pip'}/{name}"]
    else:
        folders = [folder.strip() for folder in environ.get("XDG_CONFIG_DIRS", "").split(":")]
        site = [folder for folder in folders if posixpath.isabs(folder)] or ["/etc/xdg"]
        user = [
            f"{home}/.pip/{name}",
            posixpath.join(_xdg(environ, "XDG_CONFIG_HOME", f"{home}/.config"), "pip", name),
        ]
    join = _flavour(platform).join
    files = [join(folder, "pip", name) for folder in site]
    if platform not in ("win32", "darwin"):
        files.append(f"/etc/{name}")
    if not (named and exists(named)):
        files += user
    files.append(join(prefix, name))
    if named:
        files.append(named)
    return files
