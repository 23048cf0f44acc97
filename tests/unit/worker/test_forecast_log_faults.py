"""What hostile, late or odd rows in the log may do to a forecasting worker: refuse themselves, never the series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from kappawatt.bus import Bus
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.content import ARROW
from kappawatt.errors import HistoriesBehind, PayloadInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, as_instant, day_intervals, day_start
from kappawatt.forecasting.history import History
from kappawatt.forecasting.request import example_request, read_forecast_request
from kappawatt.worker.forecasting import Forecasting
from tests import forecast_fakes as fakes
from tests.conftest import everything
from tests.forecast_fakes import FORECASTER, STREAM, ZONE, hours, loads
from tests.unit.worker.test_forecast_worker import (
    DEAD,
    ERRORS,
    FORECASTS,
    LATE,
    NOON,
    TARGETS,
    cut,
    event,
    events,
    forecasting,
    month_and_day,
    publish,
    run,
)

BLOCK = (("content-type", ARROW.encode()),)


def test_data_that_arrives_late_was_not_known_earlier_whatever_it_says(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(TARGETS[-1] + HOUR)
    values = events(times)
    place = int(np.flatnonzero(times == LATE)[0])
    del values[place]
    after_noon = int(np.flatnonzero(times == NOON)[0]) + 3
    values.insert(after_noon, event(LATE, 99_999.0, available_at=f"{LATE + HOUR}Z"))
    publish(bus, values)
    single = cut(everything(bus, "load.readings"), 1)

    whole = run(forecasting(bus, tmp_path), single)
    through = forecasting(bus, tmp_path)
    run(through, single[: after_noon + 1])
    restarted = run(forecasting(bus, tmp_path), single[after_noon + 1 :])

    first, corrected = [d for d in whole[FORECASTS] if d["issue_time"] == "2016-07-19T16:00:00Z"]
    assert (first["corrected"], corrected["corrected"]) == (False, True)
    tail = [e for e in whole[ERRORS] if e["issue_time"] == "2016-07-19T16:00:00Z"]
    assert [e for e in restarted[ERRORS] if e["issue_time"] == "2016-07-19T16:00:00Z"] == tail


@pytest.mark.parametrize("is_known_empty", [True, False])
def test_a_gap_that_is_known_to_hold_no_message_is_not_read(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_known_empty: bool
) -> None:
    publish(bus, events(month_and_day(NOON)))
    *earlier, last = cut(everything(bus, "load.readings"), 1)
    behind = replace(last, offsets=[last.offsets[0] + 1], since=last.offsets[0] if is_known_empty else None)
    read: list[object] = []
    reader = bus.reader
    monkeypatch.setattr(bus, "reader", lambda *args, **how: read.append(args) or reader(*args, **how))
    answering = forecasting(bus, tmp_path)
    run(answering, earlier)

    found = run(answering, [behind])

    assert len(read) == (0 if is_known_empty else 1)
    assert len(found[FORECASTS]) == (1 if is_known_empty else 0)  # else the last message has been read as history


def test_weather_measured_with_its_load_is_known_at_the_end_of_its_hour() -> None:
    known = History("PJME", ZONE, 3600)
    times = hours("2016-01-01", 48)
    ends = times + HOUR
    known.add(times, loads(times), ends, {"temperature": np.arange(48.0)})

    past = known.until(times[24])

    assert past.covariate("temperature", times).tolist()[:24] == list(range(24))
    assert np.isnan(past.covariate("temperature", times[24:])).all()


def test_a_measured_temperature_outranks_its_forecast() -> None:
    known = History("PJME", ZONE, 3600)
    times = hours("2016-01-01", 24)
    known.add(times, loads(times))
    ahead = hours("2016-01-02", 1)
    known.add(ahead, np.array([np.nan]), times[12:13], {"temperature": np.array([20.0])})
    known.add(ahead, np.array([30_000.0]), ahead + HOUR, {"temperature": np.array([35.0])})

    assert known.until(ahead[0]).covariate("temperature", ahead).tolist() == [20.0]
    assert known.until(ahead[0] + HOUR).covariate("temperature", ahead).tolist() == [35.0]


@pytest.mark.parametrize(
    "bad",
    [
        {"interval_start": "2099-01-01T00:00:00Z", "temperature": 1.0},
        {"interval_start": "2099-01-01T00:00:00Z", "load": 1.0},
        {"interval_start": "2016-07-01T00:00:01Z", "load": 1.0},
        {"interval_start": "2016-07-01T00:00:00Z", "load": 1.0, "load_zone": "AEP"},
        {"interval_start": "2016-07-01T00:00:00Z", "load": 1.0, "time_zone": "Mars/Phobos", "load_zone": "PJME"},
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_one_bad_row_neither_erases_nor_deafens_a_series(
    bus: Bus, tmp_path: Path, bad: dict[str, Any], first: bool
) -> None:
    times = month_and_day(NOON)
    bad_row = orjson.dumps(bad)
    good = events(times)
    publish(bus, [bad_row, *good] if first else [*good[:-1], bad_row, good[-1]])

    found = run(forecasting(bus, tmp_path), everything(bus, "load.readings"))

    assert found[FORECASTS][-1]["issue_time"] == "2016-07-19T16:00:00Z"
    assert found[FORECASTS][-1]["fallback"] is False
    if "time_zone" not in bad or first:
        assert [letter["field"] for letter in found[DEAD]]


def test_bad_rows_in_a_block_are_named_and_the_others_taken(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(NOON)
    mixed = times.copy()
    mixed[5] += HOUR / 4
    publish(bus, [write_columns({"interval_start": mixed, "load": loads(times)})], headers=BLOCK)

    found = run(forecasting(bus, tmp_path), everything(bus, "load.readings"))

    (letter,) = found[DEAD]
    assert [(e["row"], e["field"]) for e in letter["errors"]] == [(5, "interval_start")]
    assert found[FORECASTS][-1]["issue_time"] == "2016-07-19T16:00:00Z"


def test_a_day_that_a_zone_skipped_is_no_poison(bus: Bus, tmp_path: Path) -> None:
    times = np.arange(as_instant("2011-12-01T10"), as_instant("2012-01-05T10"), HOUR)
    rows = [orjson.dumps({"interval_start": f"{t}Z", "load": 1.0, "time_zone": "Pacific/Apia"}) for t in times]
    publish(bus, rows, key="apia")

    found = run(forecasting(bus, tmp_path), everything(bus, "load.readings"))

    assert found[FORECASTS]
    assert not len(day_intervals(np.datetime64("2011-12-30"), "Pacific/Apia", 3600))
    assert not np.isnat(day_start(np.array(["2011-12-30"], "datetime64[D]"), "Pacific/Apia")).any()


def test_an_error_cites_a_forecast_that_was_published(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(TARGETS[-1] + HOUR)
    values = events(times)
    unused = NOON - 3 * HOUR  # the fake looks back two days and more: this hour changes nothing
    late = values.pop(int(np.flatnonzero(times == unused)[0]))
    values.insert(int(np.flatnonzero(times == NOON)[0]) + 4, late)
    publish(bus, values)

    found = run(forecasting(bus, tmp_path), everything(bus, "load.readings"))

    published = {d["id"] for d in found[FORECASTS]}
    assert {e["id"].rpartition("/")[0] for e in found[ERRORS]} <= published


def test_histories_are_read_in_slices_and_nothing_is_taken_twice(bus: Bus, tmp_path: Path) -> None:
    times = np.arange(NOON - 300 * DAY, NOON, HOUR)
    publish(bus, events(times))
    single = cut(everything(bus, "load.readings"), 1)
    told: list[int] = []
    at_once = Forecasting(bus, fakes.model(tmp_path / "a"), STREAM, output=FORECASTS, alive=lambda: told.append(1))
    whole = at_once.answer([single[-1]])
    answering = Forecasting(bus, fakes.model(tmp_path / "a"), STREAM, output=FORECASTS, slice_seconds=0.0)

    tries = 0
    while True:
        tries += 1
        try:
            outcome = answering.answer([single[-1]])
            break
        except HistoriesBehind:
            assert tries < 200

    (document,) = (orjson.loads(m.value) for m in outcome.outgoing if m.topic == FORECASTS)
    assert document["issue_time"] == "2016-07-19T16:00:00Z"
    assert outcome.outgoing == whole.outgoing
    assert tries > 1
    assert len(told) == 1 + tries  # at the beginning, and after each slice


def test_a_request_off_the_local_clock_or_without_its_step_is_refused() -> None:
    request = example_request(FORECASTER, "PJME")
    request["history"]["start"] = "2016-06-15T04:00:17Z"

    with pytest.raises(PayloadInvalid, match=r"history.start: got .* allowed whole multiples"):
        read_forecast_request(request, FORECASTER)
    with pytest.raises(PayloadInvalid, match="target_date: got 2011-12-30"):
        read_forecast_request(
            example_request(FORECASTER, "x") | {"time_zone": "Pacific/Apia", "target_date": "2011-12-30"}, FORECASTER
        )
