from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mirror.cli import airgap

SECRET = "hunter2-marked"


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One secret in every place that may hold one."""
    (tmp_path / "pip.conf").write_text(
        f"[global]\nindex-url = https://bob:{SECRET}@nexus.example/simple\n"
        f"extra-index-url = https://{SECRET}@other.example/simple\nproxy = http://bob:{SECRET}@proxy.example:3128\n"
        f"find-links = https://bob:{SECRET}@files.example/\ntimeout = 7\n"
    )
    (tmp_path / "pypirc").write_text(
        f"[distutils]\nindex-servers = hosted token\n[token]\nrepository = https://{SECRET}@nexus.example/t/\n[hosted]\n"
        f"repository = https://nexus.example/repository/hosted/\nusername = bob\npassword = {SECRET}\n"
    )
    (tmp_path / "airgap.toml").write_text(
        '[repositories.other]\nurl = "https://nexus.example/repository/o/"\nusername = "ann"\npassword-env = "PASS"\n'
        '[repositories.folder]\nurl = "file:///srv/index"\ntype = "directory"\n'
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PASS", SECRET)
    monkeypatch.setenv("TWINE_PASSWORD", SECRET)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pypirc"


def test_what_jobs_and_receipts_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def shown() -> dict[str, object]:
        done = CliRunner().invoke(airgap, ["config", "--json"])
        settings = json.loads(done.stdout)["settings"]
        return {key: row["value"] for key, row in settings.items() if key.startswith(("receipts.", "syncs.plant."))}

    assert shown() == {}
    (tmp_path / "airgap.toml").write_text(
        '[receipts]\ntrusted-keys = { main = "main.pub" }\n[sync.plant]\nside = "connected"\noutbox = "out"\n'
        'requirements = ["r.txt"]\ntargets = ["this"]\nexclude-newer = "7d"\nextras = ["web"]\n'
    )
    found = shown()
    assert found["receipts.trusted-keys"] == [f"main={tmp_path / 'main.pub'}"]
    assert [found[f"syncs.plant.{key}"] for key in ("exclude-newer", "extras")] == ["7d", ["web"]]
    assert "syncs.plant.packing" not in found


def test_every_value_with_its_source_and_no_secret(configured: Path) -> None:
    done = CliRunner().invoke(airgap, ["config", "--config-file", str(configured), "--retries", "2", "--json"])
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output
    settings = json.loads(done.stdout)["settings"]
    assert settings["timeout"]["value"] == 7
    assert "pip.conf" in settings["timeout"]["source"]
    assert settings["retries"] == {"value": 2, "source": "--retries"}
    assert settings["index-url"]["value"] == "https://bob:****@nexus.example/simple"
    assert settings["extra-index-urls"]["value"] == ["https://****@other.example/simple"]
    assert settings["proxy"]["value"] == "http://bob:****@proxy.example:3128"
    assert settings["repositories.hosted.username"]["value"] == "bob"
    assert settings["repositories.token.username"]["value"] == "****"
    assert settings["repositories.hosted.password"]["value"] == "****"
    assert settings["repositories.other.password-env"]["value"] == "PASS"
    assert "airgap.toml" in settings["repositories.other.url"]["source"]
    assert settings["repositories.folder.type"]["value"] == "directory"
    assert settings["serve.port"]["source"] == "default"


def test_as_a_table(configured: Path) -> None:
    done = CliRunner().invoke(airgap, ["config", "--config-file", str(configured)])
    assert SECRET not in done.output
    assert "read: " in done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("repositories.hosted.url")]
    assert line.split()[1] == "https://nexus.example/repository/hosted/"
