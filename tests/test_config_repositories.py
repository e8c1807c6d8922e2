"""Repositories from .pypirc, compared with twine, and from airgap.toml."""

from __future__ import annotations

from pathlib import Path

import pytest
from twine.utils import get_config

from mirror.config import Config, Repository, load, repository_from_url
from mirror.errors import ConfigError
from mirror.ops.push import find_repository


def read(tmp_path: Path, pypirc: str | None = None, toml: str | None = None, **environ: str) -> Config:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    if pypirc is not None:
        (home / ".pypirc").write_text(pypirc)
    if toml is not None:
        (tmp_path / "airgap.toml").write_text(toml)
    cwd = tmp_path / "work" / "deep"
    cwd.mkdir(parents=True, exist_ok=True)
    return load(environ={"HOME": str(home), "PIP_CONFIG_FILE": "/dev/null", **environ}, cwd=cwd)


@pytest.mark.parametrize(
    "pypirc",
    [
        None,
        "",
        "[pypi]\nusername = __token__\npassword = pypi-a%b\n",
        "[distutils]\nindex-servers = nexus\n[nexus]\nrepository: https://nexus.example/repository/pypi/\n",
        """
[distutils]
index-servers =
    nexus
    testpypi
[nexus]
repository = http://n.example:8081/r/
username = bob
password = p=w:d # not a comment
ca_cert = /ca.pem
client_cert = /me.pem
""",
        "[server-login]\nusername = old\npassword = older\n",
        "[distutils]\nindex-servers = pypi\n[pypi]\nrepository = https://m.example/legacy/\n[other]\nusername = x\n",
    ],
)
def test_as_twine_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pypirc: str | None) -> None:
    config = read(tmp_path, pypirc)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    theirs = get_config("~/.pypirc")
    assert set(config.repositories) == set(theirs)
    for name, repository in config.repositories.items():
        assert repository.url == theirs[name]["repository"]
        assert repository.username == theirs[name].get("username")
        assert repository.password == theirs[name].get("password")
        assert str(repository.ca_cert) == str(theirs[name].get("ca_cert"))
        assert str(repository.client_cert) == str(theirs[name].get("client_cert"))


def test_source_and_secrets(tmp_path: Path) -> None:
    text = "[distutils]\nindex-servers = n\n[n]\nrepository = https://bob:s%2Fecret@n.example/r/\n"
    repository = read(tmp_path, text).repositories["n"]
    assert repository == Repository("n", "https://n.example/r/", "bob", "s/ecret", source="~/.pypirc [n]")
    assert "s/ecret" not in repr(repository)
    assert tmp_path / "home" / ".pypirc" in read(tmp_path, text).files


def test_a_server_without_a_section_has_no_url(tmp_path: Path) -> None:
    assert read(tmp_path, "[distutils]\nindex-servers = ghost\n").repositories["ghost"].url is None


def test_another_file(tmp_path: Path) -> None:
    other = tmp_path / "other.ini"
    other.write_text("[distutils]\nindex-servers = o\n[o]\nrepository = https://o.example/\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}
    assert "o" in load(environ=environ, config_file=other, cwd=tmp_path).repositories
    with pytest.raises(ConfigError, match=r"There is no file ~/none\.ini that can be read"):
        load(environ=environ, config_file=tmp_path / "none.ini", cwd=tmp_path)


def test_twine_variables(tmp_path: Path) -> None:
    config = read(tmp_path, TWINE_REPOSITORY="testpypi", TWINE_CERT="~/ca.pem", TWINE_CLIENT_CERT="/me.pem")
    assert (config.default_repository.value, config.default_repository.source) == ("testpypi", "TWINE_REPOSITORY")
    assert config.repositories["pypi"].ca_cert == tmp_path / "home" / "ca.pem"
    assert config.repositories["pypi"].client_cert == Path("/me.pem")
    config = read(tmp_path, TWINE_REPOSITORY="x", TWINE_REPOSITORY_URL="https://u:p@n.example/r/")
    assert config.default_repository.value == "https://n.example/r/"
    repository = config.repositories["https://n.example/r/"]
    assert (repository.username, repository.password) == ("u", "p")


@pytest.mark.parametrize("url", ["nexus.example/r", "ftp://h/", "https://", "https://u:secret@h:port/"])
def test_a_wrong_url(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="is not an http or https URL") as caught:
        read(tmp_path, f"[distutils]\nindex-servers = n\n[n]\nrepository = {url}\n")
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError):
        repository_from_url(url)


def test_a_server_without_a_section_is_named_by_its_file(tmp_path: Path) -> None:
    config = read(tmp_path, "[distutils]\nindex-servers = pypi plant\n")
    sources = {name: repository.source for name, repository in config.repositories.items()}
    assert sources == {"pypi": "default", "plant": "~/.pypirc [distutils]"}
    with pytest.raises(ConfigError, match=r"^~/\.pypirc \[distutils\] names the repository plant, but not its URL"):
        find_repository("plant", config)


TOML = """
[repositories.nexus]
url = "https://nexus.example/repository/pypi-hosted/"
username = "deployer"
password-env = "NEXUS_PASSWORD"
index-url = "https://nexus.example/repository/pypi-all/simple"
ca-cert = "certs/ca.pem"
type = "legacy"
"""


def test_airgap_toml_above_the_working_folder(tmp_path: Path) -> None:
    config = read(tmp_path, toml=TOML, NEXUS_PASSWORD="secret")
    nexus = config.repositories["nexus"]
    assert nexus.url == "https://nexus.example/repository/pypi-hosted/"
    assert (nexus.username, nexus.password, nexus.password_env) == ("deployer", "secret", "NEXUS_PASSWORD")
    assert nexus.index_url == "https://nexus.example/repository/pypi-all/simple"
    assert nexus.ca_cert == tmp_path / "certs" / "ca.pem"
    assert nexus.source.endswith("airgap.toml [repositories.nexus]")
    assert tmp_path / "airgap.toml" in config.files
    assert {"pypi", "testpypi"} < set(config.repositories)


def test_the_users_own_airgap_toml_is_the_last_resort(tmp_path: Path) -> None:
    own = tmp_path / "home" / ".config" / "airgap"
    own.mkdir(parents=True)
    (own / "airgap.toml").write_text('[repositories.mine]\nurl = "https://mine.example/"\n')
    assert "mine" in read(tmp_path).repositories
    assert "mine" not in read(tmp_path, toml=TOML).repositories
    named = load(environ={"HOME": str(tmp_path)}, airgap_toml=own / "airgap.toml", cwd=tmp_path)
    assert "mine" in named.repositories


def test_a_section_without_url_adds_to_pypirc(tmp_path: Path) -> None:
    pypirc = "[distutils]\nindex-servers = n\n[n]\nrepository = https://n.example/r/\nusername = u\npassword = p\n"
    repository = read(tmp_path, pypirc, '[repositories.n]\nindex-url = "https://n.example/all/"\n').repositories["n"]
    assert (repository.url, repository.password) == ("https://n.example/r/", "p")
    assert repository.index_url == "https://n.example/all/"
    assert repository.source.endswith("airgap.toml [repositories.n], ~/.pypirc [n]")


def test_a_section_with_url_gets_no_password_of_another_file(tmp_path: Path) -> None:
    pypirc = "[distutils]\nindex-servers = n\n[n]\nrepository = https://n.example/r/\nusername = u\npassword = p\n"
    repository = read(tmp_path, pypirc, '[repositories.n]\nurl = "https://evil.example/"\n').repositories["n"]
    assert (repository.username, repository.password) == (None, None)


@pytest.mark.parametrize(
    ("toml", "message", "hint"),
    [
        ("[repositoris.x]", "'repositoris' is not a known key; the nearest is 'repositories'", "Known here"),
        ("[repositories.x]\nurll = 'https://h/'", "'urll' is not a known key; the nearest is 'url'", "password-env"),
        ("[repositories.x]\nurl = 'https://h/'\npassword = 's'", "a password must not be in this file", "password-env"),
        ("[repositories.x]\nurl = 'https://u:s@h/'", "url carries a password", "password-env"),
        ("[repositories.x]\nusername = 'u'", "has no url", ""),
        ("[repositories.x]\nurl = 5", "url must be a text that is not empty", ""),
        ("[repositories.x]\nurl = ''", "url must be a text that is not empty", ""),
        ("[repositories.x]\nurl = 'h'", "is not an http or https URL", ""),
        (
            "[repositories.x]\nurl = 'https://h/'\ntype = 'ftp'",
            "type must be one of legacy, nexus, directory, s3, not 'ftp'",
            "",
        ),
        ("repositories = 1", "must be tables like [repositories.nexus]", ""),
        ("[repositories]\nx = 1", "[repositories.x] must be a table", ""),
        ("[repositories.x\n", "is not valid TOML: ", ""),
    ],
)
def test_wrong_airgap_toml(tmp_path: Path, toml: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, toml=toml)
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert "airgap.toml" in str(caught.value)


def test_airgap_toml_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        load(environ=environ, airgap_toml=tmp_path / "none.toml", cwd=tmp_path)
    (tmp_path / "airgap.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        load(environ=environ, cwd=tmp_path)


def test_a_folder_is_a_repository_of_its_own_type(tmp_path: Path) -> None:
    (tmp_path / ".pypirc").write_text("[distutils]\nindex-servers = static\n[static]\nrepository = file:///srv/index\n")
    (tmp_path / "airgap.toml").write_text(
        '[repositories.other]\nurl = "file:///srv/other"\ntype = "directory"\n[repositories.b]\nurl = "s3://b/c"\n'
    )
    config = load(environ={"HOME": str(tmp_path)}, cwd=tmp_path)
    assert {name: config.repositories[name].type for name in ("static", "other", "b", "pypi")} == {
        "static": "directory",
        "other": "directory",
        "b": "s3",
        "pypi": "auto",
    }


@pytest.mark.parametrize(
    "table",
    [
        'url = "https://h/"\ntype = "directory"',
        'url = "file:///srv"\ntype = "legacy"',
        'url = "https://h/"\ntype = "s3"',
        'url = "s3://bucket/prefix"\ntype = "nexus"',
    ],
)
def test_a_type_that_does_not_fit_the_url(tmp_path: Path, table: str) -> None:
    (tmp_path / "airgap.toml").write_text(f"[repositories.x]\n{table}\n")
    with pytest.raises(ConfigError, match="does not fit its url"):
        load(environ={"HOME": str(tmp_path)}, cwd=tmp_path)
