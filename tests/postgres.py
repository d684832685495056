"""A real Postgres for tests: made, started and thrown away by them, on loopback.

`fsync` is off unless a test looks for it, because none cuts the power; `synchronous_commit` is left
at what it ships as, and a test proves that the catalog insists on it. One database for each
catalog, copied from one that has the tables.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

ROLE, PASSWORD = "longleaf", "pässword/with:marks@"
_TEMPLATE = "longleaf_template"


def find_programs() -> Path | None:
    """The folder of initdb and pg_ctl; None where there is no Postgres."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    return None


class PostgresServer:
    """One server in a temporary folder. As root it runs as another user, which Postgres wants."""

    def __init__(self, programs: Path, *, durable: bool = False) -> None:
        self._programs = programs
        self._durable = "on" if durable else "off"
        self._folder = Path(tempfile.mkdtemp(prefix="longleaf-postgres-", dir="/tmp"))
        self._user = _unprivileged()
        if self._user is not None:
            os.chown(self._folder, self._user, -1)
        password = self._folder / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        password.chmod(0o644)
        self._run(
            "initdb", "-D", str(self._folder / "data"), "-U", ROLE, "-A", "scram-sha-256",
            "--pwfile", str(password), "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync",
        )  # fmt: skip
        self.port = _free_port()
        self.start()
        try:
            self._made: set[str] = {_TEMPLATE}
            self.execute("postgres", f"CREATE DATABASE {_TEMPLATE}")
            from longleaf.core.catalog.database import Database

            Database.open(self._folder, self.url(_TEMPLATE)).close()
        except BaseException:
            self.close()
            raise

    def url(self, database: str, password: str = PASSWORD) -> str:
        """Its address with the password in it."""
        from urllib.parse import quote

        return f"postgresql://{ROLE}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """The address of a new database with an empty catalog."""
        return self._copied(f"catalog_{secrets.token_hex(6)}")

    def database_for(self, home: Path) -> str:
        """The address of the database that stands for this data folder; made when first asked."""
        name = self._name_of(home)
        return self.url(name) if name in self._made else self._copied(name)

    def copy(self, home: Path, target: Path) -> None:
        """Copy what stands for one data folder for another; nobody may be connected to it."""
        there, name = self._name_of(home), self._name_of(target)
        if there in self._made:
            self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {there}")
            self._made.add(name)

    @staticmethod
    def _name_of(home: Path) -> str:
        return f"home_{hashlib.sha256(str(home.absolute()).encode()).hexdigest()[:16]}"

    def _copied(self, name: str) -> str:
        self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        self._made.add(name)
        # Each catalog has a history of its own.
        epoch = secrets.token_hex(8)
        self.execute(name, f"UPDATE meta SET value = '{epoch}' WHERE key = 'epoch'")
        return self.url(name)

    def empty_database(self) -> str:
        """The address of a new database without any table."""
        name = f"empty_{secrets.token_hex(6)}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, database: str, statement: str) -> None:
        """Run one statement as the role that owns all."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = (
            f"-c port={self.port} -c listen_addresses=127.0.0.1 -c max_connections=200 "
            f"-c fsync={self._durable} -c full_page_writes={self._durable} -c shared_buffers=64MB "
            f"-c unix_socket_directories={self._folder}"
        )
        self._run(
            "pg_ctl", "-D", str(self._folder / "data"), "-w", "-t", "300",
            "-l", str(self._folder / "log"), "-o", options, "start",
        )  # fmt: skip

    def kill(self) -> None:
        """End it as a crash of the server does: without a checkpoint."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-m", "immediate", "stop")

    def close(self) -> None:
        """End it and remove what it wrote."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            user=self._user,
            cwd=self._folder,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stdout!r}"


def _unprivileged() -> int | None:
    """Whom root starts it as."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise AssertionError("there is no user that Postgres could run as")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
