"""One predictor, many doors: the same rows get the same answers to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from kappawatt.errors import PayloadInvalid
from kappawatt.models.predictor import Model, Predictor
from kappawatt.serving.app import create_app
from kappawatt.serving.models import open_model
from kappawatt.serving.service import Service, find_service, service_names
from kappawatt.settings import Settings
from tests.contract.doors import DOORS, Door, answer_directly, example_rows
from tests.unit.deploy.aws.doors import LAMBDA_DOORS, LambdaDoor, kafka_records

PREDICTORS = [name for name in service_names() if isinstance(find_service(name).predictor, Predictor)]


@pytest.fixture(scope="module", params=PREDICTORS)
def service(request: pytest.FixtureRequest) -> Service:
    return find_service(request.param)


@pytest.fixture(scope="module")
def app(service: Service) -> Flask:
    return create_app(service, Settings.read({}))


@pytest.fixture(scope="module")
def model(service: Service) -> Model:
    return open_model(service, Settings.read({}))


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("n", [1, 3, 70])
def test_every_door_gives_the_same_bits(app: Flask, model: Model, service: Service, door: Door, n: int) -> None:
    rows = example_rows(service, n)

    expected = answer_directly(app, model, rows)
    got = door(app, model, rows)

    names = model.predictor.response.names
    assert [{name: row[name] for name in names} for row in got] == expected


@pytest.mark.parametrize("door", LAMBDA_DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("n", [1, 3, 70])
def test_a_lambda_function_gives_the_same_bits(
    app: Flask, model: Model, service: Service, door: LambdaDoor, n: int, tmp_path: Path
) -> None:
    rows = example_rows(service, n)
    if door is kafka_records and service.stream is None:
        with pytest.raises(
            PayloadInvalid, match=f"got Kafka records for {service.name}, allowed HTTP: it reads no topic"
        ):
            door(service, rows, tmp_path)
        return

    got = door(service, rows, tmp_path)

    names = model.predictor.response.names
    assert [{name: row[name] for name in names} for row in got] == answer_directly(app, model, rows)


@pytest.mark.parametrize("n", [2, 49, 50, 51, 1000])
def test_a_row_gets_the_same_bits_alone_and_in_a_batch(app: Flask, model: Model, service: Service, n: int) -> None:
    rows = example_rows(service, n)

    together = answer_directly(app, model, rows)

    picked = range(0, n, max(1, n // 25))
    assert [answer_directly(app, model, [rows[i]])[0] for i in picked] == [together[i] for i in picked]


def test_sagemaker_answers_csv_with_the_target_alone(app: Flask, model: Model, service: Service) -> None:
    rows = example_rows(service, 3)
    body = "\n".join(",".join(str(v) for v in row.values()) for row in rows)

    response = app.test_client().post("/invocations", data=body, content_type="text/csv")

    target = model.predictor.target
    expected = [row[target] for row in answer_directly(app, model, rows)]
    assert [float(line) for line in response.text.splitlines()] == expected
