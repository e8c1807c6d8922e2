"""``[[index]]`` in airgap.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.config import Config, NamedIndex, Overrides, load
from mirror.errors import ConfigError


def read(folder: Path, toml: str, **overrides: str) -> Config:
    (folder / "airgap.toml").write_text(toml)
    environ = {"HOME": str(folder / "home"), "PIP_CONFIG_FILE": "/dev/null"}
    return load(environ=environ, cwd=folder, overrides=Overrides(**overrides))  # type: ignore[arg-type]


def test_indexes_in_their_order(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """
        [[index]]
        name = "private"
        url = "https://nexus.example/repository/own/simple/"
        projects = ["Acme_*", "tool"]
        [[index]]
        name = "torch"
        url = "https://torch.example/whl/cpu"
        """,
    )
    place = f"{tmp_path / 'airgap.toml'} [[index]]"
    assert config.indexes == (
        NamedIndex("private", "https://nexus.example/repository/own/simple/", ("acme-*", "tool"), f"{place} 1"),
        NamedIndex("torch", "https://torch.example/whl/cpu", (), f"{place} 2"),
    )
    assert config.index_strategy.value == "first-index"
    assert read(tmp_path, "", index_strategy="unsafe-best-match").index_strategy.source == "--index-strategy"


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[index]\nname = 'a'", "with two brackets"),
        ("index = 1", "with two brackets"),
        ("index = [1]", "[[index]] 1 must be a table"),
        ("[[index]]\nurl = 'https://h/'", "name must be a text that is not empty"),
        ("[[index]]\nname = 'a'", "url must be a text that is not empty"),
        ("[[index]]\nname = 'a'\nurl = 'h'", "url must be that of a simple index"),
        ("[[index]]\nname = 'a'\nurl = 'https://[h'", "url must be that of a simple index"),
        ("[[index]]\nname = 'a'\nurl = 'https://u:secret@h/'", "url carries credentials"),
        ("[[index]]\nname = 'a'\nurl = 'https://h/'\nproject = ['x']", "the nearest is 'projects'"),
        ("[[index]]\nname = 'a'\nurl = 'https://h/'\nprojects = 'x'", "projects must be a list"),
        ("[[index]]\nname = 'a'\nurl = 'https://h/'\nprojects = []", "projects must be a list"),
        ("[[index]]\nname = 'a'\nurl = 'https://h/'\nprojects = ['x y']", "'x y' is neither a project's name"),
        ("[[index]]\nname = 'a'\nurl = 'https://h/'\nprojects = [1]", "'1' is neither a project's name"),
        (2 * "[[index]]\nname = 'a'\nurl = 'https://h/'\n", "two of [[index]] have the name 'a'"),
    ],
)
def test_what_is_refused(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, toml)
    assert message in str(caught.value)
    assert "airgap.toml" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_strategy_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be first-index or unsafe-best-match"):
        read(tmp_path, "", index_strategy="best")
