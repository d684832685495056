"""Settings that are changed after a collection was made, told over HTTP as a server tells them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.contracts.entries import ALL, entry, found
from tests.contracts.qdrant_indexes import settings
from tests.contracts.qdrant_rest import Faults, serving
from tests.retriever.test_qdrant import behind, writing

from longleaf.core.ids import point_id
from longleaf.retriever.index.qdrant import QdrantIndex
from longleaf.retriever.index.qdrant_server import Server


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def url(faults: Faults) -> Iterator[str]:
    with serving(faults) as address:
        yield address


def begun(url: str, fence: int, **chosen: Any) -> QdrantIndex:
    return writing(Server.connect(settings(url=url)), fence, **chosen)


def config(index: QdrantIndex) -> Any:
    name = behind(index._server)
    assert name is not None
    return index._server.client.get_collection(name).config


def changes(faults: Faults) -> int:
    return sum(method == "PATCH" for method, _ in faults.requests)


MADE = {"shards": 2, "replicas": 2, "hnsw_m": 16}


def test_what_can_be_changed_in_place_is_changed_once(url: str, faults: Faults) -> None:
    first = begun(url, 1, **MADE)
    first.put([entry(1)])
    first.flush(5)
    begun(url, 2, **MADE).close()
    assert changes(faults) == 0, "nothing was set otherwise"
    chosen = MADE | {
        "hnsw_m": 32, "hnsw_ef": 4096, "write_consistency": 1, "quantization": "none",
    }  # fmt: skip
    with capture_logs() as logs:
        second = begun(url, 3, **chosen)
    told = config(second)
    assert (told.hnsw_config.m, told.hnsw_config.payload_m) == (32, 32)
    assert told.quantization_config is None
    assert told.params.write_consistency_factor == 1
    [said] = [each for each in logs if each["event"] == "index.settings_changed"]
    assert said["changed"] == [
        "collection_params", "hnsw_config", "quantization_config", "vectors_config",
    ]  # fmt: skip
    assert found(second, ALL) == {point_id(1, 0)}
    third = begun(url, 4, **chosen)
    assert changes(faults) == 1
    fourth = begun(url, 5, **MADE)
    assert config(fourth).quantization_config.scalar.type == "int8"
    assert config(fourth).params.write_consistency_factor == 2
    for each in (first, second, third, fourth):
        each.close()


def test_no_write_waits_for_more_copies_than_there_are(url: str) -> None:
    begun(url, 1, **MADE).flush(5)
    index = begun(url, 2, **(MADE | {"replicas": 3, "write_consistency": 3}))
    assert config(index).params.write_consistency_factor == 2
    index.close()


def test_what_needs_another_collection_is_told(url: str) -> None:
    begun(url, 1, **MADE).flush(5)
    with capture_logs() as logs:
        index = begun(url, 2, **(MADE | {"shards": 5, "replicas": 3}))
    assert index.unmet() == [
        "it has 2 shards and not the 5 of qdrant.shards",
        "it has 2 replicas and not the 3 of qdrant.replicas",
    ]
    warned = [each["reason"] for each in logs if each["event"] == "index.settings_need_rebuild"]
    assert warned == [f"{what}: longleaf rebuild" for what in index.unmet()]
    default = begun(url, 3, hnsw_m=16)
    assert default.unmet() == []
    for each in (index, default):
        each.close()


def test_a_server_that_refuses_the_change_is_followed_into_all_the_same(
    url: str, faults: Faults
) -> None:
    begun(url, 1, **MADE).flush(5)

    def refuse(method: str, _path: str) -> None:
        if method == "PATCH":
            raise ValueError("not for this key")

    faults.before = refuse
    with capture_logs() as logs:
        index = begun(url, 2, **(MADE | {"hnsw_m": 32}))
    assert [each["event"] for each in logs].count("index.settings_not_changed") == 1
    index.put([entry(1)])
    index.flush(6)
    assert found(index, ALL) == {point_id(1, 0)}
    index.close()
