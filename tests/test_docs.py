"""The documents say what the code does: every route, command, option, setting, outcome and error.

Pages are made from the code where that is possible (tests/doc_tables.py) and compared; the rest is
written by hand and checked for completeness, and its examples are read by the code they are about.
"""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from tests.bare_app import bare_app
from tests.doc_tables import (
    BEGIN,
    COMMAND,
    END,
    PAGES,
    ROOT,
    leaf_commands,
    parse_command_line,
    rewritten,
)

from longleaf.api.cli.main import app as cli
from longleaf.api.http.answer_schemas import AnswerView
from longleaf.api.http.cite import CitationView
from longleaf.api.http.dialects.places import PLACES, choose
from longleaf.api.http.document_text import TextParts
from longleaf.api.http.errors import STATUSES, Problem
from longleaf.api.http.evaluations import EvaluationBody, EvaluationView
from longleaf.api.http.judgements import JudgementBody, JudgementList, StandingList
from longleaf.api.http.rerank_schemas import RerankAbout, RerankBody, RerankView
from longleaf.api.http.schemas import (
    Alive,
    CollectionBody,
    CollectionChanges,
    CollectionDeleted,
    CollectionList,
    DocumentList,
    JobFileList,
    JobList,
    PassageList,
    PlacesView,
    Ready,
    UploadView,
    VersionList,
)
from longleaf.api.http.search_schemas import SearchBody
from longleaf.api.http.status import StatusView
from longleaf.api.http.suggest import SuggestionList
from longleaf.api.http.uploads import UploadList
from longleaf.api.http.written_schemas import AskBody, SourceView
from longleaf.core import errors
from longleaf.core.config import setting_names
from longleaf.core.errors import RejectReason
from longleaf.core.filters import BUILT_IN_FIELDS
from longleaf.core.types import Document, Outcome
from longleaf.indexer.parsers import PARSERS
from longleaf.indexer.parsers.jsonl import JsonlParser
from longleaf.retriever.filters import MAX_DEPTH, MAX_TESTS, filter_from_json

_SKIPPED = {"build", "dist", "node_modules", "documents"}
_ALLOWED_HOSTS = {"127.0.0.1", "localhost", "keepachangelog.com"}
_FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_HOST = re.compile(r"\b(?:[a-z0-9-]+\.)+(?:org|com|io|co|net|dev|ai|eu)\b(?!\()", re.IGNORECASE)
_COMMAND_IN_WORDS = re.compile(r"`longleaf ([a-z]+)")


@cache
def _files(*patterns: str) -> list[Path]:
    """Looked for once: that goes through an environment of tens of thousands of files."""
    return sorted(
        file
        for pattern in patterns
        for file in ROOT.rglob(pattern)
        if not any(
            part.startswith(".") or part in _SKIPPED for part in file.relative_to(ROOT).parts[:-1]
        )
        and "src" not in file.relative_to(ROOT).parts[:1]
    )


MARKDOWN = _files("*.md")
README = (ROOT / "README.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
API = (ROOT / "docs/api.md").read_text("utf-8")
DOCUMENTS = (ROOT / "docs/documents.md").read_text("utf-8")
QUERY = (ROOT / "docs/query.md").read_text("utf-8")
_OPENAPI: dict[str, Any] = {}


def openapi() -> dict[str, Any]:
    """The app's own description."""
    if not _OPENAPI:
        _OPENAPI.update(bare_app().openapi())
    return _OPENAPI


def _of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def _codes(text: str) -> set[str]:
    """What stands in back quotes."""
    return set(re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)))


def _sections(text: str) -> dict[str, str]:
    """Heading of level three -> what stands below it."""
    parts = re.split(r"^#{2,3} (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _json_blocks(text: str) -> list[Any]:
    return [json.loads(found["body"]) for found in _FENCE.finditer(text) if found["kind"] == "json"]


# --- what is made from the code ----------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_generated_part_is_what_the_code_says(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert text == rewritten(page, text), f"{page} is out of date. Run: {COMMAND}"


def test_every_setting_and_every_command_has_its_row() -> None:
    settings = (ROOT / "docs/settings.md").read_text("utf-8")
    assert [name for name in setting_names() if f"| `{name}` |" not in settings] == []
    page = (ROOT / "docs/cli.md").read_text("utf-8")
    for path, command in leaf_commands():
        section = _sections(page)[f"longleaf {' '.join(path)}"]
        for parameter in command.params:
            for name in (*parameter.opts, *parameter.secondary_opts):
                shown = name if name.startswith("-") else name.upper()
                assert re.search(rf"[`/]{re.escape(shown)}[`/]", section), (path, name)


def test_setting_descriptions_name_only_commands_that_exist() -> None:
    named = {name for text in setting_names().values() for name in _COMMAND_IN_WORDS.findall(text)}
    assert named <= set(_groups())


# --- commands ----------------------------------------------------------------------------------


def _groups() -> dict[str, Any]:
    root: Any = typer.main.get_command(cli)
    return dict(root.commands)


def _command_lines() -> list[tuple[str, str]]:
    return [
        (_of(file), line)
        for file in MARKDOWN
        for found in _FENCE.finditer(file.read_text("utf-8"))
        for line in found["body"].splitlines()
        if line.startswith("longleaf ")
    ]


def test_command_lines_are_read() -> None:
    assert len(_command_lines()) >= 4
    with pytest.raises(Exception, match=r"[Nn]o such option"):
        parse_command_line(["index", "folder", "--no-such-option"])
    with pytest.raises(Exception, match=r"[Nn]o such command"):
        parse_command_line(["no-such-command"])


@pytest.mark.parametrize(("file", "line"), _command_lines())
def test_command_line_in_a_code_block_is_one(file: str, line: str) -> None:
    parse_command_line(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("file", MARKDOWN, ids=_of)
def test_commands_in_words_exist(file: Path) -> None:
    text = file.read_text("utf-8")
    if file.name == "settings.md":
        text = text.partition(BEGIN)[0] + text.partition(END)[2]  # the test above
    assert set(_COMMAND_IN_WORDS.findall(text)) <= set(_groups())


def test_readme_names_every_command_and_only_options_that_exist() -> None:
    assert [name for name in _groups() if f"`longleaf {name}" not in README] == []
    known = {
        name
        for _, command in leaf_commands()
        for parameter in command.params
        for name in parameter.opts
    }
    assert set(re.findall(r"`(--[a-z-]+)", README)) <= known


def test_make_targets_and_documents_agree() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split()) == targets  # type: ignore[index]
    for name, text in (("README", README), ("CONTRIBUTING", CONTRIBUTING)):
        named = set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE))
        assert named <= targets, f"{name} names make targets that are not there"
    said = set(re.findall(r"\bmake ([a-z]+)", README + CONTRIBUTING))
    assert targets <= said, "make targets that nobody explains"


def test_what_make_runs_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    scripts = re.findall(r"\$\(BIN\)/python ([\w/]+\.py)", makefile)
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


# --- the API -----------------------------------------------------------------------------------


def test_every_route_has_a_section_and_every_section_a_route() -> None:
    routes = {
        f"{method.upper()} {path}"
        for path, methods in openapi()["paths"].items()
        for method in methods
    }
    described = {heading for heading in _sections(API) if re.match(r"[A-Z]+ /", heading)}
    assert described == routes


def test_every_parameter_of_a_route_is_named() -> None:
    schemas = openapi()["components"]["schemas"]
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            names = {each["name"] for each in operation.get("parameters", [])}
            for body in operation.get("requestBody", {}).get("content", {}).values():
                for each in body["schema"].get("anyOf", [body["schema"]]):
                    names |= set(schemas[each["$ref"].rpartition("/")[2]]["properties"])
            section = _sections(API)[f"{method.upper()} {path}"]
            missing = {name for name in names if not re.search(rf"`{name}\b", section)}
            assert not missing, (method, path)


def test_examples_of_the_api_are_what_the_api_takes_and_answers() -> None:
    example_of: dict[str, tuple[type[BaseModel], ...]] = {
        "POST /v1/search": (SearchBody, AnswerView),
        "POST /v1/answer": (AskBody, SourceView),
        "POST /v1/rerank": (RerankBody, RerankView),
        "GET /v1/rerank": (RerankAbout,),
        "POST /v1/documents": (UploadView,),
        "GET /v1/suggest": (SuggestionList,),
        "GET /v1/documents/{document_id}/citation": (CitationView,),
        "GET /v1/documents": (DocumentList,),
        "GET /v1/documents/{document_id}/passages": (PassageList,),
        "GET /v1/documents/{document_id}/text": (TextParts,),
        "GET /v1/documents/{document_id}/versions": (VersionList,),
        "GET /v1/documents/{document_id}/rectangles": (PlacesView,),
        "POST /v1/judgements": (JudgementBody,),
        "GET /v1/judgements": (JudgementList,),
        "GET /v1/judgements/standing": (StandingList,),
        "POST /v1/evaluations": (EvaluationBody,),
        "GET /v1/evaluations/{evaluation_id}": (EvaluationView,),
        "GET /v1/collections": (CollectionList,),
        "POST /v1/collections": (CollectionBody,),
        "PATCH /v1/collections/{name}": (CollectionChanges,),
        "DELETE /v1/collections/{name}": (CollectionDeleted,),
        "GET /v1/jobs": (JobList,),
        "GET /v1/jobs/{job_id}/files": (JobFileList,),
        "GET /v1/uploads": (UploadList,),
        "GET /v1/status": (StatusView,),
        "GET /healthz": (Alive,),
        "GET /readyz": (Ready,),
        "Errors": (Problem,),
    }
    for heading, models in example_of.items():
        examples = _json_blocks(_sections(API)[heading])
        assert len(examples) == len(models), heading
        for model, example in zip(models, examples, strict=True):
            read = model.model_validate(example)
            if model not in (SearchBody, AskBody, RerankBody, CollectionChanges, Problem):
                assert read.model_dump(mode="json") == example, f"{heading}: a field is missing"
    assert sum(map(len, example_of.values())) == len(_json_blocks(API)), "an example is not checked"


def test_every_field_of_an_answer_is_explained() -> None:
    schemas = openapi()["components"]["schemas"]
    views = ("AnswerView", "HitView", "FirstStage", "ReadingView", "PassageHit", "PassageScores")
    views += ("VersionHit",)
    fields = {
        name
        for view in (*views, "QueryView", "DegradedView", "IndexView")
        for name in schemas[view]["properties"]
    }
    explained = _codes(_sections(API)["POST /v1/search"])
    assert fields - explained == set()


def test_every_error_has_its_row() -> None:
    def below(kind: type[errors.LongleafError]) -> set[type[errors.LongleafError]]:
        return {kind}.union(*(below(each) for each in kind.__subclasses__()))

    ours = {each for each in below(errors.LongleafError) if each.__module__ == errors.__name__}
    assert ours == set(STATUSES), "an error has no status of its own"
    assert {each.code for each in ours} <= _codes(_sections(API)["Errors"])


def test_curl_lines_ask_for_what_is_there() -> None:
    paths = set(openapi()["paths"])
    asked = []
    for file in MARKDOWN:
        for found in _FENCE.finditer(file.read_text("utf-8")):
            for line in found["body"].replace("\\\n", " ").splitlines():
                if not line.startswith("curl "):
                    continue
                words = shlex.split(line)
                url = next(word for word in words if word.startswith("http"))
                path = re.sub(r"^http://[^/]+|\?.*$", "", url)
                assert path in paths, line
                if "-d" in words:
                    body = json.loads(words[words.index("-d") + 1])
                    here = PLACES.get(path)
                    (choose(here, body).body if here else SearchBody).model_validate(body)
                asked.append(line)
    assert len(asked) >= 3


# --- documents and queries ---------------------------------------------------------------------


def test_every_outcome_reason_and_format_is_described() -> None:
    named = _codes(DOCUMENTS)
    assert {str(each) for each in Outcome} <= named
    assert {str(each) for each in RejectReason} <= named
    assert {suffix for parser in PARSERS for suffix in parser.suffixes} <= named
    assert {parser.media_type for parser in PARSERS} <= named


def test_example_lines_of_jsonl_are_documents() -> None:
    example = next(each["body"] for each in _FENCE.finditer(DOCUMENTS) if each["kind"] == "jsonl")
    found = list(JsonlParser().parse(example.encode(), "example.jsonl"))
    assert [each.key for each in found if isinstance(each, Document)] == ["c-17", "18", "c-19"]
    assert isinstance(found[1], Document)
    assert found[1].metadata == {"court": "ca9", "date": "2020-03-01"}


def test_example_filters_are_filters_and_limits_are_stated() -> None:
    examples = next(each["body"] for each in _FENCE.finditer(QUERY) if each["kind"] == "json")
    for line in examples.splitlines():
        filter_from_json(json.loads(line))
    assert f"{MAX_DEPTH} levels and {MAX_TESTS:,} tests" in QUERY
    assert set(BUILT_IN_FIELDS) <= _codes(QUERY)


# --- files, links and hosts --------------------------------------------------------------------


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("file", MARKDOWN, ids=_of)
def test_links_lead_somewhere(file: Path) -> None:
    for found in _LINK.finditer(_FENCE.sub("", file.read_text("utf-8"))):
        target, _, anchor = found["target"].partition("#")
        if "://" in target:
            continue
        there = (file.parent / target) if target else file
        assert there.exists(), f"{_of(file)} links to {target}"
        assert not anchor or anchor in _anchors(there.read_text("utf-8")), found["target"]


@pytest.mark.parametrize("file", MARKDOWN, ids=_of)
def test_files_that_are_named_exist(file: Path) -> None:
    known = [f"/{_of(each)}" for each in _files("*.py", "*.md", "*.yaml", "*.yml")]
    for name in _codes(file.read_text("utf-8")):
        for word in name.split():
            if re.fullmatch(r"[\w./-]+\.(?:py|md|ya?ml)", word):
                # A heading names the folder, so a file's last part is enough.
                assert any(each.endswith(f"/{word}") for each in known), f"{_of(file)}: {word}"


@pytest.mark.parametrize("file", [*MARKDOWN, *_files("Makefile", "*ocker*", "*.toml")], ids=_of)
def test_no_registry_and_no_foreign_host_is_named(file: Path) -> None:
    found = {each.lower() for each in _HOST.findall(file.read_text("utf-8"))}
    assert found <= _ALLOWED_HOSTS
