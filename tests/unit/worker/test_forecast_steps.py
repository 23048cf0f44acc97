"""Zones of quarter hours and of five minutes beside one of hours, over a change of the clock: worker and live view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from kappawatt.bus import Bus, Outgoing, connect
from kappawatt.forecasting.calendar import DAY, HOUR, as_instant, day_intervals, issue_time, parse_clock, to_local
from kappawatt.messages.readings import reading_messages
from kappawatt.services.gateway.live.forecasts import ForecastsView
from kappawatt.streams.load import LOAD_READINGS
from kappawatt.streams.table import TOPICS
from kappawatt.worker.forecasting import Forecasting
from tests import forecast_fakes as fakes
from tests.conftest import everything
from tests.forecast_fakes import STREAM

FORECASTS, ERRORS, DEAD = "load.forecasts", "load.forecast-errors", "load.readings.dead"
ARRIVED = int(as_instant("2026-12-31").astype(np.int64))
ZONES = {
    "berlin": ("Europe/Berlin", 900),
    "kolkata": ("Asia/Kolkata", 900),
    "fives": ("Europe/Berlin", 300),
    "india": ("Asia/Kolkata", 300),
    "hours": ("Asia/Kathmandu", 3600),
}
DAYS = {"2026-03-29": (23, 24), "2026-10-25": (25, 24), "2026-06-10": (24, 24)}  # hours of the day: Berlin, elsewhere


def load_of(zone: str, times: Any) -> Any:
    local = to_local(times, zone)
    hour = (local - local.astype("datetime64[D]")) / HOUR
    return np.round(10_000 * (1 + 0.2 * np.sin(2 * np.pi * (hour - 8) / 24)), 1)


def publish(bus: Bus, key: str, times: Any, *, size: int, says: bool) -> None:
    """Publish intervals of a zone in messages of some rows."""
    zone, step = ZONES[key]
    producer = bus.producer()
    for first in range(0, len(times), size):
        part = times[first : first + size]
        columns = {
            "interval_start": part,
            "load": load_of(zone, part),
            "time_zone": np.full(len(part), zone, object),
        }
        if says:
            columns["interval_seconds"] = np.full(len(part), float(step))
        batch = STREAM.schema.check(columns, len(part))
        messages = reading_messages(STREAM, batch, key, block_rows=64)
        producer.publish([Outgoing(m.topic, m.value, m.key, m.headers, timestamp=ARRIVED) for m in messages])
    producer.close()


def answered(bus: Bus, tmp_path: Path) -> dict[str, list[dict[str, Any]]]:
    """Have one worker answer all there is, and publish it."""
    answering = Forecasting(bus, fakes.model(tmp_path / "artifacts"), STREAM, output=FORECASTS)
    found: dict[str, list[dict[str, Any]]] = {FORECASTS: [], ERRORS: [], DEAD: []}
    producer = bus.producer()
    for records in everything(bus, LOAD_READINGS.name):
        outgoing = answering.answer([records]).outgoing
        producer.publish(outgoing)
        for message in outgoing:
            found[message.topic].append(orjson.loads(message.value))
    producer.close()
    return found


@pytest.mark.parametrize("date", list(DAYS))
@pytest.mark.parametrize("says", [True, False], ids=["said", "shown"])
def test_each_zone_is_forecast_scored_and_shown_at_its_own_step_in_its_own_day(
    bus: Bus, tmp_path: Path, date: str, says: bool
) -> None:
    day = np.datetime64(date)
    for key, (zone, step) in ZONES.items():
        noon = issue_time(day, parse_clock("12:00"), zone)
        interval = np.timedelta64(step, "s")
        end = day_intervals(day, zone, step)[-1] + interval
        publish(bus, key, np.arange(noon - 30 * DAY, noon, interval), size=10_000, says=says)
        publish(bus, key, np.arange(noon, end, interval), size=7, says=says)

    found = answered(bus, tmp_path)

    assert found[DEAD] == []
    view = ForecastsView(STREAM)
    for topic in (LOAD_READINGS.name, FORECASTS, ERRORS):
        for records in everything(bus, topic):
            view.take(records, 0)
    for key, (zone, step) in ZONES.items():
        hours = DAYS[date][0 if zone == "Europe/Berlin" else 1]
        targets = day_intervals(day, zone, step)
        noon = issue_time(day, parse_clock("12:00"), zone)
        [document] = [d for d in found[FORECASTS] if d["key"] == key and d["issue_time"] == f"{str(noon)[:19]}Z"]
        assert (document["step_seconds"], document["time_zone"]) == (step, zone)
        assert len(document["target_time"]) == len(targets) == hours * 3600 // step
        assert document["target_time"][0] == f"{str(targets[0])[:19]}Z"
        assert document["fallback"] is False
        errors = [e for e in found[ERRORS] if e["key"] == key and e["issue_time"] == document["issue_time"]]
        assert len(errors) == len(targets)
        assert max(abs(e["error"]) for e in errors) < 1_100  # a change moves the sun by an hour against the clock
        one = view.one(key)
        assert one is not None
        assert (one["step_seconds"], one["time_zone"]) == (step, zone)
        assert one["measured_until"] == f"{str(targets[-1] + np.timedelta64(step, 's'))[:19]}Z"
        [shown] = [f for f in (one["forecast"], *one["earlier"]) if f["issue_time"] == document["issue_time"]]
        assert shown["target_time"] == document["target_time"]
        assert shown["day_measured"] == {"intervals": len(targets), "of": len(targets)}
        assert one["score"]["n"] >= len(targets)


def test_a_zone_is_forecast_the_same_beside_zones_of_other_steps_as_alone(bus: Bus, tmp_path: Path) -> None:
    day = np.datetime64("2026-06-10")
    alone: dict[str, Any] = {}
    for key, (zone, step) in ZONES.items():
        noon = issue_time(day, parse_clock("12:00"), zone)
        times = np.arange(noon - 30 * DAY, noon, np.timedelta64(step, "s"))
        publish(bus, key, times, size=10_000, says=False)
        own = connect(f"embedded:{tmp_path}/{key}.sqlite")
        own.ensure(TOPICS)
        publish(own, key, times, size=10_000, says=False)
        [alone[key]] = answered(own, tmp_path)[FORECASTS]
        own.close()

    together = {d["key"]: d for d in answered(bus, tmp_path)[FORECASTS]}

    for key, document in alone.items():
        assert document["quantiles"] == together[key]["quantiles"]
        assert document["step_seconds"] == together[key]["step_seconds"] == ZONES[key][1]
