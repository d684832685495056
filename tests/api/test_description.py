"""The OpenAPI document as it is served."""

from __future__ import annotations

import json

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from longleaf.api.http.description import describe


def test_it_is_written_once_for_open_and_once_for_shut(monkeypatch: pytest.MonkeyPatch) -> None:
    app, shut = FastAPI(openapi_url=None), [False]
    app.add_api_route("/v1/things", lambda: {"things": 0}, methods=["GET"])
    describe(app, [], public=(), is_shut=lambda: shut[0])
    made, real = [], app.openapi

    def openapi() -> dict[str, object]:
        made.append(shut[0])
        return real()

    monkeypatch.setattr(app, "openapi", openapi)
    client = TestClient(app)
    for is_shut in (False, True, True, False):
        shut[0] = is_shut
        answer = client.get("/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == json.loads(json.dumps(real()))
        assert ({} in answer.json()["security"]) is not is_shut
    assert made == [False, True]
    assert "/openapi.json" not in answer.json()["paths"]
