"""The histories of a server: a message that nobody can take leaves all others where they belong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from kappawatt.bus import Bus, Outgoing, Records, connect
from kappawatt.columns.content import ManyDecoded
from kappawatt.columns.schema import Schema
from kappawatt.messages import readings
from kappawatt.messages.readings import decode_records
from kappawatt.serving.histories import HistoryFollower
from kappawatt.worker.forecasting import Forecasting
from kappawatt.worker.histories import Histories
from tests import forecast_fakes
from tests.conftest import everything, publish, wait_until

READINGS = "load.readings"


@pytest.fixture
def broken_for_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Histories._note

    def note(self: Any, name: str, *rest: Any) -> Any:
        if name == "BAD":
            raise OverflowError("nobody thought of it")
        return original(self, name, *rest)

    monkeypatch.setattr(Histories, "_note", note)


def messages() -> list[Outgoing]:
    first, second = (forecast_fakes.load_messages(f"2026-03-0{day}", 24) for day in (1, 2))
    bad = forecast_fakes.load_messages("2026-03-01", 24, "BAD")
    junk = [Outgoing(READINGS, value, b"PJME") for value in (b"", b"\xff", b'{"load_zone": "\\ud800"}', b"[" * 3_000)]
    return [*first, *bad, *junk, *second]


def assert_all_is_known(bus_url: str) -> None:
    follower = HistoryFollower(lambda: connect(bus_url), READINGS, forecast_fakes.FORECASTER)
    follower.start()
    try:
        wait_until(lambda: follower.why_behind() is None and follower.history("PJME"))
        history = follower.history("PJME")
        assert history is not None
        assert history.clock == np.datetime64("2026-03-03T00:00", "ms")
        assert follower.failure is None
    finally:
        follower.stop()


@pytest.mark.usefixtures("broken_for_a_zone")
def test_a_server_takes_what_comes_behind_a_message_it_fails_on(bus: Bus, bus_url: str) -> None:
    publish(bus, messages())
    assert_all_is_known(bus_url)


def test_a_server_takes_what_comes_behind_a_message_that_decoding_fails_on(
    bus: Bus, bus_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(bus, messages())

    def decode(records: Sequence[Records], kind: str, schema: Schema) -> ManyDecoded:
        if b"\xff" in b"".join(value for part in records for value in part.values):
            raise KeyError("nobody thought of it")
        return decode_records(records, kind, schema)

    monkeypatch.setattr(readings, "decode_records", decode)
    assert_all_is_known(bus_url)


@pytest.mark.usefixtures("broken_for_a_zone")
def test_a_worker_refuses_the_message_it_fails_on_and_reads_past_it_after_a_restart(bus: Bus, tmp_path: Any) -> None:
    publish(bus, messages())
    model = forecast_fakes.model(tmp_path)
    polled = everything(bus, READINGS)
    worker = Forecasting(bus, model, forecast_fakes.STREAM, output="load.forecasts")

    outcome = worker.answer(polled)
    restarted = Forecasting(bus, model, forecast_fakes.STREAM, output="load.forecasts")
    tail = [records.pick([len(records) - 1]) for records in polled if records.keys[-1] != b"BAD"]
    again = restarted.answer(tail)

    assert outcome.internal == 24
    assert {r.code for r in outcome.refused} == {"internal", "malformed"}
    assert again.outgoing == []
    known = [state.histories.history("PJME") for state in restarted._partitions.values()]
    clocks = [history.clock for history in known if history is not None]
    assert clocks == [np.datetime64("2026-03-03T00:00", "ms")]


def test_a_worker_out_of_memory_forgets_what_it_took_in_part(
    bus: Bus, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(bus, messages())
    worker = Forecasting(bus, forecast_fakes.model(tmp_path), forecast_fakes.STREAM, output="load.forecasts")
    polled = everything(bus, READINGS)

    def full(*_: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Histories, "_note", full)
        with pytest.raises(MemoryError):
            worker.answer(polled)

    assert worker._partitions == {}
    assert worker.answer(polled).internal == 0
