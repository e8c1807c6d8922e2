"""Hostile and broken input, end to end: ``airgap pack`` says what is wrong and leaves no bundle behind."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import mirror
from mirror.bundle import BundleReader
from mirror.index.simple import JSON_TYPE
from mirror.models import Hashes
from tests.http_support import Hold, Reply
from tests.index_support import LINUX, Desk, Ran, Warehouse, warehouse
from tests.wheelhouse import Built, core_metadata, make_sdist, make_wheel


@pytest.fixture
def at() -> Iterator[Warehouse]:
    with warehouse() as running:
        yield running


@pytest.fixture
def desk(at: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, at)


def refused(desk: Desk, ran: Ran, code: int, *words: str) -> None:
    assert ran.code == code, ran.err
    for text in words:
        assert text in ran.err
    assert "Traceback" not in ran.err
    assert not [path.name for path in desk.folder.iterdir() if "bundle" in path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="sends Ctrl-C otherwise")
def test_ctrl_c_while_an_index_does_not_answer(desk: Desk) -> None:
    """Nor does it end by itself, for ten minutes."""
    gate, names = threading.Event(), ("one", "two", "three", "four")
    for name in names:
        desk.at.server.script(f"/simple/{name}/", Hold(0, gate))
        desk.at.publish(make_wheel(name))
    Path("requirements.txt").write_text("\n".join(names))
    options = ["--index-url", desk.at.url(), "--timeout", "600", *LINUX, "-o", str(desk.bundle)]
    command = [sys.executable, "-m", "mirror", "pack", "requirements.txt", *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(mirror.__file__).parent.parent)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as run:
        try:
            while len(desk.at.server.requests) < len(names) and run.poll() is None:
                time.sleep(0.02)
            run.send_signal(signal.SIGINT)
            _, told = run.communicate(timeout=60)
        finally:
            gate.set()
            run.kill()
    assert (run.returncode, told.splitlines()[-1]) == (130, "Interrupted. Run the same command again to go on.")


# Index pages


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (JSON_TYPE, b"{", "answered JSON that can't be read"),
        (JSON_TYPE, b"[" * 100_000, "answered JSON that can't be read"),
        (JSON_TYPE, b"[]", "its JSON is not an object"),
        (JSON_TYPE, b'{"files": {}}', "it has no list of files"),
        (JSON_TYPE, b'{"meta": {"api-version": "2.0"}, "files": []}', "speaks version '2.0'"),
        ("image/png", b"\x89PNG", "it answered image/png"),
        ("text/html", b"<html><h1>Please log in</h1>", "no index has a project app"),
        ("text/html", b"\xff\xfe<a href=", "no index has a project app"),
    ],
)
def test_a_page_that_is_none(desk: Desk, kind: str, body: bytes, words: str) -> None:
    desk.at.server.add("/simple/app/", body, content_type=kind)
    ran = desk.pack("app")
    refused(desk, ran, 3 if "no index" in words else 4, words, "app")


def test_junk_on_a_page_does_not_hide_what_is_good(desk: Desk) -> None:
    built = make_wheel("app")
    desk.at.server.add(f"/f/{built.filename}", built.data)
    good = f'{{"filename": "{built.filename}", "url": "/f/{built.filename}", "hashes": {{"sha256": "{built.sha256}"}}}}'
    junk = [
        "5", "null", '{"filename": 5, "url": "x"}', '{"filename": "app-9.0-py3-none-any.whl"}',
        '{"filename": "../../etc/app-9.0-py3-none-any.whl", "url": "/f/x", "hashes": {}}',
        '{"filename": "app-9.0-py3-none-any.whl", "url": "javascript:1", "hashes": {}}',
        '{"filename": "app-9.1-py3-none-any.whl", "url": "file:///etc/passwd", "hashes": {}}',
        '{"filename": "app-9.2-py3-none-any.whl", "url": "http://[", "hashes": {}}',
        '{"filename": "app-9.3-py3-none-any.whl", "url": "/f/x", "hashes": {"sha256": "beef"}}',
        '{"filename": "app-nonsense-py3-none-any.whl", "url": "/f/x", "hashes": {}}',
        '{"filename": "app-9.4.exe", "url": "/f/x", "hashes": {}}',
        '{"filename": "app-9.5-py3-none-any.whl\\u0000", "url": "/f/x", "hashes": {}}',
    ]  # fmt: skip
    body = f'{{"meta": {{"api-version": "1.9"}}, "files": [{", ".join([*junk, good, *junk])}], "extra": [1]}}'
    desk.at.server.add("/simple/app/", body.encode(), content_type=JSON_TYPE)
    assert desk.pack("app").pins == {"app": "1.0"}


def test_texts_that_are_no_unicode(desk: Desk) -> None:
    """JSON can spell half of a character; no document in the bundle could."""
    built = make_wheel("app")
    desk.at.server.add("/f/app.whl", built.data)
    entry = f'"filename": "{built.filename}", "url": "/f/app.whl", "hashes": {{"sha256": "{built.sha256}"}}'
    odd = '"yanked": "a\\ud800", "requires-python": "\\udc00", "upload-time": "\\ud800"'
    status = '"project-status": {"status": "deprecated", "reason": "\\ud800"}'
    body = f'{{"meta": {{"api-version": "1.4"}}, "files": [{{{entry}, {odd}}}], {status}}}'
    desk.at.server.add("/simple/app/", body.encode(), content_type=JSON_TYPE)
    assert desk.pack("app==1.0").pins == {"app": "1.0"}
    with BundleReader(desk.bundle) as reader:
        reader.verify()
        assert [file.yanked for file in reader.manifest.files] == ["a?"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ('"url": "/f/x\\ud800", "hashes": {"sha256": "%s"}' % ("0" * 64), "surrogates not allowed"),
        ('"url": "/f/x", "hashes": {"sha256": "beef"}', "'beef' is not a sha256 digest"),
        ('"url": "javascript:1", "hashes": {}', "has a link that is neither http nor https"),
    ],
)
def test_what_is_wrong_with_the_only_file_is_said(desk: Desk, entry: str, reason: str) -> None:
    body = f'{{"meta": {{"api-version": "1.0"}}, "files": [{{"filename": "app-1.0-py3-none-any.whl", {entry}}}]}}'
    desk.at.server.add("/simple/app/", body.encode(), content_type=JSON_TYPE)
    refused(desk, desk.pack("app"), 3, "no file of them can be used", "app-1.0-py3-none-any.whl", reason)


def test_files_of_other_projects_on_a_page(desk: Desk) -> None:
    """Dependency confusion by the back door: a page must not bring in files of another name."""
    desk.at.publish(make_wheel("app"))
    desk.at.publish(make_wheel("app-evil", "99.0"), project="app")
    desk.at.publish(make_wheel("other", "99.0"), project="app")
    assert desk.pack("app").pins == {"app": "1.0"}
    refused(desk, _fresh(desk).pack("other"), 3, "no index has a project other")


def _fresh(desk: Desk) -> Desk:
    desk.bundle.unlink(missing_ok=True)
    return desk


def test_ten_thousand_versions(desk: Desk) -> None:
    built = make_wheel("app", "1.5000", requires_python=">=3.8")
    entry = '{{"filename": "app-1.{0}-py3-none-any.whl", "url": "/f/app-1.{0}-py3-none-any.whl", "hashes": {{}}}}'
    entries = ", ".join(entry.format(number) for number in range(10_000))
    desk.at.server.add("/simple/app/", f'{{"files": [{entries}]}}'.encode(), content_type=JSON_TYPE)
    desk.at.server.add(f"/f/{built.filename}", built.data)
    assert desk.pack("app<=1.5000").pins == {"app": "1.5000"}
    asked = {request.path for request in desk.at.server.requests}
    assert asked == {"/simple/app/", f"/f/{built.filename}"}
    ran = _fresh(desk).pack("app>2")
    refused(desk, ran, 3, "app 1.9999, 1.9998, 1.9997, 1.9996, 1.9995, 1.9994 and 9994 older: excluded by app>2")


def test_an_endless_redirect(desk: Desk) -> None:
    desk.at.server.redirect("/simple/app/", "/simple/app/")
    refused(desk, desk.pack("app"), 4, "/simple/app/")


# Files that are not what their names say


@pytest.mark.parametrize(("name", "version"), [("other", "1.0"), ("app", "1.1")])
@pytest.mark.parametrize("where", ["wheel", "wheel without PEP 658", "sdist"])
def test_metadata_of_another_project_or_version(desk: Desk, name: str, version: str, where: str) -> None:
    desk.at.html = where != "wheel"
    lie = core_metadata(name, version, metadata_version="2.2")
    built = make_sdist("app", files={"PKG-INFO": lie}) if where == "sdist" else make_wheel("app", metadata=lie)
    desk.at.publish(built)
    refused(desk, desk.pack("app"), 3, built.filename, f"says inside that it is {name} {version}")


def test_a_wheel_under_another_name(desk: Desk) -> None:
    built = make_wheel("other", "2.0")
    desk.at.publish(built, filename="app-2.0-py3-none-any.whl", metadata=core_metadata("app", "2.0"))
    refused(desk, desk.pack("app"), 3, "app-2.0-py3-none-any.whl", "dist-info")


@pytest.mark.parametrize(
    ("inside", "offered", "words"),
    [
        ({"requires": ["evil"]}, {}, "Requires-Dist 'evil' is only in the wheel"),
        ({}, {"requires": ["lib"]}, "Requires-Dist 'lib' is not in the wheel"),
        ({"requires_python": ">=3.8"}, {"requires_python": ">=3.7"}, "Requires-Python '>=3.7' is not in the wheel"),
        ({"extras": ["x"]}, {}, "Provides-Extra 'x' is only in the wheel"),
        ({"description": "a"}, {"description": "b"}, "they differ in other fields"),
    ],
)
def test_pep_658_metadata_that_is_not_the_wheels(
    desk: Desk, inside: dict[str, object], offered: dict[str, object], words: str
) -> None:
    """Both digests are right; the resolver believed the one, and an installer would meet the other."""
    true, told = (core_metadata("app", "1.0", **fields) for fields in (inside, offered))  # type: ignore[arg-type]
    desk.at.publish(make_wheel("lib"))
    desk.at.publish(make_wheel("evil"))
    desk.at.publish(make_wheel("app", metadata=true), metadata=told)
    ran = desk.pack("app")
    refused(desk, ran, 3, f"app-1.0-py3-none-any.whl.metadata on {desk.at.url()} is not the METADATA inside", words)


def test_pep_658_metadata_with_a_wrong_digest(desk: Desk) -> None:
    built = make_wheel("app")
    desk.at.publish(built)
    desk.at.server.add(f"/simple/files/{built.filename}.metadata", core_metadata("app", "1.0", requires=["evil"]))
    refused(desk, desk.pack("app"), 5, f"{built.filename}.metadata", "the sha256 should be")


def test_a_zip_bomb(desk: Desk) -> None:
    """Sixty-four megabytes of METADATA in sixty-four kilobytes; PEP 658 would have hidden it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("app-1.0.dist-info/METADATA", "w") as member:
            member.write(core_metadata("app", "1.0"))
            for _ in range(64):
                member.write(b" " * 2**20)
        archive.writestr("app-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    bomb = Built("app-1.0-py3-none-any.whl", buffer.getvalue(), core_metadata("app", "1.0"))
    desk.at.publish(bomb)
    refused(desk, desk.pack("app"), 3, bomb.filename, "METADATA")
    desk.at.html = True
    desk.at.page("app")
    refused(desk, desk.pack("app"), 3, bomb.filename, "METADATA")


def test_an_sdist_with_a_path_outside_its_folder(desk: Desk) -> None:
    good = make_sdist("app")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, data in (("app-1.0/PKG-INFO", good.metadata), ("app-1.0/../../evil.py", b"import os\n")):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    desk.at.publish(Built(good.filename, buffer.getvalue(), good.metadata))
    for name in ("setuptools", "wheel"):
        desk.at.publish(make_wheel(name, "80.0"))
    refused(desk, desk.pack("app"), 3, f"{good.filename}: 'app-1.0/../../evil.py' lies outside of its folder")


def test_a_newest_wheel_that_lies_is_passed_over_and_told(desk: Desk) -> None:
    desk.at.publish(make_wheel("app", "1.0"))
    desk.at.publish(make_wheel("app", "2.0", metadata=core_metadata("app", "3.0")))
    ran = desk.pack("app")
    assert ran.pins == {"app": "1.0"}
    assert "app 2.0 was passed over. app-2.0-py3-none-any.whl says inside that it is app 3.0" in ran.err


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not a zip", b"<html>Please log in</html>"])
def test_a_wheel_that_is_none(desk: Desk, data: bytes) -> None:
    desk.at.html = True
    desk.at.publish(Built("app-1.0-py3-none-any.whl", data, b""))
    refused(desk, desk.pack("app"), 3, "app-1.0-py3-none-any.whl")


# Locks and requirements files


@pytest.mark.parametrize("shown", [True, False])
def test_a_lock_with_a_wrong_hash(desk: Desk, shown: bool) -> None:
    """Whether the index shows the digest or only the download tells."""
    built, wrong = make_wheel("app"), "0" * 64
    desk.at.publish(built)
    if not shown:
        desk.at.server.add("/simple/app/", f'<a href="files/{built.filename}">x</a>'.encode(), content_type="text/html")
        desk.at.server.add(f"/simple/app/files/{built.filename}", built.data)
    ran = desk.pack(f"app==1.0 --hash=sha256:{wrong}")
    if shown:
        refused(desk, ran, 3, f"{built.filename}: its digest is not among the --hash values given", "Lock again")
    else:
        refused(
            desk, ran, 5, f"{built.filename} from {desk.at.url()} has sha256 {built.sha256}", "the lock does not name"
        )


def test_lines_that_name_different_hashes(desk: Desk) -> None:
    built, other = make_wheel("app"), make_wheel("app", files={"app.py": b"true"})
    desk.at.publish(built)
    lines = {
        "requirements.txt": f"-c pins.txt\napp==1.0 --hash=sha256:{built.sha256}",
        "pins.txt": f"app==1.0 --hash=sha256:{other.sha256}",
    }
    refused(desk, desk.pack(lines), 3, f"{built.filename}: its lines name different --hash values", "out of all lines")


def test_a_digest_that_an_index_only_claims_is_not_taken_for_the_locks(desk: Desk) -> None:
    """Another file is in the cache already, under a digest that is its own."""
    built, locked = make_wheel("app"), make_wheel("app", files={"app.py": b"true"})
    desk.at.publish(built)
    assert desk.pack("app").code == 0
    desk.bundle.unlink()
    sha512 = hashlib.sha512(locked.data).hexdigest()
    (entry,) = desk.at.pages["simple", "app"]
    both = Hashes.of({**dict(entry.hashes), "sha512": sha512})
    desk.at.pages["simple", "app"] = [replace(entry, hashes=both)]
    desk.at.page("app")
    ran = desk.pack(f"app==1.0 --hash=sha512:{sha512}")
    refused(desk, ran, 5, f"{built.filename} from {desk.at.url()} has sha256 {built.sha256}", "the lock does not name")
    right = hashlib.sha512(built.data).hexdigest()
    desk.at.pages["simple", "app"] = [entry]
    desk.at.page("app")
    assert desk.pack(f"app==1.0 --hash=sha512:{right}").pins == {"app": "1.0"}


def test_an_index_that_shows_the_locks_hash_and_serves_another_file(desk: Desk) -> None:
    built, locked = make_wheel("app"), make_wheel("app", files={"app.py": b"true"})
    desk.at.publish(built, sha256=locked.sha256)
    ran = desk.pack(f"app==1.0 --hash=sha256:{locked.sha256}")
    refused(desk, ran, 5, built.filename, locked.sha256)


def test_circular_requirements_files(desk: Desk) -> None:
    files = {"a.txt": "app\n-r b.txt\n", "b.txt": "-r c.txt\n", "c.txt": "-c a.txt\n"}
    refused(desk, desk.pack(files), 2, "c.txt:1", "a.txt")
    refused(desk, desk.pack({"self.txt": "-r self.txt"}), 2, "self.txt:1")


def test_a_file_that_the_page_names_and_the_server_lacks(desk: Desk) -> None:
    built = make_wheel("app")
    desk.at.publish(built)
    desk.at.server.handle(f"/simple/files/{built.filename}", lambda _: Reply(404, b"gone"))
    refused(desk, desk.pack("app"), 4, built.filename, "404")


def test_a_good_bundle_after_all_that(desk: Desk) -> None:
    """What is refused above is refused for its own sake: the same set without the lie is packed and verified."""
    desk.at.publish(make_wheel("app", requires=["lib"]))
    desk.at.publish(make_sdist("lib"))
    for name in ("setuptools", "wheel"):
        desk.at.publish(make_wheel(name, "80.0"))
    assert desk.pack("app").pins == {"app": "1.0", "lib": "1.0"}
    with BundleReader(desk.bundle) as reader:
        reader.verify()
