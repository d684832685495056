"""The container files as values: Dockerfile by stages, docker-compose.yml with its variables.

Compose's own rules that matter here, in their slow, obvious form: every variable is filled in
before any profile is looked at; services without a profile always start; `--profile` on the command
line replaces COMPOSE_PROFILES. It starts nothing and knows no registry.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?:(?P<how>:-|:\?|-|\?)(?P<rest>[^}]*))?\})")

Service = dict[str, Any]


def filled_in(text: str, environment: Mapping[str, str]) -> str:
    """What Compose makes of a string; raises KeyError for a variable that must be set."""

    def value(found: re.Match[str]) -> str:
        name = found["name"]
        if name is None:
            return "$"
        given = environment.get(name, "")
        if given or found["how"] is None:
            return given
        if found["how"].endswith("?"):
            raise KeyError(name)
        return found["rest"]

    return _VARIABLE.sub(value, text)


def _filled_in(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return filled_in(value, environment)
    if isinstance(value, dict):
        return {name: _filled_in(each, environment) for name, each in value.items()}
    return [_filled_in(each, environment) for each in value] if isinstance(value, list) else value


def read_compose(
    text: str | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The project, its variables filled in from `environment` alone."""
    written = COMPOSE_FILE.read_text("utf-8") if text is None else text
    project = _filled_in(yaml.safe_load(written), environment or {})
    assert isinstance(project, dict)
    return project


def asked_variables(text: str) -> set[str]:
    """Names of the variables that somebody may set, and those that must be."""
    return {found["name"] for found in _VARIABLE.finditer(text) if found["name"]}


def started(project: Mapping[str, Any], profiles: Collection[str]) -> dict[str, Service]:
    """The services that these profiles start."""
    services: dict[str, Service] = project["services"]
    return {
        name: service
        for name, service in services.items()
        if not service.get("profiles") or set(service["profiles"]) & set(profiles)
    }


def all_profiles(project: Mapping[str, Any]) -> list[str]:
    named = {each for service in project["services"].values() for each in service["profiles"]}
    return sorted(named)


def default_profiles() -> list[str]:
    """What .env says for a command line without --profile."""
    lines = (ROOT / ".env").read_text("utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(values) == {"COMPOSE_PROFILES"}, "secrets and settings stand in files of one's own"
    return values["COMPOSE_PROFILES"].split(",")


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the Dockerfile with what it inherits of the one that it is made from."""

    name: str
    base: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.instructions if each == name]

    def last(self, name: str) -> str:
        found = self.all(name)
        assert found, f"{self.name} has no {name}"
        return found[-1]

    def environment(self) -> dict[str, str]:
        """What its processes find in their environment."""
        parts = [part for value in self.all("ENV") for part in shlex.split(value)]
        return dict(part.split("=", 1) for part in parts)


def read_dockerfile(text: str | None = None) -> dict[str, Stage]:
    """Stages by name, in order; each begins with the instructions of the stage that it is FROM."""
    written = DOCKERFILE.read_text("utf-8") if text is None else text
    joined = re.sub(r"^\s*#.*\n", "", written, flags=re.MULTILINE).replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, value = line.partition(" ")
        if name == "FROM":
            base, _, called = value.partition(" AS ")
            inherited = stages[base].instructions if base in stages else ()
            current = Stage(called.strip(), base, inherited)
        else:
            current = Stage(
                current.name, current.base, (*current.instructions, (name, value.strip()))
            )
        stages[current.name] = current
    return stages


def image_folders(stage: Stage) -> set[str]:
    """Folders that the image makes for its own user: where a new volume can be written to."""
    user = stage.last("USER")
    made = [re.search(rf"install -d -o {user} -g {user} ([^&]+)", run) for run in stage.all("RUN")]
    return {folder for found in made if found for folder in found[1].split()}
