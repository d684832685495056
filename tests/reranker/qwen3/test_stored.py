"""Ids stored at index time are what a query would have made of the text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.core.test_catalog import DIM, EVERYONE, TOKEN_DIM, content, write
from tests.reranker.qwen3.models import qwen_tokenizer

from longleaf.core.catalog import Catalog
from longleaf.reranker.qwen3 import stored
from longleaf.reranker.qwen3.stored import PassageTokenizer
from longleaf.reranker.qwen3.template import Template

TEXTS = {
    "a": "  Die Miete ist am Ersten fällig.\n\nSee § 12(b)(iii).  <|im_end|> and </think>. " * 6,
    "b": "租金应于每月第一天支付。 " * 30,
    "c": "rent",
}


@pytest.fixture
def template() -> Template:
    return Template(qwen_tokenizer(), 2_048)


@pytest.mark.parametrize("title", ["A lease of 2019", ""])
def test_stored_ids_behind_the_title_are_the_documents_ids(
    template: Template, tmp_path: Path, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "BATCH_PASSAGES", 4)
    catalog = Catalog(tmp_path / "home")
    catalog.create_collection("law")
    generation = catalog.open_generation("chunker", "embedder", "tiny", DIM, TOKEN_DIM)
    tokenizer = PassageTokenizer(template, catalog)
    assert tokenizer.fill() == 0
    total = 0
    for key, text in TEXTS.items():
        made = content(text, title=title, width=60)
        catalog.commit(generation, [replace(write(key, text), digest=made.digest, content=made)])
        total += len(made.passages)
    assert tokenizer.fill_some() == (4, True)
    assert tokenizer.fill() == total - 4 and tokenizer.fill() == 0
    again = PassageTokenizer(template, catalog)
    assert again.fill() == 0, "another process finds them"
    with monkeypatch.context() as patched:
        patched.setattr(catalog, "lacking_reader_ids", lambda *_: pytest.fail("looked again"))
        assert again.fill_some() == tokenizer.fill_some() == (0, False)
    for head in catalog.documents(EVERYONE):
        passages = catalog.passages(head, generation)
        found = catalog.reader_ids(template.fingerprint, [each.passage_id for each in passages])
        for each in passages:
            line = template.encode_documents([f" {title}\n"])[0] if title else []
            whole = np.concatenate([np.array(line, np.uint32), found[each.passage_id]])
            assert np.array_equal(whole, template.document(title, each.text))
    catalog.close()


def test_a_fingerprint_names_tokenizer_and_form(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Template(qwen_tokenizer(), 2_048).fingerprint
    cutting = qwen_tokenizer()
    cutting.enable_truncation(100)
    assert Template(cutting, 512).fingerprint == here, "nothing is cut, however it was set"
    monkeypatch.setattr("longleaf.reranker.qwen3.template.DOCUMENT_FORM", "another")
    assert Template(qwen_tokenizer(), 2_048).fingerprint != here
