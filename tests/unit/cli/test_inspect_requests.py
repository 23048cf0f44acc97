"""`kappawatt inspect` of what the doors take as JSON: rows, columns, and forecast requests with their history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from kappawatt.cli.main import main

DAYS = 42


def call(path: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["inspect", str(path), *options])


def loads() -> list[float]:
    hours = np.arange(DAYS * 24)
    noise = np.random.default_rng(8).normal(1, 0.015, len(hours))
    return list(np.round(740 * (1 + 0.22 * np.sin(hours / 24 * 2 * np.pi)) * noise, 2).tolist())


def request(values: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    history = {"start": "2023-08-20T22:00:00Z", "values": loads() if values is None else values}
    return {
        "load_zone": "ostwind",
        "time_zone": "Europe/Prague",
        "target_date": "2023-10-02",
        "history": history,
        **more,
    }


def write(folder: Path, document: Any) -> Path:
    path = folder / "body.json"
    path.write_text(json.dumps(document))
    return path


def seen(folder: Path, document: Any, *options: str) -> dict[str, Any]:
    result = call(write(folder, document), *options, "--json")
    found: dict[str, Any] = json.loads(result.stdout)
    assert (found["error"] is None) == (result.exit_code == 0)
    return found


def test_a_forecast_request_is_read_as_its_history(tmp_path: Path) -> None:
    document = seen(tmp_path, request())

    [series] = document["series"]
    assert (series["key"], series["stream"], series["unit"]) == ("ostwind", "load", "MW")
    assert (series["time_zone"], series["interval_seconds"]) == ("Europe/Prague", 3600)
    assert (series["first"], series["last"]) == ("2023-08-20T22:00:00Z", "2023-10-01T21:00:00Z")
    assert (series["values"], series["mean"]) == (DAYS * 24, pytest.approx(np.mean(loads())))
    assert series["findings"] == []
    facts = {fact["name"]: fact["value"] for fact in document["facts"]}
    assert (facts["format"], facts["target date"]) == ("a forecast request", "2023-10-02")
    assert document["left_out"] == []


@pytest.mark.parametrize(
    ("places", "value", "found", "count"),
    [
        (slice(700, 701), 7_400.0, "spikes", 1),
        (slice(-60, None), 611.5, "stuck", 60),
        (slice(300, 305), -40.0, "negative", 5),
        (slice(300, 310), None, "missing", 10),
        (slice(300, 302), 2e6, "beyond limits", 2),
    ],
)
def test_a_request_is_checked_as_a_file_is(
    tmp_path: Path, places: slice, value: float | None, found: str, count: int
) -> None:
    values: list[float | None] = list(loads())
    values[places] = [value] * len(values[places])

    [series] = seen(tmp_path, request(values))["series"]

    assert (found, count) in [(finding["name"], finding["count"]) for finding in series["findings"]]


def test_a_meters_register_in_a_request_is_noticed_and_differenced(tmp_path: Path) -> None:
    counted = [8_000 + i * 0.125 for i in range(4 * 24 * 4)]
    history = {"start": "2023-08-20T22:00:00Z", "step_seconds": 900, "values": counted}
    body = {"meter_id": "keller", "time_zone": "Europe/Prague", "history": history}

    [series] = seen(tmp_path, body)["series"]
    [differences] = seen(tmp_path, body, "--register")["series"]

    assert (series["stream"], series["interval_seconds"], series["register"]["is_register"]) == ("meter", 900, True)
    assert (differences["mean"], differences["values"]) == (pytest.approx(0.125), len(counted) - 1)


def test_weather_of_a_request_stands_beside_its_history(tmp_path: Path) -> None:
    weather = {"start": "2023-08-20T22:00:00Z", "values": [14.5] * (DAYS * 24 + 24)}

    document = seen(tmp_path, request(covariates={"temperature": weather}))

    assert document["series"][0]["covariates"] == ["temperature"]
    assert [fact["value"] for fact in document["facts"] if fact["name"] == "temperature"] == ["24 values left out"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"load_zone": None}, "load_zone: got None, allowed text"),
        ({"zone": "x"}, "zone: got an unknown field, allowed load_zone, time_zone, issue_time, target_date, history"),
        ({"time_zone": "Europe/Atlantis"}, "Europe/Atlantis"),
        ({"history": {"start": "2023-08-20", "values": [1.0]}}, "history.start: got '2023-08-20', allowed a time"),
        ({"history": {"start": "2023-08-20T22:00:00Z", "values": [1.0, "x"]}}, "history.values[1]: got "),
        ({"history": {"start": "2023-08-20T22:00:00Z", "values": []}}, "history.values: got "),
        (
            {"history": {"start": "2023-08-20T22:00:00Z", "values": [1], "step_seconds": 7}},
            "history.step_seconds: got ",
        ),
    ],
    ids=["no name", "unknown field", "zone", "start", "text among values", "no value", "step"],
)
def test_a_request_that_cannot_be_read_names_field_and_value(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    result = call(write(tmp_path, request() | change))

    assert result.exit_code == 2
    assert told in result.stderr


def test_a_meters_request_without_a_step_is_refused_as_by_the_service(tmp_path: Path) -> None:
    body = {"meter_id": "keller", "history": {"start": "2023-08-20T22:00:00Z", "values": [0.25] * 96}}

    assert "history.step_seconds: got nothing, allowed 900 or 1800 or 3600" in call(write(tmp_path, body)).stderr


@pytest.mark.parametrize("form", ["list", "columns", "instances", "lines"])
def test_rows_in_any_form_of_a_body_are_read(tmp_path: Path, form: str) -> None:
    starts = [f"2023-08-{20 + i // 24}T{i % 24:02}:00:00Z" for i in range(72)]
    rows = [{"meter_id": "keller", "interval_start": s, "consumption": 0.5 + i % 5} for i, s in enumerate(starts)]
    bodies = {
        "list": json.dumps(rows),
        "columns": json.dumps({"columns": {name: [row[name] for row in rows] for name in rows[0]}}),
        "instances": json.dumps({"instances": rows}),
        "lines": "\n".join(map(json.dumps, rows)),
    }
    path = tmp_path / "body.json"
    path.write_text(bodies[form])

    [series] = json.loads(call(path, "--json").stdout)["series"]

    assert (series["key"], series["values"], series["interval_seconds"]) == ("keller", 72, 3600)
    assert series["mean"] == pytest.approx(np.mean([row["consumption"] for row in rows]))


def test_a_length_that_rows_say_is_theirs_though_one_row_tells_none(tmp_path: Path) -> None:
    row = {"meter_id": "keller", "interval_start": "2023-08-20T00:30:00Z", "consumption": 0.5, "interval_seconds": 1800}

    result = call(write(tmp_path, [row]), "--json")

    [series] = json.loads(result.stdout)["series"]
    assert (series["interval_seconds"], series["values"]) == (1800, 1)


def test_rows_at_twice_the_length_they_say_are_refused(tmp_path: Path) -> None:
    rows = [
        {"interval_start": f"2023-08-20T{i // 2:02}:{i % 2 * 30:02}:00Z", "consumption": 0.5, "interval_seconds": 900}
        for i in range(48)
    ]

    assert "rows 30 min and 15 min apart" in call(write(tmp_path, rows), "--key", "keller").stderr
