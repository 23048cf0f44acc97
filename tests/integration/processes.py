"""Real processes of the command line, started and stopped by tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import wait_until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


class Process:
    """`kappawatt ...` with a log, a probe port, and signals."""

    def __init__(self, folder: Path, *arguments: str, port: int | None = None, **environment: str) -> None:
        self.environment = environment
        self.port = port or free_port()
        self.log = folder / f"{'-'.join(arguments[:2])}-{self.port}.log"
        own = {"KAPPAWATT_PROBE_PORT": str(self.port), "KAPPAWATT_PORT": str(self.port)}
        clean = {k: v for k, v in os.environ.items() if not k.startswith("KAPPAWATT_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kappawatt.cli", *arguments],
                env=clean | own | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def wait_ready(self, seconds: float = 60) -> Process:
        wait_until(
            lambda: get(self.url("/readyz"))[0] == 200 or self.process.poll() is not None,
            seconds,
            f"{self.log} ready",
        )
        assert self.process.poll() is None, self.log.read_text()
        return self

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def terminate(self, seconds: float = 30) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(seconds)


@contextmanager
def stopped_at_the_end(*processes: Process) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            if process.process.poll() is None:
                process.kill()
