"""Signals, in bursts, at processes that are busy with the very lock that their handlers must not take."""

from __future__ import annotations

import random
import select
import signal
import subprocess
import sys
import time

import pytest

ROUNDS = 200
AT_ONCE = 4  # processes
END_SECONDS = 15.0  # 0.1 on an idle machine

PRELUDE = """
import signal, sys, threading
from kappawatt.signals import also_on_signal, stop_on_signals
stopped = threading.Event()
"""
BUSY = """
print("ready", flush=True)
while not stopped.wait(0.0001):  # nearly always inside the event's lock
    pass
"""
STOPS = f"{PRELUDE}stop_on_signals(stopped.set){BUSY}"


def start(program: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 60.0)[0], "not ready"
    assert process.stdout.readline() == b"ready\n"
    return process


def burst(process: subprocess.Popen[bytes], rng: random.Random) -> None:
    """Two to twenty signals, at once or a moment apart, on a process that may end meanwhile."""
    gap = rng.choice([0.0, 0.0, 0.0001, 0.001, 0.01])
    for _ in range(rng.randint(2, 20)):
        process.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
        if gap:
            time.sleep(rng.uniform(0, gap))


def end_of(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """How it ended, and what it complained of; the test fails if it hangs."""
    try:
        _, said = process.communicate(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail(f"a process hung for {END_SECONDS:g} s")
    return process.returncode, said.decode()


@pytest.mark.parametrize("seed", range(ROUNDS // AT_ONCE))
def test_a_burst_of_signals_ends_a_process_with_code_0(seed: int) -> None:
    rng = random.Random(seed)
    processes = [start(STOPS) for _ in range(AT_ONCE)]

    for process in processes:
        burst(process, rng)

    assert [end_of(process) for process in processes] == [(0, "")] * AT_ONCE


def test_a_signal_while_the_interpreter_ends_changes_no_exit_code() -> None:
    program = f"{PRELUDE}stop_on_signals(stopped.set){BUSY}\nprint('ending', flush=True)"
    for seed in range(10):
        process = start(program)
        process.terminate()
        assert process.stdout is not None
        process.stdout.readline()
        rng = random.Random(seed)
        deadline = time.monotonic() + END_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
        assert end_of(process)[0] == 0  # hundreds at once may nest too deeply for a handler, which it says


def test_what_was_set_up_before_still_happens() -> None:
    program = f"""{PRELUDE}
told = []
signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
also_on_signal(signal.SIGTERM, stopped.set){BUSY}
sys.stderr.write("told\\n" * len(told))
"""
    process = start(program)

    process.terminate()

    assert end_of(process) == (0, "told\n")


def test_a_signal_nobody_handles_goes_on_ending_the_process() -> None:
    process = start(f"{PRELUDE}also_on_signal(signal.SIGTERM, stopped.set){BUSY}")

    process.terminate()

    assert end_of(process) == (-signal.SIGTERM, "")


def test_what_does_not_end_in_time_is_ended() -> None:
    process = start(f"{PRELUDE}stop_on_signals(stopped.set, within=0.2){BUSY}\nthreading.Event().wait(60)")

    process.terminate()

    code, said = end_of(process)
    assert code == 128 + signal.SIGTERM
    assert said == "not ended 0.2 s after SIGTERM; ending at once\n"
