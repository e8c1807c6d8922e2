from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.version import Version

from mirror.config import load
from mirror.errors import IntegrityError
from mirror.filenames import split_filename
from mirror.index.simple import ACCEPT, parse_page
from mirror.net import Client
from mirror.push.form import form_fields
from mirror.push.legacy import LegacyPublisher
from mirror.push.multipart import MultipartBody
from mirror.urls import with_slash
from tests.push_support import FakeRepository, fake_repository, make_upload, parse_upload, read_metadata
from tests.wheelhouse import Built, make_sdist, make_wheel

FULL = """\
Metadata-Version: 2.4
Name: Full.Name_here
Version: 1.0.post1
Platform: linux
Platform: win32
Supported-Platform: RedHat 7.2
Summary: Everything that metadata can say – überall
Keywords: one,two three, four
Home-page: https://example.org/?a=1&b=2
Download-URL: https://example.org/download
Author: Ada "A." Lovelace
Author-email: Ada <ada@example.org>
Maintainer: Grace Höpper
Maintainer-email: grace@example.org
License-Expression: MIT OR Apache-2.0
License-File: LICENSE
License-File: licenses/OTHER
Classifier: Programming Language :: Python :: 3
Classifier: Topic :: Internet
Requires-Dist: requests (>=2)
Requires-Dist: PySocks!=1.5.7,>=1.5.6; extra == "socks"
Requires-Python: >=3.8, !=3.9.0
Requires-External: C
Project-URL: Home, https://example.org/
Project-URL: Bug Tracker, https://example.org/bugs,and,commas
Provides-Extra: socks
Provides-Dist: OtherName
Obsoletes-Dist: OldName
Dynamic: Description
Description-Content-Type: text/markdown; charset=UTF-8; variant=GFM

# Title

A description\twith “quotes”, a --boundary-- and a

    last line without an end"""
OLD = """\
Metadata-Version: 1.1
Name: old_name
Version: 0.1
Summary: UNKNOWN
License: BSD
Description: first line
        second line
        last
Requires: zlib
Provides: old
Obsoletes: older
"""
SETUPTOOLS = """\
Metadata-Version: 2.1
Name: setup_tools_made
Version: 3
License-File: LICENSE
License: MIT

"""
PLAIN = "Metadata-Version: 2.1\nName: plain\nVersion: 1.0\n"


def wheel(metadata: str, name: str, version: str, *, tag: str = "py3-none-any", build: str = "") -> Built:
    return make_wheel(name, version, metadata=metadata.encode(), tag=tag, build=build)


FILES = [
    wheel(FULL, "Full.Name_here", "1.0.post1", tag="cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64"),
    wheel(OLD, "old_name", "0.1", tag="py2.py3-none-any"),
    wheel(SETUPTOOLS, "setup_tools_made", "3", build="1local"),
    wheel(PLAIN, "plain", "1.0"),
    make_sdist("an_sdist", "2.0rc1", requires=["plain>=1", "a; python_version<'3'"], requires_python=">=3.7"),
    make_sdist("dotted.name", "2024.1"),
]

#: Projects whose newest wheel and sdist are small, made by many different build backends over the years.
REAL = (
    "attrs certifi chardet click colorama flit-core hatchling idna iniconfig itsdangerous jinja2 packaging pathspec "
    "platformdirs pluggy poetry-core pygments pyparsing python-dateutil requests setuptools six toml urllib3 wheel"
)


@pytest.mark.parametrize(
    ("url", "digests"),
    [
        ("https://upload.pypi.org/legacy/", ["blake2_256"]),
        ("https://nexus.example/repository/pypi-hosted/", ["md5"]),
        ("https://devpi.example/root/dev/", []),
    ],
)
def test_a_server_gets_sha256_and_the_digests_that_it_looks_at(url: str, digests: list[str]) -> None:
    with Client() as client:
        assert list(LegacyPublisher(client, url).digests) == digests


def test_a_nexus_without_its_usual_path_is_known_by_its_answers() -> None:
    with fake_repository() as server, Client() as client:
        server.software = "Nexus/3.70.1-02 (OSS)"
        publisher = LegacyPublisher(client, server.url)
        publisher.listing("any")
        assert list(publisher.digests) == ["md5"]


def generated() -> list[Built]:
    """Files with every combination of what metadata may leave out, in the versions that are about."""
    optional = [
        "Summary: One line",
        "Keywords: a,b c",
        "Home-page: https://example.org/",
        "Author: Ada",
        "License: MIT",
        "Requires-Dist: plain>=1\nRequires-Dist: other; python_version < '3'",
        "Project-URL: Home, https://example.org/\nProject-URL: Code, https://example.org/code",
        "Provides-Extra: more\nProvides-Extra: less",
        "Classifier: Topic :: Internet\nClassifier: Programming Language :: Python",
    ]
    files = []
    for number in range(44):
        lines = [line for bit, line in enumerate(optional) if (number * 13 + 5) >> bit & 1]
        version = ("2.1", "2.2", "2.3", "2.4")[number % 4]
        metadata = "\n".join([f"Metadata-Version: {version}", f"Name: made{number}", "Version: 1.0", *lines, ""])
        files.append(wheel(f"{metadata}\nBody {number}\n", f"made{number}", "1.0"))
    return files


def compare(files: Sequence[Path], folder: Path) -> list[str]:
    """Send *files* with twine and with ours; what differs, but for md5_digest, which only Nexus is sent."""
    uploads = [make_upload(Built(path.name, path.read_bytes(), read_metadata(path)), folder / "ours") for path in files]
    with fake_repository() as server, Client() as client:
        twine(server, *files)
        server.files.clear()
        publisher = LegacyPublisher(client, server.url)
        for upload in uploads:
            publisher.upload(upload)
        theirs = {each.filename: each for each in server.received[: len(files)]}
        ours = {each.filename: each for each in server.received[len(files) :]}
    assert theirs.keys() == ours.keys() == {path.name for path in files}
    found = []
    for upload in uploads:
        mine, other = ours[upload.filename], theirs[upload.filename]
        assert mine.content == other.content
        assert ("md5_digest", upload.hashes.get("md5")) in mine.fields
        names = {name for name, _ in (*mine.fields, *other.fields)} - {"md5_digest"}
        # The order of a field's values counts, that of fields does not.
        found += [
            f"{upload.filename} {name}: {other[name]} {mine[name]}" for name in names if mine[name] != other[name]
        ]
    return found


def test_fifty_files_are_sent_as_twine_sends_them(tmp_path: Path) -> None:
    files = [*FILES, *generated()]
    assert len(files) == 50
    assert compare([built.save(tmp_path) for built in files], tmp_path) == []


@pytest.mark.network
def test_fifty_real_files_are_sent_as_twine_sends_them(tmp_path: Path) -> None:
    index = with_slash(load().index_url.value)
    files: list[Path] = []
    with Client() as client:
        for project in REAL.split():
            page = client.get(f"{index}{project}/", headers={"accept": ACCEPT})
            parsed = parse_page(page.body, page.headers["content-type"], page.url, project=project, index=index)
            splits = {position: split_filename(name) for position, name in enumerate(parsed.filenames)}
            for ending in (".whl", ".tar.gz"):
                versions = {
                    Version(parts.version): position
                    for position, parts in splits.items()
                    if parts is not None and parsed.filenames[position].endswith(ending)
                }
                file = parsed.file(versions[max(versions)])
                path = tmp_path / file.filename
                path.write_bytes(b"".join(client.download(file.url)))
                files.append(path)
    assert len(files) == 50
    assert compare(files, tmp_path) == []


def twine(server: FakeRepository, *paths: Path) -> None:
    command = [sys.executable, "-m", "twine", "upload", "--non-interactive", "--disable-progress-bar"]
    done = subprocess.run(
        [*command, "--repository-url", server.url, "-u", "u", "-p", "p", *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(paths[0].parent), "PATH": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_metadata_that_twine_refuses_is_sent_as_it_is(tmp_path: Path) -> None:
    metadata = (
        b"Metadata-Version: 2.1\nName: odd\nVersion: 1.0\nSummary: one\nSummary: two\nAuthor: caf\xe9\n"
        b"Project-URL: Same, https://a\nProject-URL: Same, https://b\nUnheard-Of: x\n\nmoj\xe9bake"
    )
    fields = form_fields(make_upload(make_wheel("odd", metadata=metadata), tmp_path))
    assert [value for name, value in fields if name == "summary"] == ["one"]
    assert [value for name, value in fields if name == "author"] == ["café"]
    assert [value for name, value in fields if name == "project_urls"] == ["Same, https://a", "Same, https://b"]
    assert "bake" in dict(fields)["description"]
    assert "unheard_of" not in dict(fields)


def test_without_metadata_the_file_name_speaks(tmp_path: Path) -> None:
    fields = dict(form_fields(make_upload(make_wheel("odd", metadata=b""), tmp_path)))
    assert fields["name"] == "odd"
    assert fields["version"] == "1.0"
    assert fields["metadata_version"] == "1.0"
    assert fields["pyversion"] == "py3"
    assert fields["filetype"] == "bdist_wheel"


def test_a_body_is_as_long_as_it_says_and_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    path.write_bytes(bytes(range(256)) * 4096)
    body = MultipartBody([("a", "ü"), ("b", "1\r\n2")], filename=path.name, path=path, size=path.stat().st_size)
    first, second = b"".join(body), b"".join(body)
    assert first == second
    assert len(first) == body.length
    received = parse_upload(body.content_type, first)
    assert received.content == path.read_bytes()
    assert received["a"] == ["ü"]


def test_a_file_that_shrinks_while_it_is_sent_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    path.write_bytes(b"12")
    body = MultipartBody([], filename=path.name, path=path, size=3)
    with pytest.raises(IntegrityError, match="1 bytes shorter"):
        list(body)
