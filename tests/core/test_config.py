"""Settings: which source wins, and what a mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest

from longleaf.core.config import load_settings, setting_names
from longleaf.core.errors import ConfigError


def test_flags_win_over_environment_over_file_over_default(tmp_path: Path) -> None:
    (tmp_path / "longleaf.toml").write_text(
        "[server]\nport = 1111\n[retriever]\ncandidates = 50\nfusion = 'rrf'\n"
    )
    environment = {
        "LONGLEAF_HOME": str(tmp_path),
        "LONGLEAF_SERVER__PORT": "2222",
        "LONGLEAF_RETRIEVER__CANDIDATES": "60",
    }
    loaded = load_settings({"server.port": 3333, "server.host": None}, environment)
    settings = loaded.settings
    assert (settings.server.port, settings.retriever.candidates) == (3333, 60)
    assert (settings.retriever.fusion, settings.server.host) == ("rrf", "127.0.0.1")
    assert settings.home == tmp_path
    assert loaded.origins["server.port"] == "command line"
    assert loaded.origins["retriever.candidates"] == "LONGLEAF_RETRIEVER__CANDIDATES"
    assert loaded.origins["retriever.fusion"] == str(tmp_path / "longleaf.toml")
    assert loaded.origins["server.host"] == "default"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"LONGLEAF_SERVER__PORT": "many"}, "server.port cannot be 'many'"),
        ({"LONGLEAF_RETRIEVER__CANDIDATES": "0"}, "LONGLEAF_RETRIEVER__CANDIDATES"),
        ({"LONGLEAF_RERANKER__KIND": "magic"}, "reranker.kind"),
        ({"LONGLEAF_PROT": "1"}, "LONGLEAF_PROT, which is no setting"),
    ],
)
def test_a_mistake_names_the_setting(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load_settings(environment={"LONGLEAF_HOME": str(tmp_path), **environment})


@pytest.mark.parametrize("text", ["[server]\nprot = 1", "home = '/x'", "[server\n", "server = 3"])
def test_a_mistake_in_the_file_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "longleaf.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"longleaf\.toml"):
        load_settings(environment={"LONGLEAF_HOME": str(tmp_path)})


def test_every_setting_is_described() -> None:
    assert {name for name, description in setting_names().items() if not description} == set()


def test_settings_cannot_change(tmp_path: Path) -> None:
    settings = load_settings({"home": tmp_path}, {}).settings
    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1
