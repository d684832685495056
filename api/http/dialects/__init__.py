"""Other people's rerank APIs, served by this server's own reranker.

One file per dialect: the request as its clients send it, the answer as they read it, its errors.
`forms.py` has what they share, `places.py` says which of them live at which path and how a body
tells them apart, `routes.py` answers. Reading itself is `api/given.py`, for all of them.
"""
