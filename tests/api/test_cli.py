"""The command line as a user types it: real processes where that is the point, else the app."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tests.api.conftest import own_process

from longleaf.api.cli.main import main
from longleaf.core.config import setting_names

LONGLEAF = [sys.executable, "-c", "from longleaf.api.cli.main import main; main()"]


def longleaf(home: Path, *arguments: str, expect: int = 0) -> str:
    """Run a command in this process (torch takes seconds to load); what it printed."""
    said, complained = io.StringIO(), io.StringIO()
    status: object = 0
    with (
        mock.patch.object(sys, "argv", ["longleaf", *arguments]),
        mock.patch.dict(os.environ, {"LONGLEAF_HOME": str(home)}),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
    ):
        try:
            main()
        except SystemExit as ended:
            status = ended.code or 0
    assert status == expect, (arguments, said.getvalue(), complained.getvalue())
    return said.getvalue() if expect == 0 else said.getvalue() + complained.getvalue()


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("documents")
    (root / "lease.txt").write_text("LEASE\n\nThe tenant pays rent on the first of each month.\n")
    (root / "roof.md").write_text("# Roof\n\nThe landlord keeps the roof tight.\n")
    (root / "broken.pdf").write_bytes(b"%PDF-1.7 this is no pdf at all")
    lines = [
        {"_id": "a1", "title": "IL-6", "text": "IL-6 rises in sepsis.", "year": 2019},
        {"_id": "a2", "title": "Zinc", "text": "Zinc shortens a common cold.", "year": 2022},
    ]
    (root / "papers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, documents: Path) -> Path:
    folder = tmp_path_factory.mktemp("home")
    printed = longleaf(folder, "index", str(documents), "--json").splitlines()
    results = [json.loads(line) for line in printed]
    outcomes = {Path(each["key"]).name: each["outcome"] for each in results[:-1]}
    assert outcomes == {
        "broken.pdf": "rejected",
        "lease.txt": "indexed",
        "papers.jsonl": "indexed",
        "roof.md": "indexed",
    }
    assert results[-1]["summary"] == {"indexed": 3, "rejected": 1}
    return folder


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    probe = (
        "import sys, contextlib\n"
        "sys.argv = ['longleaf', '--help']\n"
        "with contextlib.suppress(SystemExit):\n"
        "    from longleaf.api.cli.main import main\n"
        "    main()\n"
        "heavy = {'torch', 'transformers', 'numpy', 'sqlalchemy', 'fastapi', 'pydantic'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    for command in ("index", "search", "serve", "eval", "rebuild", "collections", "config"):
        assert command in done.stdout


@own_process
def test_stores_that_nobody_chose_are_not_loaded(home: Path) -> None:
    probe = (
        "import sys, contextlib\n"
        f"sys.argv = ['longleaf', 'search', 'rent', '--json', '--home', {str(home)!r}]\n"
        "with contextlib.suppress(SystemExit):\n"
        "    from longleaf.api.cli.main import main\n"
        "    main()\n"
        "others = {'faiss', 'qdrant_client', 'psycopg', 's3fs'}\n"
        "print('OTHERS', sorted(others & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    found, _, others = done.stdout.rpartition("OTHERS ")
    assert json.loads(found)["hits"] and others.strip() == "[]"


def test_search_without_a_server_reads_in_two_stages(home: Path) -> None:
    answer = json.loads(longleaf(home, "search", "when is the rent due?", "--json"))
    first = answer["hits"][0]
    assert Path(first["key"]).name == "lease.txt"
    assert first["reading"]["tokens_read"] == first["reading"]["tokens_total"] > 0
    assert answer["reranker"] == "late"
    assert answer["reranked_count"] == answer["found_count"] > 0
    assert answer["degraded"] == []
    assert "rent" in longleaf(home, "search", "when is the rent due?")


def test_parts_of_a_file_are_told_apart(tmp_path: Path) -> None:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "ada@example.com", "The numbat offer"
    mail.set_content("The numbat offer is attached.")
    for name in ("first.txt", "second.txt"):
        mail.add_attachment(f"The {name} numbat offer.", filename=name)
    (tmp_path / "files!").mkdir()
    file = tmp_path / "files!" / "offer.eml"
    file.write_bytes(bytes(mail))
    longleaf(tmp_path / "home", "index", str(file))
    shown = longleaf(tmp_path / "home", "search", "numbat offer").replace("\n", "")
    assert "offer.eml!/first.txt" in shown and "offer.eml!/second.txt" in shown
    assert shown.count("offer.eml") == shown.count(str(file)) == 3


def test_filters_and_exact_identifiers_work_from_the_command_line(home: Path) -> None:
    def keys(*arguments: str) -> list[str]:
        answer = json.loads(longleaf(home, "search", *arguments, "--json"))
        return [hit["key"] for hit in answer["hits"]]

    assert keys("IL-6")[0] == "a1"
    assert keys("sepsis cold year:2020..2023") == ["a2"]
    assert keys("cold", "--filter", '{"field": "year", "lt": 2020}') == ["a1"]


def test_a_mistake_gives_a_sentence_and_no_traceback(
    home: Path, documents: Path, tmp_path: Path
) -> None:
    for arguments in (
        ["search", "x", "--collection", "nothing"],
        ["search", "x", "--filter", "{not json"],
        ["search", "   "],
        ["index", str(tmp_path / "missing")],
        ["collections", "create", "../up"],
        ["collections", "create", "x", "--language", "klingon"],
        ["documents", "show", "nothing"],
        ["eval", str(tmp_path)],
        ["index", str(documents), "--meta", "x=\udcff"],
        ["index", str(documents), "--group", "\udcff"],
        ["index", str(documents), "--language", "german"],
        ["serve", "--host", "0.0.0.0"],
    ):
        said = longleaf(home, *arguments, expect=1)
        assert "Error: " in said, arguments
        assert "Traceback" not in said, arguments
    failed = longleaf(home, "documents", "show", "nothing", "--json", expect=1)
    assert json.loads(failed.splitlines()[0])["error"]["code"] == "not_found"


def test_strict_indexing_fails_when_a_file_is_rejected(home: Path, documents: Path) -> None:
    said = longleaf(home, "index", str(documents), "--strict", expect=3)
    assert "3 unchanged" in said
    assert "rejected: malformed" in said


def test_collections_and_documents_can_be_managed(home: Path, documents: Path) -> None:
    longleaf(home, "collections", "create", "other", "--language", "german")
    longleaf(home, "index", str(documents / "roof.md"), "--collection", "other")
    said = longleaf(home, "collections", "describe", "other", "--instruction", "Find [b] clauses")
    assert "Find [b] clauses" in said
    described = longleaf(
        home, "collections", "describe", "other", "--description", "Leases", "--json"
    )
    assert json.loads(described)["instruction"] == "Find [b] clauses"
    how = ("--depth", "auto", "--read-candidates", "40", "--deadline-ms", "300")
    assert "depth auto, candidates 40" in longleaf(home, "collections", "describe", "other", *how)
    back = ("--depth", "default", "--read-candidates", "0", "--max-tokens", "900", "--json")
    described = longleaf(home, "collections", "describe", "other", *back)
    assert json.loads(described)["rerank"] == {
        "depth": None, "candidates": None, "deadline_ms": 300.0, "max_tokens": 900,
    }  # fmt: skip
    assert "no depth" in longleaf(
        home, "collections", "describe", "other", "--depth", "x", expect=1
    )
    listed = json.loads(longleaf(home, "collections", "list", "--json"))
    assert {each["name"]: each["description"] for each in listed}["other"] == "Leases"
    assert {each["name"]: each["language"] for each in listed}["other"] == "german"
    [document] = json.loads(longleaf(home, "documents", "list", "--collection", "other", "--json"))
    shown = json.loads(
        longleaf(home, "documents", "show", document["public_id"], "--text", "--json")
    )
    assert "landlord" in shown["text"]
    longleaf(home, "documents", "delete", document["public_id"])
    assert "0" in longleaf(home, "collections", "delete", "other", "--yes")
    assert "other" not in longleaf(home, "collections", "list")


def test_config_names_every_setting_with_its_origin(home: Path) -> None:
    rows = json.loads(longleaf(home, "config", "--json"))
    assert [row["setting"] for row in rows] == list(setting_names())
    assert {row["setting"]: row["origin"] for row in rows}["home"] == "LONGLEAF_HOME"


def test_rebuild_makes_the_same_index(home: Path) -> None:
    before = json.loads(longleaf(home, "search", "roof", "--json"))
    rebuilt = json.loads(longleaf(home, "rebuild", "--json"))
    assert rebuilt["documents"] == 4
    after = json.loads(longleaf(home, "search", "roof", "--json"))
    assert [hit["document_id"] for hit in after["hits"]] == [
        hit["document_id"] for hit in before["hits"]
    ]


@pytest.fixture
def server(home: Path) -> Iterator[dict[str, Any]]:
    process = subprocess.Popen(
        [*LONGLEAF, "serve", "--port", "0", "--json"],
        env={**os.environ, "LONGLEAF_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        yield {"url": json.loads(line)["url"], "process": process}
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()


@own_process
def test_indexing_beside_a_running_server_simply_works(
    home: Path, server: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "new.txt").write_text("A zeppelin is lighter than air.")
    said = longleaf(home, "index", str(tmp_path / "new.txt"))
    assert "running server" in said
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        # The command asks the server, because the server owns the index.
        answer = json.loads(longleaf(home, "search", "zeppelin", "--json"))
        if answer["hits"] and Path(answer["hits"][0]["key"]).name == "new.txt":
            break
    else:
        pytest.fail("the server never found the new document")
    refused = longleaf(home, "rebuild", expect=1)
    assert "server runs" in refused
    second = longleaf(home, "serve", "--port", "0", expect=1)
    assert "owns the index" in second
