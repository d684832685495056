"""`longleaf keys` and `longleaf audit`: a key is shown once, and what was done to keys is kept."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from longleaf.api.cli.main import app
from longleaf.api.oidc import openid
from longleaf.api.working import work
from longleaf.core.access import Caller, Person, Role
from longleaf.core.catalog import Catalog
from longleaf.core.catalog.audit import Audit, AuditWrite
from longleaf.core.catalog.keys import KeyWrite
from longleaf.core.config import load_settings
from longleaf.core.errors import ConfigError, InvalidRequest, NotFound
from longleaf.core.oidc_settings import OidcSettings
from longleaf.core.types import Scope


@pytest.fixture
def home(tmp_path: Path) -> Path:
    catalog = Catalog(tmp_path)
    catalog.create_collection("leases")
    catalog.close()
    return tmp_path


def ran(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--home", str(home)])


def told(home: Path, *words: str) -> Any:
    result = ran(home, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_key_from_its_making_to_its_end(home: Path) -> None:
    assert "may do everything" in ran(home, "keys", "list").stdout
    limits = ("--collection", "leases", "--group", "staff", "--requests-per-minute", "9")
    shown = ran(home, "keys", "create", "Anne [bold]", *limits)
    [token] = re.findall(r"^ll_[a-z2-7]{8}_\S{43}$", shown.stdout, re.MULTILINE)
    assert "read; collections leases; groups staff; never used" in shown.stdout
    catalog = Catalog(home)
    try:
        caller = catalog.keys.caller(token)
        assert caller is not None
        assert (caller.name, caller.role, caller.requests_per_minute) == (
            "Anne [bold]", Role.READ, 9,
        )  # fmt: skip
    finally:
        catalog.close()
    [listed] = told(home, "keys", "list")["keys"]
    assert token not in json.dumps(listed)
    assert listed["groups"] == ["staff"]
    assert told(home, "keys", "revoke", listed["id"])["revoked_at"] is not None
    assert "revoked on 20" in ran(home, "keys", "list").stdout
    acts = told(home, "audit")["acts"]
    assert [(each["act"], each["target"], each["caller"]) for each in acts] == [
        ("keys revoke", listed["id"], "local"),
        ("keys create", listed["id"], "local"),
    ]
    assert token not in ran(home, "audit").stdout


def test_json_holds_the_key_and_its_limits(home: Path) -> None:
    made = told(
        home,
        "keys",
        "create",
        "scanner",
        "--role",
        "write",
        "--days",
        "1",
        "--max-body-bytes",
        "1000",
    )
    assert made["key"].startswith(f"ll_{made['id']}_")
    assert made["expires_at"] == pytest.approx(made["created_at"] + 86_400, abs=60)
    assert (made["role"], made["groups"], made["max_body_bytes"]) == ("write", None, 1000)


def test_sessions_are_listed_and_ended(home: Path) -> None:
    assert "Nobody is signed in" in ran(home, "keys", "sessions").stdout
    catalog = Catalog(home)
    person = Person("https://id.example", "anne-1", "Anne")
    catalog.keys.open_session(Caller("Anne (anne-1)", Role.READ, Scope.all(), person=person), 600.0)
    key, _ = catalog.keys.create(KeyWrite("clerk", Role.WRITE))
    token = catalog.keys.open_session(key.caller(), 600.0)
    catalog.close()
    shown = ran(home, "keys", "sessions").stdout
    assert "Anne (anne-1): read; identity provider; since" in shown
    assert f"clerk: write; key {key.id}; since" in shown
    assert token not in shown
    anne, _ = told(home, "keys", "sessions")["sessions"]
    assert anne["person"]["subject"] == "anne-1"
    assert "Anne (anne-1) has ended" in ran(home, "keys", "end-session", anne["id"]).stdout
    assert [each["name"] for each in told(home, "keys", "sessions")["sessions"]] == ["clerk"]
    assert isinstance(ran(home, "keys", "end-session", anne["id"]).exception, NotFound)
    [act] = told(home, "audit", "--limit", "1")["acts"]
    assert (act["act"], act["target"]) == ("keys end-session", f"{anne['id']} of Anne (anne-1)")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("create", "a", "--collection", "nowhere"), NotFound),
        (("create", "a", "--role", "write", "--group", "x"), InvalidRequest),
        (("create", "a", "--group", "x", "--no-groups"), InvalidRequest),
        (("create", " "), InvalidRequest),
        (("revoke", "aaaaaaaa"), NotFound),
    ],
)
def test_what_makes_no_sense_makes_no_key(
    home: Path, words: tuple[str, ...], error: type[Exception]
) -> None:
    result = ran(home, "keys", *words)
    assert isinstance(result.exception, error)
    assert told(home, "keys", "list") == {"keys": []}


def test_beyond_loopback_a_server_wants_a_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ran(home, "serve", "--host", "192.0.2.1", "--port", "0")
    assert isinstance(refused.exception, ConfigError)
    assert "longleaf keys create" in str(refused.exception)
    told(home, "keys", "create", "ops", "--role", "admin")
    bound = ran(home, "serve", "--host", "192.0.2.1", "--port", "0")
    # With a key it goes on to listening, which this machine's addresses do not allow.
    assert "Cannot listen on 192.0.2.1" in str(bound.exception)
    assert load_settings({"home": home}, {}).settings.server.allow_remote is False


def test_a_worker_takes_old_rows_of_the_audit_log_away(home: Path) -> None:
    catalog = Catalog(home)
    for days in (40, 20):
        past = Audit(catalog.database, lambda days=days: time.time() - days * 86_400.0)
        past.put(AuditWrite("Anne", None, "keys create", f"{days} days ago", 0))
    catalog.close()
    assert told(home, "audit")["keep_days"] == 0
    assert "kept for ever" in ran(home, "audit").stdout
    for keep_days, left in ((0.0, ["20 days ago", "40 days ago"]), (30.0, ["20 days ago"])):
        settings = load_settings({"home": home, "audit.keep_days": keep_days}, {}).settings
        assert work(settings, threading.Event(), until_idle=True) == 0
        acts = told(home, "audit")["acts"]
        assert [each["target"] for each in acts if each["caller"] == "Anne"] == left
    assert acts[0]["act"] == "audit forget" and acts[0]["target"].startswith("1 rows before 20")
    (home / "longleaf.toml").write_text("[audit]\nkeep_days = 30\n")
    assert "kept for 30 days" in ran(home, "audit").stdout


def test_with_an_identity_provider_a_server_wants_a_key_on_loopback_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the door would stand open as soon as the setting is gone."""
    for name, value in {
        "ISSUER": "https://id.example", "CLIENT_ID": "longleaf", "RULES": '[{"group": "*"}]',
        "PUBLIC_URL": "https://search.example", "CLIENT_SECRET": "never shown",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"LONGLEAF_OIDC__{name}", value)
    refused = ran(home, "serve", "--port", "0")
    assert isinstance(refused.exception, ConfigError)
    assert "there is no key" in str(refused.exception)
    shown = ran(home, "config", "--json").stdout
    assert "never shown" not in shown and "id.example" in shown
    monkeypatch.delenv("LONGLEAF_OIDC__ISSUER")
    assert "oidc.issuer is not" in str(ran(home, "serve", "--port", "0").exception)


def test_a_provider_without_its_package_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = OidcSettings(
        issuer="https://id.example", client_id="x", public_url="https://search.example",
        rules='[{"group": "*"}]',
    )  # fmt: skip
    monkeypatch.setattr(openid, "find_spec", lambda name: None)
    catalog = Catalog(home)
    try:
        with pytest.raises(ConfigError, match=r"longleaf\[oidc\]"):
            openid.open_openid(settings, catalog)
    finally:
        catalog.close()
