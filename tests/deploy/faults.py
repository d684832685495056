"""What can be wrong with docker-compose.yml, each kind found by a function that lists the faults.

A check returns sentences, so that the tests can show that it is silent on the real file and finds a
fault that was put into a copy. What is not known here: whether images exist and start.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from tests.bare_app import bare_app
from tests.deploy.reading import (
    ROOT,
    Service,
    all_profiles,
    default_profiles,
    image_folders,
    read_dockerfile,
    started,
)
from tests.doc_tables import parse_command_line

import longleaf
from longleaf.core.config import load_settings
from longleaf.core.errors import ConfigError

Project = dict[str, Any]

OPEN_PORTS = {"longleaf", "longleaf-qdrant", "longleaf-gpu", "proxy", "prometheus", "grafana"}
"""Services that a person's browser speaks to; all others are reached by services only."""

FOREIGN_HEALTH = {
    "qdrant/qdrant": ("6333", "/readyz"),
    "prom/prometheus": ("9090", "/-/healthy"),
    "grafana/grafana": ("3000", "/api/health"),
}
SILENCED = {
    "qdrant/qdrant": {"QDRANT__TELEMETRY_DISABLED": "true"},
    "grafana/grafana": {
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
    },
    "longleaf": {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"},
}
"""Who would call home, and what keeps it from that."""

_PINNED = re.compile(r"[a-z0-9/-]+:v?\d+(\.\d+){1,2}(-[a-z0-9.]+)?(@sha256:[0-9a-f]{64})?")
_SECRET = re.compile(r"PASSWORD|API_KEY|SECRET|TOKEN(?!_VECTORS)")


@cache
def app_paths() -> set[str]:
    """Routes of the app."""
    return set(bare_app().openapi()["paths"])


def image_of(service: Service) -> str:
    """The image without its tag."""
    return str(service["image"]).partition("@")[0].partition(":")[0]


def environment_of(service: Service) -> dict[str, str]:
    """What the processes of a service find: the image's own variables and the file's."""
    own = image_of(service) == "longleaf"
    inherited = read_dockerfile()[service["build"]["target"]].environment() if own else {}
    return inherited | {name: str(value) for name, value in service.get("environment", {}).items()}


def structure(project: Project) -> Iterator[str]:
    """Names that lead nowhere, and things that nothing uses."""
    for name, service in project["services"].items():
        if not service.get("profiles"):
            yield f"{name} has no profile and would always start"
    used: dict[str, set[str]] = {"volumes": set(), "networks": set()}
    for profile in all_profiles(project):
        services = started(project, [profile])
        for name, service in services.items():
            for other, how in service.get("depends_on", {}).items():
                if other not in services:
                    if how.get("required", True) is False and other in project["services"]:
                        continue
                    yield f"{profile}: {name} waits for {other}, which does not start"
                elif how["condition"] == "service_healthy" and not has_health(services[other]):
                    yield f"{name} waits for the health of {other}, which has none"
                elif how["condition"] == "service_completed_successfully" and (
                    services[other].get("restart") != "no"
                ):
                    yield f"{name} waits for the end of {other}, which is started again"
            used["volumes"] |= {volume for volume, _ in named_volumes(service)}
            used["networks"] |= set(service.get("networks", ()))
    for kind, names in used.items():
        declared = set(project.get(kind, {}))
        yield from (f"{kind}: {each} is not declared" for each in names - declared)
        yield from (f"{kind}: nothing uses {each}" for each in declared - names)


def has_health(service: Service) -> bool:
    return bool(service.get("healthcheck", {}).get("test"))


def named_volumes(service: Service) -> list[tuple[str, str]]:
    """(volume, place in the container) of the volumes that Docker keeps."""
    parts = [each.split(":") for each in service.get("volumes", ())]
    return [(each[0], each[1]) for each in parts if not each[0].startswith((".", "/"))]


def settings(project: Project) -> Iterator[str]:
    """Variables that are no settings, and values that a setting does not take."""
    for name, service in project["services"].items():
        ours = {k: v for k, v in environment_of(service).items() if k.startswith("LONGLEAF_")}
        if image_of(service) != "longleaf":
            yield from (f"{name} is no Longleaf and gets {each}" for each in ours)
            continue
        try:
            read = load_settings({}, ours).settings
        except ConfigError as error:
            yield f"{name}: {error}"
            continue
        if read.index.kind == "qdrant" and not _leads_to(project, read.qdrant.url, service):
            yield f"{name}: nothing answers at {read.qdrant.url}"
        if read.catalog.url and not _leads_to(project, read.catalog.url, service):
            yield f"{name}: nothing answers at {read.catalog.url}"
        for folder in (read.catalog.originals, read.catalog.token_vectors):
            mounted = [place for _, place in named_volumes(service)]
            if folder and not any(folder.startswith(f"{place}/") for place in mounted):
                yield f"{name}: {folder} is in no volume"


PORTS = {"postgres": "5432", "qdrant/qdrant": "6333", "longleaf": "8765"}


def _leads_to(project: Project, url: str, service: Service) -> bool:
    """Whether a URL names a service, or its alias, in a network of this one, and its port."""
    found = re.fullmatch(r"\w+://(?:\w+@)?([\w-]+):(\d+)(?:/\w+)?", url)
    if found is None:
        return False
    for other in project["services"].values():
        if not set(other["profiles"]) & set(service["profiles"]):
            continue
        networks = other.get("networks", [])
        names = {each for each, at in project["services"].items() if at is other}
        if isinstance(networks, dict):
            names |= {alias for at in networks.values() for alias in (at or {}).get("aliases", ())}
        shared = set(networks) & set(service["networks"])
        if found[1] in names and shared and PORTS.get(image_of(other)) == found[2]:
            return True
    return False


def commands(project: Project) -> Iterator[str]:
    """Command lines of Longleaf that it would not take."""
    for name, service in project["services"].items():
        if image_of(service) != "longleaf":
            continue
        lines = [service["command"]] if "command" in service else []
        test = service.get("healthcheck", {}).get("test", [])
        lines += [test[2:]] if test[:2] == ["CMD", "longleaf"] else []
        for line in lines:
            try:
                parse_command_line(shlex.split(line) if isinstance(line, str) else list(line))
            except Exception as error:
                yield f"{name}: longleaf {line}: {error}"


def health(project: Project) -> Iterator[str]:
    """Services whose health nobody asks for, or asks at a place that is not there."""
    proxy = (ROOT / "deploy/haproxy/haproxy.cfg").read_text("utf-8")
    watched = re.search(r"frontend watch\s+bind :(\d+).*?monitor-uri (\S+)", proxy, re.DOTALL)
    assert watched is not None
    for name, service in project["services"].items():
        if not has_health(service):
            if service.get("restart") != "no":
                yield f"{name} has no health check"
            continue
        said = " ".join(service["healthcheck"]["test"])
        found = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/-]*)", said)
        at = (found[1], found[2]) if found else None
        image = image_of(service)
        if image == "longleaf" and "longleaf jobs" not in said:
            port = read_dockerfile()[service["build"]["target"]].last("EXPOSE")
            if at is None or at[0] != port or at[1] not in app_paths():
                yield f"{name}: there is no {at}"
        elif image == "haproxy" and at != (watched[1], watched[2]):
            yield f"{name}: there is no {at}"
        elif image in FOREIGN_HEALTH:
            port, path = FOREIGN_HEALTH[image]
            if at != (port, path) and not (f"127.0.0.1/{port}" in said and f"GET {path} " in said):
                yield f"{name}: its health is at {port}{path}"
        elif image == "postgres" and ("pg_isready" not in said or "--host" not in said):
            yield f"{name}: ask with pg_isready --host: its socket answers earlier"


def mounts(project: Project) -> Iterator[str]:
    """Files that are not there, and volumes that a container's user could not write to."""
    for name, service in project["services"].items():
        for volume in service.get("volumes", ()):
            source, place, *mode = volume.split(":")
            if source.startswith("./deploy") and not (ROOT / source).exists():
                yield f"{name}: there is no {source}"
            if source.startswith(".") and mode != ["ro"]:
                yield f"{name} may write to {source}"
            if "docker.sock" in source:
                yield f"{name} reaches the container engine"
        if image_of(service) == "longleaf":
            folders = image_folders(read_dockerfile()[service["build"]["target"]])
            for volume, place in named_volumes(service):
                if place not in folders:
                    yield f"{name}: {volume} would belong to root at {place}"


def images(project: Project) -> Iterator[str]:
    """Images that could be another tomorrow, and builds that make something else."""
    stages = read_dockerfile()
    arguments = {value.partition("=")[0] for stage in stages.values() for value in stage.all("ARG")}
    for name, service in project["services"].items():
        image = service["image"]
        if not _PINNED.fullmatch(image):
            yield f"{name}: {image} is not pinned"
        if image_of(service) == "longleaf":
            build = service["build"]
            suffix = "-cuda" if build["target"] == "cuda" else ""
            if build["target"] not in stages:
                yield f"{name}: the Dockerfile has no {build['target']}"
            if image != f"longleaf:{longleaf.__version__}{suffix}":
                yield f"{name}: {build['target']} of {longleaf.__version__} is not {image}"
            if set(build["args"]) != arguments:
                yield f"{name}: the Dockerfile takes {sorted(arguments)}"
        elif "build" in service:
            yield f"{name}: built and pinned at once"


def hardening(project: Project) -> Iterator[str]:
    """What a container may do beyond its work."""
    refused = {"privileged", "pid", "ipc", "network_mode", "cap_add", "devices", "userns_mode"}
    for name, service in project["services"].items():
        user = str(service.get("user", ""))
        if not re.fullmatch(r"[1-9]\d*:\d+", user):
            yield f"{name} runs as {user or 'whoever the image says'}"
        if service.get("read_only") is not True:
            yield f"{name} may write to its image"
        if service.get("cap_drop") != ["ALL"]:
            yield f"{name} keeps capabilities"
        if service.get("security_opt") != ["no-new-privileges:true"]:
            yield f"{name} may gain privileges"
        yield from (f"{name} has {each}" for each in refused & set(service))
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        if not {"memory", "pids"} <= set(limits):
            yield f"{name} may take all memory or processes"
        if "restart" not in service:
            yield f"{name} stays away when it ends"
    if project["networks"]["stores"] != {"internal": True}:
        yield "the stores could be reached from outside, or call somebody"


def ports(project: Project) -> Iterator[str]:
    """Ports that other machines could reach, that nobody listens on, or that two services want."""
    proxy = (ROOT / "deploy/haproxy/haproxy.cfg").read_text("utf-8")
    inside = {"haproxy": re.findall(r"frontend longleaf\s+bind :(\d+)", proxy)[0]}
    inside |= {image: port for image, (port, _) in FOREIGN_HEALTH.items()}
    inside["longleaf"] = read_dockerfile()["runtime"].last("EXPOSE")
    for profile in all_profiles(project):
        taken: dict[str, str] = {}
        for name, service in started(project, [profile]).items():
            if service.get("ports") and name not in OPEN_PORTS:
                yield f"{name} is published"
            for published in service.get("ports", ()):
                host, _, rest = str(published).partition(":")
                outer, _, inner = rest.partition(":")
                if host != "127.0.0.1":
                    yield f"{name} is published beyond loopback, and nothing here makes a key first"
                if inner != inside.get(image_of(service)):
                    yield f"{name} does not listen on {inner}"
                if outer in taken:
                    yield f"{name} and {taken[outer]} both want {outer}"
                taken[outer] = name


def privacy(project: Project) -> Iterator[str]:
    """Programs that tell others about their use."""
    for name, service in project["services"].items():
        given = environment_of(service)
        for variable, value in SILENCED.get(image_of(service), {}).items():
            if given.get(variable) != value:
                yield f"{name} lacks {variable}={value}"


def secrets(project: Project) -> Iterator[str]:
    """Secrets that stand in the file. (`project` is read with an empty environment.)"""
    for name, service in project["services"].items():
        for variable, value in (service.get("environment") or {}).items():
            if _SECRET.search(variable) and value != "":
                yield f"{name}: {variable} has a value in the file"
            if re.search(r"://[^/@:]*:[^@/]+@", str(value)):
                yield f"{name}: a password stands in {variable}"


def defaults(project: Project) -> Iterator[str]:
    """What a plain `docker compose up` would start beside the default."""
    plain = sorted(started(project, default_profiles()))
    if plain != ["longleaf"]:
        yield f"a plain up starts {plain}"


CHECKS: dict[str, Callable[[Project], Iterator[str]]] = {
    check.__name__: check
    for check in (
        structure, settings, commands, health, mounts, images, hardening, ports, privacy, secrets,
        defaults,
    )
}  # fmt: skip
