"""What the adapters have in common: what they load, what they say of a missing package."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

ADAPTERS = {
    "langchain": ("langchain_core", "langchain"),
    "llama_index": ("llama_index", "llama-index"),
    "haystack": ("haystack", "haystack"),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package, extra = ADAPTERS[name]
    for loaded in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.delitem(sys.modules, f"longleaf.api.frameworks.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'pip install "longleaf\[{extra}\]"'):
        importlib.import_module(f"longleaf.api.frameworks.{name}")


def test_asking_a_server_loads_no_model_and_no_index() -> None:
    heavy = {"torch", "transformers", "sqlalchemy", "fastapi", "qdrant_edge", "numpy"}
    code = (
        "import sys, longleaf.api.frameworks.retrieval as asked\n"
        "try: asked.search('http://127.0.0.1:9', '', 'x', collections=None, limit=1, passages=1,"
        " options={})\n"
        "except Exception as error: print(type(error).__name__)\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split("\n")[:2] == ["LongleafError", "[]"]
