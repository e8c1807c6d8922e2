"""A served repository behind a private CA, as Nexus guides describe it: pip.conf, pip.ini, .pypirc, tokens, chains.

What goes wrong must be named where it is met: by the server at its start, by pip and twine, by ``airgap doctor``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mirror import serve
from mirror.config.served import ServeSettings
from mirror.errors import ConfigError
from mirror.serve.hosted import Claims
from mirror.serve.server import Running
from mirror.serve.tls import check_certificates
from tests.test_doctor import examine, only
from tests.wheelhouse import make_wheel

HOST = "127.0.0.1"
READER, WRITER = ("reader", "reader's password"), ("writer", "writer's password")


@dataclass(frozen=True)
class Plant:
    """A server with its CA: root, intermediate, and a certificate for HOST."""

    server: Running
    ca: Path
    token: tuple[str, str]

    def index(self, user: tuple[str, str] | None = None) -> str:
        url = self.server.index_url("pypi-hosted")
        return url if user is None else url.replace("://", f"://{user[0]}:{user[1]}@")


@pytest.fixture(scope="module")
def root() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def middle(root: trustme.CA) -> trustme.CA:
    return root.create_child_ca()


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory, root: trustme.CA, middle: trustme.CA) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("plant")
    root.cert_pem.write_to_path(str(folder / "ca.pem"))
    users = serve.open_users(folder / "home")
    users.add(*READER, {"*": "read"})
    users.add(*WRITER, {"pypi-hosted": "write"})
    token = users.make_token("writer")
    leaf = middle.issue_cert(HOST)
    cert = written(folder, leaf, leaf.cert_chain_pems)
    with serve.embedded_publisher(folder / "home") as publisher:
        built = make_wheel("app")
        publisher._repository.add(built.save(folder), built.filename, Claims())
    with serve.running(folder / "home", settings=ServeSettings(tls_cert=cert, anonymous_read=False)) as found:
        yield Plant(found, folder / "ca.pem", token)


def written(folder: Path, leaf: trustme.LeafCert, chain: list[trustme.Blob]) -> Path:
    """A PEM with the key and then the *chain*, in this order."""
    path = folder / "server.pem"
    path.write_bytes(leaf.private_key_pem.bytes() + b"".join(blob.bytes() for blob in chain))
    return path


def run(*command: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **env}
    environment["PIP_NO_WARN_CONFLICTS"] = "1"  # pip would read all that is installed beside the tests
    environment["SYSTEMROOT"] = os.environ.get("SYSTEMROOT", "")
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, env=environment, cwd=home
    )


def install(home: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    return run(
        "pip", "install", "--no-input", "--no-cache-dir", "--retries", "0", "--target", "target", *options, "app",
        home=home, **{"PIP_CONFIG_FILE": os.devnull, **env},
    )  # fmt: skip


def pip_conf(folder: Path, name: str, **settings: str) -> str:
    path = folder / name
    path.write_text("[global]\n" + "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in settings.items()))
    return str(path)


# What works


@pytest.mark.parametrize("name", ["pip.conf", "pip.ini"])
def test_pip_with_a_token_and_the_ca_in_its_file(plant: Plant, tmp_path: Path, name: str) -> None:
    conf = pip_conf(tmp_path, name, index_url=plant.index(plant.token), cert=str(plant.ca))
    done = install(tmp_path, PIP_CONFIG_FILE=conf)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "target" / "app.py").exists()


def test_pip_with_netrc_and_the_ca_in_the_environment(plant: Plant, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f'machine {HOST} login {READER[0]} password "{READER[1]}"\n')
    (tmp_path / ".netrc").chmod(0o600)
    done = install(tmp_path, "-i", plant.index(), PIP_CERT=str(plant.ca), NETRC=str(tmp_path / ".netrc"))
    assert done.returncode == 0, done.stderr


def test_pip_with_a_trusted_host_and_no_ca(plant: Plant, tmp_path: Path) -> None:
    conf = pip_conf(tmp_path, "pip.conf", index_url=plant.index(plant.token), trusted_host=HOST)
    assert install(tmp_path, PIP_CONFIG_FILE=conf).returncode == 0


@pytest.mark.parametrize("delimiter", [" = ", ":"])
def test_twine_with_a_token_and_the_ca_in_pypirc(plant: Plant, tmp_path: Path, delimiter: str) -> None:
    done = twine(plant, tmp_path, plant.token, delimiter=delimiter, ca=plant.ca)
    assert done.returncode == 0, done.stdout + done.stderr


def test_airgap_with_the_same_files(plant: Plant, tmp_path: Path) -> None:
    conf = pip_conf(tmp_path, "pip.conf", index_url=plant.index(plant.token), cert=str(plant.ca))
    found = examine(env={"PIP_CONFIG_FILE": conf})
    assert not [each for each in found if each["level"] == "problem"]
    pypirc(plant, tmp_path, plant.token, ":", plant.ca)
    found = examine("--repo", "nexus", env={"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)})
    assert not [each for each in found if each["level"] == "problem"]


# What does not, and who says so


def test_an_authority_that_is_not_trusted(plant: Plant, tmp_path: Path) -> None:
    done = install(tmp_path, "-i", plant.index(plant.token))
    assert done.returncode != 0
    assert (
        "CERTIFICATE_VERIFY_FAILED" in done.stdout + done.stderr
        or "certificate verify failed" in done.stdout + done.stderr
    )
    assert "CERTIFICATE_VERIFY_FAILED" in twine(plant, tmp_path, plant.token).stdout
    assert "--cert" in only(examine("--index-url", plant.index(plant.token)), "TLS")["remedy"]


def test_a_wrong_token(plant: Plant, tmp_path: Path) -> None:
    wrong = (plant.token[0], "wrong")
    done = install(tmp_path, "-i", plant.index(wrong), "--cert", str(plant.ca))
    assert done.returncode != 0
    assert "401 Error, Credentials not correct" in done.stdout + done.stderr
    done = twine(plant, tmp_path, wrong, ca=plant.ca, verbose=True)
    assert done.returncode != 0
    assert "401" in done.stdout
    assert "a token's name code is the user" in flat(done.stdout)
    found = examine("--index-url", plant.index(wrong), "--cert", plant.ca)
    assert "401" in only(found, "credentials")["text"]
    assert "check user, password" in only(found, "credentials")["remedy"]


def test_a_user_who_may_only_read(plant: Plant, tmp_path: Path) -> None:
    assert install(tmp_path, "-i", plant.index(READER), "--cert", str(plant.ca)).returncode == 0
    done = twine(plant, tmp_path, READER, ca=plant.ca, verbose=True)
    assert done.returncode != 0
    assert "403" in done.stdout
    assert "reader may not write in pypi-hosted" in flat(done.stdout)
    url = plant.server.repository_url("pypi-hosted").replace("://", f"://{READER[0]}:{READER[1]}@")
    found = examine("--repo", url, "--cert", plant.ca)
    assert "may not upload" in only(found, "credentials")["text"]


def test_a_certificate_for_another_host(tmp_path: Path, plant: Plant, root: trustme.CA) -> None:
    leaf = root.issue_cert("packages.example")
    cert = written(tmp_path, leaf, leaf.cert_chain_pems)
    with serve.running(tmp_path / "home", settings=ServeSettings(tls_cert=cert)) as server:
        url = server.index_url("pypi-hosted")
        done = install(tmp_path, "-i", url, "--cert", str(plant.ca))
        found = examine("--index-url", url, "--cert", plant.ca)
    assert "IP address mismatch" in done.stdout + done.stderr or "doesn't match" in done.stdout + done.stderr
    assert "another hostname" in only(found, "TLS")["text"]


def test_a_missing_intermediate(
    tmp_path: Path, plant: Plant, middle: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    leaf = middle.issue_cert(HOST)
    cert = written(tmp_path, leaf, leaf.cert_chain_pems[:1])
    with serve.running(tmp_path / "home", settings=ServeSettings(tls_cert=cert)) as server:
        url = server.index_url("pypi-hosted")
        done = install(tmp_path, "-i", url, "--cert", str(plant.ca))
        found = examine("--index-url", url, "--cert", plant.ca)
    assert "holds only the server's own certificate" in caplog.text
    assert "write its certificate behind the server's" in caplog.text
    assert "unable to get local issuer certificate" in done.stdout + done.stderr
    assert "sends only its own certificate" in only(found, "TLS")["text"]


@pytest.mark.parametrize("case", ["upside down", "a gap", "another key", "expired", "not yet"])
def test_a_chain_that_no_client_could_verify_stops_the_server(tmp_path: Path, root: trustme.CA, case: str) -> None:
    now, day = datetime.now(timezone.utc), timedelta(days=1)
    leaf = root.create_child_ca().create_child_ca().issue_cert(HOST)
    first, lower, upper = leaf.cert_chain_pems
    words = "did not sign certificate 1"
    if case == "upside down":
        chain = [first, upper, lower]
    elif case == "a gap":
        chain = [first, upper]
    elif case == "another key":  # names can match by chance: only the signature tells
        chain, words = [first, lower, same_name(upper)], "no client can verify this chain: .*signature"
    elif case == "expired":
        leaf = root.issue_cert(HOST, not_before=now - 9 * day, not_after=now - day)
        chain, words = leaf.cert_chain_pems, "expired on"
    else:
        leaf = root.issue_cert(HOST, not_before=now + day)
        chain, words = leaf.cert_chain_pems, "is valid from"
    settings = ServeSettings(tls_cert=written(tmp_path, leaf, chain))
    with pytest.raises(ConfigError, match=words), serve.running(tmp_path / "home", settings=settings):
        pass


def same_name(authority: trustme.Blob) -> trustme.Blob:
    """An authority's certificate with the same name as another's and a key of its own."""
    other = x509.load_pem_x509_certificate(authority.bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(other.subject)
        .issuer_name(other.issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(other.not_valid_before_utc)
        .not_valid_after(other.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return trustme.Blob(made.public_bytes(serialization.Encoding.PEM))


def test_a_certificate_that_ends_soon_is_told(tmp_path: Path, root: trustme.CA) -> None:
    leaf = root.issue_cert(HOST, not_after=datetime.now(timezone.utc) + timedelta(days=9))
    (ends, _) = check_certificates(written(tmp_path, leaf, leaf.cert_chain_pems), None)
    assert "expires on" in ends


def flat(text: str) -> str:
    """What twine wrote, without the breaks, frames and indents by which it fits a terminal."""
    return re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", " ", text))


def pypirc(plant: Plant, folder: Path, user: tuple[str, str], delimiter: str, ca: Path | None) -> None:
    path = folder / ".pypirc"
    path.write_text(
        f"[distutils]\nindex-servers = nexus\n\n[nexus]\n"
        f"repository{delimiter}{plant.server.repository_url('pypi-hosted')}\n"
        f"username = {user[0]}\npassword = {user[1]}\n" + (f"ca_cert = {ca}\n" if ca else "")
    )


def twine(
    plant: Plant,
    folder: Path,
    user: tuple[str, str],
    *,
    delimiter: str = " = ",
    ca: Path | None = None,
    verbose: bool = False,
) -> subprocess.CompletedProcess[str]:
    pypirc(plant, folder, user, delimiter, ca)
    wheel = str(make_wheel("uploaded").save(folder))
    options = ["--verbose"] if verbose else []
    return run("twine", "upload", "--non-interactive", *options, "-r", "nexus", wheel, home=folder)
