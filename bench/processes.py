"""Child processes: started in a session of their own, waited for with a deadline, always stopped by id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "BenchError",
    "Memory",
    "cpu_seconds",
    "free_port",
    "memory",
    "running",
    "stop",
    "tree",
    "until",
    "until_answers",
]

POLL_SECONDS = 0.01
STOP_SECONDS = 20.0
TICK = 1.0 / os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A side could not be measured; the message says why."""


class Quoted(BenchError):
    """A BenchError that carries what its process wrote last."""


def free_port() -> int:
    """Return a TCP port nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(claim: Callable[[], bool], seconds: float, what: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until `claim()` is true.

    Raises
    ------
    BenchError
        The deadline passed, or `process` ended before.
    """
    deadline = time.monotonic() + seconds
    while not claim():
        if process is not None and process.poll() is not None:
            raise BenchError(f"{what}: the process ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not after {seconds:g} s")
        time.sleep(POLL_SECONDS)


def until_answers(url: str, seconds: float, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until GET `url` answers 200."""

    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    until(answers, seconds, url, process)


@contextmanager
def running(
    command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` for the length of a `with` block; its output goes to `log`, which a failure quotes.

    It runs in the log's folder, so that what it may leave behind is never in the repository.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
            cwd=log.parent,
            start_new_session=True,
        )
        try:
            yield process
        except Quoted:
            raise
        except BenchError as error:
            stop(process)
            tail = log.read_bytes().decode("utf-8", "replace")[-1500:]
            raise Quoted(f"{error}\n{' '.join(command)}\n{tail}") from error
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started: SIGTERM, then SIGKILL to its own process group."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def tree(pid: int) -> list[int]:
    """Return `pid` and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found.extend(parents.get(member, []))
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time `pid` and its descendants have used [s]."""
    times = [_stat(member) for member in tree(pid)]
    return sum((int(fields[11]) + int(fields[12])) * TICK for fields in times if fields)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident (`rss`) and proportional (`pss`) memory of a process tree [bytes], and how many processes."""

    rss: int
    pss: int
    processes: int


def memory(pid: int) -> Memory:
    """Return the memory of `pid` and its descendants; pages they share count once in `pss`."""
    totals = {"Rss": 0, "Pss": 0}
    members = tree(pid)
    for member in members:
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name = line.partition(":")[0]
            if name in totals:
                totals[name] += int(line.split()[1]) * 1024
    return Memory(totals["Rss"], totals["Pss"], len(members))


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from `state` on; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
