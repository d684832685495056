"""Finding the server that runs on a data folder, so that the command line can ask it.

A server leaves `server.json` (URL, pid and a token) in the data folder. The file is only a hint:
whether a server is there is decided by asking it for its data folder's name, and for proof that it
has the token: a killed server leaves the file, and anybody may listen at its port since. Only its
owner may read the file: who has the token is the local user to that server, who may read the folder
anyway.
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
def announced(home: Path, url: str, token: str = "") -> Iterator[None]:
    """Say in the data folder that a server answers at `url` while the block runs."""
    file = home / FILE_NAME
    temporary = home / f"{FILE_NAME}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    said = json.dumps({"url": url, "pid": os.getpid(), "token": token})
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
        made.write(said)
    temporary.replace(file)
    try:
        yield
    finally:
        try:
            if json.loads(file.read_text("utf-8")).get("pid") == os.getpid():
                file.unlink()
        except (OSError, ValueError):
            pass


def local_headers(home: Path) -> dict[str, str]:
    """What a program of this machine sends to the server of this data folder."""
    _, token = _left_in(home)
    return {"Authorization": f"Bearer {token}"} if token.isascii() and token else {}


def _left_in(home: Path) -> tuple[str, str]:
    """URL and token of `server.json`, "" for what is not there."""
    try:
        left: Any = json.loads((home / FILE_NAME).read_text("utf-8"))
        return str(left.get("url", "")), str(left.get("token", ""))
    except (OSError, ValueError, AttributeError):
        return "", ""


def find_server(home: Path) -> str | None:
    """The URL of the live server on this data folder, None when there is none.

    Only loopback addresses are asked: the file must not send documents' queries elsewhere.
    """
    import hmac
    import secrets

    challenge = secrets.token_urlsafe(32)
    url, token = _left_in(home)
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    if host not in _LOOPBACK:
        return None
    import httpx

    try:
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            answer = client.get(f"{url}/healthz", params={"challenge": challenge})
            told = answer.json()
            if answer.status_code != 200 or told["home"] != home_name(home):
                return None
            proof = str(told.get("proof", "")).encode("utf-8", "replace")
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        return None
    is_ours = not token or hmac.compare_digest(proof, proof_of(token, challenge).encode())
    return url if is_ours else None


def proof_of(token: str, challenge: str) -> str:
    """What a server says to a challenge to prove that it has the token (HMAC-SHA256, RFC 2104)."""
    import hmac

    said = b"longleaf server " + challenge.encode("utf-8", "replace")
    return hmac.digest(token.encode("utf-8", "replace"), said, "sha256").hex()


def home_name(home: Path) -> str:
    """What a server calls its data folder: a hash, so that /healthz tells no path."""
    import hashlib

    return hashlib.sha256(str(home.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
