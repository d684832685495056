"""Advisories and licences are found in what is installed, without a network."""

from __future__ import annotations

import importlib.metadata
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from benchmarks.trust import advisories, dependencies

TQDM = importlib.metadata.version("tqdm")


def advisory(identity: str, package: str, **affected: Any) -> dict[str, Any]:
    about = {"package": {"name": package, "ecosystem": "PyPI"}, **affected}
    return {"id": identity, "schema_version": "1.6.0", "summary": "invented", "affected": [about]}


def ranged(*events: dict[str, str]) -> dict[str, Any]:
    return {"ranges": [{"type": "ECOSYSTEM", "events": list(events)}]}


@pytest.mark.parametrize(
    ("events", "affected"),
    [
        ([{"introduced": "0"}], ["0.1", "1.0", "1.5", "2.0", "3.0"]),
        ([{"introduced": "0"}, {"fixed": "1.0"}], ["0.1"]),
        ([{"introduced": "1.0"}, {"last_affected": "2.0"}], ["1.0", "1.5", "2.0"]),
        ([{"fixed": "1.0"}, {"introduced": "0"}, {"introduced": "2.0"}], ["0.1", "2.0", "3.0"]),
        ([{"introduced": "not a version"}], []),
    ],
)
def test_events_say_which_versions(events: list[dict[str, str]], affected: list[str]) -> None:
    known = [advisory("X", "Some_Thing", **ranged(*events))]
    versions = ["0.1", "1.0", "1.5", "2.0", "3.0"]
    found = [each for each in versions if advisories.concerning(known, "some-thing", each)]
    assert found == [each for each in versions if each in affected]


def test_versions_may_stand_alone() -> None:
    known = [advisory("X", "thing", versions=["1.0.0"])]
    assert advisories.concerning(known, "thing", "1.0")
    assert not advisories.concerning(known, "thing", "1.0.1")


def test_a_copy_without_advisories_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(advisory("X", "a") | {"withdrawn": "2026-01-01"}))
    with pytest.raises(ValueError, match="no advisory"):
        advisories.read(tmp_path)


def test_pip_audit_finds_an_invented_advisory_in_a_real_package(tmp_path: Path) -> None:
    place = tmp_path / "all.zip"
    with zipfile.ZipFile(place, "w") as archive:
        for each in (
            advisory("INVENTED-1", "tqdm", **ranged({"introduced": "0"}, {"fixed": "999"})),
            advisory("INVENTED-2", "tqdm", **ranged({"introduced": "0"}, {"fixed": TQDM})),
            advisory("INVENTED-3", "not-installed-here", **ranged({"introduced": "0"})),
        ):
            archive.writestr(f"{each['id']}.json", json.dumps(each))
    distribution = importlib.metadata.distribution("tqdm")
    folder = next(each for each in distribution.files or () if each.name == "METADATA")
    site = tmp_path / "site"
    site.mkdir()
    metadata = Path(str(distribution.locate_file(folder))).parent
    (site / metadata.name).symlink_to(metadata)
    found, held = dependencies.known_advisories(place, site)
    assert held == 3
    assert found == [f"tqdm {TQDM}: INVENTED-1, fixed in 999"]


def test_licences_of_what_is_installed_are_known_and_others_are_told() -> None:
    packages = dependencies.installed()
    assert len(packages) > 50
    assert dependencies.unknown_licences(packages) == []
    for licence in ("AGPL-3.0-only", "MIT AND GPL-3.0-only", "UNKNOWN", "GPL-2.0 OR AGPL-3.0"):
        made = [{"Name": "made-up", "Version": "1", "License": licence}]
        assert len(dependencies.unknown_licences(made)) == 1, licence
    for licence in ("MIT OR AGPL-3.0-only", "Apache Software License; MIT License"):
        made = [{"Name": "made-up", "Version": "1", "License": licence}]
        assert dependencies.unknown_licences(made) == []
    changed = [{"Name": "tqdm", "Version": "9", "License": "AGPL-3.0-only"}]
    assert dependencies.unknown_licences(changed), "an exception is for one licence"


def test_the_sbom_names_what_is_installed(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    assert dependencies.write_sbom(file) > 50
    told = json.loads(file.read_text("utf-8"))
    assert told["bomFormat"] == "CycloneDX"
    assert ("tqdm", TQDM) in {(each["name"], each["version"]) for each in told["components"]}
