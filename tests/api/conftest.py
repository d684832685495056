"""A real runtime on a scratch data folder, and a client that speaks to the app in this process.

With LONGLEAF_TEST_CATALOG=postgres in the environment every catalog of these tests is one of a
real Postgres: what would be SQLite in a data folder is a database that stands for the folder.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from tests.postgres import PostgresServer

from longleaf.api import working
from longleaf.api.app import create_app
from longleaf.api.wire import Runtime, open_runtime
from longleaf.core.catalog import Catalog
from longleaf.core.config import Settings, load_settings
from longleaf.core.store_settings import CatalogSettings
from longleaf.indexer.prepare import Labels
from longleaf.indexer.work import do_job

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"

TEXTS = {
    "apache.md": "# Apache License\n\n## Grant of Patent License\n\nIf You institute patent "
    "litigation against any entity alleging that the Work infringes, then any patent licenses "
    "granted to You under this License shall terminate as of the date such litigation is filed.\n"
    "\n## Trademarks\n\nThis License does not grant permission to use the trade names.\n",
    "mit.txt": "MIT License\n\nPermission is hereby granted, free of charge, to any person "
    "obtaining a copy of this software to deal in it without restriction.\n",
    "lease.txt": "Residential lease\n\nThe tenant shall pay the rent on the first day of each "
    "month. The security deposit is returned within thirty days.\n",
    "commercial.txt": "Commercial lease\n\nThe tenant may sublet the premises with the written "
    "consent of the landlord. Force majeure suspends the obligation to pay rent.\n",
    "asthma.txt": "Interleukin-6 in asthma\n\nSerum IL-6 was raised in patients with severe "
    "asthma compared with healthy controls in a cohort of 240 adults.\n",
    "vaccine.txt": "Vaccination trial\n\nThe vaccine reduced hospital admission by half in "
    "adults over sixty-five years of age.\n",
    "evil.md": f"# {EVIL}\n\nA hostile zeppelin document says {EVIL} and javascript:alert(3).\n",
    "case.txt": "Smith v. Jones, No. 19-cv-01234\n\nThe court denied the motion to dismiss the "
    "claim under 42 U.S.C. § 1983.\n",
}
YEARS = {"lease.txt": 2019, "commercial.txt": 2021, "case.txt": 2020}
BASE = "http://127.0.0.1:8765"


ON_POSTGRES = os.environ.get("LONGLEAF_TEST_CATALOG") == "postgres"

sqlite_only = pytest.mark.skipif(ON_POSTGRES, reason="about the SQLite file of a data folder")


def skip_on_postgres() -> None:
    """For a helper that works on the SQLite file of a data folder."""
    if ON_POSTGRES:
        pytest.skip("about the SQLite file of a data folder")


own_process = pytest.mark.skipif(
    ON_POSTGRES, reason="starts a program by itself, which does not know of the test's database"
)


_servers: list[PostgresServer] = []


def copy_home(home: Path, target: Path) -> Path:
    """Copy a data folder that nobody uses, and what is in Postgres for it."""
    for server in _servers:
        server.copy(home, target)
    return shutil.copytree(home, target)


@pytest.fixture(autouse=True, scope="session")
def _catalogs_in_postgres(request: pytest.FixtureRequest) -> Iterator[None]:
    """Send every catalog that names no database to Postgres, where that was asked for."""
    if not ON_POSTGRES:
        yield
        return
    server = request.getfixturevalue("postgres")
    _servers.append(server)
    open_catalog, read_settings = Catalog.__init__, Settings.model_validate

    def opened(self: Catalog, folder: Path, settings: CatalogSettings | None = None) -> None:
        known = settings or CatalogSettings()
        url = known.url or server.database_for(folder)
        open_catalog(self, folder, known.model_copy(update={"url": url}))

    def read(values: Any) -> Settings:
        known = read_settings(values)
        url = known.catalog.url or server.database_for(known.home)
        catalog = known.catalog.model_copy(update={"url": url})
        return known.model_copy(update={"catalog": catalog})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Catalog, "__init__", opened)
        patch.setattr(Settings, "model_validate", read)
        yield


@pytest.fixture(autouse=True)
def _log_of_its_own() -> Iterator[None]:
    """A command run in this process sends the log to its runner's stderr, which is closed then."""
    yield
    structlog.reset_defaults()


class Client:
    """A blocking client of an app in this process; every call has an event loop of its own."""

    def __init__(
        self, app: FastAPI, base_url: str = BASE, headers: dict[str, str] | None = None
    ) -> None:
        self.app = app
        self.base_url = base_url
        self.headers = headers or {}

    def open(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.app)
        return httpx.AsyncClient(transport=transport, base_url=self.base_url, headers=self.headers)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with self.open() as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)

    def upload(self, name: str, data: bytes, **fields: Any) -> httpx.Response:
        fields.setdefault("collection", "scratch")
        return self.post("/v1/documents", files={"file": (name, data)}, data=fields)

    def search(self, query: str, **options: Any) -> dict[str, Any]:
        response = self.post("/v1/search", json={"query": query, **options})
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found


def wait_until_followed(runtime: Runtime, seconds: float = 20.0) -> None:
    """Wait for the follower; the catalog must not be written meanwhile."""
    end = time.monotonic() + seconds
    while runtime.follower.lag() > 0:
        assert time.monotonic() < end, "the follower does not follow"
        time.sleep(0.02)


@contextmanager
def a_worker(runtime: Runtime) -> Iterator[None]:
    """Do the runtime's jobs in a thread of this process, as `longleaf worker` does in its own."""
    stopping = threading.Event()
    owner = working.owner_name()

    def loop() -> None:
        while not stopping.wait(0.02):
            jobs = runtime.catalog.jobs
            # Counting first is a read; claiming fifty times a second took a tenth of a core.
            if jobs.open_count() and (job := jobs.claim(owner)) is not None:
                do_job(runtime.indexer, job, owner, stopping=stopping)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    home = tmp_path_factory.mktemp("home")
    flags = {"home": home, "server.max_upload_bytes": 200_000, "chunker.target_tokens": 48}
    settings = load_settings(flags, {}).settings
    opened = open_runtime(settings, follow=True)
    try:
        for name in ("law", "science", "scratch"):
            opened.catalog.create_collection(name)
        for name, text in TEXTS.items():
            collection = "science" if name in ("asthma.txt", "vaccine.txt") else "law"
            metadata = {"year": YEARS[name]} if name in YEARS else {}
            data = text.encode()
            opened.indexer.index_bytes(
                collection, "english", data, name, key=name, labels=Labels(metadata=metadata)
            )
        wait_until_followed(opened)
        with a_worker(opened):
            yield opened
    finally:
        opened.close()


_shared: list[tuple[Runtime, dict[str, str], FastAPI]] = []


def app_of(runtime: Runtime, **options: str) -> FastAPI:
    """An app for all tests of a runtime that follow each other: making one takes 0.15 s."""
    for each, given, app in _shared:
        if each is runtime and given == options:
            return app
    app = create_app(runtime, **options)
    _shared[:] = [*_shared[-1:], (runtime, options, app)]
    return app


@pytest.fixture
def client(runtime: Runtime) -> Client:
    return Client(app_of(runtime))
