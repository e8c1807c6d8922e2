"""Embedded repositories over real HTTP: pages, files, uploads, and what is refused."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from mirror import serve
from mirror.errors import StorageError
from mirror.push.form import form_fields
from mirror.serve import server as server_module
from mirror.serve.server import Running
from tests import plain
from tests.push_support import make_upload
from tests.waiting import wait_for
from tests.wheelhouse import Built, make_sdist, make_wheel

WHEEL = make_wheel("Some.Project", "1.0", requires_python=">=3.8,<4")
SDIST = make_sdist("Some.Project", "1.1")
JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
PART = f'--x\r\nContent-Disposition: form-data; name="content"; filename="{WHEEL.filename}"\r\n\r\n'.encode()
LIMIT = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with one project that no test changes."""
    folder = tmp_path_factory.mktemp("serve")
    with (
        serve.running(folder / "home") as found,
        plain.Client(base_url=found.repository_url("pypi-hosted")) as client,
    ):
        for built in (WHEEL, SDIST):
            assert upload(client, built, folder).status_code == 200
        yield client


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def server(home: Path) -> Iterator[Running]:
    with server_module.running(home, file_limit=LIMIT) as found:
        yield found


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with plain.Client(base_url=server.repository_url("pypi-hosted")) as found:
        yield found


def upload(client: httpx.Client, built: Built, folder: Path, **changes: str | None) -> httpx.Response:
    """Upload as twine does, with some fields changed or, with None, left out."""
    fields: dict[str, list[str]] = {}
    for name, value in form_fields(make_upload(built, folder)):
        fields.setdefault(name, []).append(value)
    filename = changes.pop("filename", None) or built.filename
    for name, changed in changes.items():
        name = ":action" if name == "action" else name
        fields.pop(name, None)
        if changed is not None:
            fields[name] = [changed]
    return client.post("", data=fields, files={"content": (filename, built.data, "application/octet-stream")})


def stored(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "blobs").rglob("*") if path.is_file())


# Pages


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        ("text/html", "text/html"),
        ("text/*", "text/html"),
        ("image/png", "text/html"),
        (JSON, JSON),
        (HTML, HTML),
        ("application/vnd.pypi.simple.latest+json", JSON),
        (f"{JSON}, {HTML}; q=0.1, text/html; q=0.01", JSON),
        (f"{JSON};q=0.2, text/html;q=0.8", "text/html"),
        (f"{JSON};q=0, text/html;q=0.1", "text/html"),
        (f"{JSON};q=nonsense, {HTML};q=0.5", HTML),
    ],
)
def test_the_format_is_negotiated(filled: httpx.Client, accept: str, kind: str) -> None:
    for path in ("simple/", "simple/some-project/"):
        answer = filled.get(path, headers={"accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"].partition(";")[0] == kind
        assert answer.headers["vary"] == "accept"


def test_the_root_lists_projects(filled: httpx.Client) -> None:
    assert '<a href="some-project/">' in filled.get("simple/").text
    assert filled.get("simple/", headers={"accept": JSON}).json()["projects"] == [{"name": "some-project"}]


def test_a_page_says_all_that_standards_ask_for(filled: httpx.Client) -> None:
    page = filled.get("simple/some-project/", headers={"accept": JSON}).json()
    assert page["meta"]["api-version"] == "1.1"
    assert page["name"] == "some-project"
    assert page["versions"] == ["1.0", "1.1"]
    files = {file["filename"]: file for file in page["files"]}
    wheel, sdist = files[WHEEL.filename], files[SDIST.filename]
    assert wheel["hashes"] == {"sha256": WHEEL.sha256}
    assert wheel["size"] == len(WHEEL.data)
    assert wheel["requires-python"] in (">=3.8,<4", "<4,>=3.8")
    assert wheel["core-metadata"] == {"sha256": hashlib.sha256(WHEEL.metadata).hexdigest()}
    assert wheel["upload-time"].endswith("Z")
    assert wheel["url"] == f"../../packages/some-project/1.0/{WHEEL.filename}"
    assert "core-metadata" not in sdist
    html = filled.get("simple/some-project/").text
    assert f"#sha256={WHEEL.sha256}" in html
    assert "data-requires-python=" in html


@pytest.mark.parametrize("path", ["simple", "simple/some-project", "simple/Some.Project/", "simple/SOME__project"])
def test_other_spellings_are_redirected(filled: httpx.Client, path: str) -> None:
    answer = filled.get(path)
    assert answer.status_code == 301
    final = filled.get(path, follow_redirects=True)
    assert final.status_code == 200
    assert final.url.path in ("/repository/pypi-hosted/simple/", "/repository/pypi-hosted/simple/some-project/")


@pytest.mark.parametrize("path", ["simple/", "simple/some-project/"])
def test_a_page_that_did_not_change_is_not_sent_again(filled: httpx.Client, path: str) -> None:
    first = filled.get(path)
    again = filled.get(path, headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    other = filled.get(path, headers={"if-none-match": first.headers["etag"], "accept": JSON})
    assert other.status_code == 200


def test_an_upload_changes_the_page_at_once(client: httpx.Client, tmp_path: Path) -> None:
    upload(client, WHEEL, tmp_path)
    etag = client.get("simple/some-project/").headers["etag"]
    upload(client, SDIST, tmp_path)
    answer = client.get("simple/some-project/", headers={"if-none-match": etag})
    assert answer.status_code == 200
    assert SDIST.filename in answer.text


@pytest.mark.parametrize("path", ["simple/", "simple/some-project/", f"packages/some-project/1.0/{WHEEL.filename}"])
def test_head_is_get_without_a_body(filled: httpx.Client, path: str) -> None:
    head, get = filled.head(path), filled.get(path)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))
    assert head.headers["etag"] == get.headers["etag"]


@pytest.mark.parametrize("path", ["simple/unheard-of/", "packages/some-project/9.9/x.whl", "nothing/at/all"])
def test_what_is_not_there_is_a_404_with_words(filled: httpx.Client, path: str) -> None:
    answer = filled.get(path)
    assert answer.status_code == 404
    assert len(answer.text) > 15


def test_an_unknown_repository_names_the_known_ones(server: Running) -> None:
    for method in ("GET", "POST"):
        answer = plain.request(method, f"{server.url}/repository/typo/")
        assert answer.status_code == 404
        assert "pypi-hosted" in answer.text


@pytest.mark.parametrize("path", ["simple/", "simple/some-project/", f"packages/some-project/1.0/{WHEEL.filename}"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_told_where_uploads_go(filled: httpx.Client, method: str, path: str) -> None:
    answer = filled.request(method, path)
    assert answer.status_code == 405
    assert "Uploads go to" in answer.text
    assert "GET" in answer.headers["allow"]


def test_status_and_front_page(server: Running) -> None:
    assert plain.get(f"{server.url}/service/rest/v1/status").status_code == 200
    assert plain.get(f"{server.url}/service/rest/v1/status/writable").status_code == 200
    assert server.index_url("pypi-hosted") in plain.get(f"{server.url}/").text
    assert server.index_url("pypi-hosted") in plain.get(server.repository_url("pypi-hosted")).text


# Files


def file_path(built: Built, version: str = "1.0") -> str:
    return f"packages/some-project/{version}/{built.filename}"


def test_a_file_comes_as_it_went_in(filled: httpx.Client) -> None:
    for built, version in ((WHEEL, "1.0"), (SDIST, "1.1")):
        answer = filled.get(file_path(built, version))
        assert answer.content == built.data
        assert answer.headers["content-type"] == "application/octet-stream"
        assert "content-encoding" not in answer.headers


def test_metadata_comes_beside_a_wheel(filled: httpx.Client) -> None:
    assert filled.get(f"{file_path(WHEEL)}.metadata").content == WHEEL.metadata
    assert filled.get(f"{file_path(SDIST, '1.1')}.metadata").status_code == 404


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("bytes=0-9", slice(0, 10)), ("bytes=-20", slice(-20, None)), ("bytes=100-", slice(100, None))],
)
def test_ranges(filled: httpx.Client, asked: str, expected: slice) -> None:
    answer = filled.get(file_path(WHEEL), headers={"range": asked})
    assert answer.status_code == 206
    assert answer.content == WHEEL.data[expected]
    assert answer.headers["content-range"].endswith(f"/{len(WHEEL.data)}")


def test_a_range_behind_the_end_is_refused(filled: httpx.Client) -> None:
    answer = filled.get(file_path(WHEEL), headers={"range": f"bytes={len(WHEEL.data)}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(WHEEL.data)}"


def test_a_range_of_another_file_gives_the_whole(filled: httpx.Client) -> None:
    etag = filled.head(file_path(WHEEL)).headers["etag"]
    same = filled.get(file_path(WHEEL), headers={"range": "bytes=0-9", "if-range": etag})
    other = filled.get(file_path(WHEEL), headers={"range": "bytes=0-9", "if-range": '"other"'})
    assert (same.status_code, other.status_code) == (206, 200)


def test_a_file_that_is_known_is_not_sent_again(filled: httpx.Client) -> None:
    first = filled.get(file_path(WHEEL))
    assert first.headers["etag"] == f'"{WHEEL.sha256}"'
    for headers in (
        {"if-none-match": first.headers["etag"]},
        {"if-none-match": f'"x", W/{first.headers["etag"]}'},
        {"if-modified-since": first.headers["last-modified"]},
    ):
        assert filled.get(file_path(WHEEL), headers=headers).status_code == 304
    for headers in (
        {"if-none-match": '"x"'},
        {"if-none-match": '"x"', "if-modified-since": first.headers["last-modified"]},
        {"if-modified-since": "nonsense"},
    ):
        assert filled.get(file_path(WHEEL), headers=headers).status_code == 200


# Uploads


def test_the_same_upload_again_is_a_success(client: httpx.Client, home: Path, tmp_path: Path) -> None:
    for _ in range(2):
        answer = upload(client, WHEEL, tmp_path)
        assert answer.status_code == 200
        assert client.get(answer.headers["location"]).content == WHEEL.data
    assert len(stored(home)) == 2


def test_other_bytes_get_the_answer_that_uploaders_know(client: httpx.Client, home: Path, tmp_path: Path) -> None:
    upload(client, WHEEL, tmp_path)
    before = stored(home)
    answer = upload(client, make_wheel("Some.Project", "1.0", files={"x.py": b"x"}), tmp_path)
    assert answer.status_code == 400
    assert "already exist" in answer.text.lower()
    assert stored(home) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256_digest": "0" * 64},
        {"md5_digest": "0" * 32},
        {"blake2_256_digest": "0" * 64},
        {"name": "other"},
        {"version": "2.0"},
        {"name": None},
        {"version": None},
        {"action": "submit"},
        {"action": None},
        {"filename": "../some_project-1.0-py3-none-any.whl"},
        {"filename": "/etc/some_project-1.0-py3-none-any.whl"},
        {"filename": "C:\\some_project-1.0-py3-none-any.whl"},
        {"filename": "s%C3%B6me-1.0-py3-none-any.whl"},
        {"filename": "söme_project-1.0-py3-none-any.whl"},
        {"filename": "some_project-3.0-py3-none-any.whl"},
        {"filename": "other-1.0-py3-none-any.whl"},
        {"filename": "some_project-1.0.exe"},
    ],
    ids=str,
)
def test_a_bad_upload_is_refused_with_a_reason(
    client: httpx.Client, home: Path, tmp_path: Path, changes: dict[str, str | None]
) -> None:
    answer = upload(client, WHEEL, tmp_path, **changes)
    assert answer.status_code == 400
    assert len(answer.text) > 20
    assert stored(home) == []
    assert client.get("simple/", headers={"accept": JSON}).json()["projects"] == []


@pytest.mark.parametrize(
    ("filename", "data"),
    [
        (WHEEL.filename, b"not a zip"),
        (WHEEL.filename, make_wheel("x", metadata=b"nothing").data),
        ("some_project-1.0.tar.gz", b"not gzip"),
    ],
)
def test_a_bad_file_is_refused_with_a_reason(
    client: httpx.Client, home: Path, tmp_path: Path, filename: str, data: bytes
) -> None:
    answer = upload(client, Built(filename, data, WHEEL.metadata), tmp_path)
    assert answer.status_code == 400
    assert filename in answer.text
    assert stored(home) == []


def test_a_file_over_the_limit_is_refused_and_not_kept(client: httpx.Client, home: Path, tmp_path: Path) -> None:
    answer = upload(client, Built(WHEEL.filename, bytes(LIMIT + 1), WHEEL.metadata), tmp_path)
    assert answer.status_code == 413
    assert str(LIMIT) in answer.text
    assert stored(home) == []


def test_a_body_that_says_it_is_too_large_is_refused_at_once(server: Running, home: Path) -> None:
    answer = raw(server, declared=10**12, sent=b"")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_fields_without_end_are_refused(client: httpx.Client, home: Path) -> None:
    answer = client.post("", data={"description": "x" * (17 * 1024 * 1024)}, files={"content": ("a", b"")})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"no boundary anywhere"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name=":action"\r\n\r\nfile_upl'),
        (f"multipart/form-data; boundary={'x' * 300}", b""),
    ],
)
def test_what_is_no_form_is_refused(client: httpx.Client, home: Path, content_type: str, body: bytes) -> None:
    answer = client.post("", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400
    assert len(answer.text) > 20
    assert stored(home) == []


def test_two_files_in_one_upload_are_refused(client: httpx.Client, home: Path) -> None:
    files = [("content", (WHEEL.filename, WHEEL.data)), ("content", (WHEEL.filename, WHEEL.data))]
    answer = client.post("", data={":action": "file_upload", "name": "x", "version": "1"}, files=files)
    assert answer.status_code == 400
    assert stored(home) == []


def test_no_file_in_an_upload_is_refused(client: httpx.Client) -> None:
    answer = client.post("", data={":action": "file_upload"}, files={"other": ("x", b"x")})
    assert answer.status_code == 400
    assert "content" in answer.text


def raw(server: Running, *, declared: int, sent: bytes, cut: bool = False) -> bytes:
    """Send what no HTTP library would send, perhaps close the sending side, and return all of the answer."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
        head = (
            f"POST /repository/pypi-hosted/ HTTP/1.1\r\nhost: x\r\ncontent-length: {declared}\r\n"
            f"content-type: multipart/form-data; boundary=x\r\n\r\n"
        )
        connection.sendall(head.encode() + sent)
        if cut:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def test_a_body_that_is_cut_off_stores_nothing(server: Running, home: Path) -> None:
    answer = raw(server, declared=2 * 1024 * 1024, sent=PART + bytes(1024 * 1024), cut=True)
    assert not answer.startswith(b"HTTP/1.1 2")
    # Nobody is left to be answered when the server cleans up: it does that a moment after the connection has ended.
    wait_for(lambda: not stored(home))


def test_a_connection_serves_many_uploads(server: Running, tmp_path: Path) -> None:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    for number in range(3):
        connection.request("POST", "/repository/pypi-hosted/", body=b"", headers={"content-type": "text/plain"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 400, number
    connection.close()


def test_a_body_that_stops_is_not_waited_for_forever(home: Path) -> None:
    with server_module.running(home, upload_timeout=0.2) as server:
        # Little enough to be sent at once: what comes after the answer would take that with it.
        answer = raw(server, declared=2 * 1024**3, sent=PART + bytes(16 * 1024))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"Nothing arrived" in answer
    assert stored(home) == []


# Real clients


def pip(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(folder), "PIP_CONFIG_FILE": "/dev/null", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "pip", "--isolated", *arguments]
    if arguments[0] == "install":  # it would read all that is installed beside the tests
        command.append("--no-warn-conflicts")
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_twine_uploads_and_pip_installs(server: Running, client: httpx.Client, tmp_path: Path) -> None:
    files = [make_wheel("app", requires=["lib>=1"]), make_wheel("lib", "1.5"), make_sdist("lib", "2.0")]
    paths = [str(built.save(tmp_path / "dist")) for built in files]
    command = [sys.executable, "-m", "twine", "upload", "--non-interactive", "-u", "u", "-p", "p"]
    for _ in range(2):
        done = subprocess.run(
            [*command, "--repository-url", server.repository_url("pypi-hosted"), *paths],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    target = tmp_path / "target"
    done = pip(
        "install", "-q", "--index-url", server.index_url("pypi-hosted"), "--only-binary", ":all:", "--target",
        str(target), "app", folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (target / "lib.py").read_text() == "__version__ = '1.5'\n"


def test_uv_publishes_and_twine_names_a_conflict(server: Running, tmp_path: Path) -> None:
    path = make_wheel("app").save(tmp_path)
    url = server.repository_url("pypi-hosted")
    uv = [sys.executable, "-m", "uv", "publish", "--publish-url", url, "-u", "u", "-p", "p", str(path)]
    for _ in range(2):
        done = subprocess.run(uv, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    make_wheel("app", files={"x.py": b""}).save(tmp_path)
    twine = [sys.executable, "-m", "twine", "upload", "--non-interactive", "-u", "u", "-p", "p"]
    done = subprocess.run(
        [*twine, "--verbose", "--repository-url", url, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "already exists" in " ".join(done.stdout.split())


# The process


def test_an_address_that_is_taken_is_explained(server: Running, home: Path) -> None:
    port = urlsplit(server.url).port or 0
    with pytest.raises(StorageError, match=str(port)), serve.running(home, port=port):
        pass


def test_serving_announces_its_address_and_ends_on_sigterm(home: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from mirror import serve\n"
        "def announce(url): sys.stdout.write(url + '\\n'); sys.stdout.flush()\n"
        "from mirror.config.served import ServeSettings; from mirror.serve.server import serve\n"
        "serve(Path(sys.argv[1]), settings=ServeSettings(port=0), announce=announce)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(home)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert json.loads(plain.get(f"{url}/repository/pypi-hosted/simple/", headers={"accept": JSON}).content)
        process.terminate()
        process.wait(30)
    assert not home.exists()
