"""pip's settings as airgap reads them, side by side with what pip itself makes of the same files and variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.config import Config, Overrides, load
from mirror.errors import ConfigError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="compares with pip at Linux locations")

# What `pip download` would use. sys.prefix is where pip looks for the environment's own file. Importing pip takes a
# hundred times as long as asking it: each question is answered by a fork of one process that has done so.
ASK_PIP = """
import json, os, sys
from pip._internal.commands import create_command
create_command("download")

def ask(environ, folder):
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.prefix = environ["VIRTUAL_ENV"]
    options = create_command("download").parser.get_default_values()
    return {
        "index_url": options.index_url, "extra_index_urls": options.extra_index_urls, "find_links": options.find_links,
        "no_index": bool(options.no_index), "trusted_hosts": options.trusted_hosts, "cert": options.cert,
        "client_cert": options.client_cert, "proxy": options.proxy, "timeout": float(options.timeout),
        "retries": int(options.retries), "no_binary": sorted(options.format_control.no_binary),
        "only_binary": sorted(options.format_control.only_binary), "keyring_provider": options.keyring_provider,
    }

for line in sys.stdin:
    child = os.fork()
    if not child:
        print(json.dumps(ask(*json.loads(line))), flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit("pip could not be asked")
"""


class Pip:
    """pip in a process of its own, which answers questions."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._questions, self._answers = process.stdin, process.stdout

    def ask(self, environ: Mapping[str, str], cwd: Path) -> dict[str, Any]:
        """What pip is told by a machine with these environment variables, in this folder."""
        print(json.dumps([dict(environ), str(cwd)]), file=self._questions, flush=True)
        line = self._answers.readline()
        assert line, "pip failed: its traceback is on standard error"
        answer: dict[str, Any] = json.loads(line)
        return answer


@pytest.fixture(scope="module")
def pip() -> Iterator[Pip]:
    command = [sys.executable, "-c", ASK_PIP]
    # Nothing of this machine's is there when pip is imported, either.
    environ = {"PATH": os.environ["PATH"]}
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Pip(process)
        assert process.stdin is not None
        process.stdin.close()
    assert process.returncode == 0


class Machine:
    """A home, a virtual environment and a system folder of their own, as environment variables."""

    def __init__(self, root: Path, pip: Pip) -> None:
        self.home, self.venv, self.site = root / "home", root / "venv", root / "site"
        for folder in (self.home, self.venv, self.site):
            folder.mkdir()
        self._pip = pip
        self.environ = {
            "HOME": str(self.home),
            "VIRTUAL_ENV": str(self.venv),
            "XDG_CONFIG_DIRS": str(self.site),
            "PATH": os.environ["PATH"],
        }

    def write(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def load(self, overrides: Overrides = Overrides(), /, **environ: str) -> Config:  # noqa: B008  # frozen
        return load(environ={**self.environ, **environ}, overrides=overrides, cwd=self.home)

    def pip(self, **environ: str) -> dict[str, Any]:
        return self._pip.ask({**self.environ, **environ}, self.home)

    def compare(self, **environ: str) -> Config:
        ours, theirs = self.load(**environ), self.pip(**environ)
        assert as_pip_says(ours) == theirs
        return ours


def as_pip_says(config: Config) -> dict[str, Any]:
    def text(path: Path | None) -> str | None:
        return str(path) if path else None

    return {
        "index_url": config.index_url.value,
        "extra_index_urls": list(config.extra_index_urls.value),
        "find_links": list(config.find_links.value),
        "no_index": config.no_index.value,
        "trusted_hosts": list(config.trusted_hosts.value),
        "cert": text(config.cert.value),
        "client_cert": text(config.client_cert.value),
        "proxy": config.proxy.value,
        "timeout": config.timeout.value,
        "retries": config.retries.value,
        "no_binary": list(config.no_binary.value),
        "only_binary": list(config.only_binary.value),
        "keyring_provider": config.keyring_provider.value,
    }


@pytest.fixture
def machine(tmp_path: Path, pip: Pip) -> Machine:
    return Machine(tmp_path, pip)


def test_nothing_configured(machine: Machine) -> None:
    config = machine.compare(PIP_CONFIG_FILE=os.devnull)
    assert config.index_url.value == "https://pypi.org/simple"
    assert config.index_url.source == "default"
    assert config.files == ()


def test_every_level_in_pips_order(machine: Machine) -> None:
    levels = [
        machine.site / "pip" / "pip.conf",
        machine.home / ".pip" / "pip.conf",
        machine.home / ".config" / "pip" / "pip.conf",
        machine.venv / "pip.conf",
    ]
    for number, path in enumerate(levels):
        machine.write(path, f"[global]\nindex-url = https://level{number}.example/simple\ntimeout = {number + 20}\n")
        config = machine.compare()
        assert config.index_url.value == f"https://level{number}.example/simple"
        assert path in config.files
    assert config.index_url.source == f"{machine.venv / 'pip.conf'} [global]"
    config = machine.compare(PIP_INDEX_URL="https://env.example/simple", PIP_TIMEOUT="")
    assert (config.index_url.source, config.timeout.value) == ("PIP_INDEX_URL", 23.0)
    config = machine.load(Overrides(index_url="https://cli.example/simple"))
    assert (config.index_url.value, config.index_url.source) == ("https://cli.example/simple", "--index-url")


def test_home_is_abbreviated_in_sources(machine: Machine) -> None:
    machine.write(machine.home / ".config" / "pip" / "pip.conf", "[global]\nproxy = http://p.example:3128\n")
    assert machine.compare().proxy.source == "~/.config/pip/pip.conf [global]"


def test_named_file_replaces_the_users_and_beats_the_environments(machine: Machine) -> None:
    machine.write(machine.home / ".config" / "pip" / "pip.conf", "[global]\nproxy = http://user.example\nretries = 9\n")
    machine.write(machine.venv / "pip.conf", "[global]\nretries = 7\ntimeout = 3\n")
    named = machine.write(machine.home / "ci.conf", "[global]\nretries = 8\n")
    config = machine.compare(PIP_CONFIG_FILE=str(named))
    assert (config.proxy.value, config.retries.value, config.timeout.value) == (None, 8, 3.0)
    config = machine.compare(PIP_CONFIG_FILE=str(machine.home / "none.conf"))
    assert config.retries.value == 7
    assert config.proxy.value == "http://user.example"
    assert any("none.conf" in warning for warning in config.warnings)


@pytest.mark.parametrize(
    "text",
    [
        "[download]\nindex-url = https://d.example\n[global]\nindex-url = https://g.example\n",
        "[install]\nindex-url = https://i.example\n",
        "[global]\nextra-index-url =\n    https://a.example/simple\n    https://b.example/simple\n",
        "[global]\nfind_links = /nowhere https://l.example/x.html\ntrusted-host = a.example b.example:8080\n",
        "[global]\n--Index-URL : https://odd.example/simple\n",
        "[global]\nno-index = Yes\n",
        "[global]\nno-index = off\n",
        "[global]\npypi-url = https://alias.example/simple\ndefault-timeout = 7.5\n",
        "[global]\ncert = ~/ca.pem\nclient-cert = ~/me.pem\n",
        "[global]\nonly-binary = :all:\nno-binary = Foo_Bar,baz\n",
        "[global]\nno-binary = foo\nonly-binary = :all:\n",
        "[global]\nno-binary = foo,bar\n[download]\nno-binary = :none:\nonly-binary = bar\n",
        "[global]\nno-binary = :all:,:none:,x\n",
        "[global]\nindex-url = https://user:p%40ss@h.example/simple\n; c = d\n# e\n",
        "[global]\nindex-url =\ntimeout = 4\n[download]\ntimeout =\n",
        "[global]\nkeyring-provider = disabled\nretries = 0\n",
    ],
)
def test_values_as_pip_reads_them(machine: Machine, text: str) -> None:
    machine.write(machine.home / ".config" / "pip" / "pip.conf", text)
    machine.compare()


@pytest.mark.parametrize(
    "environ",
    [
        {"PIP_EXTRA_INDEX_URL": "https://a.example  https://b.example", "PIP_NO_INDEX": "1"},
        {"PIP_TRUSTED_HOST": "h.example", "PIP_DEFAULT_TIMEOUT": "99", "PIP_RETRIES": "2"},
        {"PIP_NO_BINARY": ":all:", "PIP_ONLY_BINARY": "numpy,scipy"},
        {"PIP_FIND_LINKS": "https://x.example/a https://x.example/b", "PIP_CERT": "/ca.pem"},
    ],
)
def test_variables_as_pip_reads_them(machine: Machine, environ: dict[str, str]) -> None:
    machine.write(machine.home / ".config" / "pip" / "pip.conf", "[global]\nextra-index-url = https://file.example\n")
    machine.compare(**environ)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    levels=st.lists(
        st.dictionaries(
            st.sampled_from(["global", "download", "install"]),
            st.fixed_dictionaries(
                {},
                optional={
                    "index-url": st.sampled_from(["", "https://a.example/s", "https://t:k@b.example/s"]),
                    "extra-index-url": st.sampled_from(
                        ["", "https://c.example", "https://c.example https://d.example"]
                    ),
                    "timeout": st.integers(1, 300).map(str),
                    "no-binary": st.sampled_from([":all:", ":none:", "a,b", "c"]),
                    "only_binary": st.sampled_from([":all:", ":none:", "a", "c,d"]),
                    "no-index": st.sampled_from(["true", "0", ""]),
                },
            ),
        ),
        min_size=3,
        max_size=3,
    )
)
def test_any_mixture_of_levels(tmp_path: Path, pip: Pip, levels: list[Mapping[str, Mapping[str, str]]]) -> None:
    root = tmp_path / str(len(list(tmp_path.iterdir())))
    root.mkdir()
    machine = Machine(root, pip)
    paths = [machine.site / "pip/pip.conf", machine.home / ".config/pip/pip.conf", machine.venv / "pip.conf"]
    for path, sections in zip(paths, levels, strict=True):
        lines = [f"[{section}]\n" + "".join(f"{k} = {v}\n" for k, v in d.items()) for section, d in sections.items()]
        machine.write(path, "".join(lines))
    machine.compare()


def test_the_command_line_adds_and_replaces(machine: Machine) -> None:
    machine.write(
        machine.home / ".config" / "pip" / "pip.conf",
        "[global]\nextra-index-url = https://a.example\ntrusted-host = a.example\nno-index = 1\nretries = 1\npre = 1\n",
    )
    config = machine.load(
        Overrides(
            extra_index_urls=("https://b.example",),
            trusted_hosts=("b.example",),
            no_index=False,
            retries=3,
            timeout=2.5,
            cert=Path("/ca.pem"),
            proxy="http://p.example",
            only_binary=(":all:",),
            no_binary=("Foo",),
        )
    )
    assert config.extra_index_urls.value == ("https://a.example", "https://b.example")
    assert config.extra_index_urls.source == "~/.config/pip/pip.conf [global], --extra-index-url"
    assert config.trusted_hosts.value == ("a.example", "b.example")
    assert (config.no_index.value, config.retries.value, config.timeout.value) == (False, 3, 2.5)
    assert (config.cert.value, config.cert.source) == (Path("/ca.pem"), "--cert")
    assert config.pre.value is True
    assert (config.no_binary.value, config.only_binary.value) == (("foo",), (":all:",))
    assert config.format_control.allows("foo", wheel=False)
    assert not config.format_control.allows("foo", wheel=True)


def test_the_command_line_wins_over_only_binary_from_the_environment(machine: Machine) -> None:
    config = machine.load(Overrides(no_binary=(":all:",)), PIP_ONLY_BINARY=":all:")
    assert (config.no_binary.value, config.only_binary.value) == ((":all:",), ())


def test_certificates_that_requests_reads(machine: Machine) -> None:
    environ = {"PIP_CONFIG_FILE": os.devnull, "CURL_CA_BUNDLE": "/curl.pem"}
    assert machine.load(**environ).cert.value == Path("/curl.pem")
    config = machine.load(**environ, REQUESTS_CA_BUNDLE="/requests.pem")
    assert (config.cert.value, config.cert.source) == (Path("/requests.pem"), "REQUESTS_CA_BUNDLE")
    assert machine.load(**environ, PIP_CERT="/pip.pem").cert.value == Path("/pip.pem")


def test_find_links_that_exist_become_absolute(machine: Machine) -> None:
    (machine.home / "wheels").mkdir()
    config = machine.load(PIP_FIND_LINKS="wheels ~/wheels file:///x https://l.example/")
    wheels = str(machine.home / "wheels")
    assert config.find_links.value == (wheels, wheels, "file:///x", "https://l.example/")


def test_homes(machine: Machine) -> None:
    config = machine.load()
    assert config.home.value == machine.home / ".local/share/airgap"
    assert config.cache.value == machine.home / ".cache/airgap"
    config = machine.load(AIRGAP_HOME="~/data", AIRGAP_CACHE="here")
    assert (config.home.value, config.home.source) == (machine.home / "data", "AIRGAP_HOME")
    assert config.cache.value == machine.home / "here"
    assert machine.load(Overrides(cache=Path("/c")), AIRGAP_CACHE="x").cache.value == Path("/c")


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"PIP_TIMEOUT": "soon"}, "timeout from PIP_TIMEOUT must be a number, not 'soon'."),
        ({"PIP_TIMEOUT": "0"}, "timeout from PIP_TIMEOUT must be more than 0 seconds."),
        ({"PIP_TIMEOUT": "nan"}, "timeout from PIP_TIMEOUT must be more than 0 seconds."),
        ({"PIP_RETRIES": "1.5"}, "retries from PIP_RETRIES must be a whole number, not '1.5'."),
        ({"PIP_RETRIES": "-1"}, "retries from PIP_RETRIES must not be negative."),
        ({"PIP_NO_INDEX": "maybe"}, "no-index from PIP_NO_INDEX must be yes or no, not 'maybe'."),
        ({"PIP_INDEX_URL": "https://u:secret@h.example:x/"}, "index-url from PIP_INDEX_URL is not a valid URL."),
        ({"PIP_EXTRA_INDEX_URL": "https://"}, "extra-index-url from PIP_EXTRA_INDEX_URL is not a valid URL."),
    ],
)
def test_wrong_values_name_their_source(machine: Machine, environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        machine.load(**environ)
    assert str(caught.value) == message


def test_a_wrong_keyring_provider(machine: Machine) -> None:
    with pytest.raises(ConfigError, match="must be one of auto, disabled, import, subprocess, not 'magic'"):
        machine.load(PIP_KEYRING_PROVIDER="magic")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"index-url = https://u:secret@h/\n", "pip.conf:1: a line before the first [section]."),
        (b"[global]\nsecret\n", "pip.conf: not 'key = value' in line 2."),
        (b"[global]\na = secret\na = secret\n", "pip.conf:3: a is set twice in [global]."),
        (b"[global]\n[global]\n", "pip.conf:2: section [global] is there twice."),
        (b"[global]\nindex-url = \xff\xfesecret\n", "pip.conf is not text in UTF-8."),
    ],
)
def test_broken_files_name_the_line_and_keep_secrets(machine: Machine, content: bytes, message: str) -> None:
    path = machine.venv / "pip.conf"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        machine.load()
    assert str(caught.value) == f"{machine.venv}/{message}"
    assert "secret" not in str(caught.value) + caught.value.hint


def test_a_byte_order_mark_is_fine(machine: Machine) -> None:
    (machine.venv / "pip.conf").write_bytes(b"\xef\xbb\xbf[global]\nretries = 4\n")
    assert machine.load().retries.value == 4


def test_a_file_that_may_not_be_read_is_passed_over_with_a_warning(machine: Machine) -> None:
    loop = machine.venv / "pip.conf"
    loop.symlink_to(loop)  # an error of the file system that root gets, too
    config = machine.load()
    assert len(config.warnings) == 1
    assert config.warnings[0].startswith(f"{loop} is ignored, it can't be read: ")


def test_no_secret_in_repr(machine: Machine) -> None:
    config = machine.load(PIP_INDEX_URL="https://u:secret@h.example/", PIP_PROXY="http://u:secret@p.example")
    assert "secret" not in repr(config)
