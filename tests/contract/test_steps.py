"""Intervals of any length and offset: what a door takes, the worker of that stream takes, and never a part of it.

For every stream that is forecast, of other packages too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kappawatt.bus import Bus, connect
from kappawatt.columns.batch import Rejection
from kappawatt.columns.content import CSV, JSON
from kappawatt.forecasting.calendar import day_start
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.grid import listed
from kappawatt.services.sensor_ingestor.service import SERVICE as INGESTOR
from kappawatt.serving.app import create_app
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from kappawatt.streams.rules import screened
from kappawatt.streams.stream import Stream
from kappawatt.streams.table import STREAMS, TOPICS
from kappawatt.worker.histories import Histories

FORECAST = [stream for stream in STREAMS if stream.errors is not None]
ZONES = ("Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Europe/Berlin", "America/New_York")
DATE = np.datetime64("2016-06-01")
CASES = [(stream, step) for stream in FORECAST for step in stream.steps]
ARRIVED = 1_467_331_200_000  # 2016-07-01
by_name = pytest.mark.parametrize("stream", FORECAST, ids=lambda stream: stream.name)
by_step = pytest.mark.parametrize(("stream", "step"), CASES, ids=[f"{s.name}-{step}" for s, step in CASES])


def forecaster_of(stream: Stream) -> Forecaster:
    found = find_service(stream.service).modelled().predictor
    assert isinstance(found, Forecaster)
    return found


def midnight(zone: str) -> np.datetime64:
    start: np.datetime64 = day_start(np.array([DATE]), zone)[0]
    return start


def rows(stream: Stream, starts: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"interval_start": f"{start}Z", stream.target: 1.0, **more} for start in starts]


def every(step: int, n: int, first: np.datetime64) -> Any:
    return first + np.arange(n) * np.timedelta64(step * 1000, "ms")


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FlaskClient, Bus]]:
    folder: Path = tmp_path_factory.mktemp("bus")
    opened = connect(f"embedded:{folder}/bus.sqlite")
    opened.ensure(TOPICS)
    given_ = Settings.read({}, bus=f"embedded:{folder}/bus.sqlite")
    yield create_app(INGESTOR, given_).test_client(), opened
    opened.close()


@pytest.fixture
def client(bus: tuple[FlaskClient, Bus]) -> FlaskClient:
    return bus[0]


def test_a_stream_takes_no_length_that_its_forecaster_cannot_forecast() -> None:
    for stream in FORECAST:
        assert set(stream.steps) <= set(forecaster_of(stream).steps)
        assert stream.usual_step in (None, forecaster_of(stream).supposed_step)
        assert stream.time_zone in ("", forecaster_of(stream).time_zone)


@by_step
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("says", [False, True], ids=["shown", "said"])
def test_a_door_and_the_worker_take_intervals_of_a_zone_of_any_offset(
    client: FlaskClient, stream: Stream, step: int, zone: str, says: bool
) -> None:
    more = {"time_zone": zone, **({"interval_seconds": step} if says and len(stream.steps) > 1 else {})}
    starts = every(step, 200, midnight(zone))

    answer = client.post(f"/{stream.path}/a", json=rows(stream, starts, **more))

    assert answer.status_code == 202, answer.json
    histories = Histories(forecaster_of(stream))
    batch = stream.schema.check(_columns(stream, starts, **more), len(starts))
    assert not [r for r in histories.steps(b"a", batch, np.arange(200), ARRIVED) if isinstance(r, Rejection)]
    history = histories.history("a")
    assert history is not None
    assert history.step == step


def _columns(stream: Stream, starts: Any, **more: Any) -> dict[str, Any]:
    kinds = {str: object, int: np.float64, float: np.float64}
    given_ = {name: np.full(len(starts), value, kinds[type(value)]) for name, value in more.items()}
    return {"interval_start": starts, stream.target: np.ones(len(starts)), **given_}


@by_name
@pytest.mark.parametrize("content_type", [JSON, CSV])
def test_a_body_at_a_distance_that_is_no_length_is_refused_with_422_and_all_is_named(
    client: FlaskClient, stream: Stream, content_type: str
) -> None:
    made = rows(stream, every(600, 144, midnight("UTC")))
    body = orjson.dumps(made) if content_type == JSON else _csv(made)

    answer = client.post(f"/{stream.path}/a", data=body, content_type=content_type)

    assert answer.status_code == 422
    assert (answer.json["accepted"], answer.json["rejected"]) == (0, 144)
    error = answer.json["errors"][0]
    assert (error["field"], error["got"]) == ("interval_start", "rows 600 s apart")
    assert error["allowed"].startswith(listed(stream.steps))


def _csv(made: list[dict[str, Any]]) -> bytes:
    names = list(made[0])
    return "\n".join([",".join(names), *(",".join(str(row[name]) for name in names) for row in made)]).encode()


@by_name
@pytest.mark.parametrize("length", [60, 600, 7_200])
def test_a_length_that_is_no_ones_is_refused_with_422(client: FlaskClient, stream: Stream, length: int) -> None:
    if len(stream.steps) < 2:
        pytest.skip("its rows do not say a length")
    made = rows(stream, every(3600, 3, midnight("UTC")), interval_seconds=length)

    answer = client.post(f"/{stream.path}/a", json=made)

    assert answer.status_code == 422
    assert answer.json["accepted"] == 0
    assert {error["field"] for error in answer.json["errors"]} == {"interval_seconds"}


@by_name
def test_a_body_that_changes_its_length_is_refused_whole(client: FlaskClient, stream: Stream) -> None:
    if len(stream.steps) < 2:
        pytest.skip("it has one length")
    short, *_, long = sorted(stream.steps)
    begin = midnight("UTC")
    hours = every(long, 48, begin)
    starts = np.concatenate([hours, every(short, 48, hours[-1] + np.timedelta64(long, "s"))])

    answer = client.post(f"/{stream.path}/a", json=rows(stream, starts))

    assert answer.status_code == 422
    assert answer.json["accepted"] == 0
    assert f"rows {short} s and {long} s apart" in answer.json["errors"][0]["message"] or (
        f"rows {long} s and {short} s apart" in answer.json["errors"][0]["message"]
    )


@by_step
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Europe/Berlin"])
def test_intervals_that_begin_beside_the_named_clock_are_refused_with_422(
    client: FlaskClient, stream: Stream, step: int, zone: str
) -> None:
    starts = every(step, 20, midnight(zone) + np.timedelta64(step // 2 // 60 or 1, "m"))
    more = {"time_zone": zone, **({"interval_seconds": step} if len(stream.steps) > 1 else {})}

    answer = client.post(f"/{stream.path}/a", json=rows(stream, starts, **more))

    assert answer.status_code == 422
    assert answer.json["accepted"] == 0
    assert answer.json["errors"][0]["allowed"] == f"a whole multiple of {step} s by the clock of {zone}"


@by_name
def test_measurements_of_next_week_are_refused_with_422_and_weather_is_not(client: FlaskClient, stream: Stream) -> None:
    now = np.datetime64(int(time.time()) // 3600 * 3600, "s").astype("datetime64[ms]")
    soon, later = now + np.timedelta64(20, "h"), now + np.timedelta64(48, "h")
    made = [*rows(stream, [soon], time_zone="UTC"), *rows(stream, [later], time_zone="UTC")]
    ahead = {"interval_start": f"{later}Z", "time_zone": "UTC"} | dict.fromkeys(stream.values[1:], 20.0)

    answer = client.post(f"/{stream.path}/a", json=made)

    assert (answer.status_code, answer.json["accepted"]) == (422, 1)
    [error] = answer.json["errors"]
    assert (error["row"], error["field"]) == (1, "interval_start")
    assert error["allowed"].startswith("an interval that begins at most 24 hours after its message arrives")
    if stream.values[1:]:
        assert client.post(f"/{stream.path}/a", json=ahead).status_code == 202


@st.composite
def bodies(draw: Any) -> tuple[Stream, Any, str, float | None]:
    """Rows as senders send them: any distance, gaps, twins, strays, order."""
    stream = draw(st.sampled_from(FORECAST))
    zone = draw(st.sampled_from(ZONES))
    step = draw(st.sampled_from([300, 600, 900, 1800, 3600, 7200]))
    n = draw(st.integers(1, 60))
    starts = every(step, n, midnight(zone))
    kept = [start for start in starts if draw(st.integers(0, 9)) < 8] or [starts[0]]
    kept += [kept[0] + np.timedelta64(m, "m") for m in draw(st.lists(st.sampled_from([5, 10, 15, 60]), max_size=2))]
    said = draw(st.sampled_from([None, None, *map(float, stream.steps)])) if len(stream.steps) > 1 else None
    return stream, np.array(draw(st.permutations(kept))), zone, said


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bodies())
def test_the_worker_takes_every_row_of_a_new_series_that_a_door_took(made: Any) -> None:
    stream, starts, zone, said = made
    more = {"time_zone": zone, **({} if said is None else {"interval_seconds": said})}
    batch = screened(stream, stream.schema.check(_columns(stream, starts, **more), len(starts)), "a")
    taken = np.flatnonzero(batch.valid)
    histories = Histories(forecaster_of(stream))

    found = list(histories.steps(b"a", batch, taken, ARRIVED)) if len(taken) else []

    assert [r.message for r in found if isinstance(r, Rejection)] == []
