"""The Dockerfile's wheel, built for real from the files that .dockerignore lets through.

What is not known here: whether the base image exists and the packages install on it.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("api", "core", "indexer", "reranker", "retriever")


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
        (".env", True),
        ("secrets.env", True),
        ("longleaf.env", True),
        ("deploy/haproxy/haproxy.cfg", True),
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
