"""Who can get at the documents: by the file system, by keys, by the address that is listened on.

Reads only. What a key's secret is nobody knows here: only hashes are kept.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path

from longleaf.api.doctor.report import Finding, fail, ok, warn
from longleaf.api.http.guard import is_loopback
from longleaf.api.running import FILE_NAME
from longleaf.core.access import Role
from longleaf.core.catalog import Catalog
from longleaf.core.catalog.database import DATABASE
from longleaf.core.catalog.snapshot import ORIGINALS, SEGMENTS
from longleaf.core.config import Settings

_DAY_SECONDS = 86_400.0
_SOON_DAYS = 14.0


def permissions(home: Path) -> Finding:
    """Whether other users of the machine can read the documents, or change them."""
    others: dict[str, list[str]] = {"change": [], "read": []}
    within = [home / name for name in (DATABASE, ORIGINALS, SEGMENTS, "index", FILE_NAME)]
    mode = _mode(home)
    # Who may not pass the folder reaches nothing in it.
    for path in (home, *(within if mode & 0o011 else ())):
        if _mode(path) & 0o022:
            others["change"].append(path.name or str(path))
        elif _mode(path) & 0o044:
            others["read"].append(path.name or str(path))
    remedy = f"chmod 700 {home} (and run Longleaf as a user of its own)."
    if others["change"]:
        named = ", ".join(others["change"])
        return fail("permissions", f"Other users of this machine can change {named}.", remedy)
    if others["read"]:
        fact = f"Other users of this machine can read {', '.join(others['read'])}."
        return warn("permissions", fact, remedy)
    return ok("permissions", "only its owner can read the data folder")


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


def keys(settings: Settings, catalog: Catalog, now: float | None = None) -> Iterator[Finding]:
    """Whether somebody must show a key, and which keys end soon or are not used."""
    now = time.time() if now is None else now
    host = settings.server.host
    at_home = is_loopback(f"[{host}]" if ":" in host else host)
    found = catalog.keys.all()
    if not found:
        if at_home:
            yield ok("keys", f"none: whoever reaches {host} here may do everything")
        elif settings.server.allow_remote:
            fact = f"None, and {host} is listened on: whoever reaches the port may do everything."
            remedy = "longleaf keys create NAME, unless something else keeps strangers from it."
            yield warn("keys", fact, remedy)
        else:
            fact = f"None, and server.host is {host}: longleaf serve will not start."
            yield fail("keys", fact, "longleaf keys create NAME --role admin")
        return
    good = [key for key in found if key.is_good(now)]
    ends = {key.id: (key.expires_at or 0.0) - now for key in good if key.expires_at is not None}
    soon = [key for key in good if ends.get(key.id, 1e12) < _SOON_DAYS * _DAY_SECONDS]
    if soon:
        yield warn(
            "keys",
            f"{len(soon):,} of {len(good):,} good keys end within {_SOON_DAYS:.0f} days.",
            "Make new ones before: longleaf keys create",
            details=tuple(
                f"{key.id} {key.name}: in {ends[key.id] / _DAY_SECONDS:.1f} days" for key in soon
            ),
        )
    elif not good:
        fact = f"All {len(found):,} have ended: nobody comes in over the network."
        yield warn("keys", fact, "longleaf keys create NAME --role admin")
    else:
        admins = sum(key.role is Role.ADMIN for key in good)
        unused = sum(key.last_used_at is None for key in good)
        yield ok(
            "keys",
            f"{len(good):,} good ({admins:,} of them admin, {unused:,} never used), "
            f"{len(found) - len(good):,} ended; {host} is listened on",
        )
