"""Prometheus and Grafana read numbers that the program has; alarms go off when they should.

The rules are run on series of their own where promtool is installed. No Grafana reads the dashboard
here: its form is checked only as far as provisioning and panels need it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.faults import app_paths, image_of
from tests.deploy.metrics import (
    dashboard,
    dashboard_expressions,
    exposition,
    is_balanced,
    labels_in,
    names_in,
    panels,
    rule_expressions,
    rules,
)
from tests.deploy.programs import need
from tests.deploy.reading import ROOT, read_compose

from longleaf.core.config import setting_names

PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
SERVICES = read_compose()["services"]
EXPRESSIONS = [*rule_expressions(), *dashboard_expressions()]

OF_PROMETHEUS = {"up"}
TARGET_LABELS = {"job", "instance"}


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def unknown(expression: str, told: dict[str, set[str]]) -> set[str]:
    """Metrics and labels of an expression that nobody tells."""
    ours = {name for name in names_in(expression) if not name.startswith("haproxy_")}
    found = ours - set(told) - OF_PROMETHEUS
    if ours and ours <= set(told):
        found |= labels_in(expression) - TARGET_LABELS - set().union(*(told[name] for name in ours))
    return found


# --- expressions ---------------------------------------------------------------------------------


def test_expressions_are_read() -> None:
    text = (
        'sum by (instance, stage) (rate(a_total{stage="x", le=~"1.+"}[5m])) / ignoring (stage) '
        "group_left sum(b) > 5e9 and on (job) histogram_quantile(0.9, c_bucket) offset 1m"
    )
    assert names_in(text) == {"a_total", "b", "c_bucket"}
    assert labels_in(text) == {"instance", "stage", "le", "job"}
    assert is_balanced(text)
    for broken in ("sum(a", "a{b='c'}]", 'a{b="c}', "(a]"):
        assert not is_balanced(broken)


def test_there_is_something_to_check() -> None:
    assert len(rules()) >= 10 and len(list(panels())) >= 20
    assert len({name for each in EXPRESSIONS for name in names_in(each)}) >= 20


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_what_is_told(expression: str) -> None:
    assert is_balanced(expression)
    assert names_in(expression)
    assert unknown(expression, exposition()) == set()


@pytest.mark.parametrize(
    "expression",
    [
        "longleaf_search_seconds_count",
        "rate(longleaf_search_degraded[5m])",
        'longleaf_jobs{status="queued"}',
        "sum by (collection) (longleaf_documents)",
        "histogram_quantile(0.5, longleaf_search_stage_seconds)",
    ],
)
def test_what_is_not_told_is_found(expression: str) -> None:
    assert unknown(expression, exposition())


def test_what_an_operator_needs_is_shown() -> None:
    """Every number of the program stands in a panel or a rule, buckets for their histogram."""
    used = {name for expression in EXPRESSIONS for name in names_in(expression)}
    left = {
        name for name in exposition()
        if name not in used and not name.endswith(("_created", "_sum", "_count", "_bucket"))
    }  # fmt: skip
    assert left <= {
        "longleaf_reader_passes_total",
        "longleaf_reader_documents_total",
        "longleaf_reader_tokenize_seconds_total",
    }
    for quantile in ("0.5", "0.95", "0.99"):
        assert any(
            f"histogram_quantile({quantile}, sum by (stage, le)" in each and "stage=" not in each
            for each in EXPRESSIONS
        )


# --- Prometheus ----------------------------------------------------------------------------------


def test_what_is_scraped_are_services_and_routes() -> None:
    config = _yaml(PROMETHEUS / "prometheus.yml")
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    (found,) = jobs["longleaf"]["dns_sd_configs"]
    servers = {
        name for name, service in SERVICES.items()
        if image_of(service) == "longleaf" and not service.get("command")
    }  # fmt: skip
    assert set(found["names"]) == servers
    assert found["port"] == 8765 and jobs["longleaf"]["metrics_path"] in app_paths()
    (found,) = jobs["proxy"]["dns_sd_configs"]
    assert found["names"] == ["proxy"] and jobs["proxy"]["metrics_path"] == "/metrics"
    haproxy = (ROOT / "deploy/haproxy/haproxy.cfg").read_text("utf-8")
    assert re.search(rf"frontend watch\s+bind :{found['port']}\b", haproxy)
    for name in (*servers, "proxy"):
        assert set(SERVICES[name]["networks"]) & set(SERVICES["prometheus"]["networks"]), name
    assert all((PROMETHEUS / file).is_file() for file in config["rule_files"])


def test_rules_name_only_jobs_that_are_scraped() -> None:
    config = _yaml(PROMETHEUS / "prometheus.yml")
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    named = {job for each in EXPRESSIONS for job in re.findall(r'job="(\w+)"', each)}
    assert named and named <= jobs


def test_prometheus_finds_its_files_where_they_are_mounted() -> None:
    service = SERVICES["prometheus"]
    places = {place: source for source, place, *_ in (v.split(":") for v in service["volumes"])}
    (flag,) = [each for each in service["command"] if each.startswith("--config.file=")]
    file = Path(flag.partition("=")[2])
    assert (ROOT / places[str(file.parent)] / file.name).is_file()
    (flag,) = [each for each in service["command"] if each.startswith("--storage.tsdb.path=")]
    assert places[flag.partition("=")[2]] == "prometheus"


def test_an_alarm_says_what_is_wrong_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    settings = set(setting_names())
    sections = {name.partition(".")[0] for name in settings}
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"] and rule["annotations"]["action"]
        said = " ".join(rule["annotations"].values())
        dotted = re.findall(r"\b([a-z]+\.[a-z_]+)\b", said)
        assert {each for each in dotted if each.partition(".")[0] in sections} <= settings
        for name in re.findall(r"docker compose logs (\w+)", said):
            assert name in SERVICES
        assert "GET /readyz" not in said or "/readyz" in app_paths()


def test_every_alarm_has_a_series_that_raises_it() -> None:
    tried = _yaml(Path(__file__).with_name("alerts_test.yml"))
    raised = {
        re.findall(r'alertname="(\w+)"', sample["labels"])[0]
        for test in tried["tests"]
        for expected in test["promql_expr_test"]
        for sample in expected["exp_samples"]
    }
    assert raised == {rule["alert"] for rule in rules()}


def test_the_key_of_prometheus_is_where_it_is_looked_for() -> None:
    (job,) = [
        each for each in _yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]
        if each["job_name"] == "longleaf"
    ]  # fmt: skip
    place = job["authorization"]["credentials_file"]
    (mounted,) = [each for each in SERVICES["prometheus"]["volumes"] if f":{place}:" in each]
    source = mounted.partition(":")[0]
    assert (ROOT / source).read_bytes() == b"", "without keys none is sent, and none is committed"
    chosen = read_compose(environment={"METRICS_KEY_FILE": "/etc/longleaf/key"})["services"]
    assert f"/etc/longleaf/key:{place}:ro" in chosen["prometheus"]["volumes"]


def test_promtool_takes_configuration_and_rules(tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    config = tmp_path / "prometheus/prometheus.yml"
    text = config.read_text("utf-8")
    key = "/run/secrets/metrics_key"
    assert text.count(key) == 1
    config.write_text(text.replace(key, str(tmp_path / "prometheus/no-key")), "utf-8")
    done = subprocess.run(
        [need("promtool"), "check", "config", str(config)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def _try_rules(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "alerts.yml").write_text(text, "utf-8")
    shutil.copy(Path(__file__).with_name("alerts_test.yml"), folder)
    command = [need("promtool"), "test", "rules", "alerts_test.yml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_alarms_go_off_when_they_should_and_not_otherwise(tmp_path: Path) -> None:
    text = (PROMETHEUS / "alerts.yml").read_text("utf-8")
    done = _try_rules(tmp_path, text)
    assert done.returncode == 0, done.stdout + done.stderr
    for before, after in (
        ("> 0.05", "> 0.5"),  # never
        ("< 5e9", "< 5e11"),  # always
        ('{state="UP"} == 0', '{state="UP"} == 1'),
        ("for: 15m", "for: 90m"),
    ):
        assert text.count(before) == 1
        assert _try_rules(tmp_path, text.replace(before, after)).returncode == 1, before


# --- Grafana -------------------------------------------------------------------------------------


def test_the_dashboard_is_provisioned_with_its_source() -> None:
    places = {
        place: source
        for source, place, *_ in (each.split(":") for each in SERVICES["grafana"]["volumes"])
    }
    assert (ROOT / places["/etc/grafana/provisioning"]).samefile(GRAFANA / "provisioning")
    (source,) = _yaml(GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert SERVICES["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]
    (provider,) = _yaml(GRAFANA / "provisioning/dashboards/longleaf.yml")["providers"]
    folder = ROOT / places[provider["options"]["path"]]
    assert [file.name for file in folder.glob("*.json")] == ["longleaf.json"]
    used = {
        each["datasource"]["uid"]
        for panel in panels()
        for each in (panel, *panel["targets"])
    }  # fmt: skip
    used |= {each["datasource"]["uid"] for each in dashboard()["templating"]["list"]}
    assert used == {source["uid"]}


def test_panels_have_ids_places_and_titles_of_their_own() -> None:
    every = dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        assert panel["title"]
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
    titles = [panel["title"] for panel in every]
    assert len(set(titles)) == len(titles)


def test_variables_of_the_dashboard_are_declared() -> None:
    declared = {each["name"] for each in dashboard()["templating"]["list"]}
    used = {name for each in dashboard_expressions() for name in re.findall(r"\$(\w+)", each)}
    assert used - {"__rate_interval"} == declared
    for each in dashboard()["templating"]["list"]:
        metric = re.fullmatch(r"label_values\((\w+), instance\)", each["definition"])
        assert metric is not None and metric[1] in exposition()
