"""What installers, scanners and reviewers read from a bundle, given to the real ones."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.pylock import Pylock
from packaging.tags import Tag

from mirror.bundle import BundledFile, BundledTarget, BundleReader, parse_manifest, unpack, write_bundle
from mirror.bundle.manifest import Manifest, lock_path
from mirror.bundle.pylock import check_lock, render_lock
from mirror.bundle.report import human_size, render_report
from mirror.bundle.sbom import read_license, render_sbom
from mirror.models import Target
from mirror.store import Store
from tests.bundle_support import MARKERS, Wanted, contents, make_content, target, write_small
from tests.wheelhouse import core_metadata, make_sdist, make_wheel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EVIL = "<script>alert('&\"')</script>"


def here() -> Target:
    """A target that is the running interpreter."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Target(
        "here",
        ("py3-none-any",),
        tuple(
            sorted(
                {
                    **MARKERS,
                    "os_name": os.name,
                    "platform_machine": platform.machine(),
                    "python_full_version": platform.python_version(),
                    "python_version": version,
                    "sys_platform": sys.platform,
                }.items()
            )
        ),
    )


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked bundle for this interpreter: app needs lib; the two wheels are all there is."""
    folder = tmp_path_factory.mktemp("unpacked")
    store = Store(folder / "store")
    app = make_wheel("app", "1.5", requires=["some.lib>=1"], requires_python=">=3.8")
    lib = make_wheel("some.lib", "2.0+local.1", files={"some_lib.py": b"VALUE = 7\n"})
    lock = "".join(
        f"{name}=={version} --hash=sha256:{built.sha256}\n"
        for name, version, built in (("app", "1.5", app), ("some-lib", "2.0+local.1", lib))
    )
    content = make_content(
        store,
        [
            Wanted(app, ["here"], ["some.lib"], requires_python=">=3.8"),
            Wanted(lib, ["here"], chain=["requirements.txt asks for app", "app 1.5 needs some.lib>=1"]),
        ],
        targets=[here()],
        sources=[("/home/someone/requirements.txt", lock)],
    )
    written = write_bundle(folder / "bundle.tar.zst", content, store)
    with BundleReader(written.path) as reader:
        reader.verify()
        unpack(reader, folder / "out")
    return folder / "out"


def pip(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return subprocess.run(
        [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**environment, "PIP_CONFIG_FILE": os.devnull},
    )


def installed(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix == ".dist-info"}


TAGS = (Tag("cp312", "cp312", "manylinux_2_28_x86_64"), Tag("py3", "none", "any"))
BOTH = {"app-1.5.dist-info", "some_lib-2.0+local.1.dist-info"}


def test_pip_installs_a_hashed_lock_from_the_folder_of_packages(unpacked: Path, tmp_path: Path) -> None:
    lock = unpacked / "requirements" / "01-requirements.txt"
    result = pip(
        "install", "-vv", "--no-index", "--find-links", unpacked / "packages", "--require-hashes", "-r", lock,
        "--target", tmp_path,
    )  # fmt: skip
    assert installed(tmp_path) == BOTH
    assert (unpacked / "packages" / "app-1.5-py3-none-any.whl.metadata").is_file()
    assert "WARNING" not in result.stdout + result.stderr


def test_pip_installs_from_the_static_index(unpacked: Path, tmp_path: Path) -> None:
    index = (unpacked / "simple").as_uri()
    result = pip("install", "-vv", "--index-url", f"{index}/", "app", "--target", tmp_path)
    assert installed(tmp_path) == BOTH
    assert "app-1.5-py3-none-any.whl.metadata" in result.stdout, "pip did not use the PEP 658 file"


def test_pip_installs_the_lock(unpacked: Path, tmp_path: Path) -> None:
    lock = unpacked / "locks" / "pylock.here.toml"
    try:
        pip("install", "--no-index", "--no-deps", "-r", lock, "--target", tmp_path)
    except subprocess.CalledProcessError as error:
        if "Invalid requirement" in error.stderr or "not a valid" in error.stderr:
            pytest.skip("this pip reads no pylock.toml")
        raise AssertionError(error.stderr) from error
    assert installed(tmp_path) == BOTH


@pytest.mark.parametrize("mode", ["lock", "index", "find-links"])
def test_uv_installs(unpacked: Path, tmp_path: Path, mode: str) -> None:
    uv = pytest.importorskip("uv", reason="uv is not installed").find_uv_bin()
    choices: dict[str, list[str | Path]] = {
        "lock": ["-r", unpacked / "locks" / "pylock.here.toml", "--offline"],
        "index": ["--index-url", (unpacked / "simple").as_uri(), "app"],
        "find-links": ["--no-index", "--find-links", unpacked / "packages", "app"],
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    result = subprocess.run(
        [uv, "pip", "install", "--no-config", "--no-cache", "--dry-run", "--python", sys.executable, "--target",
         tmp_path, *choices[mode]],
        check=False, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "+ app==1.5" in result.stderr
    assert "+ some-lib==2.0+local.1" in result.stderr


# PEP 751


def test_locks_are_what_packaging_reads(tmp_path: Path) -> None:
    found = contents(write_small(tmp_path).path)
    for name, beta in (("cp311-linux", "cp311-cp311"), ("cp312-linux", "cp312-cp312")):
        lock = Pylock.from_dict(tomllib.loads(found[lock_path(name)].decode()))
        assert [package.name for package in lock.packages] == ["alpha", "beta", "gamma-thing"]
        alpha, second, gamma = lock.packages
        assert alpha.wheels
        assert alpha.wheels[0].path == "../packages/alpha-1.0-py3-none-any.whl"
        assert alpha.wheels[0].upload_time is not None
        assert alpha.dependencies == [{"name": "beta"}]
        assert second.wheels
        assert beta in str(second.wheels[0].path)
        assert gamma.sdist is not None
        assert gamma.sdist.hashes.keys() == {"sha256"}
        assert str(gamma.requires_python) == ">=3.8"


def test_a_lock_selects_for_its_own_environment_only(tmp_path: Path) -> None:
    found = contents(write_small(tmp_path).path)
    lock = Pylock.from_dict(tomllib.loads(found[lock_path("cp312-linux")].decode()))
    environment = target().environment
    assert len(list(lock.select(environment=environment, tags=TAGS))) == 3  # type: ignore[arg-type]
    for change in ({"sys_platform": "win32"}, {"python_full_version": "3.11.9", "python_version": "3.11"}):
        with pytest.raises(Exception, match="environment"):
            list(lock.select(environment={**environment, **change}, tags=TAGS))  # type: ignore[arg-type]


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(index=TEXT, marker=TEXT, requires=TEXT, uploaded=TEXT)
@example(index="", marker="", requires="", uploaded="2024-13-01T00:00:00Z")
@example(index="", marker="", requires="", uploaded="2024-02-30T00:00:00Z")
def test_locks_stay_valid_whatever_an_index_says(index: str, marker: str, requires: str, uploaded: str) -> None:
    file = BundledFile(
        "a-1-py3-none-any.whl", "a", "1", 5, "0" * 64, index=index, requires_python=requires, upload_time=uploaded,
        targets=("t",),
    )  # fmt: skip
    markers = {**MARKERS, "platform_machine": marker}
    bundled = BundledTarget("t", (), markers, {"a": "1"})
    body = b"".join(render_lock(bundled, [file]))
    document = tomllib.loads(body.decode())
    assert document["packages"][0].get("index", "") == index
    check_lock(Manifest((bundled,), (file,)), lock_path("t"), body)
    Pylock.from_dict(document)


# CycloneDX


def wrong_with(sbom: str) -> object:
    """What a validator has to say against *sbom*; None where it is fine."""
    # Not with every start of the tests: importing it builds the parsers of forty grammars, which takes seconds.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom)


def test_sbom_is_valid_cyclonedx_and_says_who_needs_whom(tmp_path: Path) -> None:
    text = contents(write_small(tmp_path).path)["sbom.cdx.json"].decode()
    assert wrong_with(text) is None
    document = json.loads(text)
    assert "serialNumber" not in document
    assert "timestamp" not in document["metadata"]
    alpha, beta, _ = document["components"]
    assert alpha["purl"] == "pkg:pypi/alpha@1.0"
    assert len(beta["externalReferences"]) == 2
    assert document["dependencies"][0] == {"ref": "pkg:pypi/alpha@1.0", "dependsOn": ["pkg:pypi/beta@2.0"]}


@settings(max_examples=25, deadline=None)
@given(version=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20), license_=TEXT)
def test_sbom_stays_valid(version: str, license_: str) -> None:
    file = BundledFile("a b-1.whl", "a", version, 5, "0" * 64, targets=("t",), requires=("a", "gone"))
    metadata = f"Name: a\nLicense: {license_}\n\nbody".encode()
    pieces = render_sbom([BundledTarget("t", (), {}, {"a": version})], [file], {"a b-1.whl": metadata})
    text = b"".join(pieces).decode()
    assert wrong_with(text) is None


def test_licences() -> None:
    assert read_license(b"License-Expression: MIT OR Apache-2.0\nLicense: long\n\nLicense: body") == "MIT OR Apache-2.0"
    assert read_license(b"License: UNKNOWN\nClassifier: License :: OSI Approved :: BSD License\n") == "BSD License"
    assert read_license(b"Classifier: License :: OSI Approved\n") == ""
    assert read_license(b"Name: x\r\n\r\nLicense: body\n") == ""
    assert read_license(b"License: " + b"x" * 500) == "x" * 119 + "…"
    assert read_license(b"License: MIT\n        : deeper\n") == "MIT"
    assert read_license(b"") == ""


# Report


class Checker(HTMLParser):
    """Collects tags and text, and whether every tag was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: bytes) -> Checker:
    checker = Checker()
    checker.feed(page.decode())
    assert checker.open == []
    return checker


def test_report_says_what_a_reviewer_must_know(tmp_path: Path) -> None:
    found = contents(write_small(tmp_path).path)
    page = read(found["report.html"])
    manifest = parse_manifest(found["manifest.json"])
    for file in manifest.files:
        assert file.filename in page.text
        assert file.sha256 in page.text
    assert "gamma_thing-0.1.tar.gz is a source distribution: installing it runs code" in page.text
    assert "was yanked (“broken”)" in page.text
    assert "requirements.txt asks for it" in page.text
    assert not page.tags & {"script", "a", "img", "link", "iframe", "object", "form"}
    assert not {name for name in page.attributes if name.startswith("on") or name in ("src", "href", "style")}
    assert b"default-src 'none'" in found["report.html"]


def test_report_of_wheels_only_has_nothing_to_look_at() -> None:
    file = BundledFile("a-1-py3-none-any.whl", "a", "1", 5, "0" * 64)
    assert "Nothing: only wheels" in read(b"".join(render_report([], [file], {}))).text


def test_report_escapes_everything() -> None:
    file = BundledFile(
        f"{EVIL}.tar.gz", EVIL, EVIL, 5, EVIL, index=EVIL, requires_python=EVIL, yanked=EVIL, upload_time=EVIL,
        targets=(EVIL,), chain=(EVIL, EVIL), requires=(EVIL,),
    )  # fmt: skip
    bundled = BundledTarget(EVIL, (EVIL,), {"python_full_version": EVIL}, {EVIL: EVIL})
    body = b"".join(render_report([bundled], [file], {file.filename: f"License: {EVIL}".encode()}))
    page = read(body)
    assert b"<script" not in body.lower()
    assert page.tags <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "table", "tr", "th", "td", "p", "ul", "li", "ol",
        "strong", "span", "code", "br", "details", "summary",
    }  # fmt: skip
    assert page.text.count(EVIL) > 8


def test_sizes_for_people() -> None:
    assert [human_size(size) for size in (0, 999, 1000, 999_949, 999_950, 306_000_000, 20 * 10**9, 3 * 10**12)] == [
        "0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "306.0 MB", "20.0 GB", "3.0 TB",
    ]  # fmt: skip


# Requirements, index pages, secrets


def test_no_folder_of_this_machine_and_no_secret_gets_in(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    content = make_content(
        store,
        [Wanted(make_wheel("alpha"), index="https://bob:hunter2@nexus.example/simple/?token=hunter2")],
        sources=[
            ("/home/bob/private/requirements.txt", "one"),
            ("C:\\Users\\bob\\requirements.txt", "two"),
            ("https://bob:hunter2@host/reqs.txt?token=hunter2", "three"),
            ("<command line>", "four"),
            ("../..", "five"),
        ],
    )
    found = contents(write_bundle(tmp_path / "bundle.tar.zst", content, store).path)
    assert [path for path in found if path.startswith("requirements/")] == [
        "requirements/01-requirements.txt",
        "requirements/02-requirements.txt",
        "requirements/03-reqs.txt",
        "requirements/04-command_line",
        "requirements/05-requirements",
    ]
    everything = b"".join([*(path.encode() for path in found), *found.values()])
    for secret in (b"hunter2", b"private", b"Users", str(tmp_path).encode(), platform.node().encode()):
        assert secret not in everything


def test_index_pages_have_all_that_installers_ask_for(tmp_path: Path) -> None:
    found = contents(write_small(tmp_path).path)
    page = json.loads(found["simple/beta/index.json"])
    first, second = page["files"]
    assert first["url"] == "../../packages/" + first["filename"]
    assert first["core-metadata"].keys() == {"sha256"}
    assert (first["upload-time"], first["size"] > 0) == ("2024-10-02T11:22:33.123456Z", True)
    assert second["yanked"] == "broken"
    html = found["simple/gamma-thing/index.html"].decode()
    assert 'data-requires-python="&gt;=3.8"' in html
    assert "core-metadata" not in html, "PEP 658 is about wheels"
    assert re.search(r'href="\.\./\.\./packages/gamma_thing-0\.1\.tar\.gz#sha256=[0-9a-f]{64}"', html)


def test_metadata_with_odd_bytes_survives(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    odd = core_metadata("odd", "1.0") + b"\xff\xfe\r\n"
    content = make_content(store, [Wanted(make_wheel("odd", metadata=odd)), Wanted(make_sdist("other"))])
    found = contents(write_bundle(tmp_path / "bundle.tar.zst", content, store).path)
    assert found["packages/odd-1.0-py3-none-any.whl.metadata"] == odd
