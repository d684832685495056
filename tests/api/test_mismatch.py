"""Other models or sizes than the stored ones are refused at the start, each by its name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.api.test_reindexing import (
    _interrupted,
    _one_model,
    filled,
    live,
    search,
    settings_of,
)

from longleaf.api import reindexing, targets, wire
from longleaf.core.catalog import Catalog
from longleaf.core.config import Settings, load_settings
from longleaf.core.errors import ConfigError, GenerationMismatch, ModelUnavailable
from longleaf.indexer import chunk, embed, models, projection, sequence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from longleaf.indexer.embed import MiniLMEmbedder

__all__ = ["_one_model"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return filled(tmp_path / "home")


@pytest.fixture
def catalog(home: Path) -> Iterator[Catalog]:
    opened = Catalog(home)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("name", "value"), [("chunker__target_tokens", 64), ("chunker__overlap_tokens", 8)]
)
def test_another_size_is_refused_with_its_name_and_the_command(
    home: Path, name: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_model(*_: Any) -> None:
        raise AssertionError("a model was loaded to say so")

    monkeypatch.setattr(wire, "open_models", no_model)
    dotted = name.replace("__", ".")
    with pytest.raises(GenerationMismatch, match=f"{dotted} is {value}, the documents") as raised:
        wire.open_write_side(settings_of(home, **{name: value}))
    assert "longleaf reindex" in raised.value.hint
    with pytest.raises(GenerationMismatch):
        wire.open_runtime(settings_of(home, **{name: value}), follow=False)


def _refused(home: Path, settings: Settings | None = None) -> str:
    with pytest.raises(GenerationMismatch) as raised:
        wire.open_write_side(settings or settings_of(home))
    assert "longleaf reindex" in raised.value.hint
    return raised.value.message


def test_another_version_of_the_chunker_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk, "ALGORITHM_VERSION", 999)
    assert "chunker" in _refused(home)


@pytest.mark.parametrize(
    ("part", "module", "name", "value"),
    [
        ("prefix", sequence, "PREFIX_RULE", "another rule"),
        ("max_tokens", embed, "MAX_TOKENS", 128),
        ("weights", models, "file_sha256", lambda _path: "f" * 64),
    ],
)
def test_each_part_of_the_bundled_models_fingerprint_is_compared(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    module: Any,
    name: str,
    value: Any,
) -> None:
    monkeypatch.setattr(module, name, value)
    if part == "weights":
        monkeypatch.setattr(models, "MINILM_SHA256", "f" * 64)
    fresh = embed.MiniLMEmbedder()
    monkeypatch.setattr(
        wire, "open_models", lambda settings, _: (fresh, wire.open_chunker(settings, fresh))
    )
    assert "embedder" in _refused(home), part


def test_another_projection_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(projection.MINILM_PROJECTION)
    save_file({**tensors, "matrix": -tensors["matrix"]}, tmp_path / "other.safetensors")
    monkeypatch.setattr(projection, "MINILM_PROJECTION", tmp_path / "other.safetensors")
    fresh = embed.MiniLMEmbedder()
    monkeypatch.setattr(
        wire, "open_models", lambda settings, _: (fresh, wire.open_chunker(settings, fresh))
    )
    assert "embedder" in _refused(home)


@pytest.mark.parametrize("part", ["pooling", "normalised", "quantization", "prompts", "folder"])
def test_parts_that_the_code_states_are_in_the_fingerprint(part: str) -> None:
    """They have one value today; with another one, stored vectors would be refused."""
    parts = {"pooling": "mean", "normalised": True, "quantization": "int8", "prompts": ["", ""],
             "folder": "a" * 64}  # fmt: skip
    changed = {**parts, part: "another"}
    assert embed.fingerprint("st", **parts) != embed.fingerprint("st", **changed)
    assert f"{part}=" in Path(embed.__file__).with_name("embed_any.py").read_text("utf-8")


def test_other_dimensions_are_refused_even_under_the_same_fingerprint(
    home: Path, minilm: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minilm, "token_dim", 64)
    assert "dimensions (384, 64), were (384, 128)" in _refused(home)


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """A real sentence-transformers model of a few kilobytes."""
    from tests.indexer.test_embed_any import PROMPTS, build_model

    return build_model(tmp_path / "tiny", 32, PROMPTS)


def test_another_model_is_refused_and_a_reindex_makes_it_so(
    home: Path, catalog: Catalog, tiny_model: Path
) -> None:
    settings = settings_of(home, embedder__model=str(tiny_model))
    message = _refused(home, settings)
    assert "embedder.model" in message and "'bundled'" in message
    assert reindexing.reindex(settings).changed
    assert live(catalog).dim != 384
    assert search(settings_of(home), "rent"), "the model's name is stored with the generation"


@pytest.mark.parametrize("loading", ["before loading", "after loading"])
@pytest.mark.parametrize("change", ["weights", "pooling", "prompts", "normalisation", "tokenizer"])
def test_a_models_files_that_changed_under_their_name_are_refused(
    home: Path, tiny_model: Path, change: str, loading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(home, embedder__model=str(tiny_model))
    reindexing.reindex(settings)
    if loading == "before loading":

        def no_model(*_: Any) -> None:
            raise AssertionError("a model was loaded to say so")

        monkeypatch.setattr(wire, "open_models", no_model)
    else:  # as for a hub id, and for what an older Longleaf has stored
        monkeypatch.setattr(wire, "_stated_files", lambda _: None)
    if change == "weights":
        from safetensors.numpy import load_file, save_file

        tensors = load_file(tiny_model / "model.safetensors")
        name = sorted(tensors)[0]
        save_file({**tensors, name: tensors[name] + 1}, tiny_model / "model.safetensors")
    elif change == "pooling":
        [file] = tiny_model.glob("1_Pooling/config.json")
        text = file.read_text()
        file.write_text(text.replace("mean", "max", 1))
        assert file.read_text() != text
    elif change == "prompts":
        file = tiny_model / "config_sentence_transformers.json"
        told = json.loads(file.read_text())
        file.write_text(json.dumps({**told, "prompts": {"query": "ask: ", "document": "say: "}}))
    elif change == "tokenizer":
        file = tiny_model / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": 77}))
    else:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize

        plain = SentenceTransformer(str(tiny_model), device="cpu")
        shutil.rmtree(tiny_model)
        SentenceTransformer(modules=[*plain, Normalize()], device="cpu").save(str(tiny_model))
    models._file_sha256.cache_clear()
    assert "files" in _refused(home, settings)


def test_what_stays_the_same_in_a_models_folder_is_not_refused(
    home: Path, catalog: Catalog, tiny_model: Path
) -> None:
    settings = settings_of(home, embedder__model=str(tiny_model))
    reindexing.reindex(settings)
    file = tiny_model / "config_sentence_transformers.json"
    told = json.loads(file.read_text())
    told["__version__"] = {"sentence_transformers": "99"}
    told["prompts"] = {**told["prompts"], "clustering": "group: "}
    file.write_text(json.dumps(told))
    (tiny_model / "README.md").write_text("another one")
    wire.open_write_side(settings).close()
    file.write_text("[")
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        wire.open_write_side(settings)


def test_a_prompt_that_is_not_taken_costs_a_reindex_that_embeds_nothing(
    home: Path, catalog: Catalog, tiny_model: Path
) -> None:
    settings = settings_of(home, embedder__model=str(tiny_model))
    file = tiny_model / "config_sentence_transformers.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, "prompts": {"query": told["prompts"]["query"]}}))
    reindexing.reindex(settings)
    prompts = {"query": told["prompts"]["query"], "passage": "not taken: "}
    file.write_text(json.dumps({**told, "prompts": prompts}))
    assert "files" in _refused(home, settings)
    done = reindexing.reindex(settings)
    assert not done.changed and done.embedded == 0
    wire.open_write_side(settings).close()


def test_a_folder_of_an_older_longleaf_learns_its_models_files(
    home: Path, catalog: Catalog
) -> None:
    [opened] = catalog.generations.opened()
    stated = opened.settings["model_files"]
    older = {name: value for name, value in opened.settings.items() if name != "model_files"}
    catalog.generations.keep_settings(opened.generation, older)
    wire.open_write_side(settings_of(home)).close()
    assert catalog.generations.opened()[0].settings == {**older, "model_files": stated}


def test_while_a_generation_is_built_either_settings_will_do(home: Path, catalog: Catalog) -> None:
    new = settings_of(home, chunker__target_tokens=48)
    _interrupted(new)
    for settings in (settings_of(home, chunker__target_tokens=200), new):
        parts = wire.open_write_side(settings)
        assert parts.generation == live(catalog)
        assert parts.chunker.fingerprint == live(catalog).chunker_fingerprint
        parts.close()
    with pytest.raises(GenerationMismatch):
        wire.open_write_side(settings_of(home, chunker__target_tokens=64))


def test_a_flag_against_a_setting_that_stands_is_refused_before_the_work(home: Path) -> None:
    (home / "longleaf.toml").write_text("[chunker]\ntarget_tokens = 200\n")
    stands = load_settings({"home": home}, {})
    for value, wrong in ((48, True), (200, False)):
        asked = load_settings({"home": home, "chunker.target_tokens": value}, {})
        if wrong:
            with pytest.raises(ConfigError, match=r"target_tokens is set to 200 .*longleaf.toml"):
                reindexing.require_agreement(asked, stands)
        else:
            reindexing.require_agreement(asked, stands)
    asked = load_settings({"home": home, "chunker.overlap_tokens": 9}, {})
    reindexing.require_agreement(asked, stands)


def test_stored_settings_fill_what_is_not_set_and_differences_are_named(tmp_path: Path) -> None:
    stored = {
        "embedder": {"model": "/models/x", "dtype": "float32"},
        "chunker": {"target_tokens": 99, "newer": 1},
    }
    unset = settings_of(tmp_path)
    adopted = targets.adopt(unset, stored)
    assert (adopted.embedder.model, adopted.chunker.target_tokens) == ("/models/x", 99)
    assert adopted.embedder.dtype == "auto", "how this machine computes is not stored"
    explicit = settings_of(tmp_path, chunker__target_tokens=200)
    assert targets.adopt(explicit, stored).chunker.target_tokens == 200
    assert targets.adopt(explicit, stored, all_of_it=True).chunker.target_tokens == 99
    assert targets.differences(explicit, stored) == [
        "embedder.model is 'bundled', the documents were indexed with '/models/x'",
        "chunker.target_tokens is 200, the documents were indexed with 99",
    ]
