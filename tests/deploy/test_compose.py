"""docker-compose.yml against its schema, the code, and faults that are put into a copy of it.

No container is started. Where Docker's compose plugin is installed it reads the file as well; what
can be run without a container is run: the guards of secrets and the health checks, in real shells.
"""

from __future__ import annotations

import asyncio
import copy
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.bare_app import bare_app
from tests.deploy.faults import CHECKS, environment_of, image_of
from tests.deploy.reading import (
    COMPOSE_FILE,
    ROOT,
    all_profiles,
    asked_variables,
    filled_in,
    read_compose,
    started,
)
from tests.doc_tables import parse_command_line

from longleaf.core.config import load_settings, setting_names, setting_variable

TEXT = COMPOSE_FILE.read_text("utf-8")
PROJECT = read_compose()
SECRETS = {
    "LONGLEAF_QDRANT__API_KEY": "a key",
    "POSTGRES_PASSWORD": "p:@/s$s",
    "GRAFANA_PASSWORD": "a word",
}
BASH = shutil.which("bash")


# --- how Compose reads ---------------------------------------------------------------------------


def test_variables_are_filled_in_as_compose_does_it() -> None:
    given = {"A": "one", "EMPTY": ""}
    assert filled_in("${A} ${A:-x} ${B:-y} ${EMPTY:-z} ${B:-} $$A $${A}", given) == (
        "one one y z  $A ${A}"
    )
    with pytest.raises(KeyError, match="B"):
        filled_in("${B:?set B}", given)


def test_profiles_start_what_they_say() -> None:
    found = {profile: set(started(PROJECT, [profile])) for profile in all_profiles(PROJECT)}
    peers = {"qdrant-1", "qdrant-2", "qdrant-3"}
    assert found == {
        "default": {"longleaf"},
        "qdrant": {"longleaf-qdrant", "qdrant"},
        "gpu": {"longleaf-gpu"},
        "reranker": {"reranker"},
        "cluster": {"proxy", "api-1", "api-2", "worker", "catalog-upgrade", "postgres", *peers},
        "observability": {"prometheus", "grafana"},
    }


def test_ways_to_run_can_be_changed_without_losing_documents() -> None:
    for name in ("longleaf", "longleaf-qdrant", "longleaf-gpu"):
        assert "data:/data" in PROJECT["services"][name]["volumes"]


def test_replicas_share_what_they_must_and_nothing_else() -> None:
    one, two = (PROJECT["services"][name] for name in ("api-1", "api-2"))
    shared = set(one["volumes"]) & set(two["volumes"])
    assert shared == {"shared:/shared", "./documents:/documents:ro"}
    own = {"LONGLEAF_SERVER__ALLOWED_HOSTS"}
    assert {k for k, v in one["environment"].items() if two["environment"][k] != v} == own
    worker = PROJECT["services"]["worker"]
    assert worker["environment"].items() <= one["environment"].items()
    assert "shared:/shared" in worker["volumes"] and worker["deploy"]["replicas"] == 2
    assert one["environment"]["LONGLEAF_SERVER__WORKER"] == "false"


def test_three_peers_know_each_other() -> None:
    for number in (1, 2, 3):
        service = PROJECT["services"][f"qdrant-{number}"]
        assert service["environment"]["QDRANT__CLUSTER__ENABLED"] == "true"
        (line,) = service["command"]
        words = shlex.split(line.partition("exec ")[2])
        uri = ["--uri", f"http://qdrant-{number}:6335"]
        bootstrap = [] if number == 1 else ["--bootstrap", "http://qdrant-1:6335"]
        assert words == ["./qdrant", *bootstrap, *uri]
    assert ":6335" not in " ".join(str(each.get("ports")) for each in PROJECT["services"].values())


def test_a_gpu_is_reserved_where_the_image_can_use_one() -> None:
    for name, service in PROJECT["services"].items():
        wants = "devices" in service.get("deploy", {}).get("resources", {}).get("reservations", {})
        assert wants == str(service["image"]).endswith("-cuda"), name
    for name in ("longleaf-gpu", "reranker"):
        (device,) = PROJECT["services"][name]["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


# --- against the schema --------------------------------------------------------------------------


def _against_schema(file: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("check_jsonschema")
    arguments = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


def test_the_file_is_one_of_compose() -> None:
    done = _against_schema(COMPOSE_FILE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_finds_a_name_that_compose_does_not_know(tmp_path: Path) -> None:
    file = tmp_path / "docker-compose.yml"
    file.write_text(TEXT.replace("read_only: true", "readonly: true"), "utf-8")
    done = _against_schema(file)
    assert done.returncode == 1 and "readonly" in done.stdout


@pytest.mark.parametrize("profile", all_profiles(PROJECT))
def test_compose_itself_reads_the_file(profile: str) -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("Docker's client is not installed")
    if subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("Docker's client is here without its compose plugin")
    command = [docker, "compose", "--file", str(COMPOSE_FILE), "--profile", profile]
    asked = subprocess.run([*command, "config", "--services"], capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    assert set(asked.stdout.split()) == set(started(PROJECT, [profile]))


# --- against the code ----------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS)
def test_no_fault_is_found(check: str) -> None:
    assert list(CHECKS[check](read_compose())) == []


def _change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set what stands at a path of names; None takes it away."""

    def change(project: dict[str, Any]) -> None:
        *way, last = path.split("/")
        at = project
        for name in way:
            at = at[name]
        if value is None:
            del at[last]
        else:
            at[last] = value

    return change


FAULTS = [
    ("structure", "services/qdrant/profiles", []),
    ("structure", "services/api-1/depends_on/qdrant", {"condition": "service_healthy"}),
    ("structure", "services/postgres/healthcheck", None),
    (
        "structure",
        "services/api-1/depends_on/reader",
        {"condition": "service_healthy", "required": False},
    ),
    ("health", "services/postgres/healthcheck/test", ["CMD", "pg_isready"]),
    ("structure", "services/catalog-upgrade/restart", "always"),
    ("structure", "services/api-1/volumes", ["elsewhere:/data"]),
    ("structure", "volumes/unused", None or {}),
    ("structure", "services/proxy/networks", ["back"]),
    ("settings", "services/api-1/environment/LONGLEAF_CATALOG__URI", "x"),
    ("settings", "services/api-1/environment/LONGLEAF_INDEX__KIND", "qdrunt"),
    ("settings", "services/api-1/environment/LONGLEAF_QDRANT__URL", "http://qdrant-peers:6334"),
    ("settings", "services/api-1/environment/LONGLEAF_QDRANT__URL", "http://qdrant:6333"),
    ("settings", "services/longleaf-qdrant/networks", ["front"]),
    ("settings", "services/api-1/environment/LONGLEAF_CATALOG__URL", "postgresql://x@db:5432/x"),
    ("settings", "services/worker/environment/LONGLEAF_CATALOG__ORIGINALS", "/originals"),
    ("settings", "services/proxy/environment/LONGLEAF_HOME", "/data"),
    ("commands", "services/worker/command", ["work"]),
    ("commands", "services/worker/command", ["worker", "--forever"]),
    ("commands", "services/worker/healthcheck/test", ["CMD", "longleaf", "jobs", "ls"]),
    ("health", "services/prometheus/healthcheck", None),
    ("health", "services/longleaf/healthcheck/test", ["CMD", "x", "http://127.0.0.1:8765/health"]),
    ("health", "services/longleaf/healthcheck/test", ["CMD", "x", "http://127.0.0.1:8766/healthz"]),
    ("health", "services/proxy/healthcheck/test", ["CMD", "x", "http://127.0.0.1:8080/healthz"]),
    ("health", "services/qdrant/healthcheck/test", ["CMD", "x", "127.0.0.1/6333 GET /ready "]),
    ("mounts", "services/proxy/volumes", ["./deploy/proxy.cfg:/etc/haproxy.cfg:ro"]),
    ("mounts", "services/longleaf/volumes", ["data:/data", "./documents:/documents"]),
    ("mounts", "services/longleaf/volumes", ["data:/var/data"]),
    ("mounts", "services/prometheus/volumes", ["/var/run/docker.sock:/var/run/docker.sock:ro"]),
    ("images", "services/qdrant/image", "qdrant/qdrant:latest"),
    ("images", "services/qdrant/image", "qdrant/qdrant"),
    ("images", "services/postgres/image", "postgres:18"),
    ("images", "services/longleaf/image", "longleaf:0.0.9"),
    ("images", "services/longleaf-gpu/build/target", "gpu"),
    ("images", "services/longleaf/build/args", {"PIP_ARGS": ""}),
    ("hardening", "services/grafana/user", "0:0"),
    ("hardening", "services/grafana/user", None),
    ("hardening", "services/api-2/read_only", False),
    ("hardening", "services/api-2/cap_drop", None),
    ("hardening", "services/api-2/cap_add", ["SYS_ADMIN"]),
    ("hardening", "services/qdrant-2/security_opt", []),
    ("hardening", "services/longleaf/privileged", True),
    ("hardening", "services/longleaf/network_mode", "host"),
    ("hardening", "services/longleaf/deploy", {}),
    ("hardening", "services/longleaf/restart", None),
    ("hardening", "networks/stores", {}),
    ("ports", "services/longleaf/ports", ["8765:8765"]),
    ("ports", "services/longleaf/ports", ["0.0.0.0:8765:8765"]),
    ("ports", "services/longleaf/ports", ["127.0.0.1:8765:8000"]),
    ("ports", "services/qdrant-1/ports", ["127.0.0.1:6335:6335"]),
    ("ports", "services/grafana/ports", ["127.0.0.1:9090:3000"]),
    ("privacy", "services/qdrant-3/environment/QDRANT__TELEMETRY_DISABLED", "false"),
    ("privacy", "services/grafana/environment/GF_ANALYTICS_CHECK_FOR_UPDATES", None),
    ("privacy", "services/longleaf/environment/HF_HUB_DISABLE_TELEMETRY", "0"),
    ("secrets", "services/postgres/environment/POSTGRES_PASSWORD", "longleaf"),
    ("secrets", "services/api-1/environment/LONGLEAF_CATALOG__URL", "postgresql://u:p@db/x"),
    ("defaults", "services/longleaf/profiles", ["cluster"]),
    ("defaults", "services/qdrant/profiles", ["default", "qdrant"]),
]


@pytest.mark.parametrize(("check", "path", "value"), FAULTS)
def test_a_fault_is_found(check: str, path: str, value: Any) -> None:
    project = copy.deepcopy(read_compose())
    _change(path, value)(project)
    assert list(CHECKS[check](project))


def test_every_check_can_fail() -> None:
    assert {check for check, _, _ in FAULTS} == set(CHECKS)


def test_names_of_services_are_hosts_that_they_answer_to() -> None:
    """By name comes who is given a URL: another Longleaf that has its candidates read here."""
    for name, service in PROJECT["services"].items():
        if image_of(service) != "longleaf" or service.get("command"):
            continue
        ours = {k: v for k, v in environment_of(service).items() if k.startswith("LONGLEAF_")}
        settings = load_settings({}, ours).settings
        allowed = [each for each in settings.server.allowed_hosts.split(",") if each]
        transport = httpx.ASGITransport(bare_app(settings, allowed))

        async def ask(host: str, transport: httpx.ASGITransport = transport) -> int:
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return (await client.get("/healthz")).status_code

        assert asyncio.run(ask(f"{name}:8765")) == 200
        assert asyncio.run(ask("172.18.0.5:8765")) == 200, "Prometheus comes by address"
        assert asyncio.run(ask("elsewhere:8765")) == 421


# --- variables and secrets -----------------------------------------------------------------------


def test_variables_that_look_like_settings_are_settings() -> None:
    """Longleaf refuses an unknown LONGLEAF_ variable: nobody may have to export one."""
    asked = {name for name in asked_variables(TEXT) if name.startswith("LONGLEAF_")}
    assert asked and asked <= {setting_variable(name) for name in setting_names()}


def test_no_variable_must_be_set_for_a_profile_that_is_not_asked_for() -> None:
    """Compose fills in the whole file first: one ":?" would break a plain `docker compose up`."""
    read_compose(environment={})
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        read_compose(TEXT.replace("${POSTGRES_PASSWORD:-}", "${POSTGRES_PASSWORD:?set it}"))


def test_secrets_reach_those_who_need_them_and_nobody_else() -> None:
    project = read_compose(environment=SECRETS)
    holders = {
        secret: {
            name
            for name, service in project["services"].items()
            if secret in (service.get("environment") or {}).values()
        }
        for secret in SECRETS.values()
    }
    clients = {"api-1", "api-2", "worker", "catalog-upgrade"}
    peers = {"qdrant", "qdrant-1", "qdrant-2", "qdrant-3", "longleaf-qdrant"}
    assert holders == {
        "a key": clients | peers,
        "p:@/s$s": clients | {"postgres"},
        "a word": {"grafana"},
    }


def test_the_example_names_every_secret_and_holds_none() -> None:
    lines = (ROOT / "deploy/secrets.env.example").read_text("utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert values == dict.fromkeys(SECRETS, "")
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert {"/secrets.env", "/longleaf.env"} <= set(ignored)
    assert {each["path"] for each in PROJECT["services"]["api-1"]["env_file"]} == {"longleaf.env"}


GUARDED = {name: "QDRANT__SERVICE__API_KEY" for name in PROJECT["services"] if "qdrant" in name}
GUARDED.pop("longleaf-qdrant")
GUARDED["grafana"] = "GF_SECURITY_ADMIN_PASSWORD"


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
@pytest.mark.parametrize("name", GUARDED)
def test_without_its_secret_a_service_does_not_start(name: str, tmp_path: Path) -> None:
    """Qdrant would answer everybody, Grafana to "admin": so their command lines ask first."""
    service = PROJECT["services"][name]
    program = "./qdrant" if "qdrant" in name else "/run.sh"
    stand_in = tmp_path / "qdrant"
    stand_in.write_text('#!/bin/sh\necho "started $@"\n')
    stand_in.chmod(0o755)
    shell, option = service["entrypoint"]
    (line,) = service["command"]
    assert line.count(program) == 1
    line = line.replace(program, "./qdrant")

    def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shell, option, line], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    for given in ({}, {GUARDED[name]: ""}):
        refused = run(given)
        assert refused.returncode != 0 and "started" not in refused.stdout
        asked = re.findall(r"Set (\w+) \(docs/containers.md\)", refused.stderr)
        assert asked and set(asked) <= set(SECRETS)
    begun = run({GUARDED[name]: "given $HOME"})
    assert begun.returncode == 0 and begun.stdout.startswith("started")


# --- health checks, for real ---------------------------------------------------------------------


@contextmanager
def _answering(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path in ("/readyz", "/healthz") else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
@pytest.mark.parametrize(("name", "port"), [("qdrant-1", "6333"), ("longleaf", "8765")])
def test_a_health_check_tells_well_from_ill(name: str, port: str) -> None:
    kind, program, *arguments = PROJECT["services"][name]["healthcheck"]["test"]
    assert kind == "CMD"

    def ask(where: int) -> int:
        line = [each.replace(port, str(where)) for each in arguments]
        executable = sys.executable if program == "python" else program
        return subprocess.run([executable, *line], capture_output=True).returncode

    with _answering(200) as well:
        assert ask(well) == 0
    with _answering(503) as ill:
        assert ask(ill) != 0
    assert ask(well) != 0, "nobody listens there any more"


# --- documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "docs/containers.md"])
def test_commands_of_the_documents_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    lines = re.findall(
        r"docker compose[^`\n]*? (exec|run --rm) ([\w-]+) (longleaf )?([^`\n|]+)", text
    )
    assert lines
    for how, name, program, rest in lines:
        service = PROJECT["services"][name]
        if image_of(service) != "longleaf":
            continue
        # `exec` starts a program, `run` gives arguments to the image's own.
        assert (how == "exec") == bool(program), (name, rest)
        parse_command_line(shlex.split(rest, comments=True))
    profiles = re.findall(r"--profile ([a-z]+)", text)
    assert set(profiles) <= set(all_profiles(PROJECT))


def test_the_page_describes_every_profile_service_and_variable() -> None:
    page = (ROOT / "docs/containers.md").read_text("utf-8")
    wanted = {*PROJECT["services"], *all_profiles(PROJECT), *asked_variables(TEXT)}
    assert {name for name in wanted if f"`{name}`" not in page} == set()
