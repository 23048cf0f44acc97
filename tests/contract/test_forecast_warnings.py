"""What an answer warns of: what its history lacks, holidays nobody knows, weeks in which the naive was closer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flask import Flask

from kappawatt.datasets.synthetic import synthetic_load
from kappawatt.serving.app import create_app
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings

ISSUE = np.datetime64("2025-06-10T16", "ms")


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(find_service("hourly-load"), Settings.read({}))


def warnings(app: Flask, values: list[float], **more: Any) -> dict[str, str]:
    """Warnings on a forecast from hours up to the issue time, by code."""
    start = ISSUE - len(values) * np.timedelta64(1, "h")
    body: dict[str, Any] = {"load_zone": "a", "time_zone": "America/New_York", "issue_time": f"{ISSUE}Z"}
    body["history"] = {"start": f"{start}Z", "step_seconds": 3600, "values": values}
    response = app.test_client().post("/forecast", json=body | more)
    assert response.status_code == 200, response.data
    answer: dict[str, Any] = response.get_json()
    return {one["code"]: one["detail"] for one in answer["warnings"]}


def made_up(hours: int = 8_000) -> list[float]:
    zone = synthetic_load("a", 5)
    end = int(np.searchsorted(zone.starts, ISSUE))
    found: list[float] = zone.values[end - hours : end].tolist()
    return found


def test_of_a_history_as_it_should_be_nothing_is_warned(app: Flask) -> None:
    assert warnings(app, made_up()) == {}


def test_suspect_values_are_named_in_words(app: Flask) -> None:
    values = made_up()
    values[-30] *= 10

    assert warnings(app, values) == {
        "suspect": "1 suspect value, taken for missing: spike 2025-06-09T10:00:00Z, 1 in a row"
    }


def test_hours_without_a_value_at_the_end_are_named(app: Flask) -> None:
    values: list[Any] = made_up()
    values[-5:] = [None] * 5

    assert warnings(app, values) == {
        "late": "no value of the last 5 h is known and trusted: forecast from 2025-06-10T11:00:00Z"
    }


@pytest.mark.parametrize("zone", ["UTC", "Etc/GMT+5"])
def test_a_zone_of_no_country_has_no_holidays_that_are_known(app: Flask, zone: str) -> None:
    assert warnings(app, made_up(), time_zone=zone)["no_holidays"].startswith("no holidays known")


@pytest.mark.parametrize("step", [3600, 900])
def test_a_series_that_repeats_each_week_is_the_naives(app: Flask, step: int) -> None:
    week = np.tile(30_000 + np.random.default_rng(3).normal(0, 3_000, 168), 30)
    values = np.repeat(week, 3600 // step).tolist()
    start = ISSUE - len(week) * np.timedelta64(1, "h")
    history = {"start": f"{start}Z", "step_seconds": step, "values": values}

    found = warnings(app, values, history=history)

    assert found["naive_closer"].startswith("over the last 28 days the seasonal naive")
    assert "mean absolute error 0 and " in found["naive_closer"]
