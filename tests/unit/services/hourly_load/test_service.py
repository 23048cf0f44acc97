"""The classic endpoint on the shipped artifact: rows of features, timestamps, and the forecast form beside them."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask

from kappawatt.forecasting.request import example_request
from kappawatt.models.artifact import find_artifact
from kappawatt.services.hourly_load.features import calendar_features
from kappawatt.services.hourly_load.forecaster import FORECASTER
from kappawatt.services.hourly_load.inference import Classic
from kappawatt.services.hourly_load.service import SERVICE, load_classic
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings

LABELS = np.array(["2018-01-01T13:00", "2016-07-04T00:00", "2015-12-31T23:00"], "datetime64[ms]")
CSV = "text/csv"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.read({}, bus=f"embedded:{tmp_path_factory.mktemp('bus')}/none.sqlite")


@pytest.fixture(scope="module")
def app(settings: Settings) -> Flask:
    return create_app(SERVICE, settings)


@pytest.fixture(scope="module")
def classic(settings: Settings) -> Classic:
    return load_classic(find_artifact(SERVICE.artifacts(settings)))


def numbers(app: Flask, body: str) -> list[float]:
    response = app.test_client().post("/invocations", data=body, content_type=CSV)
    assert response.status_code == 200, response.data
    return [float(line) for line in response.text.splitlines()]


def test_a_row_of_features_a_line_gets_a_number_a_line(app: Flask, classic: Classic) -> None:
    rows = calendar_features(LABELS)
    body = "\n".join(",".join(str(int(v)) for v in row) for row in rows)

    assert numbers(app, body) == classic.predict(rows).tolist()
    assert numbers(app, body.split("\n")[1]) == classic.predict(rows[1:2]).tolist()


@pytest.mark.parametrize(
    "body",
    [
        "2018-01-01 13:00:00\n2016-07-04 00:00:00\n2015-12-31 23:00:00",
        "Datetime\n2018-01-01T13:00:00\n2016-07-04T00:00\n2015-12-31 23:00\n",
        '"2018-01-01 13:00:00"\n"2016-07-04 00:00:00"\n"2015-12-31 23:00:00"',
        # instants are starts of hours; the labels are the local ends of the same hours
        "2018-01-01T17:00:00Z\n2016-07-03T23:00:00-04:00\n2016-01-01T03:00:00+00:00",
    ],
)
def test_a_timestamp_a_line_is_the_friendlier_form_of_the_same(app: Flask, classic: Classic, body: str) -> None:
    assert numbers(app, body) == classic.predict(calendar_features(LABELS)).tolist()


def test_instances_of_features_are_answered_as_json(app: Flask, classic: Classic) -> None:
    rows = calendar_features(LABELS)
    instances = [{"features": [int(v) for v in row]} for row in rows]

    found = app.test_client().post("/invocations", json={"instances": instances}).json["predictions"]

    assert [row["load"] for row in found] == classic.predict(rows).tolist()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("25,0,1,1,2018,1,1,1", "hour: got 25"),
        ("1,0,1,1,2018,1,1,x", "week_of_year: got 'x'"),
        ("1,2,3,4", "allowed"),
        ("not a time", "allowed"),
    ],
)
def test_rows_in_no_known_form_are_refused_by_name(app: Flask, body: str, said: str) -> None:
    response = app.test_client().post("/invocations", data=body, content_type=CSV)

    assert response.status_code in (400, 422)
    assert said in response.text


def peak_of(call: Callable[[], object]) -> int:
    """The most memory that a call takes at a time [bytes]."""
    gc.collect()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "line", [b"aa\n", b"2018-01-01\n", b"\n", b"\r", b"2018-01-01\r", b"1,1,1,1,2018,1,1,1\n"], ids=repr
)
def test_classic_lines_take_eight_times_the_largest_body_at_most(settings: Settings, line: bytes) -> None:
    largest = 2**20
    small = create_app(SERVICE, replace(settings, max_body_bytes=largest))
    door = small.test_client()
    door.post("/invocations", data=b"2018-01-01\n", content_type=CSV)
    body = line * (largest // len(line))

    def post() -> None:
        status.append(door.post("/invocations", data=body, content_type=CSV).status_code)

    status: list[int] = []
    assert peak_of(post) < 8 * largest
    assert status[0] in (400, 413)


def test_classic_rows_beyond_the_budget_are_refused_and_those_within_it_answered(settings: Settings) -> None:
    small = create_app(SERVICE, replace(settings, max_body_bytes=32 * 1_000)).test_client()

    def status(body: bytes) -> int:
        return small.post("/invocations", data=body, content_type=CSV).status_code

    assert status(b"Datetime\n" + b"2018-01-01\n" * 1_000) == 200
    assert status(b"Datetime\n" + b"2018-01-01\n" * 1_001) == 413
    assert status(b"1,1,1,1,2018,1,1,1\n" * 1_001) == 413


def test_classic_rows_that_are_refused_are_counted_and_the_first_named(app: Flask) -> None:
    instances = [{"features": [25, 1, 1, 1, 2018, 1, 1, 1]}] * 300
    bodies: list[dict[str, Any]] = [
        {"json": {"instances": instances}},
        {"data": b"3018-01-01\n" * 300, "content_type": CSV},
        {"data": b"25,1,1,1,2018,1,1,1\n" * 300, "content_type": CSV},
    ]
    for body in bodies:
        problem = app.test_client().post("/invocations", **body).json

        assert (len(problem["errors"]), problem["more_errors"]) == (100, 200)


def test_the_same_door_still_forecasts_from_a_history(app: Flask, settings: Settings) -> None:
    request = example_request(FORECASTER, "PJME")
    start = np.datetime64(request["history"]["start"].removesuffix("Z"), "ms")
    values = request["history"]["values"]
    times = start + np.arange(len(values) + 24) * np.timedelta64(3_600_000, "ms")
    cells = [*map(repr, values), *[""] * 24]
    body = "\n".join(f"{t}Z,{cell}" for t, cell in zip(times, cells, strict=True))

    found = numbers(app, body)

    expected = app.test_client().post("/forecast", json=request).json["quantiles"]["0.50"]
    assert np.allclose(found[-24:], expected, rtol=1e-6)


def test_the_baseline_version_forecasts_from_the_calendar_alone(settings: Settings) -> None:
    root = SERVICE.artifacts(settings)
    (version,) = (path.name for path in Path(root).glob("baseline-*"))
    model = SERVICE.open(settings, version)

    assert isinstance(model.fitted, Classic)
