from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from mirror import serve
from mirror.errors import BundleError, ConflictError, NetworkError, StorageError
from mirror.models import Event, Stage
from mirror.net import Client, Settings
from mirror.push.deliver import TRIES
from mirror.push.legacy import LegacyPublisher
from mirror.push.outcomes import Outcomes
from mirror.push.readback import confirm
from mirror.push.receipt import Receipt, State
from mirror.push.run import IncompletePushError, push
from tests.push_support import FakeRepository, Fault, FolderSource, fake_repository, read_metadata
from tests.wheelhouse import Built, make_sdist, make_wheel

BASE, LIB, APP, LONE = (make_wheel(name) for name in ("base", "lib", "app", "lone"))
TREE: list[tuple[Built, Sequence[str]]] = [(APP, ["lib"]), (LIB, ["base"]), (BASE, []), (LONE, [])]


@pytest.fixture
def server() -> Iterator[FakeRepository]:
    with fake_repository() as found:
        yield found


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(Settings(retries=2, timeout=60)) as found:
        yield found


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    return FolderSource(tmp_path / "source", TREE)


def run(
    source: FolderSource,
    server: FakeRepository,
    client: Client,
    *,
    receipt: Path | None = None,
    wait: float = 0.0,
    events: list[Event] | None = None,
    workers: int = 4,
) -> Receipt:
    return push(
        source,
        LegacyPublisher(client, server.url),
        metadata=read_metadata,
        receipt=receipt,
        read_back_wait=wait,
        report=(events if events is not None else []).append,
        workers=workers,
    )


def states(receipt: Receipt) -> dict[str, State]:
    return {file.project: file.state for file in receipt.files}


def test_everything_arrives_dependencies_first(
    source: FolderSource, server: FakeRepository, client: Client, tmp_path: Path
) -> None:
    events: list[Event] = []
    receipt = run(source, server, client, receipt=tmp_path / "receipt.json", events=events)
    assert receipt.complete
    assert set(states(receipt).values()) == {State.UPLOADED}
    assert all(not file.reason for file in receipt.files)
    assert server.files == {built.filename: built.data for built, _ in TREE}
    order = server.uploaded
    assert order.index(BASE.filename) < order.index(LIB.filename) < order.index(APP.filename)
    assert Receipt.from_json((tmp_path / "receipt.json").read_bytes()) == receipt
    assert receipt.bundle == source.manifest.identity
    assert [event.stage for event in events if event.kind == "begin"] == [Stage.LOOK, Stage.UPLOAD, Stage.READ_BACK]
    assert sum(event.bytes for event in events if event.kind == "advance") == sum(len(b.data) for b, _ in TREE)


def test_what_nobody_needs_is_looked_at_while_the_next_is_sent(
    tmp_path: Path, server: FakeRepository, client: Client
) -> None:
    built = [make_wheel(f"single-{number}") for number in range(3)]
    server.hidden_until[built[0].filename] = 1  # the first look back shows nothing
    source = FolderSource(tmp_path / "source", [(each, ()) for each in built])
    assert run(source, server, client, workers=1).complete
    sent = [request for request in server.requests if request.startswith("POST")]
    looks = [number for number, request in enumerate(server.requests) if request.startswith("GET")][3:]
    assert [server.requests[number - 1] for number in looks[:3]] == sent
    assert len(looks) == 4  # that page was read again at the end


LEAVES = [f"leaf-{number}" for number in range(40)]
MANY = [make_wheel(name) for name in LEAVES]
TOP = make_wheel("top", requires=LEAVES)


@pytest.fixture
def many(tmp_path: Path) -> FolderSource:
    return FolderSource(tmp_path / "many", [*((built, ()) for built in MANY), (TOP, LEAVES)])


def test_many_are_seen_in_one_list_before_what_needs_them_begins(
    many: FolderSource, server: FakeRepository, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = count(1)  # a busy machine might make one list take longer than all pages
    monkeypatch.setattr("mirror.push.flat.time", SimpleNamespace(monotonic=lambda: next(ticks) * 1e-9))
    server.root, server.lists = (), lambda _: True
    assert run(many, server, client).complete
    assert server.uploaded[-1] == TOP.filename
    requests = server.requests
    assert "GET /files/" in requests[: requests.index(f"POST {TOP.filename}")]
    # The first were seen on their pages before it was known that there is a list, and the last are too few for one.
    assert sum("/simple/leaf" in request for request in requests) < len(MANY) - 16


def test_many_are_seen_by_their_names_and_at_the_end_in_one_list(
    many: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.root, server.names_all, server.lists = (), True, lambda _: True
    assert run(many, server, client).complete
    before = server.requests[: server.requests.index(f"POST {TOP.filename}")]
    assert before.count("GET /upload/simple/") > 1
    assert before.count("GET /files/") == 1  # to find out that there is a list
    assert server.requests.count("GET /files/") == 2
    assert sum("/simple/leaf" in request for request in server.requests) < len(MANY) - 16


def test_names_do_not_settle_which_bytes_there_are(many: FolderSource, server: FakeRepository, client: Client) -> None:
    server.root, server.names_all, server.lists = (), True, lambda _: True
    mangled = MANY[-1].filename
    server.on_store = lambda: server.files.update({mangled: b"mangled"} if mangled in server.files else {})
    with pytest.raises(IncompletePushError, match="another digest") as caught:
        run(many, server, client)
    assert [file.filename for file in caught.value.receipt.files if file.state is State.CONFLICT] == [mangled]


@pytest.mark.parametrize("shown", [0, 1])
def test_a_name_that_was_there_before_says_nothing_of_a_new_file(
    many: FolderSource, server: FakeRepository, client: Client, shown: int
) -> None:
    server.root, server.names_all, server.lists = LEAVES[: shown * len(LEAVES)], True, lambda _: True
    hidden = MANY[-1].filename
    server.hidden_until[hidden] = 1000
    server.lists = lambda name: name != hidden
    with pytest.raises(IncompletePushError, match=r"does not show it in its index"):
        run(many, server, client, wait=0.3)
    assert TOP.filename not in server.uploaded


def test_other_bytes_in_a_list_of_all_files_are_a_conflict(
    many: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.files = {built.filename: built.data for built in [*MANY, TOP]} | {MANY[-1].filename: b"other"}
    server.root, server.lists = [*LEAVES, "top"], lambda _: True
    with pytest.raises(ConflictError) as caught:
        run(many, server, client)
    assert caught.value.filenames == (MANY[-1].filename,)
    assert not server.received
    assert f"GET /upload/simple/{LEAVES[-1]}/" not in server.requests  # the list said so


def test_what_neither_the_list_nor_its_page_shows_holds_back_what_needs_it(
    many: FolderSource, server: FakeRepository, client: Client
) -> None:
    hidden = MANY[-1].filename
    server.root, server.lists = (), lambda name: name != hidden
    server.hidden_until[hidden] = 1000
    with pytest.raises(IncompletePushError, match=r"does not show it in its index"):
        run(many, server, client, wait=0.3)
    assert TOP.filename not in server.uploaded
    assert len(server.uploaded) == len(MANY)


def test_again_uploads_and_unpacks_nothing(source: FolderSource, server: FakeRepository, client: Client) -> None:
    run(source, server, client)
    source.spooled.clear()
    server.received.clear()
    receipt = run(source, server, client)
    assert set(states(receipt).values()) == {State.PRESENT}
    assert not source.spooled
    assert not server.received


def test_it_goes_on_where_an_earlier_run_stopped(source: FolderSource, server: FakeRepository, client: Client) -> None:
    server.files[BASE.filename] = BASE.data
    receipt = run(source, server, client)
    assert states(receipt)["base"] is State.PRESENT
    assert sorted(server.uploaded) == sorted(built.filename for built in (LIB, APP, LONE))


@pytest.mark.parametrize("shows", ["md5", ""])
def test_bytes_decide_where_the_index_shows_no_sha256(
    source: FolderSource, server: FakeRepository, client: Client, shows: str
) -> None:
    server.shows = shows
    server.files[BASE.filename] = BASE.data
    assert states(run(source, server, client))["base"] is State.PRESENT
    assert f"GET /files/{BASE.filename}" in server.requests
    assert BASE.filename not in server.uploaded


@pytest.mark.parametrize("shows", ["sha256", "md5", ""])
def test_other_bytes_stop_everything_before_the_first_upload(
    source: FolderSource, server: FakeRepository, client: Client, tmp_path: Path, shows: str
) -> None:
    server.shows = shows
    server.files[LIB.filename] = b"somebody else's"
    with pytest.raises(ConflictError) as caught:
        run(source, server, client, receipt=tmp_path / "receipt.json")
    assert caught.value.filenames == (LIB.filename,)
    assert not server.received
    assert not source.spooled
    found = states(Receipt.from_json((tmp_path / "receipt.json").read_bytes()))
    assert found == {"lib": State.CONFLICT, "base": State.FAILED, "app": State.FAILED, "lone": State.FAILED}


def test_a_damaged_source_uploads_nothing(source: FolderSource, server: FakeRepository, client: Client) -> None:
    def damaged() -> None:
        raise BundleError("one byte is wrong")

    source.on_check = damaged
    with pytest.raises(BundleError):
        run(source, server, client)
    assert not server.received


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500),
        Fault(502),
        Fault(503, headers={"retry-after": "0"}),
        Fault(429, headers={"retry-after": "0"}),
        Fault(0),
    ],
    ids=lambda fault: str(fault.status),
)
def test_a_passing_failure_that_stored_nothing_is_tried_again(
    source: FolderSource, server: FakeRepository, client: Client, fault: Fault
) -> None:
    server.faults = {BASE.filename: [fault, fault], APP.filename: [fault]}
    assert run(source, server, client).complete
    assert server.uploaded.count(BASE.filename) == 3
    assert server.files[BASE.filename] == BASE.data


@pytest.mark.parametrize("status", [500, 504, 0])
def test_an_ambiguous_failure_that_stored_the_file_is_not_sent_twice(
    source: FolderSource, server: FakeRepository, client: Client, status: int
) -> None:
    server.faults = {BASE.filename: [Fault(status, stores=True)]}
    receipt = run(source, server, client)
    assert states(receipt)["base"] is State.UPLOADED
    assert server.uploaded.count(BASE.filename) == 1


def test_looking_comes_between_an_ambiguous_failure_and_the_next_try(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.faults = {BASE.filename: [Fault(502)]}
    run(source, server, client, workers=1)
    first, second = (i for i, request in enumerate(server.requests) if request == f"POST {BASE.filename}")
    assert "GET /upload/simple/base/" in server.requests[first:second]


def test_a_refusal_after_an_ambiguous_failure_that_was_seen_too_late(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    """The first try was stored, the index shows it only later, the second try is refused."""
    server.hidden_until = {BASE.filename: 1}
    server.faults = {BASE.filename: [Fault(504, stores=True)]}
    receipt = run(source, server, client, wait=5)
    assert states(receipt)["base"] is State.UPLOADED
    assert receipt.complete


def test_a_file_that_someone_else_uploads_meanwhile_is_present(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.faults = {LONE.filename: [Fault(403, stores=True, body=b"Not enough permissions to overwrite artifact")]}
    assert states(run(source, server, client))["lone"] is State.PRESENT


def test_a_refused_file_holds_back_its_dependents_only(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.faults = {BASE.filename: [Fault(400, body=b"<h1>Bad</h1> <p>metadata &amp; more</p>")]}
    with pytest.raises(IncompletePushError, match="metadata & more") as caught:
        run(source, server, client)
    receipt = caught.value.receipt
    found = {file.project: (file.state, file.reason) for file in receipt.files}
    assert found["lone"] == (State.UPLOADED, "")
    assert found["lib"] == found["app"] == (State.FAILED, "not tried: it requires base, which failed")
    assert server.uploaded.count(BASE.filename) == 1
    assert sorted(server.files) == [LONE.filename]


def test_a_limit_in_between_is_named_where_the_file_is(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.faults = {LONE.filename: [Fault(413, body=b"<h1>413 Request Entity Too Large</h1>")]}
    with pytest.raises(IncompletePushError, match="limits the size of a request") as caught:
        run(source, server, client)
    (failed,) = [file for file in caught.value.receipt.files if file.state is State.FAILED]
    assert "client_max_body_size" in failed.reason


def test_what_the_index_shows_too_late_did_not_fail(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    """As with Pulp, whose workers were away for a while."""
    server.hidden_until = {BASE.filename: 1}
    with pytest.raises(IncompletePushError, match="base, which the index did not show in time") as caught:
        push(source, LegacyPublisher(client, server.url), metadata=read_metadata, workers=1, read_back_wait=0)
    found = {file.project: file.state for file in caught.value.receipt.files}
    assert found == {"base": State.UPLOADED, "lone": State.UPLOADED, "lib": State.FAILED, "app": State.FAILED}


def test_tries_are_bounded(source: FolderSource, server: FakeRepository, client: Client) -> None:
    server.faults = {BASE.filename: [Fault(503, headers={"retry-after": "0"})] * 50}
    with pytest.raises(IncompletePushError):
        run(source, server, client)
    assert server.uploaded.count(BASE.filename) == TRIES


@pytest.mark.parametrize("status", [401, 403, 404, 405, 302])
def test_what_all_uploads_would_share_ends_the_push(
    source: FolderSource, server: FakeRepository, client: Client, status: int
) -> None:
    server.fault_for_all = Fault(status, headers={"location": "http://127.0.0.1/elsewhere/"})
    with pytest.raises(IncompletePushError, match=str(status)) as caught:
        run(source, server, client, workers=1)
    assert len(server.received) == 1
    assert caught.value.hint
    untried = [file for file in caught.value.receipt.files if file.reason.startswith("not tried: stopped after")]
    assert len(untried) == 3


@pytest.mark.parametrize(("status", "hint"), [(400, "will not pass by itself"), (500, "goes on with what is missing")])
def test_whoever_reads_the_hint_learns_whether_to_try_again(
    source: FolderSource, server: FakeRepository, client: Client, status: int, hint: str
) -> None:
    server.faults = {APP.filename: [Fault(status)] * 50}
    with pytest.raises(IncompletePushError) as caught:
        run(source, server, client)
    assert hint in caught.value.hint


def test_the_first_cause_is_what_ended_the_push_where_nothing_was_tried(source: FolderSource) -> None:
    outcomes = Outcomes(source.manifest)
    outcomes.halt(StorageError("No room."))
    failed = outcomes.receipt("somewhere").files
    assert failed[0].reason == "not tried: stopped after this: No room."
    assert outcomes.first_cause(failed) == "No room."


def test_a_server_that_can_not_be_read_is_a_network_error_and_no_receipt(
    source: FolderSource, server: FakeRepository, client: Client, tmp_path: Path
) -> None:
    server.page_faults = [500] * 100
    with pytest.raises(NetworkError):
        run(source, server, client, receipt=tmp_path / "receipt.json")
    assert not server.received
    assert not (tmp_path / "receipt.json").exists()


def test_an_index_that_lags_is_waited_for(source: FolderSource, server: FakeRepository, client: Client) -> None:
    server.hidden_until = {APP.filename: 3}
    assert run(source, server, client, wait=10).complete


def test_an_index_that_keeps_growing_is_waited_for(server: FakeRepository, client: Client, tmp_path: Path) -> None:
    """Pulp accepts uploads faster than its workers get through them: each question finds one file more."""
    wheels = [make_wheel("slow", f"1.{number}") for number in range(8)]
    outcomes = Outcomes(FolderSource(tmp_path, [(wheel, []) for wheel in wheels]).manifest)
    for number, wheel in enumerate(wheels):
        server.files[wheel.filename] = wheel.data
        server.hidden_until[wheel.filename] = number
        outcomes.sent[wheel.filename] = ""
        outcomes.set(wheel.filename, State.UPLOADED)
    confirm(LegacyPublisher(client, server.url), outcomes, list(outcomes.files.values()), wait=0.2)
    assert outcomes.seen == len(outcomes.files)
    assert not outcomes.sent


def test_an_index_that_never_shows_a_file_fails_it(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.hidden_until = {APP.filename: 10_000}
    with pytest.raises(IncompletePushError, match="does not show it in its index") as caught:
        run(source, server, client)
    assert states(caught.value.receipt) == {
        "app": State.FAILED,
        "lib": State.UPLOADED,
        "base": State.UPLOADED,
        "lone": State.UPLOADED,
    }


def test_what_was_accepted_and_not_stored_holds_back_what_needs_it(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.faults = {BASE.filename: [Fault(200)]}
    with pytest.raises(IncompletePushError, match="does not show it in its index"):
        run(source, server, client)
    assert set(server.files) == {LONE.filename}
    assert run(source, server, client).complete


def test_an_index_that_shows_nothing_at_all_may_be_elsewhere(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    publisher = LegacyPublisher(client, server.url, index_url=f"{server.url}elsewhere/")
    with pytest.raises(IncompletePushError) as caught:
        push(source, publisher, metadata=read_metadata, read_back_wait=0.0)
    assert "--index-url" in caught.value.hint
    assert set(server.files) == {BASE.filename, LONE.filename}


def test_an_index_that_shows_another_digest_afterwards_is_a_conflict(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.faults = {LONE.filename: [Fault(200)]}
    original = source.on_spool

    def swapped(project: str, folder: Path) -> None:
        original(project, folder)
        if project == "lone":
            server.files[LONE.filename] = b"what another client sent at the same moment"

    source.on_spool = swapped
    with pytest.raises(IncompletePushError) as caught:
        run(source, server, client)
    assert states(caught.value.receipt)["lone"] is State.CONFLICT


def test_a_server_that_keeps_a_part_of_a_file_gets_no_other(
    source: FolderSource, server: FakeRepository, client: Client, tmp_path: Path
) -> None:
    """pypiserver does on a full disk, and answers with 500: each further file would be one more that can't be used."""
    server.fault_for_all = Fault(500, stores=True, body=b"No space left on device", keeps=10)
    with pytest.raises(
        IncompletePushError, match=r"answered with 500 .*No space left on device.* Since then"
    ) as caught:
        run(source, server, client, workers=1, receipt=tmp_path / "receipt.json")
    assert "disk full" in caught.value.hint
    assert len(server.received) == 1
    receipt = Receipt.from_json((tmp_path / "receipt.json").read_bytes())
    assert sorted(states(receipt).values()) == [State.CONFLICT, State.FAILED, State.FAILED, State.FAILED]
    (kept,) = (file for file in receipt.files if file.state is State.CONFLICT)
    assert "answered with 500" in kept.reason


def test_a_source_that_turns_bad_while_it_is_read_stops(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    def bad(project: str, folder: Path) -> None:
        if project == "lib":
            raise BundleError("a frame is damaged")

    source.on_spool = bad
    with pytest.raises(IncompletePushError, match="a frame is damaged"):
        run(source, server, client, workers=1)
    assert LIB.filename not in server.uploaded
    assert APP.filename not in server.uploaded


def test_a_cycle_goes_up_together(server: FakeRepository, client: Client, tmp_path: Path) -> None:
    one, two, user = make_wheel("one"), make_wheel("two"), make_wheel("user")
    source = FolderSource(tmp_path / "cycle", [(user, ["one"]), (one, ["two"]), (two, ["one"])])
    assert run(source, server, client).complete
    assert server.uploaded[-1] == user.filename


def test_files_of_one_project_go_one_after_another(server: FakeRepository, client: Client, tmp_path: Path) -> None:
    files = [make_wheel("big", tag=f"cp3{minor}-abi3-linux_x86_64") for minor in range(8, 14)]
    files.append(make_sdist("big"))
    source = FolderSource(tmp_path / "many", [(file, []) for file in files])
    assert run(source, server, client, workers=8).complete
    assert source.spooled == ["big"]
    assert len(server.uploaded) == 7


def test_connections_are_kept(server: FakeRepository, client: Client, tmp_path: Path) -> None:
    source = FolderSource(tmp_path / "many", [(make_wheel(f"p{i}"), []) for i in range(60)])
    assert run(source, server, client, workers=4).complete
    assert server.connections <= client.settings.connections


def test_unreadable_metadata_is_told_and_the_file_goes_all_the_same(
    server: FakeRepository, client: Client, tmp_path: Path
) -> None:
    broken = Built("broken-1.0-py3-none-any.whl", b"no zip", b"")
    events: list[Event] = []
    assert run(FolderSource(tmp_path / "s", [(broken, [])]), server, client, events=events).complete
    assert [event.kind for event in events if "broken" in event.text and event.kind == "warning"]
    assert server.received[0]["name"] == ["broken"]


def test_a_redirect_to_another_server_is_not_followed(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    """What pypiserver does for projects that it has not: PyPI's files are not the repository's."""
    with fake_repository() as pypi:
        pypi.files = {built.filename: built.data for built, _ in TREE}
        server.elsewhere = pypi.url + "simple/"
        assert set(states(run(source, server, client)).values()) == {State.UPLOADED}
        assert not pypi.requests


def test_no_secret_leaves(source: FolderSource, server: FakeRepository, client: Client, tmp_path: Path) -> None:
    server.fault_for_all = Fault(400, body=b"no")
    events: list[Event] = []
    publisher = LegacyPublisher(client, server.url.replace("://", "://bob:s3cret@"))
    assert "bob" not in publisher.url
    with pytest.raises(IncompletePushError) as caught:
        push(source, publisher, metadata=read_metadata, receipt=tmp_path / "r", report=events.append, read_back_wait=0)
    shown = f"{caught.value} {caught.value.hint} {(tmp_path / 'r').read_text()} {events}"
    assert "s3cret" not in shown


def test_temporary_files_are_gone_afterwards(
    source: FolderSource, server: FakeRepository, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    server.faults = {BASE.filename: [Fault(400)]}
    with pytest.raises(IncompletePushError):
        run(source, server, client)
    assert not list(folder.iterdir())


def test_no_room_to_unpack_stops_the_push(
    source: FolderSource, server: FakeRepository, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageError, match="No room for temporary files"):
        run(source, server, client)
    assert not server.received


def test_an_interrupt_writes_the_receipt(
    source: FolderSource, server: FakeRepository, client: Client, tmp_path: Path
) -> None:
    def interrupt(project: str, folder: Path) -> None:
        if project == "lib":
            raise KeyboardInterrupt

    source.on_spool = interrupt
    with pytest.raises(KeyboardInterrupt):
        run(source, server, client, receipt=tmp_path / "receipt.json", workers=1)
    receipt = Receipt.from_json((tmp_path / "receipt.json").read_bytes())
    assert states(receipt)["base"] is State.UPLOADED
    assert states(receipt)["app"] is State.FAILED


def test_two_pushes_at_once_into_one_repository_lose_nothing(tmp_path: Path) -> None:
    sources = [FolderSource(tmp_path / str(i), TREE) for i in range(2)]
    receipts: list[Receipt] = []

    def one(source: FolderSource) -> None:
        with serve.embedded_publisher(tmp_path / "home") as publisher:
            receipts.append(push(source, publisher, metadata=read_metadata))

    threads = [threading.Thread(target=one, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [receipt.complete for receipt in receipts] == [True, True]


def test_a_catalog_that_can_not_be_used_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageError, match=r"catalog\.sqlite"):
        serve.embedded_publisher(tmp_path)
