"""A sum and its members at `/forecast`: they add up, each is forecast as ever, and a fault names its member."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask

from kappawatt.bus import Bus, Outgoing
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.content import ARROW
from kappawatt.forecasting import group_request
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.group_request import MOST_MEMBERS, example_group
from kappawatt.forecasting.request import example_request, read_history
from kappawatt.serving.app import create_app
from kappawatt.serving.histories import EXTENSION
from kappawatt.serving.service import Service, find_service
from kappawatt.settings import Settings
from tests.conftest import wait_until
from tests.forecast_fakes import SERVICE as FAKE
from tests.forecast_fakes import write_artifact

NAMES = ("hourly-load", "smart-meter")
DIGITS = 2e-6  # relative: documents have seven digits


def app_of(service: Service, folder: Path) -> Flask:
    settings = Settings.read({}, bus=f"embedded:{folder}/bus.sqlite")
    if service is FAKE:
        write_artifact(folder / "artifacts")
        settings = Settings.read({}, bus=settings.bus, artifacts=folder / "artifacts")
    return create_app(service, settings)


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Flask]:
    services = {name: find_service(name) for name in NAMES} | {FAKE.name: FAKE}
    return {name: app_of(service, tmp_path_factory.mktemp("group")) for name, service in services.items()}


def forecaster_of(name: str) -> Forecaster:
    service = FAKE if name == FAKE.name else find_service(name)
    forecaster = service.modelled().predictor
    assert isinstance(forecaster, Forecaster)
    return forecaster


def ask(app: Flask, body: Any) -> Any:
    return app.test_client().post("/forecast", json=body)


def points(document: dict[str, Any], point: str) -> Any:
    return np.array(document["mean"] if point == "mean" else document["quantiles"]["0.50"])


@pytest.mark.parametrize("point", ["median", "mean", None])
@pytest.mark.parametrize("name", NAMES)
def test_members_add_up_to_their_sum(apps: dict[str, Flask], name: str, point: str | None) -> None:
    forecaster = forecaster_of(name)
    said = {} if point is None else {"adds_up": point}

    found = ask(apps[name], {**example_group(forecaster, "both"), **said}).json

    assert found["reconciliation"]["adds_up"] == (point or forecaster.adds_up)
    adds_up = found["reconciliation"]["adds_up"]
    total = np.sum([points(member, adds_up) for member in found["members"]], axis=0)
    np.testing.assert_allclose(points(found["sum"], adds_up), total, rtol=DIGITS)
    assert [document["key"] for document in (found["sum"], *found["members"])] == ["both", "both-east", "both-west"]
    for document in (found["sum"], *found["members"]):
        assert document["target_time"] == found["sum"]["target_time"]
        fan = np.array(list(document["quantiles"].values()))
        assert (np.diff(fan, axis=0) >= 0).all()


def test_the_total_of_a_day_adds_up_and_its_peak_is_each_ones_own(apps: dict[str, Flask]) -> None:
    body = example_group(forecaster_of("smart-meter"), "both")

    found = ask(apps["smart-meter"], body).json
    alone = ask(apps["smart-meter"], body["members"][0]).json

    total = sum(member["day_mean"]["daily_consumption"] for member in found["members"])
    assert found["sum"]["day_mean"]["daily_consumption"] == pytest.approx(total, rel=DIGITS)
    assert found["members"][0]["day"]["daily_peak"] == alone["day"]["daily_peak"]
    assert found["members"][0]["id"] == alone["id"] + "+both"


@pytest.mark.parametrize("name", NAMES)
def test_before_it_is_reconciled_the_sum_is_forecast_as_any_series(apps: dict[str, Flask], name: str) -> None:
    forecaster = forecaster_of(name)
    body = example_group(forecaster, "both")
    values = np.sum([member["history"]["values"] for member in body["members"]], axis=0)
    history = {**body["members"][0]["history"], "values": values.tolist()}

    found = ask(apps[name], {**body, "adds_up": "median"}).json
    series = [ask(apps[name], {forecaster.key: "both", "history": history}).json]
    series += [ask(apps[name], member).json for member in body["members"]]

    total, *members = (points(document, "median") for document in series)
    np.testing.assert_allclose(
        found["reconciliation"]["discrepancy"], total - np.sum(members, axis=0), rtol=1e-4, atol=1e-5 * total.max()
    )


def test_an_interval_that_one_member_does_not_know_is_unknown_to_the_sum(apps: dict[str, Flask]) -> None:
    body = example_group(forecaster_of(FAKE.name), "both")
    body["members"][1]["history"]["values"][-30] = None

    found = ask(apps[FAKE.name], body).json

    assert [found["members"][0]["filled"], found["members"][1]["filled"], found["sum"]["filled"]] == [0, 1, 1]


def test_what_is_suspect_of_a_member_is_unknown_to_the_sum(apps: dict[str, Flask]) -> None:
    body = example_group(forecaster_of("hourly-load"), "both")
    body["members"][1]["history"]["values"][-30] *= 10

    found = ask(apps["hourly-load"], body).json

    assert [document["suspect"] for document in found["members"]] == [0, 1]
    assert (found["sum"]["suspect"], found["sum"]["filled"]) == (0, 1)


def test_what_is_confirmed_of_a_member_is_real_in_the_sum(apps: dict[str, Flask]) -> None:
    body = example_group(forecaster_of("hourly-load"), "both")
    history = body["members"][1]["history"]
    history["values"][-30] *= 10
    at = np.datetime64(history["start"].rstrip("Z")) + np.timedelta64(len(history["values"]) - 30, "h")
    history["confirmed"] = [{"start": f"{at}Z", "end": f"{at + np.timedelta64(1, 'h')}Z"}]

    found = ask(apps["hourly-load"], body).json

    assert [document["suspect"] for document in (*found["members"], found["sum"])] == [0, 0, 0]
    assert found["sum"]["filled"] == 0


def test_holidays_are_said_once_for_all(apps: dict[str, Flask]) -> None:
    body = {**example_group(forecaster_of("hourly-load"), "both"), "time_zone": "UTC"}

    silent, said = (ask(apps["hourly-load"], {**body, **more}).json for more in ({}, {"holidays": "DE-BY"}))

    for found, is_warned in ((silent, True), (said, False)):
        documents = (*found["members"], found["sum"])
        assert {"no_holidays" in {w["code"] for w in one["warnings"]} for one in documents} == {is_warned}


def test_the_issue_time_is_when_the_newest_history_ends_and_who_is_late_says_so(apps: dict[str, Flask]) -> None:
    body = example_group(forecaster_of("hourly-load"), "both")
    body["members"][1]["history"]["values"] = body["members"][1]["history"]["values"][:-5]

    found = ask(apps["hourly-load"], body).json

    until = [document["trusted_until"] for document in (*found["members"], found["sum"])]
    assert until == ["2016-07-06T04:00:00Z", "2016-07-05T23:00:00Z", "2016-07-05T23:00:00Z"]
    assert {document["issue_time"] for document in (found["sum"], *found["members"])} == {"2016-07-06T04:00:00Z"}
    assert "late" in [warning["code"] for warning in found["sum"]["warnings"]]


def test_values_after_the_issue_time_change_nothing(apps: dict[str, Flask]) -> None:
    body = {**example_group(forecaster_of("hourly-load"), "both"), "issue_time": "2016-07-05T16:00:00Z"}
    before = ask(apps["hourly-load"], body).json
    for member in body["members"]:
        member["history"]["values"][-12:] = (7 * np.arange(12.0)).tolist()

    assert ask(apps["hourly-load"], body).json == before


def test_a_horizon_is_one_for_all(apps: dict[str, Flask]) -> None:
    body = {**example_group(forecaster_of("hourly-load"), "both"), "horizon_hours": 6}

    found = ask(apps["hourly-load"], body).json

    assert [len(document["target_time"]) for document in (found["sum"], *found["members"])] == [6, 6, 6]


def changed(body: dict[str, Any], place: int, **changes: Any) -> dict[str, Any]:
    members = [{**member, **(changes if i == place else {})} for i, member in enumerate(body["members"])]
    return {**body, "members": members}


def history_changed(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return changed(body, 1, history={**body["members"][1]["history"], **changes})


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        (lambda b: {**b, "members": b["members"][:1]}, 400, "members: got 1 members, allowed a list of 2 to 100"),
        (lambda b: {**b, "members": [*b["members"]] * 60}, 400, "members: got 120 members, allowed a list of 2"),
        (lambda b: {**b, "members": "all"}, 400, "members: got 'all', allowed a list of 2 to 100 series"),
        (lambda b: {**b, "members": [*b["members"], 7]}, 400, "members[2]: got 7, allowed an object with load_zone"),
        (lambda b: changed(b, 1, load_zone="both-east"), 400, "members[1].load_zone: got 'both-east', allowed a name"),
        (lambda b: changed(b, 0, load_zone="both"), 400, "members[0].load_zone: got 'both', allowed a name that"),
        (lambda b: changed(b, 1, load_zone=None), 400, "members[1].load_zone: got nothing, allowed text"),
        (lambda b: changed(b, 1, history=None), 422, "members[1].load_zone: got 'both-west', allowed a series whose"),
        (lambda b: changed(b, 1, time_zone="UTC"), 400, "members[1].time_zone: got one of its own, allowed"),
        (lambda b: changed(b, 0, issue_time="2016-07-05"), 400, "members[0].issue_time: got one of its own, allowed"),
        (lambda b: changed(b, 0, colour="red"), 400, "members[0].colour: got an unknown field, allowed load_zone"),
        (lambda b: {**b, "load_zone": None}, 400, "load_zone: got nothing, allowed text of 1 to 200 characters that"),
        (lambda b: {**b, "history": b["members"][0]["history"]}, 400, "history: got history of the sum, allowed"),
        (lambda b: {**b, "adds_up": "mode"}, 400, "adds_up: got 'mode', allowed median or mean"),
        (lambda b: {**b, "time_zone": "Mars"}, 400, "time_zone: got 'Mars', allowed a name of the IANA"),
        (lambda b: {**b, "target_date": "2017-01-01"}, 400, "target_date: got 2017-01-01, allowed a day that begins"),
        (lambda b: history_changed(b, step_seconds=1800), 400, "members[1] (both-west): step_seconds: got 1800"),
        (lambda b: history_changed(b, values=[1.0, "a"]), 400, "members[1].history.values[1]: load: got 'a', allowed"),
        (lambda b: history_changed(b, values=[None]), 422, "members[1].history: got no value, allowed load of some"),
        (lambda b: history_changed(b, start="2016-06-15T04:30Z"), 400, "members[1].history.start: got 2016-06-15T04"),
        (lambda b: history_changed(b, values=[5.0] * 9), 422, "members[1] (both-west): load: got"),
    ],
)  # fmt: skip
def test_a_fault_names_its_member(apps: dict[str, Flask], change: Any, status: int, said: str) -> None:
    response = ask(apps["hourly-load"], change(example_group(forecaster_of("hourly-load"), "both")))

    assert (response.status_code, response.content_type) == (status, "application/problem+json"), response.data
    assert said in response.json["detail"]


def test_members_that_have_no_hour_in_common_have_no_sum(apps: dict[str, Flask]) -> None:
    body = example_group(forecaster_of("hourly-load"), "both")
    for i, member in enumerate(body["members"]):
        member["history"]["values"] = [
            v if hour % 2 == i else None for hour, v in enumerate(member["history"]["values"])
        ]

    found = ask(apps["hourly-load"], body)

    assert found.status_code == 422
    assert found.json["detail"] == "sum both: got no interval that all members know, allowed a week of them or more"


def test_an_answer_has_a_size(apps: dict[str, Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_request, "MOST_INTERVALS", 71)

    found = ask(apps["hourly-load"], example_group(forecaster_of("hourly-load"), "both"))

    assert found.status_code == 413
    assert found.json["detail"] == "members: got 72 intervals of 2 members and their sum, allowed 71 in an answer"
    assert MOST_MEMBERS == 100


def test_what_adds_up_is_said_of_a_group_alone(apps: dict[str, Flask]) -> None:
    forecaster = forecaster_of("hourly-load")

    found = ask(apps["hourly-load"], {**example_request(forecaster, "a"), "adds_up": "mean"})

    assert found.status_code == 400
    assert "adds_up: got an unknown field" in found.json["detail"]


@pytest.fixture
def followed(tmp_path: Path, bus: Bus) -> Iterator[Flask]:
    """An app over a bus that holds two series by one clock, and one by another."""
    forecaster = forecaster_of(FAKE.name)
    producer = bus.producer()
    headers = (("content-type", ARROW.encode()),)
    for member in example_group(forecaster, "both")["members"]:
        history = read_history(member, forecaster, None)
        past = history.until(history.known_until())
        block = {"interval_start": past.times, "load": past.values}
        producer.publish([Outgoing(FAKE.streamed().readings.name, write_columns(block), past.key.encode(), headers)])
    block = {"interval_start": past.times, "load": past.values, "time_zone": np.full(len(past), "UTC", object)}
    producer.publish([Outgoing(FAKE.streamed().readings.name, write_columns(block), b"elsewhere", headers)])
    producer.close()
    app = app_of(FAKE, tmp_path)
    yield app
    app.extensions[EXTENSION].stop()


def test_members_known_from_the_bus_need_only_be_named(followed: Flask, apps: dict[str, Flask]) -> None:
    client = followed.test_client()
    wait_until(lambda: client.get("/series").json["count"] == 3, what="the histories")
    body = example_group(forecaster_of(FAKE.name), "both")
    named = {**body, "members": [{"load_zone": member["load_zone"]} for member in body["members"]]}

    found = ask(followed, named).json

    brought = ask(apps[FAKE.name], body).json
    assert [d["quantiles"] for d in found["members"]] == [d["quantiles"] for d in brought["members"]]
    assert found["sum"]["quantiles"] == brought["sum"]["quantiles"]
    other = ask(followed, {**named, "members": [*named["members"], {"load_zone": "elsewhere"}]})
    assert other.status_code == 400
    assert (
        "members[2] (elsewhere): time_zone: got UTC, allowed America/New_York, which both-east" in other.json["detail"]
    )


def test_the_hour_after_the_newest_is_told_of_the_sum_too(apps: dict[str, Flask]) -> None:
    body = {**example_group(forecaster_of("hourly-load"), "both"), "horizon_hours": 1}

    found = ask(apps["hourly-load"], body).json["sum"]

    assert found["lead_time_hours"] == [1.0]
