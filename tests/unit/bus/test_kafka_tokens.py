"""How long a token is used, whatever happens to the time of day."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path

import pytest

from kappawatt.bus import kafka_tokens
from kappawatt.bus.kafka_tokens import TokenSource
from tests.conftest import set_clock

COUNTS = """
import pathlib, sys
file = pathlib.Path(sys.argv[1])
print(f"t{len(file.read_text())}")
file.write_text(file.read_text() + "x")
"""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The machine's clock [s], and the time of day goes with it."""
    now = [1000.0]
    began = time.time()
    monkeypatch.setattr(kafka_tokens, "machine_seconds", lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: began + now[0] - 1000.0)
    return now


@pytest.fixture
def source(tmp_path: Path) -> TokenSource:
    """A command that prints another token each time."""
    path = tmp_path / "count"
    path.touch()
    script = tmp_path / "command.py"
    script.write_text(COUNTS)
    return TokenSource(command=f"{sys.executable} {script} {path}")


def test_a_token_is_used_for_four_fifths_of_its_life(source: TokenSource, machine: list[float]) -> None:
    tokens = []
    for seconds in (0.0, 239.0, 2.0, 238.0, 3.0):
        machine[0] += seconds
        tokens.append(source.token()[0])

    assert tokens == ["t0", "t0", "t1", "t1", "t2"]


@pytest.mark.parametrize("by", [-3600.0, 3600.0])
def test_a_clock_that_is_set_lets_no_token_be_used_for_longer(
    source: TokenSource, machine: list[float], monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    source.token()
    set_clock(monkeypatch, by)

    token, end = source.token()
    assert (token, end - time.time()) == ("t1", pytest.approx(300.0))  # it ends by the clock that there is
    machine[0] += 239.0
    assert source.token()[0] == "t1"
    machine[0] += 2.0
    assert source.token()[0] == "t2"


def test_a_token_that_says_its_end_is_renewed_by_the_machines_clock_too(
    source: TokenSource, machine: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + 900.0}).encode()).decode()
    asked: list[int] = []
    monkeypatch.setattr(source, "_run", lambda: asked.append(1) or f"a.{claims}.c")
    source.token()
    set_clock(monkeypatch, -3600.0)

    machine[0] += 719.0
    source.token()
    assert len(asked) == 1
    machine[0] += 2.0
    source.token()
    assert len(asked) == 2
