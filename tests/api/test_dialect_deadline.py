"""The server's own time for reading (reranker.deadline_ms) bounds requests in every dialect."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.conftest import Client

from longleaf.api.http.dialects import dashscope
from longleaf.api.http.dialects.places import PLACES
from longleaf.api.wire import Runtime

TEXTS = ["The tenant pays the rent.", "A moth flies.", "The roof leaks."] * 40
ASKED = {"query": "who pays rent?", "documents": TEXTS, "model": "m"}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/rerank longleaf": {**ASKED, "model": "late"},
    "/rerank tei": {"query": "who pays rent?", "texts": TEXTS},
    f"{dashscope.NATIVE_PATH} dashscope": {
        "model": "m",
        "input": {"query": "who pays rent?", "documents": TEXTS},
    },
} | {
    f"{path} vllm": {"text_1": "who pays rent?", "text_2": TEXTS}
    for path in ("/score", "/v1/score")
}
SERVED = [(path, place.dialect.name) for path, places in PLACES.items() for place in places]


@pytest.mark.parametrize(("path", "dialect"), SERVED)
def test_what_is_not_read_in_time_is_told_in_every_dialect(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, path: str, dialect: str
) -> None:
    body = BODIES.get(f"{path} {dialect}", ASKED)
    path = f"/as/{dialect}{path}"
    whole = client.post(path, json=body)
    assert whole.status_code == 200, whole.text
    assert "X-Longleaf-Unread" not in whole.headers
    monkeypatch.setattr(runtime.engine, "deadline_ms", 0.001)
    late = client.post(path, json=body)
    if dialect == "longleaf":  # which has room for it
        assert late.status_code == 200 and len(late.json()["unread"]) == len(TEXTS)
        assert "deadline reached" in late.headers["X-Longleaf-Unread"]
    else:
        assert late.status_code == 429 and "reranker.deadline_ms" in late.text, late.text
        assert int(late.headers["Retry-After"]) > 0
