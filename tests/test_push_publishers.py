"""The conformance suite against real repositories, and what is special about each of them."""

from __future__ import annotations

import base64
import itertools
import json
import os
import secrets
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from mirror import serve
from mirror.bundle import BundleReader, unpack
from mirror.config.served import Served, ServeSettings
from mirror.errors import NetworkError, StorageError
from mirror.index import static
from mirror.index.simple import ACCEPT, JSON_TYPE
from mirror.models import Event
from mirror.net import Client
from mirror.push.directory import DirectoryPublisher
from mirror.push.legacy import LegacyPublisher, index_url_for, upload_url_for
from mirror.push.nexus import nexus_publisher
from mirror.push.publisher import Publisher, Upload
from mirror.push.receipt import State
from mirror.push.run import IncompletePushError, push
from tests import plain
from tests.apache_support import apache
from tests.bundle_support import write_small
from tests.nginx_support import nginx
from tests.ports import free_port
from tests.publisher_conformance import PublisherConformance
from tests.push_support import Fault, FolderSource, fake_repository, make_upload, process, read_metadata
from tests.test_serve_http import pip
from tests.wheelhouse import make_sdist, make_wheel


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as found:
        yield found


class TestEmbedded(PublisherConformance):
    @pytest.fixture
    def publisher(self, tmp_path: Path) -> Iterator[Publisher]:
        with serve.embedded_publisher(tmp_path / "home") as found:
            yield found


class TestEmbeddedOverHTTP(PublisherConformance):
    @pytest.fixture
    def publisher(self, tmp_path: Path, client: Client) -> Iterator[Publisher]:
        with serve.running(tmp_path / "home") as server:
            yield LegacyPublisher(client, server.repository_url("pypi-hosted"))


@pytest.fixture(scope="module", params=["sha256", "md5", "off"])
def pypiserver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Its URL, and the folder that it looks into with every request."""
    folder = tmp_path_factory.mktemp("pypiserver")
    port = free_port()
    packages = folder / "packages"
    packages.mkdir()
    command = [sys.executable, "-m", "pypiserver", "run", "-i", "127.0.0.1", "-p", str(port), "-a", ".", "-P", "."]
    command += ["--hash-algo", request.param, "--fallback-url", "http://pypi.invalid/simple/", str(packages)]
    url = f"http://127.0.0.1:{port}/"
    with process(command, url, folder / "log"):
        yield url, packages


class TestPypiserver(PublisherConformance):
    """With its fallback to PyPI switched on, as it is by default: nothing may be asked there."""

    @pytest.fixture
    def publisher(self, pypiserver: tuple[str, Path], client: Client) -> Iterator[Publisher]:
        url, packages = pypiserver
        yield LegacyPublisher(client, url)
        for path in packages.iterdir():
            path.unlink()

    def lists(self, publisher: Publisher) -> bool:
        return "#sha256=" in plain.get(f"{publisher.url}packages/").text


@pytest.fixture(scope="module")
def devpi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("devpi")
    port = free_port()
    options = ["--serverdir", str(folder / "server")]
    subprocess.run(
        [
            sys.executable,
            "-c",
            "from devpi_server.init import init; init()",
            *options,
            "--no-root-pypi",
            "--root-passwd",
            "secret",
        ],
        check=True,
        capture_output=True,
    )
    command = [sys.executable, "-m", "devpi_server", *options, "--host", "127.0.0.1", "--port", str(port)]
    # How hard its passwords are to guess: that takes ten seconds of all processors each time that it starts.
    command += ["--argon2-memory", "8", "--argon2-parallelism", "1", "--argon2-time", "1"]
    url = f"http://127.0.0.1:{port}"
    with process(command, f"{url}/+api", folder / "log"):
        yield url


class TestDevpi(PublisherConformance):
    numbers = itertools.count()

    @pytest.fixture
    def publisher(self, devpi: str, client: Client) -> Publisher:
        index = f"root/index{next(self.numbers)}"
        login = urllib.request.Request(
            f"{devpi}/+login", data=json.dumps({"user": "root", "password": "secret"}).encode(), method="POST"
        )
        with urllib.request.urlopen(login) as answer:
            password = json.load(answer)["result"]["password"]
        create = urllib.request.Request(
            f"{devpi}/{index}",
            data=json.dumps({"type": "stage", "volatile": False, "bases": [], "acl_upload": ["root"]}).encode(),
            method="PUT",
        )
        create.add_header("x-devpi-auth", _basic("root", password))
        urllib.request.urlopen(create).close()
        return LegacyPublisher(client, f"{devpi}/{index}/".replace("://", f"://root:{quote(password, safe='')}@"))

    def test_a_proxy_repository_before_it(self, publisher: Publisher, tmp_path: Path) -> None:
        publisher.upload(make_upload(make_wheel("lib", "1.5"), tmp_path / "files"))
        proxy = Served("p", "proxy", remote=f"{publisher.url}+simple/")
        with serve.running(tmp_path / "home", settings=ServeSettings(repositories={"p": proxy})) as served:
            done = pip(
                "install",
                "-q",
                "-i",
                served.index_url("p"),
                "--target",
                str(tmp_path / "target"),
                "lib",
                folder=tmp_path,
            )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "target" / "lib.py").read_text() == "__version__ = '1.5'\n"


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("upload", "index"),
    [
        ("https://nexus/repository/pypi-hosted/", "https://nexus/repository/pypi-hosted/simple/"),
        ("https://nexus/repository/pypi-hosted", "https://nexus/repository/pypi-hosted/simple/"),
        ("https://u:p@nexus/repository/a/", "https://u:p@nexus/repository/a/simple/"),
        ("http://localhost:8080/", "http://localhost:8080/simple/"),
        ("http://localhost:8080", "http://localhost:8080/simple/"),
        ("https://pulp/pypi/foo/legacy/", "https://pulp/pypi/foo/simple/"),
        ("https://pulp/pypi/foo/simple/", "https://pulp/pypi/foo/simple/"),
        ("https://devpi/root/dev/+simple/", "https://devpi/root/dev/+simple/"),
        ("https://git/api/packages/OWNER/pypi", "https://git/api/packages/OWNER/pypi/simple/"),
        ("https://upload.pypi.org/legacy/", "https://pypi.org/simple/"),
        ("https://test.pypi.org/legacy/", "https://test.pypi.org/simple/"),
    ],
)
def test_where_the_index_is(upload: str, index: str) -> None:
    assert index_url_for(upload) == index


class TestDirectory(PublisherConformance):
    @pytest.fixture
    def publisher(self, tmp_path: Path) -> Publisher:
        return DirectoryPublisher(tmp_path / "static index")

    def test_two_pushes_at_once_lose_nothing(self, tmp_path: Path) -> None:
        uploads = [make_upload(make_wheel("shared", f"1.{i}"), tmp_path / "files") for i in range(12)]

        def add(upload: Upload) -> None:  # each with a publisher of its own, as another process would
            DirectoryPublisher(tmp_path / "index").upload(upload)

        with ThreadPoolExecutor(6) as executor:
            list(executor.map(add, uploads))
        assert len(DirectoryPublisher(tmp_path / "index").listing("shared")) == 12

    def test_two_commands_at_once(self, tmp_path: Path) -> None:
        for number in (1, 2):
            for project in ("alpha", "beta"):
                for version in (number, number + 1):  # 2.0 is what both bring
                    make_wheel(project, f"{version}.0").save(tmp_path / f"dist{number}")
        root = tmp_path / "index"
        command = [sys.executable, "-m", "mirror", "push", "--repo", root.as_uri(), "--quiet"]
        running = [subprocess.Popen([*command, str(tmp_path / f"dist{number}")]) for number in (1, 2)]
        assert [each.wait(60) for each in running] == [0, 0]
        for page in static.PAGES:
            assert static.read_root((root / static.page_path(page)).read_bytes(), page) == ["alpha", "beta"]
            for project in ("alpha", "beta"):
                body = (root / static.page_path(page, project)).read_bytes()
                assert len(static.read_project(body, page, project)) == 3

    def test_what_somebody_else_wrote_meanwhile_stays_in_the_root(self, tmp_path: Path) -> None:
        publishers = [DirectoryPublisher(tmp_path / "index") for _ in range(2)]
        names = ["beta", "delta", "alpha", "beta-two", "zeta", "gamma"]
        for number, name in enumerate(names):
            publishers[number // 2 % 2].upload(make_upload(make_wheel(name), tmp_path / "files"))
        pages = {page: (tmp_path / "index" / page).read_bytes() for page in static.root_pages([])}
        assert pages == static.root_pages(names)

    def test_a_listed_file_stays_as_it_is_listed(self, tmp_path: Path) -> None:
        upload = make_upload(make_wheel("alpha"), tmp_path / "files")
        publisher = DirectoryPublisher(tmp_path / "index")
        publisher.upload(upload)
        page = tmp_path / "index/simple/alpha/index.json"
        yanked = json.loads(page.read_bytes())
        yanked["files"][0]["yanked"] = "broken"
        page.write_text(json.dumps(yanked))
        publisher.upload(upload)
        assert json.loads(page.read_bytes())["files"] == yanked["files"]

    def test_a_link_that_leaves_the_folder_is_not_followed(self, tmp_path: Path) -> None:
        upload = make_upload(make_wheel("alpha"), tmp_path / "files")
        publisher = DirectoryPublisher(tmp_path / "index")
        publisher.upload(upload)
        page = tmp_path / "index/simple/alpha/index.json"
        for place in ("../../../files/", "../../packages/../../files/", "https://elsewhere.invalid/"):
            page.write_text(page.read_text().replace("../../packages/", place))
            assert publisher.digest("alpha", upload.filename) is None
            page.write_text(page.read_text().replace(place, "../../packages/"))

    def test_a_file_that_a_killed_push_did_not_list_is_listed(self, tmp_path: Path) -> None:
        upload = make_upload(make_wheel("half"), tmp_path / "files")
        publisher = DirectoryPublisher(tmp_path / "index")
        (tmp_path / "index/packages").mkdir(parents=True)
        shutil.copy(upload.path, tmp_path / "index/packages")
        assert publisher.listing("half") == {}
        assert publisher.digest("half", upload.filename) is None
        publisher.upload(upload)
        assert publisher.digest("half", upload.filename) == upload.hashes.sha256

    def test_a_page_that_is_no_page_is_told(self, tmp_path: Path) -> None:
        page = tmp_path / "simple/half/index.json"
        page.parent.mkdir(parents=True)
        page.write_text("{")
        with pytest.raises(StorageError, match=r"half/index\.json can't be read"):
            DirectoryPublisher(tmp_path).listing("half")

    def test_it_adds_to_an_unpacked_bundle(self, tmp_path: Path) -> None:
        bundle = write_small(tmp_path)
        with BundleReader(bundle.path) as reader:
            unpack(reader, tmp_path / "index")
            publisher = DirectoryPublisher(tmp_path / "index")
            assert push(reader, publisher, metadata=read_metadata).counts[State.PRESENT] == len(reader.manifest.files)
        before = json.loads((tmp_path / "index/simple/beta/index.json").read_bytes())["files"]
        publisher.upload(make_upload(make_wheel("beta", "9.0"), tmp_path / "files"))
        after = json.loads((tmp_path / "index/simple/beta/index.json").read_bytes())["files"]
        assert [item for item in after if "9.0" not in item["filename"]] == before

    @pytest.mark.parametrize("json", [True, False], ids=["json", "html alone"])
    @pytest.mark.parametrize("server", ["nginx", "Apache"])
    def test_pip_installs_from_it_through_a_web_server(self, tmp_path: Path, server: str, *, json: bool) -> None:
        root = tmp_path / "index"
        sdist = make_sdist("under", "0.9")
        files = [(make_wheel("top", "1.0+local", requires=["under"]), ["under"]), (make_wheel("under"), [])]
        files.append((sdist, []))
        assert push(FolderSource(tmp_path / "source", files), DirectoryPublisher(root), metadata=read_metadata).complete
        # As docs/howto-static-index.md has it, and with no more than the server needs for HTML.
        if server == "nginx":
            words = f"root {root}; " + ("index $simple; add_header Vary Accept;" if json else "")
            serving = nginx(tmp_path, words, http=_NGINX_CHOICE if json else "")
        else:
            serving = apache(
                root, f"<Directory ROOT>\nRequire all granted\n{_APACHE_CHOICE if json else ''}</Directory>"
            )
        with serving as url:
            for accept, expected in [
                (ACCEPT, JSON_TYPE if json else "text/html"),
                ("text/html, */*;q=0.8", "text/html"),
            ]:
                asked = urllib.request.Request(f"{url}/simple/top/", headers={"accept": accept})
                with urllib.request.urlopen(asked) as answer:
                    assert answer.headers["content-type"] == expected
                    assert not json or "Accept" in answer.headers["vary"]
            with Client() as client:
                assert LegacyPublisher(client, url).digest("under", sdist.filename) == sdist.sha256
            command = [sys.executable, "-m", "pip", "--isolated", "download", "--index-url", f"{url}/simple/"]
            subprocess.run([*command, "top", "-d", str(tmp_path / "got")], check=True, capture_output=True)
            assert len(list((tmp_path / "got").iterdir())) == 2


_NGINX_CHOICE = (
    'map $http_accept $simple { default index.html; "~application/vnd\\.pypi\\.simple\\.v1\\+json" index.json; }'
)
_APACHE_CHOICE = r"""DirectoryIndex index.html
AddType application/vnd.pypi.simple.v1+json .json
<If "%{HTTP:Accept} =~ m#application/vnd\.pypi\.simple\.v1\+json#">
DirectoryIndex index.json
</If>
"""


@pytest.mark.skipif(
    not os.environ.get("AIRGAP_TEST_REPOSITORY"), reason="AIRGAP_TEST_REPOSITORY names no repository to test against"
)
class TestElsewhere(PublisherConformance):
    """A Nexus, Gitea or Pulp named by AIRGAP_TEST_REPOSITORY (a URL with credentials): what it gets stays there."""

    patience = 30.0  # Pulp answers before it is done

    @pytest.fixture
    def unique(self) -> str:
        return f"-{secrets.token_hex(6)}"

    def lists(self, publisher: Publisher) -> bool:
        return publisher.lists_all

    @pytest.fixture
    def publisher(self, client: Client) -> Publisher:
        url = _ELSEWHERE or ""
        return nexus_publisher(client, url) or LegacyPublisher(client, url)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("https://nexus/repository/pypi-hosted", "https://nexus/repository/pypi-hosted/"),
        ("https://u:p@nexus/nexus/repository/a/simple", "https://u:p@nexus/nexus/repository/a/"),
        ("https://nexus/repository/a/simple/", "https://nexus/repository/a/"),
        ("https://nexus/repository/simple/", "https://nexus/repository/simple/"),
        ("https://git/api/packages/OWNER/pypi", "https://git/api/packages/OWNER/pypi"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://upload.pypi.org/legacy/", "https://upload.pypi.org/legacy/"),
    ],
)
def test_where_uploads_go(given: str, meant: str) -> None:
    assert upload_url_for(given) == meant


@pytest.mark.parametrize("ending", ["", "simple", "simple/"])
def test_a_mistaken_upload_url_is_corrected(tmp_path: Path, client: Client, ending: str) -> None:
    with serve.running(tmp_path / "home") as server:
        url = server.repository_url("pypi-hosted").rstrip("/") + (f"/{ending}" if ending else "")
        publisher = LegacyPublisher(client, url)
        publisher.upload(make_upload(make_wheel("alpha"), tmp_path))
        assert list(publisher.listing("alpha")) == ["alpha-1.0-py3-none-any.whl"]


def test_an_index_that_is_at_another_origin(client: Client, tmp_path: Path) -> None:
    """Pulp sends readers there for every page, pypiserver only for projects that it does not have."""
    wheel = make_wheel("alpha")
    events: list[Event] = []
    with fake_repository() as uploads, fake_repository() as content:
        uploads.moved = f"{content.url}simple/"
        content.files[wheel.filename] = wheel.data
        publisher = LegacyPublisher(client, uploads.url, report=events.append)
        assert publisher.digest("alpha", wheel.filename) == wheel.sha256
        assert publisher.listing("beta") == {}
        assert not events
        assert len(uploads.requests) == 2  # the page, and the root, once


class TestPulp:
    """What Pulp does with publications, as pulpcore 3.123 and pulp-python 3.36 were seen to do it."""

    WHEEL = make_wheel("alpha")

    def test_an_index_that_comes_back(self, client: Client) -> None:
        """With the next upload there is no publication of the newest version, and Pulp makes the index itself."""
        with fake_repository() as api, fake_repository() as content:
            api.moved = f"{content.url}pulp/content/name/simple/"
            content.root = []
            publisher = LegacyPublisher(client, api.url)
            assert publisher.listing("alpha") == {}
            api.files[self.WHEEL.filename] = self.WHEEL.data
            api.moved = ""
            assert list(publisher.listing("alpha")) == [self.WHEEL.filename]
            assert publisher.listing("beta") == {}

    def test_an_index_that_goes_again(self, client: Client) -> None:
        with fake_repository() as api, fake_repository() as content:
            publisher = LegacyPublisher(client, api.url)
            for published in (False, True, False, True):
                api.moved = f"{content.url}pulp/content/name/simple/" if published else ""
                content.root = []
                shown, hidden = (content, api) if published else (api, content)
                shown.files[self.WHEEL.filename] = self.WHEEL.data
                hidden.files.clear()
                assert list(publisher.listing("alpha")) == [self.WHEEL.filename]

    def test_an_index_that_nobody_can_read(self, client: Client, tmp_path: Path) -> None:
        """Where autopublish is set: the content app does not serve what readers are sent to."""
        source = FolderSource(tmp_path, [(self.WHEEL, [])])
        with fake_repository() as api, fake_repository() as content:
            api.moved = f"{content.url}pulp/content/name/simple/"
            publisher = LegacyPublisher(client, api.url.replace("://", "://user:secret@"))
            with pytest.raises(
                NetworkError, match=r"to http://127.*/pulp/content/name/simple/, which does not"
            ) as told:
                push(source, publisher, metadata=read_metadata, read_back_wait=0)
            assert "autopublish" in told.value.hint
            assert not api.received
            api.moved = ""

            def publish() -> None:
                api.moved = f"{content.url}pulp/content/name/simple/"

            api.on_store = publish  # as the first upload does with an empty repository
            with pytest.raises(IncompletePushError, match="which does not exist") as late:
                push(source, LegacyPublisher(client, api.url), metadata=read_metadata, read_back_wait=0)
            assert "autopublish" in late.value.hint

    @pytest.mark.parametrize(
        ("status", "said"), [(400, "Index is not pointing to a repository"), (403, "Index is not allowing uploads")]
    )
    def test_one_that_takes_no_uploads_is_asked_once(
        self, client: Client, tmp_path: Path, status: int, said: str
    ) -> None:
        source = FolderSource(tmp_path, [(make_wheel(f"p{number}"), []) for number in range(9)])
        with fake_repository() as api:
            api.fault_for_all = Fault(status, body=said.encode())
            with pytest.raises(IncompletePushError, match=said) as told:
                push(source, LegacyPublisher(client, api.url), metadata=read_metadata, workers=1, read_back_wait=0)
            assert "Let it take uploads" in told.value.hint
            assert len(api.received) == 1


def test_a_project_that_another_index_has(client: Client) -> None:
    events: list[Event] = []
    with fake_repository() as server, fake_repository() as public:
        public.files["alpha-1.0-py3-none-any.whl"] = b"of all the world"
        server.root = []
        server.elsewhere = f"{public.url}simple/"
        assert LegacyPublisher(client, server.url, report=events.append).listing("alpha") == {}
        assert "sends questions about projects that it does not have to 127.0.0.1" in events[0].text
        assert not public.requests


# Read here: tests run without the user's AIRGAP_ settings.
_ELSEWHERE = os.environ.get("AIRGAP_TEST_REPOSITORY")
