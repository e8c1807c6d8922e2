"""Every mistake that `airgap doctor` knows, made with a real server; it must name the cause and the remedy."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from mirror import serve
from mirror.cli import airgap
from mirror.config.served import Served, ServeSettings
from mirror.index.simple import JSON_TYPE, render_root_html, render_root_json
from mirror.net import Client
from mirror.net.certificates import read_certificate
from mirror.ops import doctor
from mirror.ops.doctor.reading import ENOUGH
from mirror.push.legacy import LegacyPublisher
from mirror.serve import server as server_module
from tests.http_support import Hold, Reply, Request, Server, basic, tls_context
from tests.nexus_support import ERROR_PAGE, nexus
from tests.nginx_support import nginx
from tests.ports import closed_port
from tests.push_support import make_upload
from tests.wheelhouse import make_wheel

HOST = "127.0.0.1"
SECRET = "hunter2-marked"
DIGEST = "sha256=" + "a" * 64
Found = list[dict[str, str]]


def examine(*words: str | Path, env: Mapping[str, str] | None = None) -> Found:
    done = CliRunner().invoke(airgap, ["doctor", "--json", "--timeout", "5", *map(str, words)], env=env)
    assert SECRET not in done.output
    findings: Found = json.loads(done.stdout)
    wrong = any(finding["level"] == "problem" for finding in findings)
    assert done.exit_code == (4 if wrong else 0), done.output
    return findings


def only(findings: Found, check: str, level: str = "problem") -> dict[str, str]:
    (found,) = [finding for finding in findings if finding["check"] == check and finding["level"] == level]
    return found


def levels(findings: Found, check: str) -> list[str]:
    return [finding["level"] for finding in findings if finding["check"] == check]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@contextmanager
def index(
    *, tls: ssl.SSLContext | None = None, fragment: str = DIGEST, attributes: str = "", ranges: bool = True
) -> Iterator[Server]:
    """A server with one project at ``/simple/``."""
    name = "alpha-1.0-py3-none-any.whl"
    with Server(tls=tls) as server:
        server.add("/simple/", b'<!DOCTYPE html><a href="alpha/">alpha</a>', content_type="text/html")
        link = f'<!DOCTYPE html><a href="/files/{name}#{fragment}" {attributes}>{name}</a>'
        server.add("/simple/alpha/", link.encode(), content_type="text/html")
        server.add(f"/files/{name}", b"the bytes of a wheel", ranges=ranges)
        yield server


def with_chain(leaf: trustme.LeafCert, chain: list[trustme.Blob], tmp_path: Path) -> ssl.SSLContext:
    """A server's context that sends *leaf* and then *chain*, in this order."""
    pem = tmp_path / "server.pem"
    pem.write_bytes(leaf.private_key_pem.bytes() + b"".join(blob.bytes() for blob in [leaf.cert_chain_pems[0], *chain]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(pem))
    return context


def test_all_is_well(tmp_path: Path) -> None:
    with serve.running(tmp_path / "home") as server:
        found = examine("--repo", server.repository_url("pypi-hosted"))
    assert {finding["level"] for finding in found} == {"fine"}
    assert {"DNS", "TCP", "clock", "index", "upload", "upload size", "disk"} <= {finding["check"] for finding in found}


def test_an_upload_url_that_is_corrected(tmp_path: Path) -> None:
    with serve.running(tmp_path / "home") as server:
        found = only(examine("--repo", server.repository_url("pypi-hosted").rstrip("/")), "upload", "note")
    assert "airgap sends them to" in found["text"]
    assert found["remedy"].startswith("Correct the URL")


def test_a_name_that_nobody_knows() -> None:
    found = only(examine("--index-url", "http://no-such-host.invalid/simple/"), "DNS")
    assert "no-such-host.invalid has no address" in found["text"]
    assert "resolver" in found["remedy"]


def test_a_port_that_nobody_listens_on() -> None:
    found = only(examine("--index-url", f"http://{HOST}:{closed_port()}/simple/"), "TCP")
    assert "refused" in found["text"].lower()
    assert "firewall" in found["remedy"]


def test_a_proxy_is_named_without_its_secret() -> None:
    environ = {"HTTP_PROXY": f"http://bob:{SECRET}@{HOST}:{closed_port()}", "http_proxy": "", "NO_PROXY": ""}
    environ["http_proxy"] = environ["HTTP_PROXY"]
    found = only(examine("--index-url", "http://nexus.example/simple/", env=environ), "proxy")
    assert "bob:****@" in found["text"]
    assert "takes no connections" in found["text"]
    assert "NO_PROXY" in found["remedy"]


def test_a_proxy_that_answers() -> None:
    with Server() as proxy:
        environ = {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url, "NO_PROXY": ""}
        found = examine("--index-url", "http://nexus.example/simple/", env=environ)
    assert proxy.url in only(found, "proxy", "fine")["text"]
    assert "404" in only(found, "index")["text"]  # what this one answers


def test_a_server_that_wants_tls() -> None:
    """As nginx says it, whose 400 was taken for that of a repository that misses a file."""
    body = b"<html><body><h1>400 Bad Request</h1>The plain HTTP request was sent to HTTPS port</body></html>"
    with Server() as server:
        for path in ("/repo/", "/repo/simple/"):
            server.handle(path, lambda _: Reply(400, body))
        found = examine("--repo", f"{server.url}/repo/")
    assert levels(found, "TLS") == ["problem", "problem"]
    assert {finding["remedy"] for finding in found if finding["check"] == "TLS"} == {"Should the URL say https://?"}
    assert levels(found, "upload") == levels(found, "index") == []


@pytest.mark.parametrize("path", ["/api/packages/plant/pypi", "/api/v4/projects/7/packages/pypi"])
def test_a_registry_without_a_page_of_all_projects(path: str) -> None:
    """Gitea's and GitLab's URLs have no slash at the end, and are right."""
    with Server() as server:
        server.handle(path, lambda request: Reply(400 if request.method == "POST" else 404))
        found = examine("--repo", server.url + path)
        assert levels(found, "upload") == ["fine"]
        assert levels(found, "index") == ["note"]
        server.handle(path, lambda _: Reply(404))
        assert "hosted repository" in only(examine("--repo", server.url + path), "upload")["remedy"]


def test_the_index_of_devpi() -> None:
    """It is not where others have it, which devpi's header tells."""
    with Server() as server:
        absent = Reply(404, headers={"x-devpi-api-version": "2"})
        server.handle("/user/index/simple/", lambda _: absent)
        server.add("/user/index/+simple/", b"<!DOCTYPE html><html></html>", content_type="text/html")
        server.handle("/user/index/", lambda _: Reply(400))
        found = examine("--repo", f"{server.url}/user/index/")
    assert f"{server.url}/user/index/+simple/" in only(found, "index", "fine")["text"]


def test_a_web_page_that_is_no_index(tmp_path: Path) -> None:
    """That of a repository, which has links to its projects."""
    with serve.running(tmp_path / "home") as server:
        url = server.repository_url("pypi-hosted")
        with Client() as client:
            LegacyPublisher(client, url).upload(make_upload(make_wheel("alpha"), tmp_path))
        found = only(examine("--index-url", url), "index")
    assert "web page, not a simple index" in found["text"]
    assert found["remedy"].endswith(f"try {url}simple/")


class TestTLS:
    def test_accepted(self, authority: trustme.CA, trusted: Path) -> None:
        with index(tls=tls_context(authority.issue_cert(HOST))) as server:
            found = examine("--index-url", f"{server.url}/simple/", "--cert", trusted)
        assert levels(found, "TLS") == ["fine"]
        assert levels(found, "index") == ["fine"]

    def test_an_authority_that_is_not_trusted(self, authority: trustme.CA, tmp_path: Path) -> None:
        chain = tmp_path / "chain.pem"
        with index(tls=tls_context(authority.issue_cert(HOST))) as server:
            found = examine("--index-url", f"{server.url}/simple/", "--write-chain", chain)
        assert "not trusted here" in only(found, "TLS")["text"]
        assert "--cert" in only(found, "TLS")["remedy"]
        assert only(found, "TLS")["remedy"].startswith("If Testing CA")  # it names whose certificate it is
        der = ssl.PEM_cert_to_DER_cert(chain.read_text())
        assert read_certificate(der).not_after.year >= datetime.now(timezone.utc).year
        assert levels(found, "index") == []

    def test_an_intermediate_certificate_is_missing(self, authority: trustme.CA, trusted: Path, tmp_path: Path) -> None:
        leaf = authority.create_child_ca().issue_cert(HOST)
        with index(tls=with_chain(leaf, [], tmp_path)) as server:
            found = only(examine("--index-url", f"{server.url}/simple/", "--cert", trusted), "TLS")
        assert "sends only its own certificate" in found["text"]
        assert "complete its chain" in found["remedy"]

    def test_an_authority_is_named_where_the_chain_is_whole(self, authority: trustme.CA, tmp_path: Path) -> None:
        middle = authority.create_child_ca()
        with index(tls=with_chain(middle.issue_cert(HOST), [middle.cert_pem], tmp_path)) as server:
            found = only(examine("--index-url", f"{server.url}/simple/"), "TLS")
        (name,) = {read_certificate(ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())).subject}
        assert f"the last is signed by {name}" in found["text"]

    def test_certificates_in_the_wrong_order(self, authority: trustme.CA, trusted: Path, tmp_path: Path) -> None:
        middle = authority.create_child_ca()
        leaf = middle.issue_cert(HOST)
        context = with_chain(leaf, [authority.cert_pem, middle.cert_pem], tmp_path)
        with index(tls=context) as server:
            found = examine("--index-url", f"{server.url}/simple/", "--cert", trusted)
        (told,) = [finding for finding in found if "wrong order" in finding["text"]]
        assert "administrator" in told["remedy"]

    @pytest.mark.parametrize(
        ("first", "last", "cause", "remedy"),
        [(-40, -10, "expired", "renewed"), (10, 40, "not valid yet", "clock")],
        ids=["expired", "not yet"],
    )
    def test_dates(self, authority: trustme.CA, trusted: Path, first: int, last: int, cause: str, remedy: str) -> None:
        now = datetime.now(timezone.utc)
        leaf = authority.issue_cert(HOST, not_before=now + timedelta(days=first), not_after=now + timedelta(days=last))
        with index(tls=tls_context(leaf)) as server:
            found = only(examine("--index-url", f"{server.url}/simple/", "--cert", trusted), "TLS")
        assert cause in found["text"]
        assert remedy in found["remedy"]

    def test_an_expired_one_is_not_said_to_lack_its_chain(self, authority: trustme.CA, trusted: Path) -> None:
        leaf = authority.issue_cert(HOST, not_after=datetime.now(timezone.utc) - timedelta(days=1))
        with index(tls=tls_context(leaf)) as server:
            found = only(examine("--index-url", f"{server.url}/simple/", "--cert", trusted), "TLS")
        assert "ended on" in found["text"]
        assert "chain" not in found["text"] + found["remedy"]

    def test_a_certificate_that_ends_soon(self, authority: trustme.CA, trusted: Path) -> None:
        leaf = authority.issue_cert(HOST, not_after=datetime.now(timezone.utc) + timedelta(days=5))
        with index(tls=tls_context(leaf)) as server:
            found = only(examine("--index-url", f"{server.url}/simple/", "--cert", trusted), "TLS", "note")
        assert "ends on" in found["text"]

    def test_another_host_name(self, authority: trustme.CA, trusted: Path) -> None:
        with index(tls=tls_context(authority.issue_cert("nexus.example"))) as server:
            found = only(examine("--index-url", f"{server.url}/simple/", "--cert", trusted), "TLS")
        assert "another hostname" in found["text"]
        assert "is for nexus.example" in found["text"]
        assert "chain" not in found["text"]
        assert "name that the certificate carries" in found["remedy"]

    def test_no_tls_on_this_port(self) -> None:
        with index() as server:
            found = only(examine("--index-url", f"{server.url.replace('http:', 'https:')}/simple/"), "TLS")
        assert "does not speak TLS" in found["text"]
        assert "http://" in found["remedy"]


class TestIndex:
    def test_credentials_are_wanted(self) -> None:
        with index() as server:
            server.users["bob"] = SECRET
            found = only(examine("--index-url", f"{server.url}/simple/"), "credentials")
        assert "401" in found["text"]
        assert ".pypirc" in found["remedy"]

    def test_credentials_are_wrong(self) -> None:
        with index() as server:
            server.users["bob"] = "another"
            url = f"{server.url}/simple/".replace("//", f"//bob:{SECRET}@", 1)
            found = only(examine("--index-url", url), "credentials")
        assert "check user, password and rights" in found["remedy"]

    def test_the_upload_url_is_no_index(self) -> None:
        with index() as server:
            server.add("/", b'<html><a href="/simple/">simple</a></html>', content_type="text/html")
            found = only(examine("--index-url", server.url), "index")
        assert "not a simple index" in found["text"]
        assert found["remedy"].endswith("/simple/")

    def test_nothing_is_there(self) -> None:
        with index() as server:
            assert "repository's name" in only(examine("--index-url", f"{server.url}/other/simple/"), "index")["remedy"]

    def test_weak_digests_no_ranges_no_metadata(self) -> None:
        with index(fragment="md5=" + "a" * 32, ranges=False) as server:
            found = examine("--index-url", f"{server.url}/simple/")
        assert "md5" in only(found, "digests", "note")["text"]
        assert "ignores ranges" in only(found, "ranges", "note")["text"]
        assert "no metadata" in only(found, "metadata", "note")["text"]

    def test_what_a_modern_index_offers(self) -> None:
        with index(attributes=f'data-core-metadata="{DIGEST}"') as server:
            found = examine("--index-url", f"{server.url}/simple/")
        assert [levels(found, check) for check in ("digests", "ranges", "metadata")] == [["fine"]] * 3

    @pytest.mark.parametrize("zone", [b"GMT", b"-0000"])
    def test_a_clock_that_is_wrong(self, zone: bytes) -> None:
        body = b'<!DOCTYPE html><a href="a/">a</a>'
        answer = b"HTTP/1.1 200 OK\r\nDate: Sat, 01 Jan 2000 00:00:00 %s\r\nContent-Type: text/html\r\n" % zone
        answer += b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

        def talk(listener: socket.socket) -> None:
            for _ in range(3):  # the look whether it takes connections, the root page, the project's
                connection, _address = listener.accept()
                with connection:
                    if connection.recv(65536):
                        connection.sendall(answer)

        with socket.create_server((HOST, 0)) as listener:
            thread = threading.Thread(target=talk, args=(listener,))
            thread.start()
            found = examine("--index-url", f"http://{HOST}:{listener.getsockname()[1]}/simple/")
            thread.join()
        assert "minutes" in only(found, "clock", "note")["text"]


class TestLargeIndex:
    """That of a large index has 27 MB, and a proxy repository fetches all of it for whoever asks."""

    NAMES = ("alpha", *(f"project-{number:06}" for number in range(100_000)))

    @pytest.mark.parametrize(
        ("kind", "render", "form"),
        [(JSON_TYPE, render_root_json, "JSON (PEP 691)"), ("text/html", render_root_html, "HTML (PEP 503)")],
        ids=["json", "html"],
    )
    def test_its_root_page_is_not_read_to_the_end(
        self, kind: str, render: Callable[[Iterable[str]], bytes], form: str
    ) -> None:
        with index() as server:
            server.add("/simple/", render(self.NAMES), content_type=kind)
            server.script("/simple/", Hold(ENOUGH + 1, threading.Event()))
            found = examine("--index-url", f"{server.url}/simple/")
        told = only(found, "index", "fine")["text"]
        assert f"is an index in {form} with at least " in told
        assert 10_000 < int(re.findall(r"\d+", told)[-1]) < len(self.NAMES)
        assert [levels(found, check) for check in ("clock", "digests", "ranges")] == [["fine"]] * 3

    def test_behind_a_proxy_repository(self, tmp_path: Path) -> None:
        with index() as server:
            server.add("/simple/", render_root_json(self.NAMES), content_type=JSON_TYPE)
            proxy = Served("p", "proxy", remote=f"{server.url}/simple/", max_age=0)
            with serve.running(tmp_path / "home", settings=ServeSettings(repositories={"p": proxy})) as running:
                found = examine("--repo", running.repository_url("p"))
            assert len(server.seen("/simple/")) == 1
        assert "JSON (PEP 691) with at least " in only(found, "index", "fine")["text"]
        assert levels(found, "digests") == ["fine"]
        assert "takes no uploads" in only(found, "upload")["text"]


def test_an_index_that_pulp_does_not_serve() -> None:
    """With autopublish, Pulp sends readers to its content app, which has nothing there."""
    with index() as server:
        server.handle("/pypi/x/simple/", lambda _: Reply(302, headers={"location": "/pulp/content/x/simple/"}))
        found = only(examine("--index-url", f"{server.url}/pypi/x/simple/"), "index")
    assert "/pulp/content/x/simple/" in found["text"]
    assert "autopublish" in found["remedy"]


@pytest.mark.parametrize(
    ("policy", "found_level", "said"),
    [
        (None, "fine", "takes uploads by anybody, unless its deployment policy is Read-only."),
        ("ALLOW_ONCE", "fine", "takes uploads by anybody."),
        ("ALLOW", "fine", "takes uploads by anybody."),
        ("DENY", "problem", "takes no uploads: its deployment policy is Read-only."),
    ],
)
def test_what_nexus_says_of_its_policy(tmp_path: Path, policy: str | None, found_level: str, said: str) -> None:
    """Its settings are for administrators; an upload without a file gets the same answer whatever they are."""
    with nexus(tmp_path / "home") as front:
        front.policies = {"pypi-hosted": policy} if policy else {}
        found = examine("--repo", f"{front.url}/repository/pypi-hosted/")
    assert only(found, "upload", found_level)["text"].endswith(said)
    assert levels(found, "policy") == (["note"] if policy == "ALLOW" else [])


@pytest.mark.parametrize("said", ["Repository is read only: shut", "shut/simple/ is read-only"])
def test_a_read_only_repository_of_nexus_whose_page_was_never_read(said: str) -> None:
    """As Nexus 3.30.1 answers, with either of its stores: it would have to keep the page. pip can't read it, either."""
    with index() as server:
        server.handle("/shut/simple/", lambda _: Reply(400, reason=said))
        found = only(examine("-i", f"{server.url}/shut/simple/"), "index")
    assert "have the page read once" in found["remedy"]


class TestUpload:
    @staticmethod
    def answering(status: int) -> Callable[[Request], Reply]:
        return lambda request: Reply(status if request.method == "POST" else 404)

    @pytest.mark.parametrize(
        ("path", "status", "check", "cause", "remedy"),
        [
            ("/repo/", 403, "credentials", "refuses uploads by anybody", "edit and add"),
            ("/repo/", 404, "upload", "takes no uploads", "a group or a proxy"),
            ("/repo/simple/", 405, "upload", "takes no uploads", "/repo/"),
            ("/repo", 400, "upload", "refuses uploads", "lacks its last slash"),
            ("/repo/", 503, "upload", "can't be used now", "frozen"),
        ],
        ids=["no right", "group", "simple", "slash", "frozen"],
    )
    def test_mistakes(self, path: str, status: int, check: str, cause: str, remedy: str) -> None:
        with index() as server:
            server.handle(path, self.answering(status))
            found = only(examine("--repo", server.url + path, "--index-url", f"{server.url}/simple/"), check)
        assert cause in found["text"]
        assert remedy in found["remedy"]

    def test_a_url_without_a_path_lacks_no_slash(self) -> None:
        """pypiserver's, which answers an upload without a file with 400, and takes one with a file."""
        with index() as server:
            server.handle("/", self.answering(400))
            found = only(examine("--repo", server.url, "--index-url", f"{server.url}/simple/"), "upload", "fine")
        assert "takes uploads by anybody" in found["text"]

    @pytest.mark.parametrize(
        ("status", "said", "remedy"),
        [
            (400, "Index is not pointing to a repository", "(Pulp) a publication"),
            (403, "Index is not allowing uploads", "takes uploads"),
            (400, "pypi-all is a group repository", "not a group"),
        ],
    )
    def test_a_server_that_says_that_it_takes_no_uploads(self, status: int, said: str, remedy: str) -> None:
        with index() as server:
            server.handle("/repo/", lambda _: Reply(status, said.encode()))
            found = only(examine("--repo", f"{server.url}/repo/", "-i", f"{server.url}/simple/"), "upload")
        assert f"takes no uploads ({status}, " in found["text"]
        assert said in found["text"]
        assert remedy in found["remedy"]

    def test_why_it_can_not_be_used_now(self) -> None:
        with index() as server:
            page = ERROR_PAGE.format(status=503, reason="Repository offline", said="Repository offline").encode()
            server.handle("/repo/", lambda _: Reply(503, page))
            found = only(examine("--repo", f"{server.url}/repo/", "-i", f"{server.url}/simple/"), "upload")
        assert "can't be used now (503, Service Unavailable: Repository offline)" in found["text"]

    def test_a_url_of_nexus_without_a_repository(self) -> None:
        with index() as server:
            server.handle("/", lambda _: Reply(405, b"", {"Server": "Nexus/3.30.1-01 (OSS)"}))
            found = only(examine("--repo", f"{server.url}/", "-i", f"{server.url}/simple/"), "upload")
        assert "/repository/NAME/" in found["remedy"]

    def test_why_the_user_may_not_upload(self) -> None:
        with index() as server:
            server.handle("/repo/", lambda _: Reply(403, b"your quota is used up"))
            environ = {"TWINE_USERNAME": "bob", "TWINE_PASSWORD": SECRET}
            found = examine("--repo", f"{server.url}/repo/", "-i", f"{server.url}/simple/", env=environ)
        assert "your quota is used up" in only(found, "credentials")["text"]

    @pytest.mark.parametrize("status", [400, 401, 403])
    def test_a_lone_token_is_not_shown(self, status: int) -> None:
        with index() as server:
            server.handle("/repo/", self.answering(status))
            url = f"{server.url}/repo/".replace("://", f"://{SECRET}@")
            found = examine("--repo", url, "-i", f"{server.url}/simple/")
            assert {request.headers.get("authorization") for request in server.seen("/repo/")} == {basic(SECRET, "")}
        assert SECRET not in json.dumps(found)

    def test_anonymous_where_credentials_are_wanted(self) -> None:
        with index() as server:
            server.handle("/repo/", self.answering(401))
            found = only(examine("--repo", f"{server.url}/repo/", "-i", f"{server.url}/simple/"), "credentials")
        assert "none are known" in found["text"]
        assert "TWINE_PASSWORD" in found["remedy"]

    @pytest.mark.parametrize(("status", "cause"), [(401, "does not accept user bob"), (403, "may not upload")])
    def test_known_credentials_that_do_not_do(self, status: int, cause: str) -> None:
        with index() as server:
            server.handle("/repo/", self.answering(status))
            environ = {"TWINE_USERNAME": "bob", "TWINE_PASSWORD": SECRET}
            found = examine("--repo", f"{server.url}/repo/", "-i", f"{server.url}/simple/", env=environ)
            assert {request.headers.get("authorization") for request in server.seen("/repo/")} == {basic("bob", SECRET)}
        assert cause in only(found, "credentials")["text"]

    def test_a_limit_in_front_of_the_repository(self, tmp_path: Path) -> None:
        with serve.running(tmp_path / "home") as server:
            behind = server.repository_url("pypi-hosted").partition("/repository")[0]
            limited = f"client_max_body_size 1m; location / {{ proxy_pass {behind}; }}"
            with nginx(tmp_path, limited, ready="/repository/pypi-hosted/simple/") as url:
                found = only(examine("--repo", f"{url}/repository/pypi-hosted/"), "upload size", "note")
        assert "413" in found["text"]
        assert "client_max_body_size" in found["remedy"]


def test_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ROOM", 2**80)
    with index() as server:
        found = examine("--index-url", f"{server.url}/simple/")
    assert "AIRGAP_CACHE" in " ".join(finding["remedy"] for finding in found if finding["check"] == "disk")


@pytest.mark.skipif(sys.platform == "win32", reason="names what is too long as what is not there")
def test_a_cache_that_can_not_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is too long, where a test may run as root, who may look into every folder."""
    monkeypatch.setenv("AIRGAP_CACHE", f"/{'x' * 300}/cache")
    with index() as server:
        found = examine("--index-url", f"{server.url}/simple/")
    assert any("cache in /." in finding["text"] for finding in found if finding["check"] == "disk")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_can_not_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))
    try:
        with index() as server:
            found = examine("--index-url", f"{server.url}/simple/")
    finally:
        tmp_path.chmod(0o700)
    assert any("may not write" in finding["text"] for finding in found if finding["level"] == "note")


def test_it_prints_for_people_too() -> None:
    done = CliRunner().invoke(airgap, ["doctor", "--index-url", f"http://{HOST}:{closed_port()}/simple/"])
    assert "PROBLEM  TCP" in done.output


def test_an_unknown_name_lists_those_that_are_known() -> None:
    done = CliRunner().invoke(airgap, ["doctor", "--repo", "nowhere"])
    assert "nowhere" in str(done.exception)


def test_the_names_of_a_certificate(authority: trustme.CA) -> None:
    names = ["nexus.example", "*.plant.example", "127.0.0.1", "::1"]
    der = ssl.PEM_cert_to_DER_cert(authority.issue_cert(*names).cert_chain_pems[0].bytes().decode())
    assert sorted(read_certificate(der).names) == sorted(names)


@pytest.mark.parametrize("der", [b"", b"0", b"no certificate at all", b"\x30\x03\x30\x01\x02"])
def test_what_is_no_certificate(der: bytes) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        read_certificate(der)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the repositories of an embedded server are that has a user who may read and one who may write."""
    home = tmp_path_factory.mktemp("home")
    users = serve.open_users(home)
    users.add("reader", SECRET, {"*": "read"})
    users.add("writer", SECRET, {"*": "write"})
    # What the proxy is for is nobody: the real index would send its root page, of 27 MB, for each look at it.
    with server_module.running(home, remote=f"http://{HOST}:{closed_port()}/simple/") as running:
        yield running.repository_url("pypi-hosted").removesuffix("pypi-hosted/")


class TestEmbeddedServer:
    """Against the real thing: users, rights and kinds of repositories as they answer for themselves."""

    @staticmethod
    def login(user: str, password: str = SECRET) -> dict[str, str]:
        return {"TWINE_USERNAME": user, "TWINE_PASSWORD": password}

    def test_who_may_upload(self, guarded: str) -> None:
        found = only(examine("--repo", f"{guarded}pypi-hosted/", env=self.login("writer")), "upload", "fine")
        assert "takes uploads by user writer" in found["text"]

    def test_nobody_is_named(self, guarded: str) -> None:
        found = examine("--repo", f"{guarded}pypi-hosted/")
        told = [finding for finding in found if finding["check"] == "credentials"]
        assert all("TWINE_PASSWORD" in finding["remedy"] or ".pypirc" in finding["remedy"] for finding in told)
        assert "none are known" in told[-1]["text"]

    def test_a_wrong_password(self, guarded: str) -> None:
        found = examine("--repo", f"{guarded}pypi-hosted/", env=self.login("writer", f"{SECRET}-old"))
        told = [finding for finding in found if finding["check"] == "credentials"]
        assert "does not accept user writer" in told[-1]["text"]
        assert "airgap config" in told[-1]["remedy"]

    def test_the_right_password_without_the_right_to_upload(self, guarded: str) -> None:
        found = only(examine("--repo", f"{guarded}pypi-hosted/", env=self.login("reader")), "credentials")
        assert "may not upload" in found["text"]
        assert "edit and add" in found["remedy"]

    def test_the_index_is_given_for_uploads(self, guarded: str) -> None:
        found = examine("--repo", f"{guarded}pypi-hosted/simple/", env=self.login("writer"))
        assert "airgap sends them to" in only(found, "upload", "note")["text"]
        assert levels(found, "upload") == ["note", "fine"]

    def test_a_proxy_repository_takes_no_uploads(self, guarded: str) -> None:
        found = only(
            examine("--repo", f"{guarded}pypi-proxy/", "-i", f"{guarded}pypi-hosted/simple/", env=self.login("writer")),
            "upload",
        )
        assert "400" in found["text"]
        assert "hosted" in found["remedy"]

    def test_where_uploads_belong_instead(self, guarded: str) -> None:
        for name, what in (("pypi-proxy", "is a proxy repository"), ("nothing", "lists no such repository")):
            found = only(examine("--repo", f"{guarded}{name}/", env=self.login("writer")), "upload")
            assert what in found["text"]
            assert found["remedy"] == "Give the URL of a hosted one: pypi-hosted."

    def test_a_repository_that_is_not_there(self, guarded: str) -> None:
        found = only(
            examine("--repo", f"{guarded}nothing/", "-i", f"{guarded}pypi-hosted/simple/", env=self.login("writer")),
            "upload",
        )
        assert "404" in found["text"]
