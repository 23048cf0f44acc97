"""The rule of intervals: all rows of a body at once, series by series, as the worker will judge them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kappawatt.columns.batch import Batch
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.grid import length_of, off_clock
from kappawatt.streams.load import STREAM as LOAD
from kappawatt.streams.meter import STREAM as METER
from kappawatt.streams.rules import screened
from kappawatt.streams.stream import Stream

FIRST = np.datetime64("2016-06-01T18:30", "ms")  # midnight in India


def every(seconds: int, n: int, first: np.datetime64 = FIRST) -> Any:
    return first + np.arange(n) * np.timedelta64(seconds * 1000, "ms")


def body(starts: Any, *, stream: Stream = LOAD, keys: Any = None, **more: Any) -> Batch:
    n = len(starts)
    columns = {"interval_start": starts, stream.target: np.ones(n)}
    columns |= {name: np.full(n, value, object if isinstance(value, str) else None) for name, value in more.items()}
    if keys is not None:
        columns[stream.key.name] = np.array(keys, dtype=object)
    return screened(stream, stream.schema.check(columns, n), "" if keys is not None else "a")


@pytest.mark.parametrize(("zone", "first"), [("Asia/Kolkata", "18:30"), ("Asia/Kathmandu", "18:15")])
@pytest.mark.parametrize("step", [300, 900, 1800, 3600])
def test_hours_and_their_parts_are_taken_in_a_zone_of_any_offset(zone: str, first: str, step: int) -> None:
    starts = every(step, 50, np.datetime64(f"2016-06-01T{first}", "ms"))

    assert body(starts, time_zone=zone).valid.all()
    assert body(starts, time_zone=zone, interval_seconds=float(step)).valid.all()


def test_rows_without_a_zone_are_meant_by_the_streams_own_and_one_of_unknown_length_by_any() -> None:
    hours = body(every(3600, 20))
    one = body(every(3600, 1))

    assert not hours.valid.any()
    assert hours.rejections[0].message.endswith("by the clock of America/New_York, as rows without time_zone are meant")
    assert one.valid.all()


def test_hours_that_begin_at_half_past_by_the_named_clock_are_refused_each_with_that_clock() -> None:
    batch = body(every(3600, 20), time_zone="Europe/Berlin", interval_seconds=3600.0)

    assert not batch.valid.any()
    assert batch.rejections[0].message == (
        "interval_start: got '2016-06-01T18:30:00.000', "
        "allowed a whole multiple of 3600 s by the clock of Europe/Berlin"
    )


@pytest.mark.parametrize("stream", [LOAD, METER])
def test_rows_ten_minutes_apart_are_refused_whole_with_the_distance_and_what_is_allowed(stream: Stream) -> None:
    batch = body(every(600, 144), stream=stream)

    assert not batch.valid.any()
    allowed = "300, 900, 1800 or 3600 s" if stream is LOAD else "900, 1800 or 3600 s"
    assert batch.rejections[0].message.startswith(f"interval_start: got 'rows 600 s apart', allowed {allowed}")


@pytest.mark.parametrize(("stream", "said"), [(LOAD, 600.0), (LOAD, 1000.0), (METER, 300.0)])
def test_a_length_that_the_stream_does_not_know_is_refused_row_by_row(stream: Stream, said: float) -> None:
    batch = body(every(3600, 3), stream=stream, interval_seconds=said)

    assert not batch.valid.any()
    assert {r.field for r in batch.rejections} == {"interval_seconds"}


def test_one_wrong_row_of_hours_is_refused_and_the_others_taken() -> None:
    starts = np.append(every(3600, 30), FIRST + np.timedelta64(10, "m"))

    batch = body(starts, time_zone="Asia/Kolkata")

    assert np.flatnonzero(~batch.valid).tolist() == [30]
    assert "a whole multiple of 3600 s by the clock of Asia/Kolkata" in batch.rejections[0].message


def test_one_series_at_a_wrong_distance_takes_no_other_with_it() -> None:
    starts = np.concatenate([every(900, 50), every(600, 50), every(3600, 50), every(300, 50)])
    starts = starts + np.timedelta64(30, "m")
    keys = np.repeat(["quarters", "tens", "hours", "fives"], 50)

    batch = body(starts, keys=keys)

    assert set(keys[batch.valid]) == {"quarters", "hours", "fives"}
    assert (~batch.valid).sum() == 50


@st.composite
def bodies(draw: Any) -> tuple[Any, Any, Any, Any]:
    parts = []
    for name in range(draw(st.integers(1, 4))):
        step = draw(st.sampled_from([300, 600, 900, 1800, 3600, 7200]))
        n = draw(st.integers(1, 40))
        starts = every(step, n, FIRST + np.timedelta64(draw(st.sampled_from([0, 0, 5, 7, 15])), "m"))
        kept = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))) | (np.arange(n) < 5)
        said = draw(st.sampled_from([np.nan, np.nan, 300.0, 900.0, 3600.0]))
        measured = np.where(draw(st.booleans()), np.ones(n), np.where(np.arange(n) % 3 == 0, 1.0, np.nan))
        columns = (starts[kept], np.full(n, said)[kept], measured[kept], np.full(kept.sum(), str(name), object))
        parts.append(columns)
    order = draw(st.permutations(range(sum(len(part[0]) for part in parts))))
    starts, said, measured, keys = (np.concatenate(column)[list(order)] for column in zip(*parts, strict=True))
    return starts, said, measured, keys


@settings(max_examples=200, deadline=None)
@given(bodies())
def test_all_series_at_once_are_judged_as_each_by_itself(made: Any) -> None:
    starts, said, measured, keys = made
    columns = {"interval_start": starts, "load": measured, "load_zone": keys, "interval_seconds": said}
    columns |= {"temperature": np.full(len(starts), 20.0), "time_zone": np.full(len(starts), "Asia/Kolkata", object)}

    valid = screened(LOAD, LOAD.schema.check(columns, len(starts)), "").valid

    for key in set(keys):
        own = keys == key
        try:
            step, _ = length_of(starts[own], said[own], ~np.isnan(measured[own]), LOAD.steps)
            expected = ~off_clock(starts[own], step or 300, "Asia/Kolkata")
        except PayloadInvalid:
            expected = np.zeros(own.sum(), np.bool_)
        np.testing.assert_array_equal(valid[own], expected)


def test_a_body_of_very_many_series_takes_no_longer_than_its_rows(record_property: Any) -> None:
    n = 40_000
    starts = np.tile(every(900, 2), n // 2)
    keys = np.repeat([f"m{i}" for i in range(n // 2)], 2)
    one = METER.schema.check({"interval_start": every(900, n), "consumption": np.ones(n)}, n)
    many = METER.schema.check({"interval_start": starts, "consumption": np.ones(n), "meter_id": keys.astype(object)}, n)

    begin = time.process_time()
    assert screened(METER, one, "a").valid.all()
    middle = time.process_time()
    assert screened(METER, many, "").valid.all()
    end = time.process_time()

    assert end - middle < 10 * (middle - begin) + 1.0  # seconds of processor time; names take most of it
