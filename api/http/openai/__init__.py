"""What OpenAI's clients ask of a server: embeddings, models, and searching a vector store.

A vector store is a collection. Nothing is stored or changed through these routes, and nothing else
of that API is served: its errors say so in its own form (`problems.py`).
"""
