"""What every test may rely on: none of the user's settings, and Hypothesis that does not watch the clock."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import mirror
from tests.postgres_support import Postgres, serving_postgres
from tests.s3_support import ELSEWHERE, S3Server, elsewhere_s3, serving_s3

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# What pip, twine, httpx, requests and airgap take from the environment.
_SETTINGS = {"ALL_PROXY", "CURL_CA_BUNDLE", "FTP_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NETRC", "NO_PROXY"}
_SETTINGS |= {"PYTHONPATH", "REQUESTS_CA_BUNDLE", "SSLKEYLOGFILE", "SSL_CERT_DIR", "SSL_CERT_FILE", "VIRTUAL_ENV"}
_SETTINGS_OF = ("AIRGAP_", "AWS_", "PG", "PIP_", "TWINE_", "UV_")
_XDG = {"XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config", "XDG_DATA_HOME": ".local/share"}
_XDG |= {"XDG_STATE_HOME": ".local/state", "XDG_CONFIG_DIRS": "etc/xdg", "XDG_DATA_DIRS": "usr/share"}

_numbers = itertools.count()


def pytest_configure() -> None:
    """Refuse to test the source tree where the installed wheel was promised (scripts/test); hear Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background: what is started here would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("AIRGAP_TEST_INSTALLED") == "1":
        tested = Path(mirror.__file__).resolve()
        if not tested.is_relative_to(Path(sysconfig.get_path("purelib")).resolve()):
            raise pytest.UsageError(f"AIRGAP_TEST_INSTALLED is 1, but mirror comes from {tested}.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("AIRGAP_TEST_OFFLINE") == "1":
        for item in items:
            if item.get_closest_marker("network"):
                item.add_marker(pytest.mark.skip(reason="AIRGAP_TEST_OFFLINE is 1"))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking, again and again, at what was imported and collected and stays."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the user's settings. A ``network`` test keeps them (they say how to reach the index), but not the data."""
    home = tmp_path_factory.getbasetemp() / "homes" / str(next(_numbers))  # mktemp() would look at all of them first
    home.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("network"):
            patch.setenv("AIRGAP_HOME", str(home / "airgap"))
            patch.setenv("AIRGAP_CACHE", str(home / "cache"))
        else:
            for name in list(os.environ):
                if name.upper() in _SETTINGS or name.upper().startswith(_SETTINGS_OF):
                    patch.delenv(name)
            for name in ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA"):
                patch.setenv(name, str(home))
            for name, folder in _XDG.items():
                patch.setenv(name, str(home / folder))
        yield


@pytest.fixture(scope="session", params=["moto", "elsewhere"] if ELSEWHERE else ["moto"])
def s3_server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    with serving_s3() if request.param == "moto" else elsewhere_s3() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with serving_postgres() as server:
        yield server
