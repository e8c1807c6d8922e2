"""What every publisher must do, whatever repository is behind it: subclass it and provide the fixture ``publisher``."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import pytest

from mirror.errors import AirgapError, ConflictError, HTTPError
from mirror.models import Hashes
from mirror.push.publisher import Publisher
from mirror.push.receipt import Receipt, State
from mirror.push.run import push
from tests.push_support import FolderSource, make_upload, read_metadata
from tests.wheelhouse import make_sdist, make_wheel

WHEEL = make_wheel("Conforming.Project", requires=["other>=1"], requires_python=">=3.8", extras=["more"])
PROJECT = "conforming-project"


class PublisherConformance:
    """One suite that all publishers pass; each test gets an empty repository."""

    def test_an_unknown_project_is_empty(self, publisher: Publisher) -> None:
        assert publisher.listing("unheard-of") == {}
        assert publisher.digest("unheard-of", "unheard_of-1.0-py3-none-any.whl") is None

    def test_its_url_names_it_without_credentials(self, publisher: Publisher) -> None:
        assert publisher.url
        assert "@" not in publisher.url

    def test_what_was_uploaded_is_listed(self, publisher: Publisher, tmp_path: Path) -> None:
        upload = make_upload(WHEEL, tmp_path)
        publisher.upload(upload)
        listing = publisher.listing(PROJECT)
        assert list(listing) == [WHEEL.filename]
        assert listing[WHEEL.filename].agrees(upload.hashes) in (True, None)

    def test_the_digest_is_that_of_the_bytes(self, publisher: Publisher, tmp_path: Path) -> None:
        publisher.upload(make_upload(WHEEL, tmp_path))
        assert publisher.digest(PROJECT, WHEEL.filename) == hashlib.sha256(WHEEL.data).hexdigest()
        assert publisher.digest(PROJECT, WHEEL.filename.replace("1.0", "2.0")) is None

    def test_the_same_file_again_changes_nothing(self, publisher: Publisher, tmp_path: Path) -> None:
        upload = make_upload(WHEEL, tmp_path)
        publisher.upload(upload)
        with contextlib.suppress(ConflictError, HTTPError):  # refusing is fine, asking for another try is not
            publisher.upload(upload)
        assert publisher.digest(PROJECT, WHEEL.filename) == WHEEL.sha256

    def test_other_bytes_under_the_same_name_are_refused(self, publisher: Publisher, tmp_path: Path) -> None:
        publisher.upload(make_upload(WHEEL, tmp_path))
        other = make_wheel("Conforming.Project", files={"other.py": b"other"})
        assert other.filename == WHEEL.filename
        with pytest.raises(AirgapError) as caught:
            publisher.upload(make_upload(other, tmp_path / "other"))
        assert not caught.value.retryable
        assert publisher.digest(PROJECT, WHEEL.filename) == WHEEL.sha256

    def test_wheels_and_sdists_with_any_name(self, publisher: Publisher, tmp_path: Path) -> None:
        files = [
            make_wheel("Conforming.Project", tag="cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64"),
            make_wheel("Conforming.Project", tag="cp312-cp312-win_amd64", build="1"),
            make_wheel("Conforming.Project", version="1.0.post1"),
            make_wheel("Conforming.Project", version="2.0+local.1"),
            make_sdist("Conforming.Project", version="2.0rc1"),
        ]
        for built in files:
            publisher.upload(make_upload(built, tmp_path))
        assert sorted(publisher.listing(PROJECT)) == sorted(built.filename for built in files)
        for built in files:
            assert publisher.digest(PROJECT, built.filename) == built.sha256

    def test_a_large_file(self, publisher: Publisher, tmp_path: Path) -> None:
        noise = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(200_000))
        large = make_wheel("large", files={"large.bin": noise})
        publisher.upload(make_upload(large, tmp_path))
        assert publisher.digest("large", large.filename) == large.sha256

    def test_a_whole_push_and_once_more(self, publisher: Publisher, tmp_path: Path) -> None:
        source = FolderSource(
            tmp_path / "source",
            [
                (make_wheel("top", requires=["dotted.name"]), ["dotted-name", "cycle-a"]),
                (make_wheel("dotted.name"), []),
                (make_sdist("dotted.name", "0.9"), []),
                (make_wheel("cycle_a", requires=["cycle-b"]), ["cycle-b"]),
                (make_wheel("cycle_b", requires=["cycle-a"]), ["cycle-a"]),
            ],
        )
        assert self.pushed(source, publisher).counts[State.UPLOADED] == 5
        assert self.pushed(source, publisher).counts[State.PRESENT] == 5

    @staticmethod
    def pushed(source: FolderSource, publisher: Publisher) -> Receipt:
        return push(source, publisher, metadata=read_metadata, workers=3, read_back_wait=10)

    def test_hashes_are_well_formed(self, publisher: Publisher, tmp_path: Path) -> None:
        publisher.upload(make_upload(WHEEL, tmp_path))
        for hashes in publisher.listing(PROJECT).values():
            assert isinstance(hashes, Hashes)
