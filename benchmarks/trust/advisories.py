"""Known advisories for pip-audit without a network: a folder of OSV files behind a local address.

OSV (the Open Source Vulnerability format) has one JSON file an advisory, for PyPI also as one zip
file. pip-audit asks a service for each package and version; this answers it as that service does
(POST with package and version, `vulns` back), from the files alone. What decides is `versions` and
the `ECOSYSTEM` ranges of `affected`; both are read, because each may stand alone.
"""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

Advisory = Mapping[str, Any]


def read(place: Path) -> dict[str, list[Advisory]]:
    """Package -> its advisories, of a folder of JSON files or a zip file of them; withdrawn ones
    are left out. Raises ValueError where there is none: that would look like "nothing found"."""
    found: dict[str, list[Advisory]] = {}
    for text in _texts(place):
        told = json.loads(text)
        if not isinstance(told, dict) or told.get("withdrawn"):
            continue
        names = {
            str(canonicalize_name(each["package"]["name"]))
            for each in told.get("affected", ())
            if each.get("package", {}).get("ecosystem") == "PyPI"
        }
        for name in names:
            found.setdefault(name, []).append(told)
    if not found:
        raise ValueError(f"{place} holds no advisory about a package of PyPI")
    return found


def _texts(place: Path) -> Iterator[bytes]:
    if place.is_dir():
        yield from (file.read_bytes() for file in sorted(place.rglob("*.json")))
        return
    with zipfile.ZipFile(place) as archive:
        yield from (archive.read(name) for name in archive.namelist() if name.endswith(".json"))


def concerning(advisories: Sequence[Advisory], package: str, version: str) -> list[Advisory]:
    """Those that this version of a package is affected by."""
    return [
        each
        for each in advisories
        if any(
            canonicalize_name(affected["package"]["name"]) == package
            and affected["package"]["ecosystem"] == "PyPI"
            and _is_affected(affected, Version(version))
            for affected in each["affected"]
        )
    ]


def _is_affected(affected: Mapping[str, Any], version: Version) -> bool:
    if any(_parsed(each) == version for each in affected.get("versions", ())):
        return True
    return any(
        _is_within(ranged.get("events", ()), version)
        for ranged in affected.get("ranges", ())
        if ranged.get("type") == "ECOSYSTEM"
    )


def _is_within(events: Sequence[Mapping[str, str]], version: Version) -> bool:
    """The last event at or before a version decides (OSV schema, "evaluation")."""
    ordered = []
    for event in events:
        for kind, text in event.items():
            at = Version("0.dev0") if text == "0" else _parsed(text)
            if at is not None and kind in ("introduced", "fixed", "last_affected"):
                ordered.append((at, kind))
    inside = False
    for at, kind in sorted(ordered):
        if kind == "introduced" and version >= at:
            inside = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            inside = False
    return inside


def _parsed(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


@contextmanager
def serving(advisories: Mapping[str, Sequence[Advisory]]) -> Iterator[str]:
    """The address for pip-audit's --osv-url, as long as the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            asked = json.loads(self.rfile.read(length))
            name = str(canonicalize_name(asked["package"]["name"]))
            found = concerning(advisories.get(name, ()), name, asked["version"])
            data = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
