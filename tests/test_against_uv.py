"""The same pins as ``uv pip compile`` on the same index, target by target, or a reason why not."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mirror.errors import ResolutionError
from tests.http_support import Server
from tests.uv_support import DATA, SETS, TARGETS, OurPins, differing, pins_of_uv, serve

#: Why a set's project has another version here than with uv, ``{set: {project: reason}}``.
REASONS: dict[str, dict[str, str]] = {}
#: Sets that take seconds; the others take minutes, most of them uv's, and run where AIRGAP_TEST_LIVE is 1.
QUICK = {"macos", "pins"}
ALL = os.environ.get("AIRGAP_TEST_LIVE") == "1"


@pytest.mark.parametrize("path", sorted((DATA / "recorded").glob("*.json")), ids=lambda path: path.stem)
def test_recorded_sets(path: Path, tmp_path: Path) -> None:
    recorded = json.loads(path.read_text())
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("\n".join(recorded["requirements"]))
    with Server() as server:
        url = serve(recorded, server)
        with OurPins(requirements, url) as ours:
            for python, platform, theirs in TARGETS:
                expected = pins_of_uv(requirements, python, theirs, url, "--cache-dir", f"{tmp_path}/uv")
                assert expected
                assert differing(ours.pins(python, platform), expected) == {}


@pytest.mark.network
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(not (ALL or name in QUICK), reason="AIRGAP_TEST_LIVE is not 1"))
        for name in SETS
    ],
)
def test_live_sets(name: str, tmp_path: Path) -> None:
    """Both ask within the same minutes: not every index shows upload times for a common cut-off."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("\n".join(SETS[name]))
    with ThreadPoolExecutor(2) as pool, OurPins(requirements) as ours:
        answers = [
            pool.submit(pins_of_uv, requirements, python, theirs, ours.index_url) for python, _, theirs in TARGETS
        ]
        unexplained: dict[str, object] = {}
        for (python, platform, _), answer in zip(TARGETS, answers, strict=True):
            theirs = answer.result()
            if theirs is None:
                with pytest.raises(ResolutionError):
                    ours.pins(python, platform)
                continue
            found = differing(ours.pins(python, platform), theirs)
            rest = {project: versions for project, versions in found.items() if project not in REASONS.get(name, {})}
            if rest:
                unexplained[f"{python} {platform}"] = rest
        assert unexplained == {}
