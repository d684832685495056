"""The Dockerfile fits the program, as far as that can be known without building it.

The wheel that it makes is built for real in test_wheel.py. What is not known here: whether the base
image exists and the packages install on it.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
from tests.deploy.faults import app_paths
from tests.deploy.reading import DOCKERFILE, ROOT, Stage, image_folders, read_dockerfile
from tests.doc_tables import parse_command_line

import longleaf
from longleaf.core.config import load_settings
from longleaf.core.errors import ConfigError

TEXT = DOCKERFILE.read_text("utf-8")
STAGES = read_dockerfile()
TARGETS = ("cpu", "cuda")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

target = pytest.mark.parametrize("stage", [STAGES[name] for name in TARGETS], ids=TARGETS)


def _settings(stage: Stage) -> Any:
    ours = {k: v for k, v in stage.environment().items() if k.startswith("LONGLEAF_")}
    return load_settings({}, ours).settings


def missing_sources(stages: dict[str, Stage]) -> list[str]:
    """What a COPY names that is neither in the repository nor in an earlier stage."""
    faults, seen = [], set()
    for name, stage in stages.items():
        for value in stage.all("COPY"):
            *words, _ = value.split()
            origins = [each.partition("=")[2] for each in words if each.startswith("--from=")]
            faults += [f"{name}: {each} is no stage" for each in origins if each not in seen]
            sources = [each for each in words if not each.startswith("--")]
            faults += [f"{name}: {each} is not there" for each in sources
                       if not origins and not (ROOT / each).exists()]  # fmt: skip
        seen.add(name)
    return faults


def unpinned(stages: dict[str, Stage]) -> list[str]:
    """Bases that could be something else tomorrow."""
    foreign = {stage.base for stage in stages.values() if stage.base not in stages}
    return [each for each in foreign if not re.fullmatch(r"\w+:\d+\.\d+\.\d+-slim-[a-z]+", each)]


def test_only_instructions_that_there_are() -> None:
    known = {"ARG", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "LABEL"}
    known |= {"HEALTHCHECK", "ENTRYPOINT", "CMD"}
    for stage in STAGES.values():
        assert {name for name, _ in stage.instructions} <= known


def test_the_last_stage_is_what_a_build_without_target_makes() -> None:
    assert list(STAGES)[-1] == "cpu" and set(TARGETS) <= set(STAGES)


def test_one_python_builds_and_runs_and_it_is_pinned() -> None:
    assert unpinned(STAGES) == []
    foreign = {stage.base for stage in STAGES.values() if stage.base not in STAGES}
    assert len(foreign) == 1, "the wheel is built and run by different Pythons"
    minor = int(re.findall(r":3\.(\d+)", foreign.pop())[0])
    assert minor >= 11
    for moving in ("python:3.12-slim-bookworm", "python:latest", "python"):
        assert unpinned(read_dockerfile(TEXT.replace("python:3.12.13-slim-bookworm", moving)))


def test_what_is_copied_is_there() -> None:
    assert missing_sources(STAGES) == []
    for before, after in (("--from=wheel", "--from=wheels"), ("COPY . .", "COPY source .")):
        assert missing_sources(read_dockerfile(TEXT.replace(before, after)))
    swapped = TEXT.replace("AS packages-cpu", "AS packages").replace("AS cpu", "AS packages-cpu")
    assert missing_sources(read_dockerfile(swapped)), "a stage that comes later"


@target
def test_the_image_has_the_packages_of_its_target(stage: Stage) -> None:
    faiss = {"cpu": "cpu", "cuda": "gpu"}[stage.name]
    (copied,) = [value for value in stage.all("COPY") if value.startswith("--from=packages")]
    packages = STAGES[f"packages-{stage.name}"]
    assert copied == f"--from={packages.name} /opt/longleaf /opt/longleaf"
    run = packages.last("RUN")
    (extras,) = re.findall(r"\[([\w,]+)\]", run)
    assert set(extras.split(",")) == {faiss, "postgres", "s3", "mcp"}
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert "--only-binary=:all:" in run and "python -m venv /opt/longleaf" in run


def test_no_compiler_is_in_the_image_that_compiles_nothing() -> None:
    compilers = re.compile(r"\b(gcc|g\+\+|clang|cargo|build-essential|make)\b")
    assert not any(compilers.search(value) for _, value in STAGES["cpu"].instructions)
    # Triton makes the launcher of our kernels with it: reranker/qwen3/kernels.py.
    assert any(compilers.search(value) for value in STAGES["cuda"].all("RUN"))


@target
def test_the_image_s_settings_are_settings_and_let_the_port_be_reached(stage: Stage) -> None:
    settings = _settings(stage)  # an unknown one is refused
    assert settings.server.host == "0.0.0.0" and settings.server.allow_remote
    assert int(stage.last("EXPOSE")) == settings.server.port
    assert stage.last("VOLUME") == str(settings.home)
    kept = {k: v for k, v in stage.environment().items() if k == "HF_HOME" or k.endswith("_DIR")}
    assert all(each.startswith(f"{settings.home}/") for each in kept.values())
    wrong = read_dockerfile(TEXT.replace("LONGLEAF_SERVER__HOST", "LONGLEAF_HOST"))
    with pytest.raises(ConfigError, match="LONGLEAF_HOST"):
        _settings(wrong[stage.name])


@target
def test_the_image_does_not_run_as_root_and_its_folders_are_its_user_s(stage: Stage) -> None:
    user = stage.last("USER")
    assert user.split(":")[0] not in ("root", "0")
    assert any(f"--uid 10001 --create-home {user}" in run for run in stage.all("RUN"))
    assert image_folders(stage) == {"/data", "/shared"}
    assert stage.environment()["LONGLEAF_HOME"] in image_folders(stage)


@target
def test_the_image_starts_a_command_that_exists(stage: Stage) -> None:
    assert json.loads(stage.last("ENTRYPOINT")) == ["longleaf"] == list(PROJECT["scripts"])
    parse_command_line(json.loads(stage.last("CMD")))
    assert stage.environment()["PATH"].split(":")[0] == "/opt/longleaf/bin"


@target
def test_health_is_asked_on_a_route_that_exists(stage: Stage) -> None:
    check = re.split(r"\bCMD\b", stage.last("HEALTHCHECK"))[1].strip()
    code = json.loads(check)[2]
    compile(code, "HEALTHCHECK", "exec")
    port, path = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", code)[0]
    assert path in app_paths() and port == stage.last("EXPOSE")


@target
def test_labels_say_what_it_is(stage: Stage) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', stage.last("LABEL")))
    assert labels["version"] == longleaf.__version__
    assert labels["licenses"] == PROJECT["license"]
    assert {"title", "description"} <= set(labels)


def test_every_build_argument_is_used_and_no_index_is_built_in() -> None:
    for stage in STAGES.values():
        for value in stage.all("ARG"):
            assert f"${{{value.split('=')[0]}}}" in TEXT
            # Packages of the base image's own system may be named; an index never is.
            assert value.endswith('=""') or value.startswith("PROGRAMS=")
    assert "://" not in TEXT.replace("http://127.0.0.1", "")


def test_what_starts_as_root_ends_as_the_user() -> None:
    for name in TARGETS:
        users = STAGES[name].all("USER")
        assert users[-1] == "longleaf" and set(users) <= {"root", "longleaf"}
