"""Deltas: what they leave out, what they still name, what a reader refuses, and what a push checks first."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mirror.bundle import (
    BundleContent,
    BundleReader,
    Since,
    Written,
    as_delta,
    parse_manifest,
    prepare,
    unpack,
    write_bundle,
)
from mirror.cli.unpack import unpack as unpack_command
from mirror.cli.verify import verify
from mirror.errors import BundleError, ConflictError
from mirror.models import Event
from mirror.ops.delta import complete, open_rows, read_since, since_receipts
from mirror.push.receipt import Receipt, State
from mirror.push.run import UnmetNeedsError, push
from mirror.serve import embedded_publisher
from mirror.store import Store
from mirror.targets import named_target
from tests.bundle_support import Wanted, contents, make_content, small
from tests.push_support import read_metadata
from tests.wheelhouse import core_metadata, make_wheel

ALPHA, BETA, BETA_2 = make_wheel("alpha", requires=["beta"]), make_wheel("beta"), make_wheel("beta", "2.0")
OLD = [Wanted(ALPHA, requires=["beta"]), Wanted(BETA)]
PLATFORMS = ("macosx_14_0_arm64", "manylinux_2_28_aarch64", "manylinux_2_28_x86_64", "win_amd64")
NEW = [Wanted(ALPHA, requires=["beta"]), Wanted(BETA_2)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(folder: Path, name: str, content: BundleContent, store: Store, since: Since | None = None) -> Written:
    prepared = prepare(content)
    return write_bundle(folder / f"{name}.tar.zst", as_delta(prepared, since) if since else prepared, store)


@pytest.fixture
def full(tmp_path: Path, store: Store) -> Written:
    return write(tmp_path, "full", make_content(store, OLD), store)


@pytest.fixture
def delta(tmp_path: Path, store: Store, full: Written) -> Written:
    return write(tmp_path, "delta", make_content(store, NEW), store, read_since(full.path))


def bring(bundle: Path, home: Path, receipt: Path | None = None) -> Receipt:
    with BundleReader(bundle) as reader, embedded_publisher(home) as publisher:
        return push(reader, publisher, metadata=read_metadata, receipt=receipt)


def test_a_delta_names_everything_and_carries_what_is_new(full: Written, delta: Written) -> None:
    found = contents_of_delta(delta.path)
    assert [name for name in found if name.startswith("packages/")] == [
        f"packages/{BETA_2.filename}.metadata",
        f"packages/{BETA_2.filename}",
    ]
    with BundleReader(delta.path) as reader:
        reader.verify()
        manifest = reader.manifest
    assert [file.filename for file in manifest.files] == [ALPHA.filename, BETA_2.filename]
    assert [(file.filename, file.carrier, file.frame) for file in manifest.expected] == [
        (ALPHA.filename, full.identity, 0)
    ]
    assert manifest.since == {full.identity: "full"}
    assert parse_manifest(manifest.to_bytes()) == manifest
    for document in ("sbom.cdx.json", "report.html"):
        assert ALPHA.sha256.encode() in found[document]
    assert [name for name in found if name.startswith("simple/")] == [
        "simple/beta/index.html",
        "simple/beta/index.json",
        "simple/index.html",
        "simple/index.json",
    ]
    assert b"1 of 2 files" in found["report.html"]


def contents_of_delta(path: Path) -> dict[str, bytes]:
    with BundleReader(path) as reader:
        found = {name: stream.read() for name, stream in reader.members()}
        for project in reader.manifest.project_sections:
            found |= {file.path: stream.read() for file, stream in reader.files(project)}
        return found


def test_a_full_bundle_has_the_bytes_that_it_had(tmp_path: Path, full: Written, store: Store) -> None:
    again = write(tmp_path, "again", make_content(store, OLD), store, Since())
    assert again.path.read_bytes() == full.path.read_bytes()
    assert b"carrier" not in contents(full.path)["manifest.json"]


def test_the_same_delta_has_the_same_bytes(tmp_path: Path, full: Written, delta: Written, store: Store) -> None:
    again = write(tmp_path / "elsewhere", "delta", make_content(store, NEW), store, read_since(full.path))
    assert again.path.read_bytes() == delta.path.read_bytes()
    assert again.path != delta.path


def test_a_delta_builds_on_a_manifest_and_on_a_delta(tmp_path: Path, full: Written, delta: Written) -> None:
    with BundleReader(delta.path) as reader:
        manifest = reader.manifest
    copy = tmp_path / "delta.manifest.json"
    copy.write_bytes(manifest.to_bytes())
    since = read_since(copy)
    assert since == read_since(delta.path)
    assert since.names == {full.identity: "full", delta.identity: "delta"}
    assert since.carriers[ALPHA.filename, ALPHA.sha256] == full.identity
    assert since.carriers[BETA_2.filename, BETA_2.sha256] == delta.identity
    with open_rows(copy) as rows:
        assert tuple(rows.files()) == manifest.files
    assert (rows.targets, rows.since, rows.identity) == (manifest.targets, manifest.since, manifest.identity)


def test_a_receipt_confirms_only_what_is_there(tmp_path: Path, full: Written) -> None:
    receipt = bring(full.path, tmp_path / "home", tmp_path / "full.receipt.json")
    assert set(read_since(tmp_path / "full.receipt.json").carriers) == {
        (ALPHA.filename, ALPHA.sha256),
        (BETA.filename, BETA.sha256),
    }
    bad = replace(
        receipt,
        files=tuple(
            replace(file, state=state)
            for file, state in zip(receipt.files, (State.FAILED, State.CONFLICT), strict=True)
        ),
    )
    assert not since_receipts([(bad, "bad")]).carriers
    assert not since_receipts([(receipt, "full"), (bad, "bad")]).carriers  # the later one knows better
    with pytest.raises(BundleError, match="is a receipt"), open_rows(tmp_path / "full.receipt.json"):
        pass


@pytest.mark.parametrize(
    ("name", "told"),
    [("full.tar.zst.receipt.json", "full"), ("receipt.json", ""), ("plant-main-000004.receipt.json", "")],
)
def test_a_receipt_names_its_bundle_only_where_it_lies_beside_it(
    tmp_path: Path, full: Written, name: str, told: str
) -> None:
    """Nobody could push 'receipt' first, nor has a bundle of sync the name of its receipt."""
    bring(full.path, tmp_path / "home", tmp_path / name)
    assert read_since(tmp_path / name).names == {full.identity: told}


def test_the_file_of_another_digest_is_carried(tmp_path: Path, store: Store, full: Written) -> None:
    other = make_wheel("beta", requires_python=">=3.8")
    assert other.filename == BETA.filename
    made = write(tmp_path, "other", make_content(store, [Wanted(other)]), store, read_since(full.path))
    with BundleReader(made.path) as reader:
        assert [file.sha256 for file in reader.manifest.carried] == [other.sha256]
        assert not reader.manifest.since


def test_push_refuses_before_the_first_upload(tmp_path: Path, full: Written, delta: Written) -> None:
    home, path = tmp_path / "home", tmp_path / "receipt.json"
    with pytest.raises(UnmetNeedsError, match=r"builds on 1 files.*alpha-1\.0.*Nothing was uploaded") as refused:
        bring(delta.path, home, path)
    assert refused.value.filenames == (ALPHA.filename,)
    assert refused.value.bundles == ((full.identity, "full"),)
    assert "full (identity" in refused.value.hint
    receipt = Receipt.from_json(path.read_bytes())
    assert {file.state for file in receipt.files} == {State.FAILED}
    with embedded_publisher(home) as publisher:
        assert not publisher.listing("beta")
    bring(full.path, home)
    assert [file.state for file in bring(delta.path, home).files] == [State.PRESENT, State.UPLOADED]


def test_push_holds_what_it_expects_against_its_digest(tmp_path: Path, store: Store, delta: Written) -> None:
    other = make_wheel("alpha", requires_python=">=3.8")
    assert other.filename == ALPHA.filename
    made = write(tmp_path, "other", make_content(store, [Wanted(other)]), store)
    bring(made.path, tmp_path / "home")
    with pytest.raises(ConflictError, match="Nothing was uploaded"):
        bring(delta.path, tmp_path / "home")


def test_a_delta_that_carries_nothing(tmp_path: Path, store: Store, full: Written) -> None:
    made = write(tmp_path, "nothing", make_content(store, OLD), store, read_since(full.path))
    with BundleReader(made.path) as reader:
        reader.verify()
        assert not reader.manifest.carried
    bring(full.path, tmp_path / "home")
    assert bring(made.path, tmp_path / "home").complete


def test_unpack_says_what_is_not_there(tmp_path: Path, delta: Written) -> None:
    events: list[Event] = []
    with BundleReader(delta.path) as reader:
        unpack(reader, tmp_path / "out", events.append)
    assert sorted(path.name for path in (tmp_path / "out/packages").iterdir()) == [
        BETA_2.filename,
        f"{BETA_2.filename}.metadata",
    ]
    assert [event.text for event in events if event.kind == "warning"] == [
        "A delta: 1 of the 2 files that it names are not in it."
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file, since: ({**file, "carrier": None}, since), "carrier is not a text"),
        (lambda file, since: ({**file, "carrier": "x"}, since), "carrier is malformed"),
        (lambda file, since: ({**file, "frame": 2}, since), "into a frame"),
        (lambda file, _: (file, {"a" * 64: ""}), "builds on"),
        (lambda file, since: (file, {**since, "b" * 64: ""}), "builds on"),
        (lambda file, since: (file, dict.fromkeys(since, "\x1b[2J")), "builds on"),
        (lambda file, since: ({key: file[key] for key in file if key != "carrier"}, since), "frame|contradicts"),
    ],
)
def test_what_a_manifest_may_not_say_of_a_delta(delta: Written, change: object, message: str) -> None:
    document = json.loads(contents_manifest(delta.path))
    assert callable(change)
    document["files"][0], document["since"] = change(document["files"][0], document["since"])
    with pytest.raises(BundleError, match=message):
        parse_manifest(json.dumps(document).encode())


def contents_manifest(path: Path) -> bytes:
    with BundleReader(path) as reader:
        return reader.manifest.to_bytes()


def test_files_of_one_project_apart(tmp_path: Path) -> None:
    store, content = small(tmp_path)
    manifest = prepare(content).manifest
    first = manifest.files_of("beta")[0]
    since = Since({(first.filename, first.sha256): "c" * 64}, {})
    made = write(tmp_path, "delta", content, store, since)
    with BundleReader(made.path) as reader:
        reader.verify()
        assert [file.filename for file, _ in reader.files("beta")] == [manifest.files_of("beta")[1].filename]
        assert reader.manifest.since == {"c" * 64: ""}


def test_verify_together_with_what_it_builds_on(tmp_path: Path, full: Written, delta: Written) -> None:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(verify, [str(argument) for argument in arguments])

    assert run(delta.path).exit_code == 0
    done = run(delta.path, "--base", full.path)
    assert done.exit_code == 0
    assert "1 further file, found in the bundles given." in done.output
    assert isinstance(run(delta.path, "--base", delta.path).exception, BundleError)
    with BundleReader(delta.path) as reader, BundleReader(full.path) as base:
        unpack(reader, tmp_path / "out")
        complete(reader.manifest, [base], tmp_path / "out/packages")
    assert (tmp_path / "out/packages" / ALPHA.filename).read_bytes() == ALPHA.data
    assert not (tmp_path / "out/packages" / BETA.filename).exists()


def test_unpack_a_delta_together_with_what_it_builds_on(tmp_path: Path, full: Written, delta: Written) -> None:
    def run(name: str, *bases: Path) -> Result:
        given = [argument for base in bases for argument in ("--base", str(base))]
        return CliRunner().invoke(unpack_command, [str(delta.path), str(tmp_path / name), *given])

    done = run("out", full.path)
    assert done.exit_code == 0
    assert "A delta" not in done.output
    packages = tmp_path / "out/packages"
    assert {path.name: path.read_bytes() for path in packages.iterdir()} == {
        ALPHA.filename: ALPHA.data,
        f"{ALPHA.filename}.metadata": ALPHA.metadata,
        BETA_2.filename: BETA_2.data,
        f"{BETA_2.filename}.metadata": BETA_2.metadata,
    }
    refused = run("other", delta.path)
    assert isinstance(refused.exception, BundleError)
    assert "full (identity" in refused.exception.hint
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"store", "out"}


def test_a_delta_of_one_project_in_145_for_four_targets_is_its_files_and_little_else(
    tmp_path: Path, store: Store
) -> None:
    made = random.Random(145)
    names = [f"project-{number}" for number in range(145)]
    everywhere = [named_target(f"cp312-{platform}") for platform in PLATFORMS]

    def wanted(name: str, version: str) -> list[Wanted]:
        requires = made.sample(names, 4)
        described = core_metadata(name, version, requires=requires, description=f"What {name} is for. " * 200)
        path = ["requirements.txt asks for it", *(f"{each} 1.0" for each in requires)]
        return [
            Wanted(
                make_wheel(
                    name,
                    version,
                    tag=f"cp312-cp312-{platform}",
                    metadata=described,
                    files={"module.py": made.randbytes(10_000)},
                ),
                [each.name for each in everywhere if each.name == f"cp312-{platform}"],
                requires,
                path,
                upload_time=f"2024-10-02T{made.randrange(10, 24)}:{made.randrange(10, 60)}:{made.random() * 60:09.6f}Z",
            )
            for platform in PLATFORMS
        ]

    old = {name: wanted(name, "1.0") for name in names}
    before = write(
        tmp_path, "before", make_content(store, chain.from_iterable(old.values()), targets=everywhere), store
    )
    new = wanted(names[70], "2.0")
    after = make_content(store, chain.from_iterable({**old, names[70]: new}.values()), targets=everywhere)
    delta = write(tmp_path, "after", after, store, read_since(before.path))
    with BundleReader(delta.path) as reader:
        reader.verify()
        assert len(reader.manifest.files) == 145 * len(everywhere)
        assert {file.sha256 for file in reader.manifest.carried} == {each.built.sha256 for each in new}
    assert delta.path.stat().st_size <= sum(len(each.built.data) for each in new) + 100_000


def test_what_is_no_base_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    deep = '{"a":' * 100_000
    for text, message in (
        ("{", "is not JSON"),
        (deep, "is not JSON"),
        ('{"format": "x"}', "not one of an airgap"),
        ("{}", "Not a receipt"),
    ):
        path.write_text(text)
        with pytest.raises(BundleError, match=message):
            read_since(path)
    path.write_text("nothing at all")
    with pytest.raises(BundleError):
        read_since(path)
