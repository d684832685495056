"""What rules and dashboard ask Prometheus for, and what the program's exposition really has.

A name is taken for a metric's when it is no function, keyword or label: enough for the expressions
here. promtool reads them properly where it is installed.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.deploy.reading import ROOT

from longleaf.api.http.lanes import Bounds, Lane
from longleaf.api.http.metrics import Metrics, Sighting
from longleaf.api.search import SearchAnswer
from longleaf.core.catalog import CatalogCounts
from longleaf.core.catalog.jobs import JobState
from longleaf.core.catalog.standing import Standing
from longleaf.core.types import Outcome, ReaderLoad

_KEYWORDS = {"and", "or", "unless", "bool", "offset", "group_left", "group_right"}
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w.])[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])")


def _bare(expression: str) -> str:
    """Without selectors, groupings, ranges and numbers."""
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", expression)
    return _GROUPING.sub("", text)


def names_in(expression: str) -> set[str]:
    """Metrics that an expression reads."""
    return {name for name in _NAME.findall(_bare(expression)) if name not in _KEYWORDS}


def labels_in(expression: str) -> set[str]:
    """Labels that an expression selects or groups by."""
    selected = {
        label for inside in re.findall(r"\{([^}]*)\}", expression)
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside)
    }  # fmt: skip
    grouped = {each.strip() for part in _GROUPING.findall(expression) for each in part.split(",")}
    return (selected | grouped) - {""}


def is_balanced(expression: str) -> bool:
    """Whether every bracket and quote that opens closes."""
    closing = {")": "(", "]": "[", "}": "{"}
    waiting: list[str] = []
    for character in re.sub(r'"[^"]*"', "", expression):
        if character in closing.values():
            waiting.append(character)
        elif character in closing and (not waiting or waiting.pop() != closing[character]):
            return False
    return not waiting and expression.count('"') % 2 == 0


def rules() -> list[dict[str, Any]]:
    text = (ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def rule_expressions() -> list[str]:
    return [rule["expr"] for rule in rules()]


def dashboard() -> dict[str, Any]:
    text = (ROOT / "deploy/grafana/dashboards/longleaf.json").read_text("utf-8")
    return cast("dict[str, Any]", json.loads(text))


def panels() -> Iterator[dict[str, Any]]:
    """Panels that show something; rows only head them."""
    yield from (panel for panel in dashboard()["panels"] if panel["type"] != "row")


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def exposition() -> dict[str, set[str]]:
    """Sample name -> its labels, of everything that the program tells."""
    metrics = Metrics()
    metrics.watch_lanes((Lane("searches", 1, Bounds(1, 1, 1.0)),))
    metrics.note_request("GET", "/v1/search", 200, 0.1)
    metrics.note_cut("head")
    degraded = [SimpleNamespace(stage="rerank")]
    answer = SimpleNamespace(timings_ms={"total": 1.0}, degraded=degraded)
    metrics.note_answer(cast(SearchAnswer, answer))
    standing = Standing(dict.fromkeys(JobState, 1), dict.fromkeys(Outcome, 1))
    load = ReaderLoad(*[0] * len(dataclasses.fields(ReaderLoad)))
    seen = Sighting(CatalogCounts(1, 1, 1, 1), 0, True, standing, 1, load)
    text = metrics.exposition(seen).decode()
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
