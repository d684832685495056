"""Finding the server that runs on a data folder, so that the command line can ask it.

A server leaves `server.json` (URL and pid) in the data folder. The file is only a hint: whether a
server is there is decided by asking it for its data folder's name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FILE_NAME = "server.json"
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@contextmanager
def announced(home: Path, url: str) -> Iterator[None]:
    """Say in the data folder that a server answers at `url` while the block runs."""
    file = home / FILE_NAME
    temporary = home / f"{FILE_NAME}.{os.getpid()}"
    temporary.write_text(json.dumps({"url": url, "pid": os.getpid()}), "utf-8")
    temporary.replace(file)
    try:
        yield
    finally:
        try:
            if json.loads(file.read_text("utf-8")).get("pid") == os.getpid():
                file.unlink()
        except (OSError, ValueError):
            pass


def find_server(home: Path) -> str | None:
    """The URL of the live server on this data folder, None when there is none.

    Only loopback addresses are asked: the file must not send documents' queries elsewhere.
    """
    try:
        announced_as: dict[str, Any] = json.loads((home / FILE_NAME).read_text("utf-8"))
        url = str(announced_as["url"])
        host = urlsplit(url).hostname
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if host not in _LOOPBACK:
        return None
    import httpx

    try:
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            answer = client.get(f"{url}/healthz")
            same = answer.status_code == 200 and answer.json().get("home") == home_name(home)
    except (httpx.HTTPError, ValueError):
        return None
    return url if same else None


def home_name(home: Path) -> str:
    """What a server calls its data folder: a hash, so that /healthz tells no path."""
    import hashlib

    return hashlib.sha256(str(home.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
