"""Any horizon: the rest of today, any hours up to seven days ahead, updates between the issue times, and the lead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from flask import Flask

from kappawatt.bus import Bus, Outgoing, Records
from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, Times, as_instant, day_intervals, same_local_time
from kappawatt.forecasting.fan import Fan
from kappawatt.forecasting.forecaster import LEAD_TIME
from kappawatt.forecasting.history import Past
from kappawatt.forecasting.model import open_forecaster
from kappawatt.forecasting.training import save_trained
from kappawatt.forecasting.window import LocalDays
from kappawatt.messages.forecasts import read_documents
from kappawatt.models.artifact import find_artifact
from kappawatt.models.publish import Trained
from kappawatt.services.hourly_load.service import SERVICE as HOURLY_LOAD
from kappawatt.services.smart_meter.service import SERVICE as SMART_METER
from kappawatt.serving.app import create_app
from kappawatt.serving.kinds import forecasts
from kappawatt.settings import Settings
from kappawatt.streams.load import STREAM
from kappawatt.worker.forecasting import Forecasting
from kappawatt.worker.updates import Updates, updates_of
from tests.conftest import everything
from tests.forecast_fakes import FORECASTER, SPREAD, ZONE, loads
from tests.unit.worker.test_forecast_worker import ERRORS, READINGS, block, cut, event, publish, run

TODAY = np.datetime64("2016-07-19")
AT_14 = as_instant("2016-07-19T18:00")  # 14:00 in New York
NOON = as_instant("2016-07-19T16:00")
TIMES = np.arange(AT_14 - 30 * DAY, AT_14, HOUR)


def forecast(offset: float, past: Past, targets: Times) -> Fan:
    """The same local time on earlier days, moved by the newest value: it knows when it was issued."""
    days = np.array([past.at(same_local_time(targets, past.time_zone, days)) for days in range(8, 15)])
    return Fan(np.nanmean(days, axis=0)[:, None] + past.values[-1] / 10 + offset + SPREAD)


ANY_LEAD = replace(FORECASTER, forecast=forecast, window=LocalDays(longest_lead=7 * DAY, within_day=True))


def artifacts(folder: Path) -> Path:
    artifact = save_trained(folder, ANY_LEAD, Trained("default", {"offset.txt": b"0.0"}, {}, {}, ()))
    (folder / "CURRENT").write_text(artifact.manifest.version)
    return folder


@pytest.fixture
def app(settings: Settings) -> Flask:
    artifacts(settings.artifacts)
    stream = replace(STREAM, service=ANY_LEAD.name)
    return create_app(forecasts(ANY_LEAD, summary="Any lead.", port=8996, stream=stream), settings)


def ask(app: Flask, **more: Any) -> Any:
    history = {"start": f"{TIMES[0]}Z", "values": loads(TIMES).tolist()}
    return app.test_client().post("/forecast", json={"load_zone": "PJME", "history": history, **more})


def starts(times: Times) -> list[str]:
    return [f"{t.astype('datetime64[s]')}Z" for t in times]


def test_the_next_hours_are_forecast_and_say_their_lead(app: Flask) -> None:
    found = ask(app, horizon_hours=30).json

    assert found["target_time"] == starts(AT_14 + np.arange(30) * HOUR)
    assert found[LEAD_TIME] == list(range(1, 31))
    assert (found["issue_time"], found["trusted_until"]) == ("2016-07-19T18:00:00Z", "2016-07-19T18:00:00Z")


def test_the_lead_counts_from_the_newest_value_not_from_the_issue_time(app: Flask) -> None:
    found = ask(app, horizon_hours=2, issue_time="2016-07-19T21:00:00Z").json

    assert found[LEAD_TIME] == [4, 5]


def test_today_is_the_rest_of_it_and_a_day_may_be_seven_ahead(app: Flask) -> None:
    today, last = (ask(app, target_date=str(TODAY + i)).json for i in (0, 7))

    assert today["target_time"] == starts(day_intervals(TODAY, ZONE, 3600)[14:])
    assert last["target_time"] == starts(day_intervals(TODAY + 7, ZONE, 3600))


def test_the_default_is_the_next_local_day(app: Flask) -> None:
    assert ask(app).json["target_time"] == starts(day_intervals(TODAY + 1, ZONE, 3600))


def test_an_hour_is_one_number_in_whatever_window_it_is_asked(app: Flask) -> None:
    week = ask(app, horizon_hours=168).json
    whole = dict(zip(week["target_time"], week["quantiles"]["0.50"], strict=True))

    for more in ({"horizon_hours": 5}, {"target_date": "2016-07-19"}, {"target_date": "2016-07-23"}, {}):
        part = ask(app, **more).json
        for time, value in zip(part["target_time"], part["quantiles"]["0.50"], strict=True):
            assert whole[time] == value


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"horizon_hours": 0}, "horizon_hours: got 0, allowed 1 to 168, in whole steps of 3600 s"),
        ({"horizon_hours": 169}, "horizon_hours: got 169, allowed 1 to 168"),
        ({"horizon_hours": 1.5}, "horizon_hours: got 1.5, allowed 1 to 168"),
        ({"horizon_hours": "24"}, "horizon_hours: got '24', allowed 1 to 168"),
        ({"horizon_hours": True}, "horizon_hours: got True, allowed 1 to 168"),
        ({"horizon_hours": 3, "target_date": "2016-07-20"}, "horizon_hours: got 3 and a target_date, allowed one"),
        (
            {"target_date": "2016-07-18"},
            "target_date: got 2016-07-18, allowed a day that America/New_York has, of which",
        ),
        ({"target_date": "2016-07-27"}, "target_date: got 2016-07-27, allowed a day that begins within 168 hours"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(app: Flask, more: dict[str, Any], said: str) -> None:
    found = ask(app, **more)

    assert found.status_code == 400
    assert said in found.json["detail"]


def test_rows_of_today_are_forecast_from_the_newest_hours_as_the_compact_form_does(app: Flask) -> None:
    asked = AT_14 + np.arange(34) * HOUR  # today, and tomorrow
    rows = [{"interval_start": t, "load": v} for t, v in zip(starts(TIMES), loads(TIMES).tolist(), strict=True)]

    found = app.test_client().post("/predict", json=rows + [{"interval_start": t} for t in starts(asked)]).json

    expected = ask(app, horizon_hours=34).json
    answers = found["predictions"][-34:]
    np.testing.assert_allclose([row["load"] for row in answers], expected["quantiles"]["0.50"], rtol=1e-6)
    assert [row[LEAD_TIME] for row in answers] == list(range(1, 35))
    assert found["predictions"][0][LEAD_TIME] is None


def test_a_row_missing_before_now_is_forecast_as_of_the_start_of_its_day(app: Flask) -> None:
    missing = AT_14 - 5 * HOUR
    rows = [{"interval_start": t, "load": v} for t, v in zip(starts(TIMES), loads(TIMES).tolist(), strict=True)]
    rows = [row for row in rows if row["interval_start"] != starts(np.array([missing]))[0]]
    asked = [{"interval_start": t} for t in starts(np.array([missing, AT_14]))]

    first, second = app.test_client().post("/predict", json=rows + asked).json["predictions"][-2:]

    assert (first[LEAD_TIME], second[LEAD_TIME]) == (10, 1)  # from midnight, and from 14:00


def test_a_time_that_is_over_at_the_issue_time_is_refused(app: Flask) -> None:
    rows = [{"interval_start": t, "load": v} for t, v in zip(starts(TIMES), loads(TIMES).tolist(), strict=True)]
    asked = {"interval_start": "2016-07-18T12:00:00Z", "issue_time": "2016-07-19T18:00:00Z"}

    found = app.test_client().post("/predict", json=[*rows, asked])

    assert found.status_code == 422
    assert "2016-07-19T18:00:00Z, the issue time, or later" in str(found.json)


def worker(bus: Bus, tmp_path: Path, updates: Updates) -> Forecasting:
    model = open_forecaster(ANY_LEAD, find_artifact(artifacts(tmp_path / "any")))
    return Forecasting(bus, model, STREAM, output="load.forecasts", updates=updates)


def followed(bus: Bus, tmp_path: Path, updates: Updates, n: int = 6) -> tuple[list[Any], list[Any]]:
    """Forecasts and errors where hours come one by one from 11:00 on, of issue times from then on."""
    first = NOON - HOUR
    publish(bus, [block(np.arange(first - 30 * DAY, first, HOUR))])
    publish(
        bus,
        [
            event(t, float(v))
            for t, v in zip(first + np.arange(n) * HOUR, loads(first + np.arange(n) * HOUR), strict=True)
        ],
    )
    return answered(worker(bus, tmp_path, updates), everything(bus, READINGS))


def answered(answering: Forecasting, records: list[Records]) -> tuple[list[Any], list[Any]]:
    found = run(answering, records)
    documents, errors = (
        [d for d in found[topic] if d["issue_time"] >= "2016-07-19T15"] for topic in ("load.forecasts", ERRORS)
    )
    return documents, errors


def test_without_updates_only_issue_times_are_answered(bus: Bus, tmp_path: Path) -> None:
    documents, _ = followed(bus, tmp_path, Updates())

    assert [d["issue_time"] for d in documents] == ["2016-07-19T16:00:00Z"]
    assert documents[0]["target_time"] == starts(day_intervals(TODAY + 1, ZONE, 3600))
    assert documents[0][LEAD_TIME] == list(range(13, 37))


def test_each_step_brings_the_rest_of_today_and_tomorrow(bus: Bus, tmp_path: Path) -> None:
    documents, errors = followed(bus, tmp_path, Updates(0))

    assert [d["issue_time"][11:13] for d in documents] == ["15", "16", "17", "18", "19", "20", "21"]
    ends = starts(day_intervals(TODAY + 1, ZONE, 3600)[-1:])
    assert all([d["target_time"][0], d["target_time"][-1]] == [d["issue_time"], *ends] for d in documents)
    of_updates = [e for e in errors if e["issue_time"] != "2016-07-19T16:00:00Z"]
    assert {e[LEAD_TIME] for e in of_updates} == {1}  # the newest update alone is scored
    assert {e[LEAD_TIME] for e in errors if e not in of_updates} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(("every", "hours"), [(3, ["16", "19"]), (2, ["16", "18", "20"]), (12, ["16"])])
def test_updates_come_every_so_many_hours_of_the_local_clock(
    bus: Bus, tmp_path: Path, every: int, hours: list[str]
) -> None:
    documents, _ = followed(bus, tmp_path, Updates(every))

    assert [d["issue_time"][11:13] for d in documents] == hours


def test_days_ahead_of_updates_are_a_setting(bus: Bus, tmp_path: Path) -> None:
    documents, _ = followed(bus, tmp_path, Updates(0, 5))

    assert documents[-1]["target_time"][-1] == starts(day_intervals(TODAY + 5, ZONE, 3600)[-1:])[0]


def test_updates_are_the_same_however_the_log_is_cut(bus: Bus, tmp_path: Path) -> None:
    first, _ = followed(bus, tmp_path, Updates(0))

    again, _ = answered(worker(bus, tmp_path, Updates(0)), cut(everything(bus, READINGS), 1))

    assert [(d["id"], d["quantiles"]) for d in again] == [(d["id"], d["quantiles"]) for d in first]


def test_a_late_value_corrects_the_newest_update(bus: Bus, tmp_path: Path) -> None:
    first = NOON - HOUR
    times = first + np.arange(4) * HOUR
    publish(bus, [block(np.arange(first - 30 * DAY, first, HOUR))])
    publish(bus, [event(t, float(v)) for t, v in zip(times, loads(times), strict=True)])
    publish(bus, [event(times[-1], float(loads(times)[-1]) * 1.2)])

    documents, _ = answered(worker(bus, tmp_path, Updates(0)), everything(bus, READINGS))

    assert [d["issue_time"] for d in documents if d["corrected"]] == ["2016-07-19T19:00:00Z"]


def test_settings_say_how_often_and_how_far() -> None:
    assert updates_of("", 1, ANY_LEAD).every is None
    assert updates_of("step", 1, ANY_LEAD) == Updates(0, 1)
    assert updates_of("6", 7, ANY_LEAD) == Updates(6, 7)
    assert updates_of("step", 1, FORECASTER).every is None  # it forecasts whole days only
    short = replace(ANY_LEAD, window=LocalDays(longest_lead=2 * DAY, within_day=True))
    with pytest.raises(SettingInvalid, match="KAPPAWATT_FORECAST_DAYS: got 3, allowed 0 to 2 for fake-load"):
        updates_of("step", 3, short)
    with pytest.raises(SettingInvalid, match="KAPPAWATT_FORECAST_UPDATES"):
        Settings.read({"KAPPAWATT_FORECAST_UPDATES": "5"})


@pytest.mark.parametrize(("service", "is_there"), [(HOURLY_LOAD, True), (SMART_METER, False)], ids=["load", "meter"])
def test_only_a_model_of_any_lead_offers_a_horizon(service: Any, is_there: bool, settings: Settings) -> None:
    own = replace(settings, artifacts=None)

    fields = create_app(service, own).test_client().get("/openapi.json").json

    schema = fields["paths"]["/forecast"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert ("horizon_hours" in str(schema)) is is_there


def test_a_lead_of_another_thing_is_no_forecast(bus: Bus, tmp_path: Path) -> None:
    documents, errors = followed(bus, tmp_path, Updates(0), 3)

    producer = bus.producer()
    producer.publish(
        [
            Outgoing("load.forecasts", orjson.dumps({**documents[0], LEAD_TIME: "soon"}), b"PJME", ()),
            Outgoing("load.forecasts", orjson.dumps(documents[0]), b"PJME", ()),
            Outgoing("load.forecasts", orjson.dumps(errors[0]), b"PJME", ()),
        ]
    )
    producer.close()

    found = read_documents(everything(bus, "load.forecasts"))

    assert [d[LEAD_TIME] for d in found] == [documents[0][LEAD_TIME], errors[0][LEAD_TIME]]
