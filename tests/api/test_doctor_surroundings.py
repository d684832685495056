"""What the doctor says of access, clock, services and backups, each well and each not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.conftest import sqlite_only
from tests.remote.servers import Answer, free_port, served

from longleaf.api.backup import LAST, back_up
from longleaf.api.doctor import access, surroundings
from longleaf.api.doctor.report import Finding, Status
from longleaf.core.access import Role
from longleaf.core.catalog import Catalog
from longleaf.core.catalog.audit import Audit, AuditWrite
from longleaf.core.catalog.keys import KeyWrite
from longleaf.core.config import Settings, load_settings


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def catalog(home: Path) -> Iterator[Catalog]:
    opened = Catalog(home)
    yield opened
    opened.close()


def settings(home: Path, **flags: object) -> Settings:
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return load_settings({"home": home, **named}, {}).settings


def only(found: Iterator[Finding]) -> Finding:
    [one] = found
    return one


@sqlite_only
@pytest.mark.parametrize(
    ("folder", "file", "status"),
    [
        (0o700, 0o666, Status.OK),
        (0o755, 0o600, Status.WARN),
        (0o711, 0o644, Status.WARN),
        (0o711, 0o660, Status.FAIL),
        (0o777, 0o600, Status.FAIL),
    ],
)
def test_who_else_on_this_machine_can_read(
    catalog: Catalog, home: Path, folder: int, file: int, status: Status
) -> None:
    assert home.stat().st_mode & 0o777 == 0o700, "made for its owner alone"
    for each in home.iterdir():
        each.chmod(file if each.name == "catalog.sqlite3" else 0o700)
    home.chmod(folder)
    found = access.permissions(home)
    assert found.status is status, found
    assert (found.remedy == "") == (status is Status.OK)


def test_the_address_and_the_keys(catalog: Catalog, home: Path) -> None:
    near, far = settings(home), settings(home, server__host="0.0.0.0")
    open_to_all = settings(home, server__host="0.0.0.0", server__allow_remote=True)
    six = settings(home, server__host="::1")
    said = [only(access.keys(each, catalog)).status for each in (near, six, open_to_all, far)]
    assert said == [Status.OK, Status.OK, Status.WARN, Status.FAIL]
    now = time.time()
    ends = KeyWrite("ends", Role.READ, expires_at=now + 20 * 86_400)
    for each in (KeyWrite("admin", Role.ADMIN), ends):
        catalog.keys.create(each)
    well = only(access.keys(far, catalog))
    assert well.status is Status.OK and "2 good (1 of them admin, 2 never used)" in well.fact
    soon = only(access.keys(far, catalog, now + 10 * 86_400))
    assert soon.status is Status.WARN and "ends: in 10.0 days" in soon.details[0]
    for key in catalog.keys.all():
        catalog.keys.revoke(key.id)
    assert "All 2 have ended" in only(access.keys(near, catalog)).fact


def test_services_are_connected_to(home: Path) -> None:
    with served(lambda *_: Answer({})) as there:
        nobody = f"http://127.0.0.1:{free_port()}"
        urls = settings(home, answer__url=there.url, telemetry__endpoint=nobody)
        well, away = surroundings.services(urls)
        provider = settings(home, oidc__issuer=nobody, oidc__client_id="longleaf")
        assert only(surroundings.services(provider)).subject == "oidc.issuer"
        assert there.asked == [], "nothing is sent"
        plain = settings(home, qdrant__url=there.url.replace("http:", "https:"))
        assert only(surroundings.services(plain)).status is Status.FAIL
    assert (well.subject, well.status) == ("answer.url", Status.OK)
    assert (away.subject, away.status) == ("telemetry.endpoint", Status.FAIL)
    assert "refused" in away.fact and away.remedy
    assert list(surroundings.services(settings(home))) == []


def test_a_clock_that_was_set_back_is_told(catalog: Catalog) -> None:
    assert surroundings.clock(catalog).status is Status.OK
    later = Audit(catalog.database, lambda: time.time() + 3_600)
    later.put(AuditWrite("local", None, "keys create", "abc", 0))
    found = surroundings.clock(catalog)
    assert found.status is Status.WARN and "s behind" in found.fact


@sqlite_only
def test_the_last_backup(catalog: Catalog, home: Path, tmp_path: Path) -> None:
    none = surroundings.backup(home, settings(home))
    assert none.status is Status.WARN and "never" in none.fact
    back_up(home, tmp_path / "saved")
    assert surroundings.backup(home, settings(home)).status is Status.OK
    (home / LAST).write_text(json.dumps({"at": time.time() - 10 * 86_400}))
    old = surroundings.backup(home, settings(home))
    assert old.status is Status.WARN and "10.0 days ago" in old.fact
    (home / LAST).write_text("[]")
    assert "cannot be read" in surroundings.backup(home, settings(home)).fact


def test_gpus_are_what_the_driver_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(surroundings.gpu()) == []
    program = tmp_path / "nvidia-smi"
    for said, status in (("echo a, 1; echo b, 2", [Status.OK] * 2), ("exit 9", [Status.FAIL])):
        program.write_text(f"#!/bin/sh\n{said}\n")
        program.chmod(0o755)
        assert [each.status for each in surroundings.gpu()] == status


def test_few_open_files_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, status in ((256, Status.WARN), (65_535, Status.OK), (-1, Status.OK)):
        monkeypatch.setattr(surroundings.resource, "getrlimit", lambda _, n=files: (n, n))
        assert surroundings.limits().status is status
