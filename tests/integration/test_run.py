"""`kappawatt run`: the whole stream as one command, watched from outside, with its parts killed under it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kappawatt.bus import connect
from kappawatt.messages.predictions import read_predictions
from tests.conftest import wait_until
from tests.integration.processes import get

STOPPED_SECONDS = 10.0  # 3 to 4 on an idle machine
BURST_SECONDS = 30.0  # of which the burst itself takes up to 6


class Stack:
    """The command, its output, and what it started."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.output = folder / "output.txt"
        command = [sys.executable, "-m", "kappawatt.cli", "run", "--folder", str(folder / "run"), *arguments]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KAPPAWATT_")}
        data = os.environ.get("KAPPAWATT_DATA")
        environment |= {"KAPPAWATT_DATA": data} if data else {}
        self.process = subprocess.Popen(
            command, stdout=self.output.open("wb"), stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        found: re.Match[str] = wait_until(lambda: re.search(pattern, self.text), seconds, f"{pattern}\n{self.text}")
        return found

    def children(self) -> dict[str, int]:
        """Pid by the first two words after the module's name."""
        listed = subprocess.run(["pgrep", "-a", "-P", str(self.process.pid)], capture_output=True, text=True)
        found = {}
        for line in listed.stdout.splitlines():
            pid, _, command = line.partition(" ")
            found[" ".join(command.split("kappawatt.cli ")[-1].split()[:2])] = int(pid)
        return found

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path, "--rate", "50")
    try:
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.process.kill()


def test_predictions_are_shown_within_a_minute_and_ctrl_c_leaves_nothing(stack: Stack) -> None:
    stack.wait_for(r"readings +\d+  predictions +[1-9]\d*  MAE \d+\.\d+ MW  p99 latency \d+ ms")
    dashboard = stack.wait_for(r"dashboard +(http://\S+)").group(1)
    assert get(dashboard)[0] == 200
    pids = list(stack.children().values())
    assert len(pids) >= 5

    started = time.monotonic()
    assert stack.interrupt() == 0
    assert time.monotonic() - started < STOPPED_SECONDS

    assert "stopped" in stack.text
    assert "Traceback" not in stack.text
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("seed", range(4))
def test_a_burst_of_signals_at_any_moment_ends_it_in_order(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    stack = Stack(tmp_path, "--only", "plant", "--rate", "50")
    try:
        stack.wait_for("bus  ")  # from here on signals are its own
        time.sleep(rng.uniform(0, 5))
        started = time.monotonic()
        for _ in range(rng.randint(2, 20)):
            stack.process.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
            time.sleep(rng.choice([0.0, 0.001, 0.3]))

        assert stack.process.wait(60) == 0, stack.text
        assert time.monotonic() - started < BURST_SECONDS
        assert "Traceback" not in stack.text
    finally:
        if stack.process.poll() is None:
            stack.process.kill()


def test_a_run_whose_own_broker_dies_says_so_once_and_ends(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "--bus", "kafka", "--only", "plant")
    try:
        stack.wait_for("plant-power serve +ready", 90)
        node = subprocess.run(["pgrep", "-f", f"kafka.Kafka {tmp_path}"], capture_output=True, text=True).stdout

        children = list(stack.children().values())

        os.kill(int(node), signal.SIGKILL)

        assert stack.process.wait(BURST_SECONDS) == 1
        said = re.findall(r"^Error: .*", stack.text, re.MULTILINE)
        assert said == [f"Error: Kafka ended with -9; its log: {tmp_path}/run/kafka/server.log"]
        wait_until(lambda: not any(map(running, children)), 10, "the parts to end")
    finally:
        if stack.process.poll() is None:
            stack.process.kill()


def test_killed_parts_come_back_and_every_reading_is_answered(stack: Stack) -> None:
    stack.wait_for(r"predictions +[1-9]\d*  MAE")
    for name in ("consume plant-power", "serve gateway", "consume sink"):
        victim = next(pid for command, pid in stack.children().items() if command.startswith(name))
        os.kill(victim, signal.SIGKILL)
        label = {"consume plant-power": "plant-power consume"}.get(name, name.split()[1])
        stack.wait_for(rf"{label} ended with -9, starting it again")
        time.sleep(2)
    stack.wait_for(r"predictions +[1-9]\d{2,}  MAE")

    bus = connect(f"embedded:{stack.folder}/run/bus.sqlite")

    def all_answered() -> bool:
        readings = sum(o.end for o in bus.offsets("plant.readings").values())
        reader = bus.reader(["plant.predictions"], {}, max_records=100_000)
        found: set[str] = set()
        while polled := reader.poll(0.0):
            found |= {p["id"] for p in read_predictions(polled)}
        reader.close()
        return readings > 0 and len(found) >= readings

    wait_until(all_answered, 30, "every reading to be answered")
    assert stack.interrupt() == 0
    bus.close()


def test_nothing_is_left_when_the_parent_is_killed(stack: Stack) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells children that their parent has died")
    stack.wait_for(r"dashboard +http")
    pids = list(stack.children().values())

    stack.process.kill()

    wait_until(lambda: not [p for p in pids if Path(f"/proc/{p}/cmdline").exists() and running(p)], 30)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_doctor_follows_a_probe_through_the_whole_chain(stack: Stack) -> None:
    stack.wait_for(r"predictions +[1-9]\d*  MAE")
    command = [sys.executable, "-m", "kappawatt.cli", "doctor", "--json"]
    bus = f"embedded:{stack.folder}/run/bus.sqlite"

    well = subprocess.run([*command, "--bus", bus], capture_output=True, text=True, timeout=60)
    findings = [json.loads(line) for line in well.stdout.splitlines()]

    assert well.returncode == 0, well.stdout
    assert all(f["ok"] for f in findings)
    assert any(f["check"] == "plant-power probe" and "answered on plant.predictions" in f["detail"] for f in findings)


def test_doctor_names_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kappawatt.cli", "doctor", "--wait", "1", "--bus", f"embedded:{tmp_path}/x.sqlite"]
    empty = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert empty.returncode == 1
    assert "kappawatt topics --create" in empty.stdout

    subprocess.run([*command[:3], "topics", "--create", "--bus", command[-1]], check=True, timeout=60)
    nobody = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert nobody.returncode == 1
    assert "kappawatt consume plant-power" in nobody.stdout
    assert "no answer" in nobody.stdout


def test_forecasts_are_streamed_beside_the_plant(tmp_path: Path) -> None:
    """With a trained model there are forecasts; without one a line says how to make it, and the rest runs."""
    stack = Stack(tmp_path, "--rate", "5", "--pace", "24")
    try:
        stack.wait_for(r"predictions +[1-9]\d*  MAE")
        for name in ("load", "meter"):
            if re.search(rf"^{name} +left out: ", stack.text, re.MULTILINE):
                continue
            stack.wait_for(rf"{name} [1-9]\d* forecasts, [1-9]\d* intervals measured, [\d.]+ % off, rMAE")
        assert stack.interrupt() == 0
    finally:
        if stack.process.poll() is None:
            stack.process.kill()

    assert "Traceback" not in stack.text


def test_one_part_can_run_alone(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "--only", "plant")
    try:
        stack.wait_for(r"predictions +[1-9]\d*  MAE")
        assert len(stack.children()) == 5
        assert stack.interrupt() == 0
    finally:
        if stack.process.poll() is None:
            stack.process.kill()

    assert not re.search(r"^(load|meter) ", stack.text, re.MULTILINE)
