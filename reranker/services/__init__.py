"""Rerank services and servers that are not a Longleaf, as a second stage (docs/remote.md).

In the order of the data: `service.py` (the nouns), `dialects.py` (what each speaks), `texts.py` (a
candidate as texts that fit), `batches.py` (how many go in one request), `asking.py` (one request,
its answer checked), `search.py` (one reading), `probing.py` (what is asked before the first
search), `reader.py` (the `Reranker`).
"""
