"""A PostgreSQL server of our own, for tests."""

from __future__ import annotations

import glob
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kappawatt.services.sink.tables import LAYOUT
from tests.conftest import wait_until

__all__ = ["FOUND", "Server", "emptied", "psycopg", "started"]

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed (extra sink)")

FOUND = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))


@dataclass
class Server:
    """A PostgreSQL server of our own; it refuses to run as root, so root becomes somebody else."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://kappawatt@127.0.0.1:{self.port}/postgres"

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(Path(FOUND[-1]).with_name(name)), *arguments],
            check=True,
            capture_output=True,
            cwd="/",
            **_user(),
        )

    def start(self) -> None:
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
        }
        self.process = subprocess.Popen(
            [
                str(Path(FOUND[-1]).with_name("postgres")),
                *("-D", str(self.folder / "data")),
                *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
            ],
            stderr=subprocess.DEVNULL,
            cwd="/",
            **_user(),
        )
        wait_until(self.answers, 30, "PostgreSQL answers")

    def answers(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # fast shutdown: connections are cut
            self.process.wait(30)
            self.process = None

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return list(connection.execute(sql).fetchall())


def _user() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    try:
        somebody = pwd.getpwnam("postgres")
    except KeyError:
        somebody = pwd.getpwnam("nobody")
    return {"user": somebody.pw_uid, "group": somebody.pw_gid, "extra_groups": []}


@contextmanager
def started(folder: Path) -> Iterator[Server]:
    """A server that keeps its files in a folder, for the time of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Server(folder, probe.getsockname()[1])
    if user := _user():
        os.chown(folder, user["user"], user["group"])
    server.run("initdb", "-D", f"{folder}/data", "-U", "kappawatt", "-A", "trust", "-E", "UTF8", "--no-sync")
    server.start()
    try:
        yield server
    finally:
        server.stop()


def emptied(server: Server) -> None:
    """Drop every table and view of ours."""
    with psycopg.connect(server.url) as connection:
        connection.execute("DROP VIEW IF EXISTS mine")
        for view in LAYOUT.views:
            connection.execute(f"DROP VIEW IF EXISTS {view.name}")
        connection.execute(f"DROP TABLE IF EXISTS {', '.join(table.name for table in LAYOUT.tables)} CASCADE")
