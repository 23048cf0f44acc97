"""One forecaster, many doors: the same history gets the same forecast to the last bit, and none sees the future."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from flask import Flask
from numpy.typing import NDArray

from kappawatt.bus import Bus, Outgoing
from kappawatt.columns.arrow import read_columns, write_columns
from kappawatt.columns.content import ARROW
from kappawatt.forecasting.calendar import Times
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.history import History
from kappawatt.forecasting.model import ForecastModel
from kappawatt.forecasting.request import example_request, read_forecast_request
from kappawatt.serving.app import create_app
from kappawatt.serving.histories import EXTENSION
from kappawatt.serving.service import Service, find_service, service_names
from kappawatt.settings import Settings
from kappawatt.worker.forecasting import Forecasting
from tests import forecast_fakes
from tests.conftest import wait_until

FORECASTERS = [name for name in service_names() if (kind := find_service(name).model) and kind.rolling]


@dataclass
class Case:
    """A service with its app and model, a history, and the day to forecast."""

    service: Service
    forecaster: Forecaster
    app: Flask
    model: ForecastModel
    request: dict[str, Any]
    history: History
    targets: Times
    issue_time: np.datetime64

    @property
    def times(self) -> Times:
        past = self.history.until(self.issue_time)
        return past.times

    @property
    def values(self) -> NDArray[np.float64]:
        return self.history.until(self.issue_time).values

    @property
    def columns(self) -> dict[str, list[Any]]:
        """History and targets as rows of the request schema, column by column."""
        starts = [f"{t}Z" for t in np.concatenate([self.times, self.targets])]
        return {
            self.forecaster.key: ["a"] * len(starts),
            "interval_start": starts,
            self.forecaster.target: [*self.values.tolist(), *[None] * len(self.targets)],
        }

    @property
    def rows(self) -> list[dict[str, Any]]:
        columns = self.columns
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def steps_of(name: str) -> tuple[int, ...]:
    """Every length of interval that a service forecasts [s]."""
    rolling = find_service(name).modelled().rolling
    assert rolling is not None
    return rolling.forecaster.steps


CASES = [("fake-load", 3600), *((name, step) for name in FORECASTERS for step in steps_of(name))]


@pytest.fixture(scope="module", params=CASES, ids=[f"{name}-{step}" for name, step in CASES])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name, step = request.param
    folder = tmp_path_factory.mktemp("case")
    settings = Settings.read({}, bus=f"embedded:{folder}/none.sqlite")
    if name == "fake-load":
        forecast_fakes.write_artifact(folder / "artifacts")
        settings = Settings.read({}, bus=f"embedded:{folder}/none.sqlite", artifacts=folder / "artifacts")
    service = forecast_fakes.SERVICE if name == "fake-load" else find_service(name)
    forecaster = service.modelled().predictor
    assert isinstance(forecaster, Forecaster)
    model = service.open(settings)
    assert isinstance(model, ForecastModel)
    body = example_request(forecaster, "a", seed=7, step_seconds=step)
    history, targets, issue_time = read_forecast_request(body, forecaster)
    return Case(service, forecaster, create_app(service, settings), model, body, history, targets, issue_time)


def post(app: Flask, path: str, **how: Any) -> Any:
    response = app.test_client().post(path, **how)
    assert response.status_code == 200, response.data[:500]
    return response


def predict_list(case: Case) -> list[float]:
    found = post(case.app, "/predict", json=case.rows).json["predictions"]
    return [row[case.forecaster.target] for row in found][-len(case.targets) :]


def predict_columns(case: Case) -> list[float]:
    found = post(case.app, "/predict", json={"columns": case.columns}).json["columns"]
    return list(found[case.forecaster.target][-len(case.targets) :])


def csv_of(case: Case, header: bool) -> str:
    names = ("interval_start", case.forecaster.target)
    columns = case.columns
    lines = [",".join(names)] if header else []
    lines += [f"{t},{'' if v is None else repr(v)}" for t, v in zip(*(columns[n] for n in names), strict=True)]
    return "\n".join(lines)


def predict_csv(case: Case) -> list[float]:
    found = post(case.app, "/predict", data=csv_of(case, True), content_type="text/csv").json["predictions"]
    return [row[case.forecaster.target] for row in found][-len(case.targets) :]


def predict_arrow(case: Case) -> list[float]:
    starts = np.concatenate([case.times, case.targets])
    body = write_columns({"interval_start": starts, case.forecaster.target: _values(case)})
    response = post(case.app, "/predict", data=body, content_type=ARROW, headers={"Accept": ARROW})
    return list(read_columns(response.data)[case.forecaster.target][-len(case.targets) :].tolist())


def _values(case: Case) -> NDArray[np.float64]:
    return np.concatenate([case.values, np.full(len(case.targets), np.nan)])


def open_inference(case: Case) -> list[float]:
    starts = np.concatenate([case.times, case.targets]).astype(np.int64).tolist()
    n = [len(starts)]
    inputs = [
        {"name": "interval_start", "shape": n, "datatype": "INT64", "data": starts},
        {"name": case.forecaster.target, "shape": n, "datatype": "FP64", "data": case.columns[case.forecaster.target]},
    ]
    found = post(case.app, f"/v2/models/{case.service.name}/infer", json={"inputs": inputs}).json["outputs"]
    (tensor,) = (t for t in found if t["name"] == case.forecaster.target)
    return list(tensor["data"][-len(case.targets) :])


def sagemaker_json(case: Case) -> list[float]:
    found = post(case.app, "/invocations", json={"instances": [{"data": row} for row in case.rows]}).json["predictions"]
    return [row[case.forecaster.target] for row in found][-len(case.targets) :]


def sagemaker_csv(case: Case) -> list[float]:
    response = post(case.app, "/invocations", data=csv_of(case, False), content_type="text/csv")
    lines = response.text.splitlines()
    return [float(line) for line in lines[-len(case.targets) :]]


DOORS: tuple[Callable[[Case], list[float]], ...] = (
    predict_list,
    predict_columns,
    predict_csv,
    predict_arrow,
    open_inference,
    sagemaker_json,
    sagemaker_csv,
)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_door_gives_the_same_bits(case: Case, door: Callable[[Case], list[float]]) -> None:
    expected = case.model.issue(case.history.until(case.issue_time), case.targets).fan.median

    assert door(case) == expected.tolist()


def test_the_compact_form_and_the_bus_give_the_same_fan(case: Case, tmp_path: Path, bus: Bus) -> None:
    body = post(case.app, "/forecast", json=case.request).json
    stream = case.service.streamed()
    source = stream.readings.name
    answering = Forecasting(bus, case.model, stream, output=stream.answers.name)
    clock = int(case.issue_time.astype(np.int64))
    block = {"interval_start": case.times, case.forecaster.target: case.values}
    producer = bus.producer()
    producer.publish([Outgoing(source, write_columns(block), b"a", (("content-type", ARROW.encode()),), clock)])
    producer.close()
    reader = bus.reader([source], {})

    outcome = answering.answer(reader.poll(1.0))

    reader.close()
    found = [orjson.loads(m.value) for m in outcome.outgoing]
    same = ("key", "target_time", "quantiles", "day", "filled", "fallback", "model", "version", "step_seconds")
    if "00:00" in case.forecaster.issue_times:
        (document,) = found
        assert {n: document[n] for n in same} == {n: body[n] for n in same}
    assert len(found) <= 1


@pytest.fixture
def followed(case: Case, tmp_path: Path, bus: Bus) -> Iterator[Flask]:
    """The app over a bus that holds the history of series `a`."""
    block = {"interval_start": case.times, case.forecaster.target: case.values}
    headers = (("content-type", ARROW.encode()),)
    producer = bus.producer()
    producer.publish([Outgoing(case.service.streamed().readings.name, write_columns(block), b"a", headers)])
    producer.close()
    settings = Settings.read({}, bus=f"embedded:{tmp_path}/bus.sqlite")
    if case.service is forecast_fakes.SERVICE:
        forecast_fakes.write_artifact(tmp_path / "artifacts")
        settings = Settings.read({}, bus=settings.bus, artifacts=tmp_path / "artifacts")
    app = create_app(case.service, settings)
    histories = app.extensions[EXTENSION]
    yield app
    histories.stop()


def test_a_request_that_only_names_a_series_gets_what_one_with_its_history_gets(case: Case, followed: Flask) -> None:
    client = followed.test_client()
    wait_until(lambda: client.get("/series").json["count"] == 1, what="the history")

    named = post(followed, "/forecast", json={case.forecaster.key: "a"}).json
    rows = post(followed, "/predict", json=case.rows[-len(case.targets) :]).json["predictions"]

    assert named["quantiles"] == post(case.app, "/forecast", json=case.request).json["quantiles"]
    assert [row[case.forecaster.target] for row in rows] == predict_list(case)
    assert client.post("/forecast", json={case.forecaster.key: "b"}).status_code == 422


def test_an_answer_says_when_its_history_was_known_under_both_names(case: Case) -> None:
    answer = post(case.app, "/forecast", json=case.request).json

    assert answer["available_at"] == answer["known_at"] == answer["issue_time"]


@pytest.mark.parametrize("name", FORECASTERS)
def test_a_stream_has_the_levels_of_its_forecaster(name: str) -> None:
    """Tables and views are made from the stream."""
    service = find_service(name)
    rolling = service.modelled().rolling

    assert rolling is not None
    assert service.streamed().levels == rolling.forecaster.levels


def test_nothing_after_the_issue_time_changes_the_forecast(case: Case) -> None:
    past = case.history.until(case.issue_time)
    later = np.arange(past.end, past.end + np.timedelta64(3, "D"), past.interval)
    shuffled = History("a", past.time_zone, past.step)
    random = np.random.default_rng(5)
    shuffled.add(past.times, past.values)
    shuffled.add(later, random.permutation(np.resize(past.values, len(later))) * random.uniform(0, 9, len(later)))
    revised = past.times[-200::3]
    shuffled.add(revised, random.uniform(0, past.values.max(), len(revised)), np.full(len(revised), later[1]))

    before = case.model.issue(past, case.targets).fan
    after = case.model.issue(shuffled.until(case.issue_time), case.targets).fan

    assert np.array_equal(before.quantiles, after.quantiles)
    assert all(np.array_equal(before.day[name], after.day[name]) for name in before.day)


def test_quantiles_do_not_cross_and_are_numbers(case: Case) -> None:
    fan = case.model.issue(case.history.until(case.issue_time), case.targets).fan

    assert fan.quantiles.shape == (len(case.targets), 19)
    assert np.isfinite(fan.quantiles).all()
    assert (np.diff(fan.quantiles, axis=1) >= 0).all()
    for figure in fan.day.values():
        assert (np.diff(figure) >= 0).all()


def test_a_body_that_cannot_be_used_is_a_problem(case: Case) -> None:
    client = case.app.test_client()

    for body, status in ((b"[", 400), (b"[]", 400), (b"{}", 422), (b'{"history": {}}', 400)):
        response = client.post("/forecast", data=body, content_type="application/json")
        assert (response.status_code, response.content_type) == (status, "application/problem+json"), body
    assert client.post("/forecast", data=b"{}", content_type="text/csv").status_code == 415
