"""No body swells a process: one corpus of bodies that claim to become more than they are, against real processes.

Each is answered with what is wrong, soon, and the memory of the process never exceeds what it was by more than eight
times the largest body. What counts is the peak the kernel saw (`VmHWM`), and processor time rather than the clock's, for
the machine may be busy.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kappawatt.columns.content import ARROW, CSV, JSON, NDJSON
from tests.hostile.arrow_bodies import arrow_bodies
from tests.hostile.door_bodies import forecast_bodies, infer_bodies, invocation_bodies, load_bodies
from tests.hostile.text_bodies import GOOD, csv_bodies, export_bodies, json_bodies, line_bodies
from tests.integration.processes import Process

pytestmark = pytest.mark.timeout(600)

LARGEST = 8 * 2**20  # bytes: the default of max_body_bytes
GROWTH = 8 * LARGEST
CPU_SECONDS = 8.0  # of the slowest, which has 8 MB; most take a hundredth of it
LONGEST_PROBLEM = 100_000  # bytes: a hundred reasons, and nothing repeated at length
TICKS = os.sysconf("SC_CLK_TCK")

Body = tuple[Callable[[], bytes], str]  # how it is made, and its content type


@dataclass(frozen=True, slots=True)
class Server:
    """A process of `kappawatt serve`, and the worker in it that answers."""

    process: Process
    pid: int

    @classmethod
    def started(cls, folder: Path, *arguments: str, **environment: str) -> Server:
        process = Process(folder, *arguments, **environment).wait_ready()
        master = process.process.pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return cls(process, int(children[0]))

    def status(self, name: str) -> int:
        """A figure of the kernel's [bytes]."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name + ":")).split()[1]) * 1024

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def post(self, path: str, body: bytes, kind: str, **headers: str) -> tuple[int, bytes]:
        headers = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = urllib.request.Request(self.process.url(path), body, headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def check(server: Server, door: str, bodies: dict[str, Body], good: Callable[[], int]) -> None:
    """Post every body to a door; the claims of this module, said for each that breaks one."""
    for _ in range(20):
        assert good() in (200, 202)
    before = server.status("VmRSS")
    faults = []
    for name, (make, kind) in bodies.items():
        body = make()
        assert len(body) <= LARGEST, name
        cpu = server.cpu()
        status, answer = server.post(door, body, kind)
        took, grown = server.cpu() - cpu, server.status("VmHWM") - before
        said = f"{name} ({len(body)} bytes): {status} in {took:.2f} s, {grown / 2**20:.0f} MB: {answer[:200]!r}"
        print(said)
        if status >= 500 or took > CPU_SECONDS or grown > GROWTH:
            faults.append(said)
        if status >= 400 and b'"predictions"' not in answer and len(answer) > LONGEST_PROBLEM:
            faults.append(f"{name}: an answer of {len(answer)} bytes")
        assert good() in (200, 202), said
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server.started(tmp_path_factory.mktemp("plant"), "serve", "plant-power", KAPPAWATT_WORKERS="1")
    yield server
    server.process.terminate()


def of_kind(bodies: dict[str, Callable[[], bytes]], kind: str) -> dict[str, Body]:
    return {name: (make, kind) for name, make in bodies.items()}


def test_rows_of_any_content_type_are_answered_within_the_budget(plant: Server) -> None:
    good = json.dumps(GOOD).encode()
    bodies = of_kind(json_bodies(), JSON) | of_kind(line_bodies(), NDJSON) | of_kind(csv_bodies(), CSV)
    bodies |= of_kind(arrow_bodies(), ARROW)
    assert len(bodies) > 100

    check(plant, "/predict", bodies, lambda: plant.post("/predict", good, JSON)[0])
