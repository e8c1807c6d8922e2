"""A second pack: what it may leave out where nothing has changed, and everything that must not be taken for that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mirror.bundle import BundleReader
from mirror.index.answer import Answer
from mirror.models import (
    Build,
    Difference,
    File,
    Hashes,
    Pin,
    Plan,
    ProjectStatus,
    Selection,
    TargetPlan,
)
from mirror.ops.spelled import spell, unspell
from mirror.store import Store
from mirror.targets import make_target
from tests.end_to_end_support import Desk
from tests.http_support import Reply, Request, Resource, Server, Status
from tests.index_support import Warehouse
from tests.wheelhouse import make_wheel

SETTLED = "Every index answers as it did"
TARGET = ("--target", "cp312-manylinux_2_28_x86_64")


@pytest.fixture(name="server")
def _server() -> Iterator[Server]:
    with Server() as server:
        yield server


class Site:
    """An index with ``top``, which requires ``low``, and a folder that packs ``top`` from it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.desk = Desk(folder)
        self.stock = Warehouse(server)
        self.bundle = folder / "b.tar.zst"
        self.stock.publish(make_wheel("top", requires=["low"]))
        self.stock.publish(make_wheel("low"))
        self.desk.write("want.txt", "top\n")

    def pack(self, *options: str, indexes: tuple[str, ...] = ("simple",)) -> bool:
        """Pack; whether that was settled without resolving."""
        index, *others = (self.stock.url(name) for name in indexes)
        more = [word for url in others for word in ("--extra-index-url", url)]
        words = ("pack", "want.txt", "-i", index, *more, "-o", "b.tar.zst", *TARGET, "-v", *options)
        return SETTLED in self.desk.run_here(*words).err

    def versions(self) -> dict[str, str]:
        with BundleReader(self.bundle) as reader:
            return {file.project: file.version for file in reader.manifest.files}

    def asked(self) -> list[str]:
        """Paths of all requests since the last call, sorted."""
        paths = sorted(request.path for request in self.server.requests)
        self.server.requests.clear()
        return paths


@pytest.fixture(name="site")
def _site(server: Server, tmp_path: Path) -> Site:
    return Site(server, tmp_path)


def test_nothing_changed(site: Site) -> None:
    assert not site.pack()
    first = site.bundle.read_bytes()
    site.asked()
    assert site.pack()
    assert site.asked() == ["/simple/low/", "/simple/top/"]
    assert site.bundle.read_bytes() == first


def test_the_result_is_the_same_in_every_detail(site: Site) -> None:
    for version, python in (("1.0", "cp312"), ("2.0", "cp313")):  # no version is for both
        site.stock.publish(make_wheel("odd", version, tag=f"{python}-{python}-manylinux_2_28_x86_64"))
    site.desk.write("want.txt", "top\nodd\n")
    both = (*TARGET, "--target", "cp313-manylinux_2_28_x86_64")
    words = ("pack", "want.txt", "-i", site.stock.url(), "-o", "b.tar.zst", *both)
    whole = site.desk.run_here(*words, "--json").document
    assert whole["differences"]
    again = site.desk.run_here(*words, "--json", "-v")
    assert SETTLED in again.err
    assert again.document == whole
    told = site.desk.run_here(*words).err.splitlines()
    for path in (site.desk.folder / "cache" / "notes" / "settled").glob("*/*"):
        path.unlink()
    assert site.desk.run_here(*words).err.splitlines()[-len(told) :] == told


def test_a_server_without_validators_is_looked_at_anew(site: Site) -> None:
    page = site.server.plain(Request("GET", "/simple/low/", {}, b""))
    assert isinstance(page, Resource)
    site.server.add("/simple/low/", page.body, content_type=page.headers["Content-Type"], etag=False)
    for _ in range(2):
        assert not site.pack()
    assert not list((site.desk.folder / "cache" / "notes" / "settled").glob("*/*"))


def test_a_server_that_sends_whole_pages_is_compared_by_what_they_say(site: Site) -> None:
    def whole(text: str) -> Reply:
        page = site.server.plain(Request("GET", "/simple/low/", {}, b""))
        assert isinstance(page, Resource)
        return Reply(200, page.body, {"Content-Type": page.headers["Content-Type"], "ETag": text})

    site.server.script("/simple/low/", whole('"1"'), whole('"1"'))  # one a run, whatever was asked
    assert not site.pack()
    assert site.pack()
    site.stock.publish(make_wheel("low", "2.0"))
    site.server.script("/simple/low/", whole('"1"'), whole('"1"'))  # the ETag is what it was
    assert not site.pack()
    assert site.versions() == {"top": "1.0", "low": "2.0"}


def test_a_new_version_is_seen_and_what_did_not_change_is_asked_for_once(site: Site) -> None:
    for project in ("a", "b", "c"):
        site.stock.publish(make_wheel(project))
    site.desk.write("want.txt", "top\na\nb\nc\n")
    site.pack()
    site.stock.publish(make_wheel("low", "2.0"))
    site.asked()
    assert not site.pack()
    assert site.versions() == {"top": "1.0", "low": "2.0", "a": "1.0", "b": "1.0", "c": "1.0"}
    pages = [path for path in site.asked() if path.endswith("/")]
    assert {path: pages.count(path) for path in pages} == {
        "/simple/a/": 1,
        "/simple/b/": 1,
        "/simple/c/": 1,
        "/simple/low/": 2,  # it has changed: it must be asked for whole
        "/simple/top/": 1,
    }


def test_a_file_that_was_yanked_is_seen(site: Site) -> None:
    site.stock.publish(make_wheel("low", "0.9"))
    site.pack()
    site.stock.pages["simple", "low"].clear()
    site.stock.publish(make_wheel("low", "0.9"))
    site.stock.publish(make_wheel("low"), yanked="broken")
    assert not site.pack()
    assert site.versions() == {"top": "1.0", "low": "0.9"}


def test_a_file_that_was_removed_is_seen(site: Site) -> None:
    site.stock.publish(make_wheel("low", "2.0"))
    site.pack()
    assert site.versions()["low"] == "2.0"
    site.stock.pages["simple", "low"].pop()
    site.stock.page("low")
    assert not site.pack()
    assert site.versions() == {"top": "1.0", "low": "1.0"}


def test_a_page_that_was_damaged_in_the_cache_is_asked_for_whole(site: Site) -> None:
    site.pack()
    first = site.bundle.read_bytes()
    for path in (site.desk.folder / "cache" / "notes" / "pages").glob("*/*"):
        data = bytearray(path.read_bytes())
        data[-10] ^= 1
        path.write_bytes(data)
    assert site.pack()  # which needs no pages
    site.bundle.unlink()
    site.asked()
    assert not site.pack()
    assert {"/simple/low/", "/simple/top/"} <= set(site.asked())
    assert site.bundle.read_bytes() == first


def test_a_page_in_the_cache_that_is_not_what_the_index_said_is_not_used(site: Site) -> None:
    site.stock.publish(make_wheel("low", "2.0"))
    site.pack()
    store, url = Store(site.desk.folder / "cache"), site.stock.url() + "low/"
    known = Answer.read(store.note("pages", url))
    assert known is not None
    old = replace(known, body=known.body.replace(b"low-2.0", b"low-0.2"))  # with the ETag of the page that it was
    store.set_note("pages", url, old.head(), old.body)
    site.bundle.write_bytes(b"")
    assert not site.pack()
    assert site.versions() == {"top": "1.0", "low": "2.0"}


def test_an_index_that_fails_is_told_as_ever(site: Site) -> None:
    site.pack()
    site.server.handle("/simple/low/", lambda _: Status(403))
    words = ("pack", "want.txt", "-i", site.stock.url(), "-o", "b.tar.zst", *TARGET)
    first = site.desk.run_here(*words, code=4).err
    for path in (site.desk.folder / "cache" / "notes" / "settled").glob("*/*"):
        path.unlink()
    assert site.desk.run_here(*words, code=4).err == first


def test_an_index_behind_a_proxy_is_asked_through_it(site: Site) -> None:
    far = "http://packages.invalid/simple/"
    for project in ("top", "low"):
        page = site.server.plain(Request("GET", f"/simple/{project}/", {}, b""))
        assert isinstance(page, Resource)
        body = page.body.replace(b"../files/", f"{site.server.url}/simple/files/".encode())
        site.server.add(f"{far}{project}/", body, content_type=page.headers["Content-Type"])
        name = f"{project}-1.0-py3-none-any.whl"
        for file in (name, f"{name}.metadata"):
            found = site.server.plain(Request("GET", f"/simple/files/{file}", {}, b""))
            assert isinstance(found, Resource)
            site.server.add(f"{site.server.url}/simple/files/{file}", found.body)
    proxy = site.server.url.replace("//", "//us:pa55word@")
    words = ("pack", "want.txt", "-i", far, "--proxy", proxy, "-o", "b.tar.zst", *TARGET, "-v")
    assert SETTLED not in site.desk.run_here(*words).err
    site.asked()
    assert SETTLED in site.desk.run_here(*words).err
    assert site.asked() == [f"{far}low/", f"{far}top/"]
    assert not told_of(site, b"pa55word")


def test_credentials_reach_no_note(site: Site) -> None:
    site.server.users["bob"] = "pa55word"
    with_them = site.stock.url().replace("//", "//bob:pa55word@")
    for text, options in (
        ("top\n", ("-i", with_them)),
        (f"--index-url {with_them}\ntop\n", ()),
        (f"--extra-index-url {with_them}\ntop\n", ("-i", site.stock.url("private"))),
    ):
        site.desk.write("want.txt", text)
        words = ("pack", "want.txt", *options, "-o", "b.tar.zst", *TARGET, "-v")
        assert SETTLED not in site.desk.run_here(*words).err
        assert SETTLED in site.desk.run_here(*words).err
    assert len(list((site.desk.folder / "cache" / "notes" / "settled").glob("*/*"))) == 3
    assert not told_of(site, b"pa55word")
    assert not told_of(site, b"Ym9iOnBhNTV3b3Jk")


def told_of(site: Site, secret: bytes) -> list[Path]:
    """The files of the cache that hold *secret*."""
    paths = (path for path in (site.desk.folder / "cache").rglob("*") if path.is_file())
    return [path for path in paths if secret in path.read_bytes()]


def test_notes_of_runs_that_never_came_again_go(site: Site) -> None:
    notes = site.desk.folder / "cache" / "notes" / "settled"
    site.pack()
    (old,) = notes.glob("*/*")
    os.utime(old, (0, 0))
    site.pack("--pre")
    assert not old.exists()
    assert len(list(notes.glob("*/*"))) == 1


def test_a_project_that_an_index_did_not_have_is_looked_for_again(site: Site) -> None:
    site.desk.write("want.txt", "top\n")
    assert not site.pack(indexes=("private", "simple"))
    assert site.pack(indexes=("private", "simple"))
    site.stock.publish(make_wheel("low", "0.1"), index="private")
    assert not site.pack(indexes=("private", "simple"))
    assert site.versions()["low"] == "0.1"


def test_a_project_that_is_gone_is_missed(site: Site) -> None:
    site.pack()
    site.server.handle("/simple/low/", lambda _: Status(404))
    words = ("pack", "want.txt", "-i", site.stock.url(), "-o", "b.tar.zst", *TARGET)
    assert "low" in site.desk.run_here(*words, code=3).err


@pytest.mark.parametrize(
    "options",
    [("--pre",), ("--only-binary", "low"), ("--exclude-newer", "2099-01-01", "--exclude-newer-missing", "allow")],
    ids=lambda options: options[0],
)
def test_an_option_that_decides_makes_it_another_run(site: Site, options: tuple[str, ...]) -> None:
    site.pack()
    assert not site.pack(*options)
    assert site.pack(*options)


def test_inputs_targets_and_folders_make_it_another_run(site: Site) -> None:
    site.pack()
    site.desk.write("want.txt", "top # the same, with a comment\n")  # which the bundle carries along
    assert not site.pack()
    assert not site.pack("--target", "cp313-manylinux_2_28_x86_64")
    links = site.desk.folder / "links"
    links.mkdir()
    assert not site.pack("-f", str(links))
    assert site.pack("-f", str(links))
    (links / "low-3.0-py3-none-any.whl").write_bytes(make_wheel("low", "3.0").data)
    for _ in range(2):  # a folder shows no digest, which is warned of each time
        assert not site.pack("-f", str(links))
        assert site.versions()["low"] == "3.0"


def test_a_bundle_that_is_gone_or_damaged_is_written_again(site: Site) -> None:
    site.pack()
    first = site.bundle.read_bytes()
    site.bundle.unlink()
    assert not site.pack()
    site.bundle.write_bytes(first[:-1])
    assert not site.pack()
    assert site.bundle.read_bytes() == first
    assert site.pack()
    site.desk.write("want.txt", "low\n")
    assert not site.pack()
    other = site.bundle.read_bytes()
    site.desk.write("want.txt", "top\n")
    assert not site.pack()  # what lies there is whole, and another set
    assert site.bundle.read_bytes() == first != other
    assert site.pack()


def test_own_packages_are_never_taken_for_the_same(site: Site) -> None:
    own = site.desk.folder / "dist"
    own.mkdir()
    (own / "own-1.0-py3-none-any.whl").write_bytes(make_wheel("own").data)
    for _ in range(2):
        assert not site.pack("--include", str(own))


def test_who_was_warned_is_warned_again(site: Site) -> None:
    broken = make_wheel("low", "2.0", requires=["this is not ; a requirement"])
    site.stock.publish(broken)
    words = ("pack", "want.txt", "-i", site.stock.url(), "-o", "b.tar.zst", *TARGET)
    for _ in range(2):
        assert "low 2.0 was passed over" in site.desk.run_here(*words).err


def test_what_resolves_and_compresses_is_not_loaded(site: Site) -> None:
    site.pack()
    program = (
        "import sys\nfrom mirror.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = ('mirror.bundle', 'mirror.metadata', 'mirror.resolver', 'resolvelib', 'tqdm')\n"
        "    print([name for name in sys.modules if name.startswith(heavy)])"
    )
    words = ["pack", "want.txt", "-i", site.stock.url(), "-o", "b.tar.zst", *TARGET, "-q"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=site.desk.folder,
        env=site.desk.environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout.strip() == "[]"


def test_values_are_read_back_as_they_were_spelled() -> None:
    name = canonicalize_name("a")
    file = File("a-1-py3-none-any.whl", "https://a.invalid/a", name, "1", Hashes.of({"md5": "0" * 32}), yanked="")
    pin = Pin(name, "1", file, (name,), (name, name), ("one", "two"))
    target = make_target("3.12", ["manylinux_2_28_x86_64"])
    build = Build(name, "1", (Requirement("b[c]>=1 ; python_version > '3'"),), (pin,))
    plan = Plan(
        (TargetPlan(target, (pin, pin), (build,)),),
        (file,),
        (Difference(name, {"x": "1", "w": "2"}, ("because",)),),
        (ProjectStatus(name, "archived", "", "https://a.invalid/"),),
    )
    assert unspell(Plan, spell(plan)) == plan


def test_the_same_value_has_one_spelling() -> None:
    names = [canonicalize_name(f"name-{number}") for number in range(50)]
    one, other = Selection(pre=frozenset(names)), Selection(pre=frozenset(reversed(names)))
    assert spell(one) == spell(other) != spell(Selection())
    assert spell(Selection(before=datetime(2026, 1, 1, tzinfo=timezone.utc))) != spell(Selection())
    strange: Any = object()
    with pytest.raises(TypeError):
        spell([strange])
