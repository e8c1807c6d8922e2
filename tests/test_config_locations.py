"""Where each system keeps configuration and data: compared with platformdirs, and with pip's documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from platformdirs import macos, unix, windows

from mirror.config.locations import AppFolders, app_folders, pip_files

HOME = "/home/bob"


def missing(_: str) -> bool:
    return False


@pytest.mark.parametrize("xdg", [{}, {"XDG_DATA_HOME": "/x/d", "XDG_CACHE_HOME": "/x/c", "XDG_CONFIG_HOME": "rel"}])
@pytest.mark.parametrize(("platform", "reference"), [("linux", unix.Unix), ("darwin", macos.MacOS)])
def test_folders_are_those_of_platformdirs(
    monkeypatch: pytest.MonkeyPatch, platform: str, reference: type[unix.Unix | macos.MacOS], xdg: dict[str, str]
) -> None:
    monkeypatch.setenv("HOME", HOME)
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in xdg.items():
        monkeypatch.setenv(name, value)
    dirs = reference("airgap", appauthor=False)
    expected = AppFolders(dirs.user_data_dir, dirs.user_cache_dir, dirs.user_config_dir)
    assert app_folders("airgap", platform=platform, environ=xdg, home=HOME) == expected


def test_folders_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    local = "C:\\Users\\bob\\AppData\\Local"
    found = app_folders("airgap", platform="win32", environ={"LOCALAPPDATA": local}, home="C:\\Users\\bob")
    assert found == app_folders("airgap", platform="win32", environ={}, home="C:\\Users\\bob")
    monkeypatch.setattr(windows, "get_win_folder", lambda _: local)
    dirs = windows.Windows("airgap", appauthor=False)
    plain = [path.replace("/", "\\") for path in (dirs.user_data_dir, dirs.user_cache_dir, dirs.user_config_dir)]
    assert [found.data, found.cache, found.config] == plain


def test_pip_on_linux() -> None:
    found = pip_files(platform="linux", environ={}, home=HOME, prefix="/venv", exists=missing)
    assert found == [
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        "/home/bob/.pip/pip.conf",
        "/home/bob/.config/pip/pip.conf",
        "/venv/pip.conf",
    ]


def test_pip_follows_xdg() -> None:
    environ = {"XDG_CONFIG_DIRS": "/a:relative:/b", "XDG_CONFIG_HOME": "/c"}
    found = pip_files(platform="linux", environ=environ, home=HOME, prefix="/venv", exists=missing)
    assert found[:3] == ["/a/pip/pip.conf", "/b/pip/pip.conf", "/etc/pip.conf"]
    assert found[4] == "/c/pip/pip.conf"


@pytest.mark.parametrize("exists", [True, False])
def test_pip_on_macos(exists: bool) -> None:
    found = pip_files(platform="darwin", environ={}, home="/Users/bob", prefix="/venv", exists=lambda _: exists)
    user = "/Users/bob/Library/Application Support/pip" if exists else "/Users/bob/.config/pip"
    assert found == [
        "/Library/Application Support/pip/pip.conf",
        "/Users/bob/.pip/pip.conf",
        f"{user}/pip.conf",
        "/venv/pip.conf",
    ]


def test_pip_on_windows() -> None:
    environ = {"PROGRAMDATA": "D:\\Data", "APPDATA": "D:\\Roaming"}
    found = pip_files(platform="win32", environ=environ, home="C:\\Users\\bob", prefix="C:\\venv", exists=missing)
    assert found == [
        "D:\\Data\\pip\\pip.ini",
        "C:\\Users\\bob\\pip\\pip.ini",
        "D:\\Roaming\\pip\\pip.ini",
        "C:\\venv\\pip.ini",
    ]
    bare = pip_files(platform="win32", environ={}, home="C:\\Users\\bob", prefix="C:\\venv", exists=missing)
    assert bare[0] == "C:\\ProgramData\\pip\\pip.ini"
    assert bare[2] == "C:\\Users\\bob\\AppData\\Roaming\\pip\\pip.ini"


@pytest.mark.parametrize(("platform", "devnull"), [("linux", "/dev/null"), ("darwin", "/dev/null"), ("win32", "nul")])
def test_devnull_switches_files_off(platform: str, devnull: str) -> None:
    environ = {"PIP_CONFIG_FILE": devnull}
    assert pip_files(platform=platform, environ=environ, home=HOME, prefix="/v", exists=missing) == []


def test_an_existing_named_file_replaces_the_users_own(tmp_path: Path) -> None:
    environ = {"PIP_CONFIG_FILE": "/etc/build.conf"}
    present = pip_files(platform="linux", environ=environ, home=HOME, prefix="/v", exists=lambda _: True)
    assert [*present[-2:]] == ["/v/pip.conf", "/etc/build.conf"]
    assert not any(path.startswith(HOME) for path in present)
    absent = pip_files(platform="linux", environ=environ, home=HOME, prefix="/v", exists=missing)
    assert f"{HOME}/.config/pip/pip.conf" in absent
