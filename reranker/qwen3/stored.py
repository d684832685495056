"""Passages' token ids made when they are indexed, so that a query tokenizes little but itself.

What is stored is a text's part of a document, as `document_parts` puts it behind its title (or at
the beginning, where it has none): titles are few and made with the query. Whatever is not stored is
made then as well, so that this may lag behind, or never run, and no score changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from longleaf.reranker.qwen3.template import Template, document_parts

if TYPE_CHECKING:
    from longleaf.core.catalog import Catalog

BATCH_PASSAGES = 1_000


class PassageTokenizer:
    """Gives a catalog's passages their ids. One thread at a time."""

    def __init__(self, template: Template, catalog: Catalog) -> None:
        self._template = template
        self._catalog = catalog
        self._after = 0

    def fill(self) -> int:
        """Store the ids of all passages that lack them; returns of how many."""
        done, has_more = self.fill_some()
        while has_more:
            made, has_more = self.fill_some()
            done += made
        return done

    def fill_some(self) -> tuple[int, bool]:
        """The same for one batch; returns (of how many, whether there may be more).

        Ids of passages only grow, so what was seen once is not looked at again.
        """
        tokenizer = self._template.fingerprint
        newest = self._catalog.newest_passage_id()
        if newest <= self._after:
            return 0, False
        lacking = self._catalog.lacking_reader_ids(tokenizer, self._after, BATCH_PASSAGES)
        bodies = [document_parts(each.title, each.text)[1] for each in lacking]
        ids = self._template.encode_documents(bodies)
        made = {each.passage_id: some for each, some in zip(lacking, ids, strict=True)}
        done = self._catalog.put_reader_ids(tokenizer, made) if made else 0
        is_full = len(lacking) == BATCH_PASSAGES
        self._after = lacking[-1].passage_id if is_full else newest
        return done, is_full
