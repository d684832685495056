"""Longleaf: a self-hosted search engine for long documents, with two-stage retrieval built in.

The code lives in five folders beside each other at the top of the repository (core, indexer,
retriever, reranker, api); `src/longleaf/<name>` links to each, so they import as
`longleaf.<name>` and never as bare top-level modules. Nothing happens at import.
"""

__version__ = "0.1.0"
