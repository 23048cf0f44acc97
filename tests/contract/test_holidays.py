"""Whose holidays a series has is said apart from its clock: in requests, in rows, as a setting, for a backtest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from kappawatt.bus import Bus, Outgoing
from kappawatt.cli.main import main
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.content import ARROW
from kappawatt.datasets.synthetic import synthetic_load
from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.holidays import holidays_named
from kappawatt.forecasting.model import ForecastModel
from kappawatt.services.hourly_load.day_kinds import day_kinds, knows_holidays
from kappawatt.services.sensor_ingestor.service import SERVICE as INGESTOR
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams import load
from kappawatt.worker.forecasting import Forecasting
from tests.conftest import everything

HOUR = np.timedelta64(1, "h")
EVE = np.datetime64("2024-07-03T16:00", "ms")  # noon of New York, the day before Independence Day
READINGS, FORECASTS = load.LOAD_READINGS.name, load.LOAD_FORECASTS.name


def zone(days: int = 370) -> tuple[Any, Any]:
    made = synthetic_load("a", 5)
    known = slice(*np.searchsorted(made.starts, np.array([EVE - days * 24 * HOUR, EVE])))
    return made.starts[known], made.values[known]


def asked(service: FlaskClient, status: int = 200, **more: Any) -> dict[str, Any]:
    starts, values = zone()
    history = {"start": f"{starts[0]}Z", "step_seconds": 3600, "values": values.tolist()}
    response = service.post("/forecast", json={"load_zone": "a", "history": history, **more})
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json
    return found


def codes(answer: dict[str, Any]) -> set[str]:
    return {one["code"] for one in answer["warnings"]}


def test_the_country_of_the_zone_said_again_changes_no_bit(service: FlaskClient) -> None:
    assert asked(service, holidays="US") == asked(service)


def test_others_and_none_are_other_numbers(service: FlaskClient) -> None:
    own, german, none = (asked(service, **said) for said in ({}, {"holidays": "DE-BY"}, {"holidays": "none"}))

    assert len({orjson.dumps(one["quantiles"]) for one in (own, german, none)}) == 3
    assert all("no_holidays" not in codes(one) for one in (own, german, none))


def test_a_clock_of_no_country_has_holidays_if_they_are_said(service: FlaskClient) -> None:
    without, american, none = (
        asked(service, time_zone="UTC", target_date="2024-07-04", **said)
        for said in ({}, {"holidays": "US"}, {"holidays": "none"})
    )

    assert "no_holidays" in codes(without)
    assert "no_holidays" not in codes(american) | codes(none)
    assert none["quantiles"] == without["quantiles"]
    assert american["quantiles"] != without["quantiles"]


@pytest.mark.parametrize(
    ("got", "allowed"),
    [
        ("de", "a country"),
        ("Germany", "a country"),
        ("XX", "none, or one of "),
        ("DE-XY", "DE-BY"),
        (7, "text"),
        ("", "DE"),
    ],
)
def test_what_nobody_knows_is_refused_with_what_is_allowed(service: FlaskClient, got: Any, allowed: str) -> None:
    problem = asked(service, 400, holidays=got)

    assert problem["detail"].startswith("holidays: got")
    assert allowed in problem["detail"]


def test_rows_say_it_too(service: FlaskClient) -> None:
    starts, values = zone()
    rows = [{"interval_start": f"{t}Z", "load": v} for t, v in zip(starts, values.tolist(), strict=True)]
    rows[0]["holidays"] = "none"
    rows += [{"interval_start": f"{EVE + i * HOUR}Z"} for i in range(12, 36)]

    answer = service.post("/predict", json=rows).json["predictions"][-24:]

    assert [float(f"{row['load']:.7g}") for row in answer] == asked(service, holidays="none")["quantiles"]["0.50"]


def put(bus: Bus, starts: Any, values: Any, **more: Any) -> None:
    columns = {"interval_start": starts, "load": values} | {
        name: np.array([value] * len(starts), dtype=object) for name, value in more.items()
    }
    at = int((starts[-1] + HOUR).astype(np.int64))
    producer = bus.producer()
    producer.publish([Outgoing(READINGS, write_columns(columns), b"a", (("content-type", ARROW.encode()),), at)])
    producer.close()


def documents(bus: Bus, model: ForecastModel, **how: Any) -> list[dict[str, Any]]:
    answering = Forecasting(bus, model, load.STREAM, output=FORECASTS, **how)
    outcome = answering.answer(everything(bus, READINGS))
    return [orjson.loads(m.value) for m in outcome.outgoing if m.topic == FORECASTS]


def test_rows_on_the_bus_say_it_and_the_setting_says_it_of_those_that_do_not(
    bus: Bus, model: ForecastModel, service: FlaskClient
) -> None:
    put(bus, *zone())
    expected = {said: asked(service, holidays=said)["quantiles"] for said in ("US", "none")}

    (own,), (by_key,), (others) = (
        documents(bus, model, holidays=said) for said in ({}, {"a": "none"}, {"b": "none", None: "US"})
    )

    assert own["quantiles"] == expected["US"] == others[0]["quantiles"]
    assert by_key["quantiles"] == expected["none"]


def test_what_rows_say_counts_more_than_the_setting_and_from_then_on(bus: Bus, model: ForecastModel) -> None:
    starts, values = zone()
    put(bus, starts, values)
    put(bus, EVE + np.arange(12) * HOUR, values[-12:], holidays="none")

    noon, midnight = documents(bus, model)
    (first, second) = documents(bus, model, holidays={None: "none"})

    assert noon["quantiles"] != first["quantiles"]  # nobody had said so at noon
    assert midnight["quantiles"] == second["quantiles"]


def test_the_worker_refuses_what_nobody_knows(bus: Bus, model: ForecastModel) -> None:
    put(bus, *zone(), holidays="DE-XY")

    outcome = Forecasting(bus, model, load.STREAM, output=FORECASTS).answer(everything(bus, READINGS))

    assert {m.topic for m in outcome.outgoing} == {load.STREAM.dead.name}
    assert outcome.refused[0].field == "holidays"
    assert "DE-BY" in outcome.refused[0].allowed


def test_the_door_refuses_what_nobody_knows(bus: Bus, settings: Settings) -> None:
    door = create_app(INGESTOR, settings).test_client()
    row = {"interval_start": "2024-07-03T16:00:00Z", "load": 1.0}

    bad, good = (door.post("/load/a", json=[row | {"holidays": said}]) for said in ("Bavaria", "DE-BY"))

    assert (bad.status_code, bad.json["errors"][0]["field"]) == (422, "holidays")
    assert good.status_code == 202


@pytest.mark.parametrize("said", ["=DE", "a=", "a=DE,a=US", "DE,US"])
def test_a_setting_that_cannot_be_is_named(said: str) -> None:
    with pytest.raises(SettingInvalid, match="KAPPAWATT_HOLIDAYS"):
        Settings.read({"KAPPAWATT_HOLIDAYS": said})


def test_a_setting_is_read_by_series() -> None:
    found = Settings.read({"KAPPAWATT_HOLIDAYS": "Berlin=DE-BE, a=none, US"}).holidays

    assert found == {"Berlin": "DE-BE", "a": "none", None: "US"}


def test_every_country_a_zone_names_can_be_said() -> None:
    assert holidays_named("DE-BY") == "DE-BY"
    assert knows_holidays("UTC", "DE-BY")
    corpus_christi = np.datetime64("2024-05-30")
    off = {said: day_kinds(corpus_christi, corpus_christi, said).off[12].item() for said in ("DE", "DE-BE", "DE-BY")}
    assert off == {"DE": False, "DE-BE": False, "DE-BY": True}


def test_a_backtest_of_utc_has_the_holidays_that_are_said(tmp_path: Path) -> None:
    starts, values = zone(120)
    file = tmp_path / "a.csv"
    lines = [f"{np.datetime_as_string(t, 's')}Z,{v}" for t, v in zip(starts, values.tolist(), strict=True)]
    file.write_text("interval_start,load\n" + "\n".join(lines))
    command = ["backtest", "hourly-load", "--data", str(file), "--from", "2024-07-02", "--to", "2024-07-02", "--json"]
    command += ["--key", "a", "--retrain", "shipped", "--time-zone", "UTC", "--folder", str(tmp_path / "kept")]

    plain, american, unknown = (
        CliRunner().invoke(main, [*command, *more]) for more in ([], ["--holidays", "US"], ["--holidays", "XX"])
    )

    scores = [json.loads(one.stdout.splitlines()[-1])["mae"] for one in (plain, american)]
    assert scores[0] != scores[1]
    assert unknown.exit_code != 0
    assert "--holidays: got 'XX', allowed none, or one of" in unknown.output
