from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from mirror.errors import ConfigError, NetworkError, TLSError
from mirror.models import Event
from mirror.net import Client, Settings
from tests.http_support import Server, tls_context

HOST = "127.0.0.1"


@pytest.fixture(scope="module", name="authority")
def _authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(name="bundle")
def _bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(name="server")
def _server(authority: trustme.CA) -> Iterator[Server]:
    with Server(tls=tls_context(authority.issue_cert(HOST))) as server:
        server.add("/page", b"hello")
        yield server


def test_a_certificate_of_a_given_authority_is_accepted(server: Server, bundle: Path) -> None:
    with Client(Settings(ca_bundle=bundle)) as client:
        assert client.get(server.url + "/page").body == b"hello"


def test_an_authority_that_the_system_does_not_know_is_refused_without_a_second_try(server: Server) -> None:
    with Client() as client, pytest.raises(TLSError, match="not trusted here") as caught:
        client.get(server.url.replace("//", "//bob:hunter2@") + "/page")
    assert "--cert" in caught.value.hint
    assert "--trusted-host" in caught.value.hint
    assert "hunter2" not in str(caught.value)
    assert server.requests == []


def test_the_system_store_is_asked(server: Server, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with Client() as client:
        assert client.get(server.url + "/page").body == b"hello"


def test_a_self_signed_certificate_is_called_so(bundle: Path, tmp_path: Path) -> None:
    # A CA's own certificate shown by a server: what "self-signed" is in most companies.
    alone = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = tmp_path / "self.pem"
    pem.write_bytes(alone.private_key_pem.bytes() + alone.cert_pem.bytes())
    context.load_cert_chain(str(pem))
    with (
        Server(tls=context) as server,
        Client(Settings(ca_bundle=bundle)) as client,
        pytest.raises(TLSError, match="self-signed"),
    ):
        client.get(server.url + "/page")


def test_an_expired_certificate_is_called_so(authority: trustme.CA, bundle: Path) -> None:
    then = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    expired = authority.issue_cert(HOST, not_before=then - datetime.timedelta(days=9), not_after=then)
    with (
        Server(tls=tls_context(expired)) as server,
        Client(Settings(ca_bundle=bundle)) as client,
        pytest.raises(TLSError, match="expired") as caught,
    ):
        client.get(server.url + "/page")
    assert not caught.value.retryable


def test_a_certificate_for_another_host_is_called_so(authority: trustme.CA, bundle: Path) -> None:
    other = authority.issue_cert("nexus.example")
    with (
        Server(tls=tls_context(other)) as server,
        Client(Settings(ca_bundle=bundle)) as client,
        pytest.raises(TLSError, match=f"another hostname than {HOST}"),
    ):
        client.get(server.url + "/page")


@pytest.mark.parametrize("with_port", [False, True])
def test_a_trusted_host_is_not_verified_and_warned_about_once(server: Server, with_port: bool) -> None:
    events: list[Event] = []
    trusted = f"{HOST}:{server.port}" if with_port else HOST
    with Client(Settings(trusted_hosts=(trusted,)), report=events.append) as client:
        assert client.get(server.url + "/page").body == b"hello"
        assert client.get(server.url + "/page").body == b"hello"
    assert [(event.kind, HOST in event.text) for event in events] == [("warning", True)]


def test_another_port_of_a_trusted_host_is_verified(server: Server) -> None:
    with Client(Settings(trusted_hosts=(f"{HOST}:1",))) as client, pytest.raises(TLSError):
        client.get(server.url + "/page")


def test_trust_does_not_follow_a_redirect(server: Server, authority: trustme.CA) -> None:
    with Server(tls=tls_context(authority.issue_cert(HOST))) as other:
        other.redirect("/page", server.url + "/page")
        with Client(Settings(trusted_hosts=(f"{HOST}:{other.port}",))) as client, pytest.raises(TLSError):
            client.get(other.url + "/page")


def test_a_client_certificate_is_shown(authority: trustme.CA, bundle: Path, tmp_path: Path) -> None:
    context = tls_context(authority.issue_cert(HOST))
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    pem = tmp_path / "me.pem"
    authority.issue_cert("me@example.org").private_key_and_cert_chain_pem.write_to_path(str(pem))
    with Server(tls=context) as server:
        server.add("/page", b"hello")
        with Client(Settings(ca_bundle=bundle, client_cert=pem)) as client:
            assert client.get(server.url + "/page").body == b"hello"
        with Client(Settings(ca_bundle=bundle, retries=0)) as client, pytest.raises(NetworkError):
            client.get(server.url + "/page")


def test_certificates_that_cannot_be_read_are_configuration_errors(
    server: Server, bundle: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.pem"
    with Client(Settings(ca_bundle=missing)) as client, pytest.raises(ConfigError, match="certificate bundle"):
        client.get(server.url + "/page")
    junk = tmp_path / "junk.pem"
    junk.write_text("not a certificate")
    with Client(Settings(ca_bundle=junk)) as client, pytest.raises(ConfigError):
        client.get(server.url + "/page")
    with Client(Settings(ca_bundle=bundle, client_cert=missing)) as client, pytest.raises(ConfigError, match="client"):
        client.get(server.url + "/page")


def test_https_to_a_plain_port_says_so() -> None:
    with (
        Server() as plain,
        Client(Settings(retries=0)) as client,
        pytest.raises(TLSError, match="does not speak TLS") as caught,
    ):
        client.get(plain.url.replace("http:", "https:") + "/page")
    assert "http://" in caught.value.hint
