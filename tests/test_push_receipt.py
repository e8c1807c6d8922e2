from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import BundleError, StorageError
from mirror.push.receipt import Receipt, ReceiptFile, State

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
files = st.builds(ReceiptFile, texts, texts, texts, st.integers(0, 2**40), texts, st.sampled_from(State), texts)
receipts = st.builds(Receipt, texts, texts, texts, texts, texts, st.lists(files, max_size=4).map(tuple))

ONE = ReceiptFile("a-1.whl", "a", "1", 3, "0" * 64, State.UPLOADED)
RECEIPT = Receipt("airgap 1", "https://host/", "b" * 64, "2026-01-31T02:00:00Z", "2026-01-31T02:00:01Z", (ONE,))


@given(receipts)
def test_it_comes_back_as_it_was(receipt: Receipt) -> None:
    assert Receipt.from_json(receipt.to_json()) == receipt


def test_the_document_is_what_the_docstring_says() -> None:
    assert json.loads(RECEIPT.to_json()) == {
        "version": 1,
        "tool": "airgap 1",
        "repository": "https://host/",
        "bundle": "b" * 64,
        "started": "2026-01-31T02:00:00Z",
        "finished": "2026-01-31T02:00:01Z",
        "counts": {"uploaded": 1, "present": 0, "conflict": 0, "failed": 0},
        "files": [
            {
                "filename": "a-1.whl",
                "project": "a",
                "version": "1",
                "size": 3,
                "sha256": "0" * 64,
                "state": "uploaded",
                "reason": "",
            }
        ],
    }


@pytest.mark.parametrize("state", State)
def test_only_files_that_are_there_make_it_complete(state: State) -> None:
    receipt = Receipt("", "", "", "", "", (ONE, ReceiptFile("b", "b", "1", 1, "", state)))
    assert receipt.complete is (state in (State.UPLOADED, State.PRESENT))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2}', '{"version": 1}', RECEIPT.to_json().replace('"uploaded",', '"gone",')]
)
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(BundleError):
        Receipt.from_json(text)


def test_writing_leaves_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "receipt.json"
    RECEIPT.write(path)
    RECEIPT.write(path)
    assert Receipt.from_json(path.read_bytes()) == RECEIPT
    assert [found.name for found in path.parent.iterdir()] == ["receipt.json"]


def test_a_place_that_can_not_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"receipt\.json"):
        RECEIPT.write(tmp_path / "file" / "receipt.json")
