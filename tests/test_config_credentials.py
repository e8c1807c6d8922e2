"""Who gets which password, and who does not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.credentials import SimpleCredential
from keyring.errors import NoKeyringError

from mirror.config import CredentialStore, load, repository_from_url
from mirror.errors import ConfigError
from mirror.models import Event

# A keyring command that knows two secrets; it answers as keyring 25 does.
KEYRING = """import json, sys
assert sys.argv[1:4] == ["--mode=creds", "--output=json", "get"], sys.argv
known = {{"https://k.example/simple/": ("kuser", "kpass"), "host.example:8443": ("huser", "hpass")}}
user = sys.argv[5] if len(sys.argv) > 5 else None
if sys.argv[4] not in known or user not in (None, known[sys.argv[4]][0]):
    sys.exit(1)
print(json.dumps(dict(zip(("username", "password"), known[sys.argv[4]]))))
"""


class Desk:
    """A home folder, an environment, and the events that a store reported."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []
        self.environ = {
            "HOME": str(root),
            "PATH": str(root / "bin"),
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_KEYRING_PROVIDER": "disabled",
        }

    def store(
        self,
        more: Mapping[str, str] = MappingProxyType({}),
        /,
        *,
        push_to: str | None = None,
        index_urls: tuple[str, ...] = (),
        **environ: str,
    ) -> CredentialStore:
        merged = {**self.environ, **more, **environ}
        config = load(environ=merged, cwd=self.root)
        repository = None
        if push_to is not None:
            repository = config.repositories.get(push_to) or repository_from_url(push_to)
        return CredentialStore(
            config, repository=repository, index_urls=index_urls, environ=merged, report=self.events.append
        )

    def netrc(self, text: str, name: str = ".netrc") -> None:
        path = self.root / name
        path.write_text(text)
        path.chmod(0o600)

    def pypirc(self, text: str) -> None:
        (self.root / ".pypirc").write_text(text)

    def keyring_command(self) -> None:
        path = self.root / "bin" / "keyring"
        path.parent.mkdir()
        script = self.root / "keyring.py"
        script.write_text(KEYRING.format())
        # By way of a shell: a script's first line takes no interpreter with a space in its path.
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        path.chmod(0o755)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_nothing_is_known(desk: Desk) -> None:
    assert desk.store()("https://pypi.org/simple/x/") is None
    assert desk.events == []


def test_index_urls_of_the_same_origin_by_path(desk: Desk) -> None:
    store = desk.store(
        PIP_INDEX_URL="https://a:1@n.example/repository/one/simple",
        PIP_EXTRA_INDEX_URL="https://b:p%40ss@n.example/repository/two/simple https://c:3@other.example/simple",
        index_urls=("https://d:4@n.example:8443/",),
    )
    assert store("https://n.example/repository/one/simple/x/") == ("a", "1")
    assert store("https://n.example/repository/two/packages/x.whl") == ("b", "p@ss")
    assert store("https://N.EXAMPLE:443/elsewhere") == ("a", "1")
    assert store("https://other.example/") == ("c", "3")
    assert store("https://n.example:8443/x") == ("d", "4")


@pytest.mark.parametrize("url", ["http://n.example/", "https://n.example:444/", "https://n.example.evil.example/"])
def test_no_other_origin_gets_them(desk: Desk, url: str) -> None:
    desk.pypirc("[distutils]\nindex-servers = n\n[n]\nrepository=https://n.example/r/\nusername=u\npassword=p\n")
    store = desk.store(
        push_to="n", PIP_INDEX_URL="https://a:1@n.example/simple", TWINE_USERNAME="t", TWINE_PASSWORD="w"
    )
    assert store(url) is None


def test_a_lone_token_goes_with_an_empty_password(desk: Desk) -> None:
    store = desk.store(PIP_INDEX_URL="https://token@n.example/simple", PIP_EXTRA_INDEX_URL="https://u:@m.example/")
    assert store("https://n.example/simple/x/") == ("token", "")
    assert store("https://m.example/") == ("u", "")


def test_repository_of_pypirc(desk: Desk) -> None:
    desk.pypirc(
        "[distutils]\nindex-servers = a b\n[a]\nrepository=https://n.example/repository/a/\nusername=ua\npassword=pa\n"
        "[b]\nrepository=https://n.example/repository/b/\nusername=ub\npassword=pb\n"
    )
    assert desk.store()("https://n.example/repository/b/simple/") == ("ub", "pb")
    assert desk.store(push_to="a")("https://n.example/repository/b/") == ("ua", "pa")


def test_twine_variables_go_only_to_the_repository_that_is_pushed_to(desk: Desk) -> None:
    desk.pypirc("[distutils]\nindex-servers = a\n[a]\nrepository=https://n.example/r/\nusername=ua\npassword=pa\n")
    environ = {"TWINE_USERNAME": "tu", "TWINE_PASSWORD": "tp"}
    pushing = desk.store(environ, push_to="a")
    assert pushing("https://n.example/r/") == ("tu", "tp")
    assert pushing("https://pypi.org/simple/") is None
    assert desk.store(environ)("https://n.example/r/") == ("ua", "pa")
    assert desk.store(push_to="a", TWINE_PASSWORD="tp")("https://n.example/r/") == ("ua", "tp")
    assert desk.store(push_to="https://u:p@m.example/r/")("https://m.example/r/simple/") == ("u", "p")


def test_a_user_never_gets_the_password_of_another(desk: Desk) -> None:
    desk.pypirc("[distutils]\nindex-servers = a\n[a]\nrepository=https://n.example/r/\nusername=deployer\n")
    environ = {"PIP_INDEX_URL": "https://reader:r@n.example/simple"}
    assert desk.store(environ, push_to="a")("https://n.example/r/") == ("deployer", "")
    assert desk.store(environ)("https://n.example/simple/") == ("reader", "r")


def test_pypi_takes_tokens(desk: Desk) -> None:
    store = desk.store(push_to="pypi", TWINE_PASSWORD="pypi-x")
    assert store("https://upload.pypi.org/legacy/") == ("__token__", "pypi-x")


def test_a_password_variable_that_is_not_set(desk: Desk) -> None:
    (desk.root / "airgap.toml").write_text(
        '[repositories.n]\nurl = "https://n.example/r/"\nusername = "u"\npassword-env = "NPW"\n'
    )
    assert desk.store(push_to="n", NPW="x")("https://n.example/r/") == ("u", "x")
    with pytest.raises(ConfigError, match="The password of n is to come from NPW, which is not set") as caught:
        desk.store(push_to="n")("https://n.example/r/")
    assert "airgap.toml" in caught.value.hint
    assert desk.store(push_to="n", TWINE_PASSWORD="y")("https://n.example/r/") == ("u", "y")
    assert desk.store()("https://n.example/r/") == ("u", "")


def test_netrc(desk: Desk) -> None:
    desk.netrc("machine n.example login nu password np\n")
    assert desk.store()("https://n.example:8443/x") == ("nu", "np")
    assert desk.store()("https://other.example/") is None
    assert desk.store(PIP_INDEX_URL="https://a:1@n.example/s")("https://n.example/s") == ("a", "1")
    assert desk.store(PIP_INDEX_URL="https://nu@n.example/s")("https://n.example/s") == ("nu", "np")
    assert desk.store(PIP_INDEX_URL="https://else@n.example/s")("https://n.example/s") == ("else", "")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 takes an entry without a password for an error")
def test_netrc_without_a_password(desk: Desk) -> None:
    desk.netrc("machine e.example login eu\n")
    assert desk.store()("https://e.example/") == ("eu", "")


def test_netrc_elsewhere(desk: Desk) -> None:
    desk.netrc("default login d password p\n", "_netrc")
    assert desk.store()("https://any.example/") == ("d", "p")
    desk.netrc("default login e password q\n", "named")
    assert desk.store(NETRC=str(desk.root / "named"))("https://any.example/") == ("e", "q")
    assert desk.store(NETRC=str(desk.root / "none"))("https://any.example/") is None


@pytest.mark.parametrize("content", [b"machine h login u secretword x\n", b"machine h password \xff\xfe\n"])
def test_a_broken_netrc_warns_once_and_keeps_the_secret(desk: Desk, content: bytes) -> None:
    (desk.root / ".netrc").write_bytes(content)
    store = desk.store()
    assert store("https://h/") is None
    assert store("https://other/") is None
    assert [event.kind for event in desk.events] == ["warning"]
    assert ".netrc is ignored" in desk.events[0].text
    assert "secretword" not in desk.events[0].text


def test_keyring_command(desk: Desk) -> None:
    desk.keyring_command()
    environ = {"PIP_KEYRING_PROVIDER": "subprocess", "PIP_INDEX_URL": "https://k.example/simple/"}
    store = desk.store(environ)
    assert store("https://k.example/simple/x/") == ("kuser", "kpass")
    assert store("https://host.example:8443/x") == ("huser", "hpass")
    assert store("https://unknown.example/") is None
    named = desk.store(environ, PIP_INDEX_URL="https://kuser@k.example/simple/")
    assert named("https://k.example/simple/x/") == ("kuser", "kpass")
    assert desk.events == []


def test_keyring_before_netrc_when_pushing_and_after_it_else(desk: Desk) -> None:
    desk.keyring_command()
    desk.netrc("machine host.example login nu password np\n")
    environ = {"PIP_KEYRING_PROVIDER": "subprocess"}
    assert desk.store(environ)("https://host.example:8443/r/") == ("nu", "np")
    pushing = desk.store(environ, push_to="https://host.example:8443/r/")
    assert pushing("https://host.example:8443/r/") == ("huser", "hpass")


def test_keyring_command_that_is_not_there(desk: Desk) -> None:
    store = desk.store(PIP_KEYRING_PROVIDER="subprocess")
    assert store("https://h.example/") is None
    assert store("https://i.example/") is None
    assert [event.text for event in desk.events] == [
        "keyring-provider is 'subprocess', but there is no keyring command on the PATH."
    ]


class Backend(KeyringBackend):
    """A key store in memory; an exception as the answer is raised."""

    priority = 1.0

    def __init__(self, answer: SimpleCredential | Exception | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # keyring's own
        self.answer = answer
        self.asked: list[tuple[str, str | None]] = []

    def get_credential(self, service: str, username: str | None) -> SimpleCredential | None:
        self.asked.append((service, username))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def get_password(self, service: str, username: str) -> str | None:
        raise NotImplementedError

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError


@pytest.fixture
def use_backend() -> Iterator[Callable[[Backend], None]]:
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


UseBackend = Callable[[Backend], None]


def test_keyring_package(desk: Desk, use_backend: UseBackend) -> None:
    backend = Backend(SimpleCredential("u", "p"))
    use_backend(backend)
    store = desk.store(PIP_KEYRING_PROVIDER="auto", PIP_INDEX_URL="https://b@k.example/simple")
    assert store("https://k.example/simple/x/") == ("u", "p")
    assert backend.asked == [("https://k.example/simple", "b")]
    assert desk.store()("https://k.example/") is None  # disabled


def test_keyring_is_asked_after_a_refusal_where_nobody_asked_for_it(desk: Desk, use_backend: UseBackend) -> None:
    backend = Backend(SimpleCredential("u", "p"))
    use_backend(backend)
    store = desk.store(PIP_KEYRING_PROVIDER="auto")
    assert store("https://k.example/simple/x/") is None
    assert backend.asked == []
    assert store("https://k.example/simple/x/", refused=True) == ("u", "p")


def test_keyring_package_that_fails_warns_once(desk: Desk, use_backend: UseBackend) -> None:
    backend = Backend(RuntimeError("the collection is locked, secret"))
    use_backend(backend)
    store = desk.store(PIP_KEYRING_PROVIDER="import")
    assert store("https://a.example/") is None
    assert store("https://b.example/") is None
    assert [event.text for event in desk.events] == ["keyring is not used: it failed with RuntimeError."]
    assert len(backend.asked) == 1


def test_keyring_package_without_a_backend_is_quiet_unless_asked_for(desk: Desk, use_backend: UseBackend) -> None:
    use_backend(Backend(NoKeyringError()))
    assert desk.store(PIP_KEYRING_PROVIDER="auto")("https://a.example/") is None
    assert desk.events == []
    assert desk.store(PIP_KEYRING_PROVIDER="import")("https://a.example/") is None
    assert [event.text for event in desk.events] == ["keyring is not used: it failed with NoKeyringError."]


def test_keyring_package_that_is_not_installed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert desk.store(PIP_KEYRING_PROVIDER="import")("https://a.example/") is None
    assert "not installed" in desk.events[0].text
