"""Style sheets and modules of the pages, under a path that changes with them.

`/static/{digest}/page.js`: a browser keeps it for good, and a module's relative imports stay within
one version. Another version's path is answered with this one's file, kept by nobody: behind a proxy
an old page may ask a new server.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

FOLDER = Path(__file__).resolve().parents[1] / "static"

DIGEST = hashlib.sha256(
    b"".join(file.name.encode() + file.read_bytes() for file in sorted(FOLDER.iterdir()))
).hexdigest()[:12]

URL = f"/static/{DIGEST}"


class Assets(StaticFiles):
    """The folder `static`, mounted at /static."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)
        self._names = frozenset(file.name for file in FOLDER.iterdir())

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Only names that are in the folder are looked for: no other path is even asked about."""
        return super().lookup_path(path) if path in self._names else ("", None)

    async def get_response(self, path: str, scope: Any) -> Response:
        digest, _, name = path.partition("/")
        response = await super().get_response(name or path, scope)
        current = digest == DIGEST
        response.headers["cache-control"] = (
            "public, max-age=31536000, immutable" if current else "no-cache"
        )
        return response
