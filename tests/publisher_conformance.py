"""What every publisher must do, whatever repository is behind it: subclass it and provide the fixture ``publisher``."""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from mirror.errors import AirgapError, ConflictError, HTTPError
from mirror.push.publisher import Publisher
from mirror.push.receipt import Receipt, State
from mirror.push.run import push
from tests.push_support import FolderSource, make_upload, read_metadata
from tests.wheelhouse import Built, make_sdist, make_wheel


class PublisherConformance:
    """One suite that all publishers pass; each test gets a repository that has no project ending in ``unique``.

    ``patience`` is in seconds: how long the repository may take to show what it accepted.
    """

    patience = 0.0

    def put(self, publisher: Publisher, folder: Path, *files: Built) -> None:
        for built in files:
            publisher.upload(make_upload(built, folder))
        projects = {canonicalize_name(built.filename.split("-")[0]) for built in files}
        names = {built.filename for built in files}
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline and names - {name for each in projects for name in publisher.listing(each)}:
            time.sleep(0.5)

    @pytest.fixture
    def unique(self) -> str:
        return ""

    @pytest.fixture
    def name(self, unique: str) -> str:
        return f"Conforming.Project{unique}"

    @pytest.fixture
    def project(self, name: str) -> str:
        return canonicalize_name(name)

    @pytest.fixture
    def wheel(self, name: str) -> Built:
        return make_wheel(name, requires=["other>=1"], requires_python=">=3.8", extras=["more"])

    def test_an_unknown_project_is_empty(self, publisher: Publisher) -> None:
        assert publisher.listing("unheard-of") == {}
        assert publisher.digest("unheard-of", "unheard_of-1.0-py3-none-any.whl") is None

    def test_its_url_names_it_without_credentials(self, publisher: Publisher) -> None:
        assert publisher.url
        assert "@" not in publisher.url

    def test_what_was_uploaded_is_listed(
        self, publisher: Publisher, wheel: Built, project: str, tmp_path: Path
    ) -> None:
        upload = make_upload(wheel, tmp_path)
        self.put(publisher, tmp_path, wheel)
        listing = publisher.listing(project)
        assert list(listing) == [wheel.filename]
        assert listing[wheel.filename].agrees(upload.hashes) in (True, None)
        known = publisher.projects()
        assert known is None or project in known

    def test_a_list_of_all_files_says_what_their_pages_say(
        self, publisher: Publisher, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mirror.push.flat._MANY", 1)
        publisher.projects()
        projects = [canonicalize_name(f"{name}-{word}") for word in ("one", "two")]
        self.put(publisher, tmp_path, *map(make_wheel, projects))
        pages = {filename: digests for project in projects for filename, digests in publisher.listing(project).items()}
        assert len(pages) == 2
        listed = publisher.listings(projects)
        assert (listed is not None) == self.lists(publisher)
        if listed is not None:
            assert {filename: listed[filename] for filename in pages} == pages

    def test_only_what_came_since_is_said_to_have_arrived(
        self, publisher: Publisher, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mirror.push.flat._MANY", 1)
        early, late, never = (canonicalize_name(f"{name}-{word}") for word in ("early", "late", "never"))
        self.put(publisher, tmp_path, make_wheel(early))
        publisher.projects()
        assert not publisher.arrived([early, late])
        self.put(publisher, tmp_path, make_wheel(late))
        assert all(publisher.listing(project) for project in (early, late))
        publisher.listings([early, late])
        assert set(publisher.arrived([early, late, never])) == ({late} if self.lists(publisher) else set())

    def lists(self, publisher: Publisher) -> bool:
        """Whether a list of all files is to be expected."""
        return False

    def test_the_digest_is_that_of_the_bytes(
        self, publisher: Publisher, wheel: Built, project: str, tmp_path: Path
    ) -> None:
        self.put(publisher, tmp_path, wheel)
        assert publisher.digest(project, wheel.filename) == hashlib.sha256(wheel.data).hexdigest()
        assert publisher.digest(project, wheel.filename.replace("1.0", "2.0")) is None

    def test_the_same_file_again_changes_nothing(
        self, publisher: Publisher, wheel: Built, project: str, tmp_path: Path
    ) -> None:
        self.put(publisher, tmp_path, wheel)
        with contextlib.suppress(ConflictError, HTTPError):  # refusing is fine, asking for another try is not
            publisher.upload(make_upload(wheel, tmp_path))
        assert publisher.digest(project, wheel.filename) == wheel.sha256

    def test_other_bytes_under_the_same_name_are_refused(
        self, publisher: Publisher, wheel: Built, name: str, project: str, tmp_path: Path
    ) -> None:
        self.put(publisher, tmp_path, wheel)
        other = make_wheel(name, files={"other.py": b"other"})
        assert other.filename == wheel.filename
        with pytest.raises(AirgapError) as caught:
            publisher.upload(make_upload(other, tmp_path / "other"))
        assert not caught.value.retryable
        assert publisher.digest(project, wheel.filename) == wheel.sha256

    def test_wheels_and_sdists_with_any_name(
        self, publisher: Publisher, name: str, project: str, tmp_path: Path
    ) -> None:
        files = [
            make_wheel(name, tag="cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64"),
            make_wheel(name, tag="cp312-cp312-win_amd64", build="1"),
            make_wheel(name, version="1.0.post1"),
            make_wheel(name, version="2.0+local.1"),
            make_sdist(name, version="2.0rc1"),
        ]
        self.put(publisher, tmp_path, *files)
        assert sorted(publisher.listing(project)) == sorted(built.filename for built in files)
        for built in files:
            assert publisher.digest(project, built.filename) == built.sha256

    def test_a_large_file(self, publisher: Publisher, unique: str, tmp_path: Path) -> None:
        noise = hashlib.shake_256(b"large").digest(6_400_000)
        large = make_wheel(f"large{unique}", files={"large.bin": noise})
        self.put(publisher, tmp_path, large)
        assert publisher.digest(f"large{unique}", large.filename) == large.sha256

    def test_a_whole_push_and_once_more(self, publisher: Publisher, unique: str, tmp_path: Path) -> None:
        dotted, first, second = (f"{name}{unique}" for name in ("dotted.name", "cycle_a", "cycle_b"))
        one, two = canonicalize_name(first), canonicalize_name(second)
        source = FolderSource(
            tmp_path / "source",
            [
                (make_wheel(f"top{unique}", requires=[dotted]), [canonicalize_name(dotted), one]),
                (make_wheel(dotted), []),
                (make_sdist(dotted, "0.9"), []),
                (make_wheel(first, requires=[two]), [two]),
                (make_wheel(second, requires=[one]), [one]),
            ],
        )
        assert self.pushed(source, publisher).counts[State.UPLOADED] == 5
        assert self.pushed(source, publisher).counts[State.PRESENT] == 5

    def test_another_file_under_a_name_stops_a_push(
        self, publisher: Publisher, wheel: Built, name: str, tmp_path: Path
    ) -> None:
        self.put(publisher, tmp_path, wheel)
        other = make_wheel(name, files={"other.py": b"other"})
        with pytest.raises(ConflictError):
            self.pushed(FolderSource(tmp_path / "other", [(other, [])]), publisher)

    def pushed(self, source: FolderSource, publisher: Publisher) -> Receipt:
        wait = max(10, self.patience)
        return push(source, publisher, metadata=read_metadata, workers=3, read_back_wait=wait, verify_download=-1)
