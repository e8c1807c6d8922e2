"""What a note of a settled run lies under: everything that decides, or there is no note. A new field must choose."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mirror
from mirror.cli.pack import pack
from mirror.config import Config, NamedIndex, Setting, load
from mirror.models import FormatControl, RequirementLine, RequirementSet, Selection, Target
from mirror.ops.program import program
from mirror.ops.settled import key_of
from mirror.targets import make_target

INDEX = "https://index.invalid/simple/"
NAMES = frozenset({canonicalize_name("a")})
LINE = RequirementLine(Requirement("a"), "want.txt, line 1")
WANTED = RequirementSet((LINE,), constraints=(LINE,))
TARGET = make_target("3.12", ["manylinux_2_28_x86_64"])

# For each value that a pack is told, another value of every field that decides.
DECIDES: Mapping[type, Mapping[str, Any]] = {
    RequirementSet: {
        "requirements": (LINE, LINE),
        "constraints": (),
        "index_url": "https://other.invalid/simple/",
        "extra_index_urls": ("https://other.invalid/simple/",),
        "find_links": (".",),
        "no_index": True,
        "trusted_hosts": ("index.invalid",),
        "pre": True,
        "prefer_binary": True,
        "require_hashes": True,
        "format_control": FormatControl(no_binary=NAMES),
        "sources": (("want.txt", "a\n"),),
        "selection": Selection(all_wheels=True),
    },
    Selection: {
        "before": datetime(2026, 1, 1, tzinfo=timezone.utc),
        "missing_time": "skip",
        "pre": NAMES,
        "all_wheels": True,
        "with_sdists": True,
    },
    FormatControl: {"no_binary": NAMES, "only_binary": NAMES},
    RequirementLine: {
        "requirement": Requirement("a[b]>1; python_version > '3'"),
        "origin": "other.txt, line 1",
        "hashes": ("sha256:" + "0" * 64,),
    },
    Target: {"name": "other", "tags": ("py3-none-any",), "markers": (("python_full_version", "3.12.1"),)},
    Config: {
        "index_url": Setting("https://other.invalid/simple/", "default"),
        "extra_index_urls": Setting(("https://other.invalid/simple/",), "default"),
        "find_links": Setting((".",), "default"),
        "no_index": Setting(True, "default"),
        "pre": Setting(True, "default"),
        "no_binary": Setting(("a",), "default"),
        "only_binary": Setting(("a",), "default"),
        "indexes": (NamedIndex("other", "https://other.invalid/simple/", ("a-*",)),),
        "index_strategy": Setting("unsafe-best-match", "default"),
    },
}
EVERY_FIELD = [(kind, name) for kind, others in DECIDES.items() for name in others]
# They say how to connect, where files lie, or concern other commands. ``targets`` are given as what they come to.
NO_MATTER: Mapping[type, frozenset[str]] = {
    Config: frozenset(
        {
            *("trusted_hosts", "cert", "client_cert", "proxy", "timeout", "retries", "keyring_provider"),
            *("home", "cache", "files", "warnings", "targets"),
            *("repositories", "default_repository", "syncs", "serve", "receipts"),
        }
    )
}
# What becomes of every option of ``airgap pack``: it comes to values above, it rules notes out, or it does not matter.
OPTIONS = {
    "values": {
        *("requirements", "constraints", "extras", "groups", "pre", "pre_for", "no_binary", "only_binary"),
        *("exclude_newer", "exclude_newer_missing", "all_wheels", "with_sdists"),
        *("names", "files", "pythons", "platforms", "implementation", "abis"),
        *("index_url", "extra_index_urls", "find_links", "no_index", "index_strategy"),
    },
    "no note": {"since", "dry_run", "include", "allow_build", "build_wheels"},
    "no matter": {
        *("output", "as_json", "quiet", "verbose"),
        *("cert", "client_cert", "proxy", "timeout", "retries", "trusted_hosts"),
    },
}


@pytest.fixture(name="config")
def _config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    config = load(environ={"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}, cwd=tmp_path)
    return replace(config, index_url=Setting(INDEX, "default"))


@pytest.mark.parametrize("kind", DECIDES, ids=lambda kind: kind.__name__)
def test_it_is_known_of_every_field_whether_it_decides(kind: type) -> None:
    deciding, others = set(DECIDES[kind]), NO_MATTER.get(kind, frozenset())
    assert not deciding & others
    assert deciding | others == {field.name for field in fields(kind)}


def test_it_is_known_of_every_option_whether_it_decides() -> None:
    options = [name for names in OPTIONS.values() for name in names]
    assert sorted(options) == sorted(str(parameter.name) for parameter in pack.params)


@pytest.mark.parametrize(("kind", "name"), EVERY_FIELD, ids=lambda part: getattr(part, "__name__", part))
def test_every_field_that_decides_leads_to_another_key(config: Config, kind: type, name: str) -> None:
    changed = {name: DECIDES[kind][name]}
    wanted, target, other = WANTED, TARGET, config
    if kind is RequirementSet:
        wanted = replace(wanted, **changed)
    elif kind is Selection:
        wanted = replace(wanted, selection=replace(wanted.selection, **changed))
    elif kind is FormatControl:
        wanted = replace(wanted, format_control=replace(wanted.format_control, **changed))
    elif kind is RequirementLine:
        wanted = replace(wanted, requirements=(replace(LINE, **changed),))
    elif kind is Target:
        target = replace(target, **changed)
    else:
        other = replace(other, **changed)
    before = key_of(WANTED, (TARGET,), config)
    assert before is not None
    assert key_of(wanted, (target,), other) != before


@pytest.mark.parametrize("name", sorted(NO_MATTER[Config]))
def test_no_other_setting_does(config: Config, name: str) -> None:
    strange: Any = Setting(object(), "default")  # which has no spelling
    assert key_of(WANTED, (TARGET,), replace(config, **{name: strange})) == key_of(WANTED, (TARGET,), config)


def test_order_and_number_of_targets_decide(config: Config) -> None:
    other = make_target("3.13", ["manylinux_2_28_x86_64"])
    targets = [(TARGET,), (other,), (TARGET, other), (other, TARGET)]
    assert len({key_of(WANTED, some, config) for some in targets}) == len(targets)


@pytest.mark.parametrize("place", ["https://links.invalid/", "file:///nowhere", "nowhere"])
def test_where_more_decides_than_can_be_told_there_is_no_key(config: Config, place: str) -> None:
    assert key_of(replace(WANTED, find_links=(place,)), (TARGET,), config) is None


@pytest.mark.parametrize("url", ["file:///srv/simple/", "/srv/simple"])
def test_an_index_of_this_machine_has_no_key(config: Config, url: str) -> None:
    assert key_of(replace(WANTED, index_url=url), (TARGET,), config) is None
    assert key_of(replace(WANTED, extra_index_urls=(url,)), (TARGET,), config) is None


def test_direct_references_have_no_key(config: Config) -> None:
    line = RequirementLine(Requirement("a @ https://bob:secret@files.invalid/a-1-py3-none-any.whl"), "want.txt, line 1")
    assert key_of(replace(WANTED, requirements=(line,)), (TARGET,), config) is None
    assert key_of(replace(WANTED, constraints=(line,)), (TARGET,), config) is None


def test_credentials_are_no_part_of_it(config: Config) -> None:
    url = INDEX.replace("//", "//bob:secret@")
    for with_them, without in (
        (replace(WANTED, index_url=url), replace(WANTED, index_url=INDEX)),
        (replace(WANTED, extra_index_urls=(url,)), replace(WANTED, extra_index_urls=(INDEX,))),
    ):
        key = key_of(with_them, (TARGET,), config)
        assert key is not None
        assert "secret" not in key
        assert key == key_of(without, (TARGET,), config)
    assert key_of(WANTED, (TARGET,), replace(config, index_url=Setting(url, "--index-url"))) == key_of(
        WANTED, (TARGET,), config
    )


def test_every_file_of_the_program_counts(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copytree(Path(mirror.__file__).parent, tmp_path / "mirror")
    monkeypatch.setattr("mirror.ops.program._ROOT", copy)
    first, before = program(), key_of(WANTED, (TARGET,), config)
    assert first is not None
    assert program() == first
    changed = copy / "resolver" / "search.py"
    found = changed.stat()
    os.utime(changed, ns=(found.st_atime_ns, found.st_mtime_ns - 1))  # even an older one is another one
    second = program()
    assert second not in (None, first)
    assert key_of(WANTED, (TARGET,), config) != before
    (copy / "resolver" / "more.py").write_text("", "utf-8")
    assert program() not in (None, first, second)


def test_a_program_that_shows_no_files_leaves_no_notes(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror.pyz").write_bytes(b"")
    monkeypatch.setattr("mirror.ops.program._ROOT", tmp_path / "mirror.pyz" / "mirror")
    assert program() is None
    assert key_of(WANTED, (TARGET,), config) is None
