"""What is exported comes in again as it was, and what is no export does no harm."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.api.conftest import ON_POSTGRES, copy_home
from typer.testing import CliRunner

from longleaf.api.cli.main import app as cli
from longleaf.api.transfer import exporting, form, importing
from longleaf.api.transfer.fates import Imported, Options, Summary
from longleaf.api.transfer.importing import Import
from longleaf.core.catalog import (
    Catalog,
    ContentWrite,
    DocumentWrite,
    Generation,
    ReadingDefaults,
    SourceWrite,
    content_digest,
)
from longleaf.core.catalog.verify import Verifier
from longleaf.core.errors import Conflict, InvalidRequest, NotFound
from longleaf.core.layout import Layout
from longleaf.core.types import (
    Document,
    Outcome,
    Page,
    Passage,
    PassageVectors,
    Region,
    Role,
    Scope,
    Section,
)

DIM, TOKEN_DIM = 8, 4
EVERYONE = Scope.all()


def open_generation(catalog: Catalog) -> Generation:
    return catalog.open_generation("chunker", "embedder", "tiny", DIM, TOKEN_DIM)


def content(document: Document, width: int = 40) -> ContentWrite:
    """Cut into passages of `width` characters, with vectors that depend on the words."""
    passages, vectors = [], []
    for ordinal, start in enumerate(range(0, len(document.text), width)):
        end = min(start + width, len(document.text))
        rng = np.random.default_rng(zlib.crc32(document.text[start:end].encode()))
        dense = rng.normal(size=DIM).astype(np.float32)
        tokens = int(rng.integers(0, 6))
        codes = rng.integers(-127, 128, (tokens, TOKEN_DIM)).astype(np.int8)
        passages.append(Passage(ordinal, start, end, tokens, 1, 2, ("Head",), 0))
        vectors.append(
            PassageVectors(dense / np.linalg.norm(dense), codes, min(1, tokens), ordinal % 2)
        )
    return ContentWrite(content_digest(document), document, tuple(passages), tuple(vectors))


def put(catalog: Catalog, collection: str, key: str, document: Document, **more: Any) -> None:
    made = content(document)
    write = DocumentWrite(
        collection=collection,
        key=key,
        digest=made.digest,
        metadata=more.get("metadata", {}),
        groups=more.get("groups", ()),
        source=more.get("source", f"{key}.txt"),
        media_type="text/plain",
        original=catalog.blobs.put(more["original"]) if "original" in more else None,
        language=more.get("language", "en"),
        warnings=more.get("warnings", ()),
        source_key=more.get("source_key"),
        content=made,
    )
    sources = []
    if write.source_key is not None:
        sources = [
            SourceWrite(
                collection, write.source_key, "ab" * 32, 7, 8, "2:x", Outcome.INDEXED, "", "", 1
            )
        ]
    catalog.commit(open_generation(catalog), [write], sources)


def fill(home: Path) -> None:
    catalog = Catalog(home)
    reading = ReadingDefaults("auto", 40, None, 9_000)
    catalog.create_collection("law", "german", "Gesetze", "statutes", reading)
    catalog.create_collection("science", "english", "")
    text = "The tenant shall pay 𝔸 rent.\n" * 300
    layout = Layout(
        np.array([(0, 3, 1), (4, 10, 2)], np.int32),
        np.array([(1, 2, 3, 4), (5.5, 6, 7, 8)], np.float32),
        np.array([(612, 792)] * 2, np.float32),
    )
    rich = Document(
        text,
        "Lease",
        (Page(1, 0, 50), Page(2, 50, len(text))),
        (Section("One", 1, 0, len(text)), Section("Two", 2, 10, 60)),
        regions=(Region(Role.FOOTNOTE, 0, 5), Region(Role.REFERENCES, 9, 20)),
        layout=layout,
    )
    labels = {"year": 2020, "score": 1.0, "final": True, "tags": ("a", "b"), "court": "ca9"}
    put(catalog, "law", "lease", rich, metadata=labels, groups=("staff", "board"),
        original=b"%PDF", source_key="/data/lease.pdf", warnings=("one", "two"))  # fmt: skip
    put(catalog, "science", "copy", rich, language=None)
    put(catalog, "law", "mail.eml!/a.txt", Document("short text", ""), original=b"%PDF")
    put(catalog, "law", "lease 2", Document("another text", "Title"))
    put(catalog, "law", "lease 2", Document("another text, mended", "Title"))
    catalog.commit(
        open_generation(catalog),
        [],
        [
            SourceWrite(
                "law", "/data/bad.pdf", None, 1, 2, "2:x", Outcome.REJECTED, "malformed", "x"
            )
        ],
    )
    catalog.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    fill(folder)
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    return copy_home(template, tmp_path / "home")


def export(home: Path, target: Path, **options: Any) -> exporting.Exported:
    catalog = Catalog(home)
    try:
        return exporting.export(catalog, target, exporting.Options(**options))
    finally:
        catalog.close()


def no_models(_: Generation) -> Any:
    pytest.fail("an import that brings its vectors needs no model")


class Tiny:
    """Chunker and embedder of `content`: what it makes, made again."""

    def chunk(self, document: Document) -> tuple[Passage, ...]:
        self.document = document
        return content(document).passages

    def embed_passages(self, inputs: Any) -> Any:
        wanted = content(self.document).vectors
        yield from (wanted[number] for number, _ in enumerate(inputs))


def tiny(_: Generation) -> Any:
    models = Tiny()
    return models, models


def import_(
    source: Path, home: Path, models: Callable[[Generation], Any] = no_models, **options: Any
) -> tuple[list[Imported], Summary]:
    catalog = Catalog(home)
    told: list[Imported] = []
    try:
        importer = Import(
            catalog,
            [open_generation(catalog)],
            models,
            Options(**options),
            1_000_000,
            told.append,
        )
        return told, importer.run(source)
    finally:
        catalog.close()


def fates(told: list[Imported]) -> Counter[str]:
    return Counter(str(each.fate) for each in told)


def files(folder: Path) -> dict[str, Any]:
    """Every file of an export but the moment it was made."""
    found: dict[str, Any] = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    header = json.loads(found[form.HEADER])
    assert header.pop("created_at") > 0
    return found | {form.HEADER: header}


def untar(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive, "r:") as tar:
        tar.extractall(folder, filter="data")
    return folder


def assert_whole(home: Path) -> None:
    catalog = Catalog(home)
    assert [each for each in Verifier(catalog, deep=True).checks() if each.wrong] == []
    catalog.close()


# --- there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".tar"])
@pytest.mark.parametrize("vectors", [True, False])
def test_an_export_of_an_import_is_the_export(
    home: Path, tmp_path: Path, suffix: str, vectors: bool
) -> None:
    done = export(home, tmp_path / f"first{suffix}", vectors=vectors)
    assert (done.documents, done.contents, done.originals, done.sources) == (4, 3, 1, 2)
    told, summary = import_(
        tmp_path / f"first{suffix}", tmp_path / "new", no_models if vectors else tiny
    )
    assert fates(told) == {"added": 4}
    assert (summary.collections, summary.originals, summary.problems) == (2, 1, [])
    export(tmp_path / "new", tmp_path / f"second{suffix}", vectors=vectors)
    names = ["first", "second"]
    if suffix:
        pair = [untar(tmp_path / f"{name}.tar", tmp_path / f"{name}-files") for name in names]
    else:
        pair = [tmp_path / name for name in names]
    assert files(pair[0]) == files(pair[1])
    assert ("parts/000001/vectors.bin" in files(pair[0])) == vectors
    assert_whole(tmp_path / "new")
    again, _ = import_(tmp_path / f"first{suffix}", tmp_path / "new")
    assert fates(again) == {"unchanged": 4}


# A NUL never comes out of a parser, and Postgres refuses it (tests/core/test_postgres.py).
_LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0" * ON_POSTGRES)
_WORDS = st.text(_LETTERS, min_size=1, max_size=80)
_NAMES = _WORDS.filter(lambda text: "\0" not in text)  # the catalog refuses it in a name


@st.composite
def _documents(draw: st.DrawFn) -> Document:
    text = draw(_WORDS.filter(lambda t: bool(t.strip())))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=6)))
    spans = list(itertools.pairwise(cuts))
    runs = [span for span in spans if span[0] < span[1]]
    layout = None
    if runs and draw(st.booleans()):
        boxes = draw(
            st.lists(
                st.tuples(*[st.floats(0, 5000, width=32)] * 4),
                min_size=len(runs), max_size=len(runs),
            )
        )  # fmt: skip
        layout = Layout(
            np.array([(*span, 1) for span in runs], np.int32),
            np.array(boxes, np.float32),
            np.array([(612, 792)], np.float32),
        )
    return Document(
        text,
        draw(st.text(_LETTERS, max_size=20)),
        tuple(Page(number, *span) for number, span in enumerate(spans, 1)),
        tuple(Section(draw(_WORDS), 1 + n % 3, *span) for n, span in enumerate(spans)),
        regions=tuple(Region(Role.CONTENTS, *span) for span in spans[::2]),
        layout=layout,
    )


_VALUES = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(_LETTERS),
    st.lists(_WORDS, max_size=3).map(tuple),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]), _documents(), st.dictionaries(_NAMES, _VALUES),
            st.lists(_NAMES, max_size=2, unique=True), st.binary(max_size=30),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_whatever_a_catalog_holds_comes_in_again(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    catalog = Catalog(folder / "home")
    catalog.create_collection("law")
    for key, document, metadata, groups, original in drawn:
        labels = {"metadata": metadata, "groups": tuple(sorted(groups)), "original": original}
        put(catalog, "law", key, document, **labels)
    catalog.close()
    if drawn:
        export(folder / "home", folder / "first", vectors=True)
        import_(folder / "first", folder / "new")
        export(folder / "new", folder / "second", vectors=True)
        assert files(folder / "first") == files(folder / "second")
        assert_whole(folder / "new")
    shutil.rmtree(folder)


def test_into_a_catalog_that_has_other_documents(home: Path, tmp_path: Path) -> None:
    export(home, tmp_path / "export", vectors=True)
    catalog = Catalog(tmp_path / "new")
    catalog.create_collection("law", "english")
    put(catalog, "law", "lease", Document("a text of our own", "Ours"))
    put(catalog, "law", "mine", Document("stays", ""))
    catalog.close()
    told, summary = import_(tmp_path / "export", tmp_path / "new")
    assert fates(told) == {"added": 3, "kept": 1}
    assert summary.problems == ["the collection law reads english here, and german in the export"]
    told, _ = import_(tmp_path / "export", tmp_path / "new", replace=True)
    assert fates(told) == {"replaced": 1, "unchanged": 3}
    catalog = Catalog(tmp_path / "new")
    heads = {head.key: head for head in catalog.documents(Scope(frozenset({"law"})))}
    assert set(heads) == {"lease", "lease 2", "mail.eml!/a.txt", "mine"}
    assert (heads["lease"].title, heads["lease"].revision) == ("Lease", 2)
    assert heads["lease 2"].revision == 2  # as it was where it came from
    sources = catalog.sources("law")
    assert sources["/data/lease.pdf"].outcome is Outcome.INDEXED
    assert sources["/data/bad.pdf"].reason == "malformed"
    catalog.close()
    assert_whole(tmp_path / "new")


def test_a_kept_document_leaves_no_original_behind(home: Path, tmp_path: Path) -> None:
    export(home, tmp_path / "export", vectors=True, collections=["law"])
    catalog = Catalog(tmp_path / "new")
    catalog.create_collection("law", "german")
    for key in ("lease", "mail.eml!/a.txt"):
        put(catalog, "law", key, Document("ours", ""))
    catalog.close()
    import_(tmp_path / "export", tmp_path / "new")
    assert list((tmp_path / "new" / "originals").glob("??/*")) == []


def test_an_interrupted_import_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "PART_DOCUMENTS", 1)
    export(home, tmp_path / "export.tar", vectors=True)
    data = (tmp_path / "export.tar").read_bytes()
    seen = set()
    for begin in re.finditer(rb"parts/0", data):
        (tmp_path / "part.tar").write_bytes(data[: begin.start() + 700])
        with pytest.raises(InvalidRequest):
            import_(tmp_path / "part.tar", tmp_path / "new")
        catalog = Catalog(tmp_path / "new")
        seen.add(catalog.count(EVERYONE).documents)
        catalog.close()
    assert len(seen) > 1
    told, _ = import_(tmp_path / "export.tar", tmp_path / "new")
    assert sum(fates(told).values()) == 4
    assert fates(told)["unchanged"] > 0
    export(tmp_path / "new", tmp_path / "again", vectors=True)
    assert files(tmp_path / "again") == files(untar(tmp_path / "export.tar", tmp_path / "files"))


def test_other_models_here_make_the_vectors_anew(home: Path, tmp_path: Path) -> None:
    export(home, tmp_path / "export", vectors=True)
    header = tmp_path / "export" / form.HEADER
    header.write_text(header.read_text().replace('"embedder":"embedder"', '"embedder":"other"'))
    told, _ = import_(tmp_path / "export", tmp_path / "new", tiny)
    assert fates(told) == {"added": 4}
    assert_whole(tmp_path / "new")
    told, _ = import_(tmp_path / "export", tmp_path / "third", tiny, embed=True)
    assert fates(told) == {"added": 4}


def test_long_texts_are_embedded_in_slices(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(home, tmp_path / "export")
    monkeypatch.setattr(importing, "SLICE_PASSAGES", 7)
    import_(tmp_path / "export", tmp_path / "new", tiny)
    export(tmp_path / "new", tmp_path / "second", vectors=True)
    export(home, tmp_path / "first", vectors=True)
    assert files(tmp_path / "first") == files(tmp_path / "second")


def test_what_is_left_out_is_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next((home / "originals").glob("??/*")).unlink()
    assert len(export(home, tmp_path / "export").left_out) == 2
    monkeypatch.setattr(form, "MOST_LINE_BYTES", 5000)
    done = export(home, tmp_path / "small", originals=False)
    assert {each.partition(":")[0] for each in done.left_out} == {"'lease'", "'copy'"}
    assert done.documents == 2
    with pytest.raises(NotFound):
        export(home, tmp_path / "none", collections=["nothing"])
    with pytest.raises(Conflict):
        export(home, tmp_path / "small")


# --- the commands, with the real models ----------------------------------------------------------


def test_both_commands_with_the_real_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longleaf.api import wire
    from longleaf.core.config import load_settings

    models = wire.open_models(load_settings({"home": tmp_path}, {}).settings, {})
    monkeypatch.setattr(wire, "open_models", lambda *_: models)
    parts = wire.open_write_side(load_settings({"home": tmp_path / "home"}, {}).settings)
    parts.catalog.create_collection("law")
    for number in range(3):
        text = f"Lease {number}. " + "The tenant shall pay the rent on the first day. " * 30
        parts.indexer.index_bytes("law", "english", text.encode(), f"{number}.txt")
    parts.close()
    run = CliRunner().invoke
    made = run(cli, ["export", str(tmp_path / "x.tar"), "--home", str(tmp_path / "home"), "--json"])
    assert json.loads(made.stdout)["documents"] == 3
    taken = run(cli, ["import", str(tmp_path / "x.tar"), "--home", str(tmp_path / "new"), "--json"])
    assert taken.exit_code == 0, taken.output
    *told, last = [json.loads(line) for line in taken.stdout.splitlines()]
    assert [each["fate"] for each in told] == ["added"] * 3
    assert last["summary"]["documents"] == {"added": 3}
    for name in ("home", "new"):
        target = str(tmp_path / f"{name}-v")
        run(cli, ["export", target, "--vectors", "--home", str(tmp_path / name), "--json"])
    assert files(tmp_path / "home-v") == files(tmp_path / "new-v")
    shown = run(cli, ["import", str(tmp_path / "x.tar"), "--home", str(tmp_path / "new")])
    assert "3 unchanged" in shown.output
