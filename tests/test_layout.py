"""The house rules that no linter here checks: links, bans, where torch and the environment may be.

Everything is read from the syntax tree, so a word in a comment breaks no rule and an alias hides
none. The layers themselves are import-linter's (`make check`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("api", "core", "indexer", "reranker", "retriever")
MODULES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
OURS = [*MODULES, *(each for folder in ("tests", "benchmarks", "src/longleaf")
                    for each in sorted((ROOT / folder).glob("**/*.py")))]  # fmt: skip

MAX_LINES = 500
OBVIOUS_LINES = 10
OWED_LINES: dict[str, int] = {}
"""Files that are too long today, and how long they may be until somebody splits them."""
OWED_WORDS = {
    "indexer/parsers/pdf_text.py": {"Usage.of"},
}
"""Names without a docstring today; whoever explains one takes it out."""
_BANNED_MODULES = {
    "pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib",
    "jsonpickle", "dbm", "copyreg", "code", "codeop",
}  # fmt: skip
_BANNED_CALLS = {
    "builtins.compile",
    "builtins.eval",
    "builtins.exec",
    "pandas.read_pickle",
    "runpy.run_path",
    "types.CodeType",
    "types.FunctionType",
    "asyncio.create_subprocess_shell",
    "os.popen",
    "os.system",
    "torch.load",
    "joblib.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
}
_BANNED_WHEN_TRUE = {"shell", "trust_remote_code", "allow_pickle"}
_MODEL_LIBRARIES = {"torch", "transformers", "sentence_transformers"}
_SURROUNDINGS = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "sys.argv"}


def _of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"), str(file))


def _aliases(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it stands for, wherever it was imported."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                bound = each.asname or each.name.partition(".")[0]
                found[bound] = each.name if each.asname else bound
        elif isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                found[each.asname or each.name] = f"{node.module}.{each.name}"
    return found


def _imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of every import at any depth, `importlib.import_module("x")` included."""
    aliases = _aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
        elif (
            isinstance(node, ast.Call)
            and _name(node.func, aliases) in ("importlib.import_module", "builtins.__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value)


def _name(node: ast.AST, aliases: dict[str, str]) -> str:
    """A dotted name with its aliases resolved; a bare name that nobody imported is a builtin."""
    if isinstance(node, ast.Attribute):
        inside = _name(node.value, aliases)
        return f"{inside}.{node.attr}" if inside else ""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, f"builtins.{node.id}")
    return ""


def dangers(tree: ast.AST) -> list[tuple[int, str]]:
    """What product code must not do, with its line."""
    aliases = _aliases(tree)
    found = [
        (line, f"import {module}")
        for line, module in _imported(tree)
        if module.partition(".")[0] in _BANNED_MODULES
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and _name(node, aliases) in _BANNED_CALLS:
            found.append((node.lineno, _name(node, aliases)))
        if isinstance(node, ast.Call):
            found += [
                (node.lineno, f"{each.arg}={ast.unparse(each.value)}")
                for each in node.keywords
                if each.arg in _BANNED_WHEN_TRUE
                # Anything but a plain False could be true.
                and not (isinstance(each.value, ast.Constant) and each.value.value is False)
            ]
    return found


def surroundings(tree: ast.AST) -> list[tuple[int, str]]:
    """Where a module reads the environment or the arguments of its process.

    A module that is a process of its own hands its arguments to a function: that much it may do.
    """
    aliases = _aliases(tree)
    own_process = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.If) and ast.unparse(outer.test) == "__name__ == '__main__'"
        for node in ast.walk(outer)
    }
    return [
        (node.lineno, name)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
        and (name := _name(node, aliases)) in _SURROUNDINGS
        and not (name == "sys.argv" and id(node) in own_process)
    ]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "def f():\n    from pickle import loads",
        "import importlib\nimportlib.import_module('pickle')",
        "import torch as t\nt.load('x')",
        "from torch import load as restore\nrestore('x')",
        "import yaml\nread = yaml.load",
        "eval('1')",
        "run = exec",
        "compile(text, 'name', 'exec')",
        "import joblib",
        "import asyncio\nasyncio.create_subprocess_shell('ls')",
        "import os\nos.system('ls')",
        "from os import system\nsystem('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "from transformers import AutoModel\nAutoModel.from_pretrained('x', trust_remote_code=1)",
        "import numpy as np\nnp.load('x', allow_pickle=flag)",
    ],
)
def test_the_check_sees_what_it_looks_for(code: str) -> None:
    assert dangers(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "# pickle\n'torch.load is refused'",
        "model.eval()",
        "import re\nre.compile('x')",
        "import yaml\nyaml.safe_load('x')",
        "from safetensors.numpy import load\nload(b'')",
        "load('x', allow_pickle=False, trust_remote_code=False)",
    ],
)
def test_the_check_sees_nothing_else(code: str) -> None:
    assert dangers(ast.parse(code)) == []


def test_there_is_something_to_check() -> None:
    assert len(MODULES) > 60
    assert {file.relative_to(ROOT).parts[0] for file in MODULES} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_links_are_relative_and_lead_to_the_room(room: str) -> None:
    link = ROOT / "src/longleaf" / room
    assert link.is_symlink(), "see `make links`"
    assert link.readlink() == Path("..", "..", room)
    assert (link / "__init__.py").is_file()


def test_the_package_holds_links_and_nothing_else() -> None:
    held = {each.name for each in (ROOT / "src/longleaf").iterdir() if each.name != "__pycache__"}
    assert held == {*ROOMS, "__init__.py", "py.typed"}


@pytest.mark.parametrize("file", MODULES, ids=_of)
def test_no_module_does_what_is_banned(file: Path) -> None:
    assert dangers(_tree(file)) == []


@pytest.mark.parametrize("file", MODULES, ids=_of)
def test_model_libraries_stay_where_models_run(file: Path) -> None:
    if file.relative_to(ROOT).parts[0] in ("core", "retriever", "api"):
        used = {(line, name) for line, name in _imported(_tree(file))
                if name.partition(".")[0] in _MODEL_LIBRARIES}  # fmt: skip
        assert used == set()


@pytest.mark.parametrize("file", MODULES, ids=_of)
def test_model_libraries_load_when_they_are_used(file: Path) -> None:
    """At import time they would cost every command seconds, `--help` included."""
    tree = _tree(file)
    late = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(outer, ast.If) and ast.unparse(outer.test).endswith("TYPE_CHECKING"))
        for node in ast.walk(outer)
    }
    heavy = _MODEL_LIBRARIES | {"qdrant_edge", "pypdfium2", "ray"}
    early = [
        (node.lineno, ast.unparse(node))
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and id(node) not in late
        and any(name.partition(".")[0] in heavy for _, name in _imported(node))
    ]
    assert early == []


@pytest.mark.parametrize("file", MODULES, ids=_of)
def test_environment_and_arguments_are_read_in_two_places(file: Path) -> None:
    if _of(file) == "core/config.py" or _of(file).startswith("api/cli/"):
        return
    assert surroundings(_tree(file)) == []


def test_reading_the_environment_is_seen() -> None:
    for code in (
        "import os\nos.environ['A']",
        "from os import getenv\ngetenv('A')",
        "import sys\nasked = sys.argv",
        "import os\nif __name__ == '__main__':\n    os.environ['A']",
    ):
        assert surroundings(ast.parse(code))
    assert not surroundings(ast.parse("import sys\nif __name__ == '__main__':\n    f(sys.argv)"))
    assert surroundings(_tree(ROOT / "core/config.py"))


@pytest.mark.parametrize("file", OURS, ids=_of)
def test_no_file_is_too_long(file: Path) -> None:
    lines = len(file.read_text("utf-8").splitlines())
    assert lines <= OWED_LINES.get(_of(file), MAX_LINES), f"{lines} lines: split it"
    assert _of(file) not in OWED_LINES or lines > MAX_LINES, "split at last: take it out"


@pytest.mark.parametrize("file", MODULES, ids=_of)
def test_every_module_says_what_it_does(file: Path) -> None:
    tree = _tree(file)
    if tree.body:
        assert ast.get_docstring(tree)


def undocumented(tree: ast.Module) -> list[tuple[int, str]]:
    """Public classes and functions of a module, and methods of public classes, without a word.

    A docstring may be left out where it would repeat what is in sight: a body of at most
    OBVIOUS_LINES lines, a method whose contract stands in a base or in core/protocols.py, a class
    without methods.
    """
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found += [] if _explained(node) else [(node.lineno, node.name)]
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
        if methods and not ast.get_docstring(node):
            found.append((node.lineno, node.name))
        if not node.bases:
            found += [
                (each.lineno, f"{node.name}.{each.name}")
                for each in methods
                if each.name not in PROTOCOL_METHODS and not _explained(each)
            ]
    return found


def _explained(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    lines = (node.end_lineno or 0) - node.body[0].lineno + 1
    return node.name.startswith("_") or lines <= OBVIOUS_LINES or bool(ast.get_docstring(node))


PROTOCOL_METHODS = {
    method.name
    for seam in _tree(ROOT / "core/protocols.py").body
    if isinstance(seam, ast.ClassDef)
    for method in seam.body
    if isinstance(method, ast.FunctionDef)
}


def test_no_test_stops_everybodys_clock() -> None:
    """Servers of other tests run in threads of the same process: an event loop that looks at a
    clock which goes back waits for hours, and its end with it."""
    stopped = re.compile(r'setattr\(\s*time,\s*"monotonic"')
    assert stopped.search("patch.setattr(" + 'time, "monotonic", clock)')
    tests = sorted((ROOT / "tests").rglob("*.py"))
    assert [each for each in tests if stopped.search(each.read_text("utf-8"))] == []


@pytest.mark.parametrize("file", MODULES, ids=_of)
def test_public_names_are_explained(file: Path) -> None:
    assert {name for _, name in undocumented(_tree(file))} == OWED_WORDS.get(_of(file), set())


def test_a_missing_docstring_is_seen() -> None:
    body = "\n        a = 1" * (OBVIOUS_LINES + 1)
    code = f"class Index:\n    '''An index.'''\n    def fill(self):{body}"
    assert undocumented(ast.parse(code)) == [(3, "Index.fill")]
    assert undocumented(ast.parse(code.replace("fill", "search_dense"))) == []
