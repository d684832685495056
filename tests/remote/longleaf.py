"""A Longleaf that reads for others, in this process, and a CrossEncoder that ranks sense first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.api.conftest import TEXTS
from tests.reranker.tiny import build_cross_encoder

from longleaf.api.app import create_app
from longleaf.api.wire import Runtime, open_runtime
from longleaf.core.config import load_settings
from longleaf.core.protocols import Reranker
from longleaf.indexer.prepare import Labels
from longleaf.reranker.qwen3.check import PROBES

LONGLEAF = [sys.executable, "-P", "-m", "longleaf.api.cli"]


@contextmanager
def process(
    home: Path, log: Path | None = None, **settings: Any
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A real `longleaf serve`, without a worker; settings through the environment. Its log goes to
    the file `log`."""
    variables = {f"LONGLEAF_{name.upper()}": str(value) for name, value in settings.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LONGLEAF_")}
    with ExitStack() as opened:
        child = subprocess.Popen(
            [*LONGLEAF, "serve", "--port", "0", "--json", "--home", str(home)],
            env={**kept, "LONGLEAF_SERVER__WORKER": "false", **variables},
            stdout=subprocess.PIPE,
            stderr=None if log is None else opened.enter_context(log.open("w")),
            text=True,
        )
        assert child.stdout is not None
        try:
            said = json.loads(child.stdout.readline() or "{}")
            assert "url" in said, said
            yield said["url"], child
        finally:
            child.send_signal(signal.SIGINT)
            child.wait(60)
            child.stdout.close()


@contextmanager
def served_app(app: Any) -> Iterator[str]:
    """The app behind a real server on a free port; its URL."""
    import uvicorn

    with started(uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))) as url:
        yield url


@contextmanager
def started(server: Any) -> Iterator[str]:
    """A uvicorn server in a thread, until the block ends; its URL."""
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def opened(home: Path, **flags: Any) -> Runtime:
    """`home` with short passages and no kept readings; a flag's "__" is a dot."""
    named = {name.replace("__", "."): value for name, value in flags.items()}
    defaults = {"chunker.target_tokens": 48, "reranker.cached_readings": 0}
    return open_runtime(
        load_settings({"home": home, **defaults, **named}, {}).settings, follow=False
    )


def fill(runtime: Runtime) -> None:
    """The tests' texts, in a collection "law"."""
    runtime.catalog.create_collection("law")
    for name, text in TEXTS.items():
        data = text.encode()
        runtime.indexer.index_bytes("law", "english", data, name, key=name, labels=Labels())
    runtime.follower.catch_up()


def filled(home: Path) -> Path:
    """`home`, with the tests' texts in it."""
    runtime = opened(home)
    fill(runtime)
    runtime.close()
    return home


@contextmanager
def reading_for_others(home: Path, reranker: Reranker | None = None) -> Iterator[str]:
    """An empty Longleaf with `reranker` (None: `late`); its URL."""
    runtime = open_runtime(load_settings({"home": home}, {}).settings, follow=False)
    try:
        if reranker is not None:
            runtime.engine.reranker = reranker
        with served_app(create_app(runtime)) as url:
            yield url
    finally:
        runtime.close()


def sensible_cross_encoder(folder: Path) -> str:
    """`build_cross_encoder`, trained until it knows the probes of the start by heart."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    build_cross_encoder(folder)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    pairs = [(each.query, text) for each in PROBES for text in (each.relevant, each.irrelevant)]
    wanted = torch.tensor([2.0, -2.0] * len(PROBES))
    given = tokenizer(
        [query for query, _ in pairs],
        [text for _, text in pairs],
        padding=True,
        truncation="longest_first",
        max_length=48,
        return_tensors="pt",
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    torch.manual_seed(3)
    for _ in range(400):
        logits = model(**given).logits[:, 0]
        loss = ((logits - wanted) ** 2).mean()
        if float(loss.detach()) < 0.05:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5, "the probes were not learnt"
    model.save_pretrained(folder)
    return str(folder)
