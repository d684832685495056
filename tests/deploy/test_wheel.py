"""The container files fit the program, as far as that can be known without a container engine.

The Dockerfile's wheel is built for real, from exactly those files that .dockerignore lets through.
What is not known here: whether the base image exists and the packages install on it.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from tests.doc_tables import parse_command_line

import longleaf
from longleaf.api.app import create_app
from longleaf.api.wire import Runtime
from longleaf.core.config import Settings, load_settings

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("api", "core", "indexer", "reranker", "retriever")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


INSTRUCTIONS = _instructions()


def _only(name: str) -> str:
    """The one such instruction of the final stage."""
    last = max(at for at, (each, _) in enumerate(INSTRUCTIONS) if each == "FROM")
    found = [value for each, value in INSTRUCTIONS[last:] if each == name]
    assert len(found) == 1, f"{name} stands {len(found)} times"
    return found[0]


def _environment() -> dict[str, str]:
    return dict(part.split("=", 1) for part in shlex.split(_only("ENV")))


def _ours(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("LONGLEAF_")}


def _service() -> dict[str, Any]:
    services: dict[str, Any] = COMPOSE["services"]
    assert list(services) == ["longleaf"]
    return dict(services["longleaf"])


def _paths() -> set[str]:
    runtime = cast(
        Runtime, SimpleNamespace(settings=Settings(), engine=SimpleNamespace(reranker=None))
    )
    return set(create_app(runtime).openapi()["paths"])


# --- Dockerfile --------------------------------------------------------------------------------


def test_only_instructions_that_there_are() -> None:
    known = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE"}
    known |= {"HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in INSTRUCTIONS} <= known


def test_base_images_are_pinned_to_a_minor_version_and_a_debian_release() -> None:
    bases = [value.split()[0] for name, value in INSTRUCTIONS if name == "FROM"]
    assert len(set(bases)) == 1, "the wheel is built and run by different Pythons"
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", bases[0])
    minor = int(re.findall(r"3\.(\d+)", bases[0])[0])
    assert minor >= 11


def test_what_is_copied_is_there() -> None:
    stages = re.findall(r"\bAS (\w+)", DOCKERFILE)
    for value in (value for name, value in INSTRUCTIONS if name == "COPY"):
        *flags_and_sources, _ = value.split()
        flags = [each for each in flags_and_sources if each.startswith("--")]
        assert all(each.removeprefix("--from=") in stages for each in flags), value
        sources = [each for each in flags_and_sources if not each.startswith("--")]
        assert flags or all((ROOT / source).exists() for source in sources), value


def test_the_image_s_settings_are_settings_and_let_the_port_be_reached() -> None:
    settings = load_settings({}, _ours(_environment())).settings  # an unknown one is refused
    assert settings.server.host == "0.0.0.0" and settings.server.allow_remote
    assert int(_only("EXPOSE")) == settings.server.port
    assert _only("VOLUME") == str(settings.home)
    assert _environment()["HF_HOME"].startswith(f"{settings.home}/")


def test_the_image_does_not_run_as_root() -> None:
    user = _only("USER")
    assert user.split(":")[0] not in ("root", "0")
    runs = [value for name, value in INSTRUCTIONS if name == "RUN"]
    made = next(at for at, value in enumerate(runs) if f"--create-home {user}" in value)
    assert f"-o {user}" in runs[made] and str(_environment()["LONGLEAF_HOME"]) in runs[made]


def test_the_image_starts_a_command_that_exists() -> None:
    entry, command = json.loads(_only("ENTRYPOINT")), json.loads(_only("CMD"))
    assert entry == ["longleaf"]
    parse_command_line(command)


def test_health_is_asked_on_a_route_that_exists() -> None:
    check = re.split(r"\bCMD\b", _only("HEALTHCHECK"))[1].strip()
    code = json.loads(check)[2]
    compile(code, "HEALTHCHECK", "exec")
    port, path = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", code)[0]
    assert path in _paths() and port == _only("EXPOSE")


def test_every_build_argument_is_used_and_no_index_is_built_in() -> None:
    for name, value in INSTRUCTIONS:
        if name == "ARG":
            assert f"${{{value.split('=')[0]}}}" in DOCKERFILE
            # Packages of the base image's own system may be named; an index never is.
            assert value.endswith('=""') or value.startswith("PROGRAMS=")
    assert "://" not in DOCKERFILE.replace("http://127.0.0.1", "")


# --- compose -----------------------------------------------------------------------------------


def test_compose_holds_nothing_unknown() -> None:
    assert set(COMPOSE) == {"name", "services", "volumes"}
    known = {"build", "image", "ports", "volumes", "read_only", "tmpfs", "cap_drop"}
    known |= {"security_opt", "restart", "stop_grace_period", "environment", "command"}
    assert set(_service()) <= known


def test_compose_builds_what_the_dockerfile_describes() -> None:
    build = _service()["build"]
    assert (ROOT / build["context"] / "Dockerfile").is_file()
    arguments = {value.split("=")[0] for name, value in INSTRUCTIONS if name == "ARG"}
    assert set(build["args"]) == arguments
    assert _service()["image"] == f"longleaf:{longleaf.__version__}"


def test_ports_are_published_on_loopback_only() -> None:
    ports = _service()["ports"]
    assert ports
    for published in ports:
        host, outside, inside = published.split(":")
        assert host == "127.0.0.1", "there are no access keys yet"
        assert inside == _only("EXPOSE") and outside.isdecimal()


def test_volumes_are_declared_and_documents_are_read_only() -> None:
    kept, documents = _service()["volumes"]
    name, place = kept.split(":")
    assert name in COMPOSE["volumes"] and place == _only("VOLUME")
    assert documents.endswith(":/documents:ro")


def test_the_container_may_do_little() -> None:
    service = _service()
    assert service["read_only"] is True and service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service and "user" not in service


def test_variables_do_not_look_like_settings_that_are_none() -> None:
    """Longleaf refuses an unknown LONGLEAF_ variable: nobody may have to export one."""
    load_settings({}, _ours(dict(_service().get("environment", {}))))
    asked = re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text("utf-8"))
    assert [name for name in asked if name.startswith("LONGLEAF_")] == []


def test_the_readme_s_container_commands_exist() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    lines = re.findall(r"docker compose exec (\w+) longleaf ([^`\n]+)", readme)
    assert lines
    for service, line in lines:
        assert service in COMPOSE["services"]
        parse_command_line(shlex.split(line))


# --- the wheel ---------------------------------------------------------------------------------


def _ignored(path: str, patterns: list[str]) -> bool:
    """Docker's rule: the last pattern that matches the path or a folder above it decides."""
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    ignored = False
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        anywhere = wanted.removeprefix("**/")
        if anywhere != wanted:
            matched = any(fnmatch.fnmatchcase(part, anywhere) for part in parts)
        else:
            # "*" does not cross "/", so only names of the same depth are compared.
            depth = wanted.count("/")
            matched = any(
                each.count("/") == depth and fnmatch.fnmatchcase(each, wanted) for each in above
            )
        if matched:
            ignored = not pattern.startswith("!")
    return ignored


def _patterns() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("pyproject.toml", False),
        ("core/catalog/schema.py", False),
        ("src/longleaf/core", False),
        ("indexer/data/minilm-l6-v2-tokens128.safetensors", False),
        ("core/__pycache__/types.pyc", True),
        ("src/longleaf.egg-info/PKG-INFO", True),
        (".git/config", True),
        (".demo/catalog.sqlite3", True),
        ("documents/secret.pdf", True),
        ("tests/test_docs.py", True),
    ],
)
def test_what_reaches_the_builder(path: str, ignored: bool) -> None:
    assert _ignored(path, _patterns()) is ignored


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `COPY . .` puts into the builder: links stay links."""
    target = tmp_path_factory.mktemp("context")
    patterns = _patterns()
    for folder, folders, names in os.walk(ROOT):
        at = Path(folder).relative_to(ROOT).as_posix()
        prefix = "" if at == "." else f"{at}/"
        for name in [*names, *(each for each in folders if (Path(folder) / each).is_symlink())]:
            if not _ignored(prefix + name, patterns):
                (target / prefix).mkdir(parents=True, exist_ok=True)
                shutil.copy2(Path(folder) / name, target / prefix / name, follow_symlinks=False)
        folders[:] = [each for each in folders if not _ignored(prefix + each, patterns)]
    return target


def _python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LONGLEAF"))}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _wheel(source: str, cwd: Path, out: Path) -> Path:
    pip = ["-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index"]
    _python(*pip, "--no-deps", "--no-build-isolation", "-w", str(out), source, cwd=cwd)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def wheel(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("build") / "src"
    shutil.copytree(context, copy, symlinks=True)
    return _wheel(".", copy, tmp_path_factory.mktemp("wheel"))


def _product_files() -> set[str]:
    """Every file that the program needs, as the wheel names it."""
    found = {"longleaf/__init__.py", "longleaf/py.typed"}
    for room in ROOMS:
        for file in (ROOT / room).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                found.add(f"longleaf/{file.relative_to(ROOT).as_posix()}")
    return found


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_context_keeps_the_links(context: Path) -> None:
    assert {room for room in ROOMS if (context / "src/longleaf" / room).is_symlink()} == set(ROOMS)
    assert all((context / "src/longleaf" / room / "__init__.py").is_file() for room in ROOMS)


def test_the_wheel_holds_the_program_and_nothing_else(wheel: Path) -> None:
    assert _names(wheel) == _product_files()
    assert "longleaf/indexer/data/minilm-l6-v2-tokens128.safetensors" in _names(wheel)


def test_the_wheel_of_the_source_archive_is_the_same(
    context: Path, wheel: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "src"
    shutil.copytree(context, copy, symlinks=True)
    build = "from setuptools import build_meta; build_meta.build_sdist('../sdist')"
    _python("-W", "ignore", "-c", build, cwd=copy)
    (archive,) = (tmp_path / "sdist").glob("*.tar.gz")
    again = _wheel(str(archive), tmp_path, tmp_path / "wheel")
    assert _names(again) == _names(wheel)


def test_the_installed_wheel_works_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    _python(*pip, "--no-deps", "--target", str(target), str(wheel), cwd=tmp_path)
    said = _python(
        "-c",
        "import longleaf, longleaf.core.protocols, longleaf.api.app\n"
        "from longleaf.api.http.errors import http_problem\n"
        "from longleaf.api.http.html import FOLDER, render\n"
        "assert 'Longleaf' in render('error.html', problem=http_problem(404))\n"
        "assert (FOLDER / 'static' / 'page.css').is_file()\n"
        "print(longleaf.__file__, longleaf.core.protocols.__file__)",
        cwd=tmp_path,
        path=target,
    )
    assert all(Path(each).is_relative_to(target) for each in said.split())


def test_the_licence_and_the_notice_travel_with_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name).name for name in archive.namelist() if "/licenses/" in name}
    assert names == {"LICENSE", "NOTICE"}
