"""What a server stands on beside its own files: the clock, limits, services elsewhere, backups.

Services are only connected to (and, for https, their certificate is looked at): nothing is sent, so
this says that something listens, not that it answers well; `profile` asks the models' services.
"""

from __future__ import annotations

import json
import resource
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import func, select

from longleaf.api.backup import LAST
from longleaf.api.doctor.report import Finding, fail, ok, warn
from longleaf.core.catalog import Catalog, schema
from longleaf.core.catalog.postgres import PostgresDatabase
from longleaf.core.config import Settings, setting_value
from longleaf.core.errors import LongleafError
from longleaf.core.logs import reason_of

_SECONDS = 5.0
_CERTIFICATE_DAYS = 14.0
_BACKUP_DAYS = 7.0
_DRIFT_SECONDS = 60.0
_FEW_FILES = 1024
_DAY_SECONDS = 86_400.0
_SERVICES = (
    "embedder.url",
    "reranker.url",
    "answer.url",
    "qdrant.url",
    "telemetry.endpoint",
    "oidc.issuer",
)


def services(settings: Settings) -> Iterator[Finding]:
    """Whether each service that is set can be connected to, and until when its certificate is
    good."""
    for name in _SERVICES:
        url = str(setting_value(settings, name))
        if url:
            yield _connected(name, url)


def _connected(name: str, url: str) -> Finding:
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    where = (parts.hostname or "", parts.port or (443 if is_tls else 80))
    started = time.monotonic()
    ends = None
    try:
        with socket.create_connection(where, timeout=_SECONDS) as connection:
            if is_tls:
                context = ssl.create_default_context()
                with context.wrap_socket(connection, server_hostname=where[0]) as secure:
                    ends = _certificate_end(secure)
    except OSError as error:
        why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else ""
        fact = f"{where[0]}:{where[1]} cannot be connected to: {why or reason_of(error)}."
        return fail(name, fact, "Does it run, and does a firewall or DNS keep it away?")
    took_ms = (time.monotonic() - started) * 1000.0
    if ends is not None and ends - time.time() < _CERTIFICATE_DAYS * _DAY_SECONDS:
        days = (ends - time.time()) / _DAY_SECONDS
        fact = f"the certificate of {where[0]} ends in {days:.1f} days"
        return warn(name, fact, "Have it renewed.")
    return ok(name, f"{where[0]}:{where[1]} takes connections ({took_ms:.0f} ms)")


def _certificate_end(secure: ssl.SSLSocket) -> float | None:
    found = (secure.getpeercert() or {}).get("notAfter")
    return ssl.cert_time_to_seconds(found) if isinstance(found, str) else None


def originals(settings: Settings, catalog: Catalog) -> Iterator[Finding]:
    """Whether the place of originals answers, where it is not the data folder."""
    if not settings.catalog.originals:
        return
    try:
        catalog.blobs.exists("0" * 64)
    except LongleafError as error:
        yield fail("originals", error.message, error.hint)
    else:
        yield ok("originals", "their store answers")


def clock(catalog: Catalog) -> Finding:
    """Whether this machine's clock fits what was written before, and the database's."""
    newest = select(func.max(schema.audit.c.at)).scalar_subquery()
    latest = select(func.max(schema.revisions.c.created_at)).scalar_subquery()
    with catalog.database.reading() as connection:
        found = [each or 0.0 for each in connection.execute(select(newest, latest)).one()]
        now, theirs = time.time(), None
        if isinstance(catalog.database, PostgresDatabase):
            asked = select(func.extract("epoch", func.clock_timestamp()))
            theirs = float(connection.execute(asked).scalar_one())
    remedy = "Set it (NTP): leases, sessions and the end of keys go by it."
    if max(found) > now + _DRIFT_SECONDS:
        behind = max(found) - now
        fact = f"This clock is {behind:,.0f} s behind what the catalog holds, or one was ahead."
        return warn("clock", fact, remedy)
    if theirs is not None and abs(theirs - now) > _DRIFT_SECONDS:
        fact = f"This clock and the database's are {abs(theirs - now):,.0f} s apart."
        return warn("clock", fact, remedy)
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    return ok("clock", f"{said}; nothing in the catalog is of later")


def backup(home: Path, settings: Settings) -> Finding:
    """When `longleaf backup` last saved this data folder."""
    if settings.catalog.url or settings.catalog.originals or settings.catalog.token_vectors:
        return ok("backup", "not ours to know: the catalog's parts lie in several places")
    try:
        said = json.loads((home / LAST).read_text("utf-8"))
        days = (time.time() - float(said["at"])) / _DAY_SECONDS
    except FileNotFoundError:
        fact = "longleaf backup was never run on this data folder."
        return warn("backup", fact, "longleaf backup FOLDER, on another disk (docs/backup.md).")
    except (OSError, ValueError, KeyError, TypeError):
        return warn("backup", f"{LAST} cannot be read.", "The next longleaf backup writes it anew.")
    fact = f"the last one was made {days:,.1f} days ago"
    if days > _BACKUP_DAYS:
        return warn("backup", fact, "longleaf backup FOLDER; let a timer do it.")
    return ok("backup", fact)


def limits() -> Finding:
    """Files that this process may have open: an index is many."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= files < _FEW_FILES:
        return warn("limits", f"{files:,} files may be open at once.", "ulimit -n 65535")
    return ok("limits", f"{files:,} files may be open at once" if files >= 0 else "no limit")


def gpu() -> Iterator[Finding]:
    """What the driver's program says of each GPU, where that program is installed."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return
    asked = "name,driver_version,memory.used,memory.total,temperature.gpu"
    try:
        done = subprocess.run(  # noqa: S603 - no shell, nothing of a caller
            [program, f"--query-gpu={asked}", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=30.0, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        yield fail("GPU", f"nvidia-smi does not answer: {type(error).__name__}.", _GPU)
        return
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        yield fail("GPU", f"nvidia-smi failed: {(said or ['no word'])[0][:200]}", _GPU)
        return
    for line in done.stdout.strip().splitlines():
        yield ok("GPU", line[:200])


_GPU = "dmesg | grep -i xid says what the driver saw; a restart of the machine may be needed."
