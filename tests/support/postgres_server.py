"""A real PostgreSQL for a test: Debian's own programs, a temporary folder, a free port, nothing kept."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tests.support.system_packages import need

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
# Nothing here outlives the test, so no write waits for a disk; UTC and C, whatever the machine's locale is.
_SERVER_OPTIONS = ("fsync=off", "full_page_writes=off", "timezone=UTC", "max_connections=200")


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """Listens on 127.0.0.1 and trusts everybody there."""

    port: int

    def new_database(self) -> str:
        """The URL of an empty database, as `database.url` takes it."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def wait_until_ready(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self._address("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}") from None
                time.sleep(0.05)
            else:
                return

    def _address(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Skips the test where PostgreSQL is not installed, unless `CSM_TESTS_REQUIRE` names `postgres`."""
    programs = _programs()
    # Not pytest's folder: that one is closed to the other user that PostgreSQL insists on where tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    try:
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"],
            check=True, stdout=subprocess.DEVNULL, user=user, cwd=folder, timeout=_START_SECONDS,
        )  # fmt: skip
        with _running(programs, folder, user) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(programs: Path, folder: Path, user: str | None) -> Iterator[PostgresServer]:
    server, log = PostgresServer(_free_port()), folder / "log"
    command = [programs / "postgres", "-D", folder / "data", "-h", "127.0.0.1", "-p", str(server.port), "-k", folder]
    for option in _SERVER_OPTIONS:
        command += ["-c", option]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, user=user, cwd=folder)
    try:
        server.wait_until_ready(process, log)
        yield server
    finally:
        process.send_signal(signal.SIGINT)  # at once, with clients still connected
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _programs() -> Path:
    """The folder of the newest version; Debian keeps it off the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1].parent
    need("postgres", "initdb")
    return Path(shutil.which("postgres") or "").parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
