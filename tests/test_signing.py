"""Receipts that are signed: who made them, and that nobody changed them on their way."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mirror.cli import airgap
from mirror.errors import AirgapError, BundleError, ConfigError, UsageError
from mirror.push.receipt import Receipt
from mirror.signing import Signer, create_key, signer, verify
from mirror.sync.receipts import SealedReceipt, read_sealed
from tests.bundle_support import write_small
from tests.sync_support import World
from tests.test_push_receipt import RECEIPT


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The path of a private key; the public one is beside it."""
    create_key(tmp_path / "keys" / "main.key")
    return tmp_path / "keys" / "main.key"


def public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


def signed(keys: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(RECEIPT.to_json(Signer(keys)))
    return document


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(airgap, [str(word) for word in words])


def error(result: Result) -> AirgapError:
    assert isinstance(result.exception, AirgapError), result.output
    return result.exception


def test_what_was_signed_is_believed(keys: Path) -> None:
    document = signed(keys)
    assert Receipt.from_document(document) == RECEIPT
    assert verify(document, public(keys)) == Signer(keys).fingerprint
    assert verify(dict(reversed(document.items())), public(keys))


def test_without_a_key_nothing_is_signed() -> None:
    assert RECEIPT.to_json(signer(None)) == RECEIPT.to_json()
    assert "signature" not in RECEIPT.to_json()


@pytest.mark.parametrize("field", ["tool", "repository", "bundle", "finished", "files", "version", "new"])
def test_any_change_is_noticed(keys: Path, field: str) -> None:
    document = {**signed(keys), field: "changed"}
    with pytest.raises(BundleError, match="altered"):
        verify(document, public(keys))


@pytest.mark.parametrize("value", ["", "no base64!", base64.b64encode(bytes(64)).decode(), None])
def test_other_signatures_are_refused(keys: Path, value: object) -> None:
    document = signed(keys)
    document["signature"]["value"] = value
    with pytest.raises(BundleError, match="altered"):
        verify(document, public(keys))


@pytest.mark.parametrize("signature", ["text", [], {"algorithm": "none"}])
def test_signatures_of_another_kind_are_refused(keys: Path, signature: object) -> None:
    with pytest.raises(BundleError, match="none that this airgap knows"):
        verify({**signed(keys), "signature": signature}, public(keys))


def test_no_signature_and_another_key_are_refused(keys: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not signed"):
        verify(RECEIPT.document(), public(keys))
    other, fingerprint = create_key(tmp_path / "other.key")
    with pytest.raises(BundleError, match=fingerprint):
        verify(signed(keys), other)


def test_keys_are_never_overwritten_and_kept_secret(keys: Path) -> None:
    before = keys.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        create_key(keys)
    assert keys.read_bytes() == before
    if sys.platform != "win32":
        assert stat.S_IMODE(keys.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n", None])
def test_what_is_no_key_is_told_without_its_content(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    for use in (lambda: Signer(path), lambda: verify({"signature": {}}, path)):
        with pytest.raises(ConfigError) as caught:
            use()
        assert "hunter2" not in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_makes_and_checks_the_same(tmp_path: Path) -> None:
    key = tmp_path / "openssl.key"
    made = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this openssl knows no Ed25519")
    subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public(key))], check=True)
    document = signed(key)
    assert verify(document, public(key))
    signature = base64.b64decode(document.pop("signature")["value"])
    (tmp_path / "signature").write_bytes(signature)
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    (tmp_path / "text").write_bytes(b"airgap receipt\n" + text.encode())
    check = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public(key)), "-rawin"]
    subprocess.run(
        [*check, "-in", str(tmp_path / "text"), "-sigfile", str(tmp_path / "signature")],
        check=True,
        capture_output=True,
    )


class TestCommand:
    def test_a_push_signs_its_receipt(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        made = run("key", "create", "site.key")
        assert made.exit_code == 0, made.output
        (tmp_path / "airgap.toml").write_text('[receipts]\nsign-key = "site.key"\n')
        bundle = write_small(tmp_path).path
        pushed = run("push", bundle, "--repo", (tmp_path / "static").as_uri(), "-q", "--json")
        assert pushed.exit_code == 0, pushed.output
        receipt = bundle.with_name(f"{bundle.name}.receipt.json")
        assert json.loads(pushed.stdout)["signature"] == json.loads(receipt.read_bytes())["signature"]
        checked = run("key", "check", receipt, "--key", "site.key.pub")
        assert made.stdout.strip() in checked.output
        receipt.write_text(receipt.read_text().replace('"uploaded"', '"present"', 1))
        assert error(run("key", "check", receipt, "--key", "site.key.pub")).exit_code == 5
        receipt.write_text("[]")
        assert error(run("key", "check", receipt, "--key", "site.key.pub")).exit_code == 5

    def test_a_key_that_can_not_be_used_stops_before_the_first_upload(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "airgap.toml").write_text('[receipts]\nsign-key = "missing.key"\n')
        bundle = write_small(tmp_path).path
        pushed = run("push", bundle, "--repo", (tmp_path / "static").as_uri())
        assert "missing.key" in str(error(pushed))
        assert not (tmp_path / "static").exists()

    @pytest.mark.parametrize(
        "text", ["receipts = 1", '[receipts]\nkey = "x"', "[receipts]\nsign-key = 1", "[receipts]\ntrusted-keys = 'x'"]
    )
    def test_a_table_that_is_wrong(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "airgap.toml").write_text(text)
        assert isinstance(error(run("config")), ConfigError)


class TestSync:
    def test_a_sealed_receipt_is_signed_too(self, keys: Path, tmp_path: Path) -> None:
        path = tmp_path / "plant-main-000001.receipt.json"
        sealed = SealedReceipt("plant", "main", 1, RECEIPT)
        path.write_bytes(sealed.to_bytes(Signer(keys)))
        assert read_sealed(path, {"main": public(keys)}) == sealed
        assert run("key", "check", path, "--key", public(keys)).exit_code == 0

    def test_where_keys_are_known_nothing_else_is_believed(self, keys: Path, tmp_path: Path) -> None:
        path = tmp_path / "plant-main-000001.receipt.json"
        path.write_bytes(SealedReceipt("plant", "main", 1, RECEIPT).to_bytes())
        assert read_sealed(path).site == "main"
        with pytest.raises(BundleError, match="not signed"):
            read_sealed(path, {"main": public(keys)})
        with pytest.raises(BundleError, match="key is not known"):
            read_sealed(path, {"other": public(keys)})
        other, _ = create_key(tmp_path / "other.key")
        path.write_bytes(SealedReceipt("plant", "main", 1, RECEIPT).to_bytes(Signer(keys)))
        with pytest.raises(BundleError, match="signed with key"):
            read_sealed(path, {"main": other, "site": public(keys)})

    def test_the_connected_side_believes_only_what_is_signed(self, keys: Path, tmp_path: Path) -> None:
        world = World(tmp_path / "world")
        world.index.release("alpha", "1.0")
        world.want("alpha\n")
        with (world.folder / "connected" / "airgap.toml").open("a") as toml:
            toml.write(f"[receipts]\ntrusted-keys = {{ main = '{public(keys)}' }}\n")
        world.run("connected")
        world.carry()
        world.run("isolated")
        unsigned = world.bring_back()
        assert world.run("connected").quarantined == tuple(path.name for path in unsigned)
        with (world.folder / "isolated" / "airgap.toml").open("a") as toml:
            toml.write(f"[receipts]\nsign-key = '{keys}'\n")
        assert world.run("connected", full=True).bundle
        world.carry()
        world.run("isolated")
        (signed_one,) = [path for path in world.bring_back() if path.name not in {old.name for old in unsigned}]
        outcome = world.run("connected")
        assert signed_one.name not in outcome.quarantined
        assert outcome.unconfirmed == 0
