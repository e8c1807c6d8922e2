"""Backtracking on the real index: how often the search changes its mind about a hard set, whatever is published."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mirror.fetch import Fetcher
from mirror.index.client import IndexClient
from mirror.metadata.reader import MetadataReader
from mirror.models import RequirementLine, RequirementSet
from mirror.net import Client
from mirror.resolver import Resolution
from mirror.resolver.needs import Candidate
from mirror.resolver.provider import Provider
from mirror.store import Store
from mirror.targets import make_target

#: pip downloads 152 files' worth of candidates for it, uv tries 22.
CLOUD = ("boto3", "botocore", "urllib3<2", "s3fs", "aiobotocore")


@pytest.mark.network
def test_cloud_sdks_take_few_steps_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rejected: list[Candidate] = []
    plain = Provider.rejected

    def counted(self: Provider, candidate: Candidate) -> None:
        rejected.append(candidate)
        plain(self, candidate)

    monkeypatch.setattr(Provider, "rejected", counted)
    index_url = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple/")
    store = Store(tmp_path)
    lines = RequirementSet(tuple(RequirementLine(Requirement(text), text) for text in CLOUD))
    with (
        Client() as client,
        Fetcher(client, store) as fetcher,
        IndexClient(client, store, indexes=[index_url]) as index,
        Resolution(lines, index, MetadataReader(client, store, fetch=fetcher.start)) as resolution,
    ):
        (plan,) = resolution.plan([make_target("3.12", ["manylinux_2_28_x86_64"])]).targets
    assert {"boto3", "botocore", "urllib3", "s3fs", "aiobotocore"} <= {pin.project for pin in plan.pins}
    assert len(rejected) < 300
