"""Settings: which source wins, and what a mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest

from longleaf.core.config import load_settings, setting_names, shown_value
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


def test_a_secret_comes_from_the_environment_and_is_never_shown(tmp_path: Path) -> None:
    environment = {
        "LONGLEAF_HOME": str(tmp_path),
        "LONGLEAF_QDRANT__API_KEY": "very-secret",
        "LONGLEAF_CATALOG__URL": "postgresql://anna:very-secret@db:5432/longleaf",
    }
    settings = load_settings(environment=environment).settings
    assert settings.qdrant.api_key == "very-secret"
    shown = {name: shown_value(settings, name) for name in setting_names()}
    assert shown["qdrant.api_key"] == "(set)"
    assert shown["catalog.url"] == "postgresql://anna:***@db:5432/longleaf"
    assert "very-secret" not in f"{shown} {settings!r} {settings}"


@pytest.mark.parametrize(
    "text",
    [
        "[qdrant]\napi_key = 'very-secret'",
        "[catalog]\nurl = 'postgresql://anna:very-secret@db/longleaf'",
    ],
)
def test_a_file_takes_no_secret(tmp_path: Path, text: str) -> None:
    (tmp_path / "longleaf.toml").write_text(text)
    with pytest.raises(ConfigError, match="Put it into the environment") as raised:
        load_settings(environment={"LONGLEAF_HOME": str(tmp_path)})
    assert "very-secret" not in str(raised.value)


def test_a_url_without_a_password_may_stand_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "longleaf.toml").write_text("[catalog]\nurl = 'postgresql://anna@db/longleaf'")
    settings = load_settings(environment={"LONGLEAF_HOME": str(tmp_path)}).settings
    assert settings.catalog.url == "postgresql://anna@db/longleaf"
