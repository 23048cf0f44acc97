"""The doors of a Lambda function, in the form of `tests.contract.doors`: rows in, answers out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from kappawatt.bus import connect
from kappawatt.bus.interface import Records
from kappawatt.columns.arrow import read_columns, write_columns
from kappawatt.columns.content import ARROW
from kappawatt.deploy.aws.lambda_function import Function, function_settings
from kappawatt.messages.predictions import read_predictions
from kappawatt.serving.service import Service
from kappawatt.streams.plant import STREAM as PLANT
from kappawatt.streams.table import TOPICS
from tests.conftest import everything
from tests.unit.deploy.aws.fixtures import content, http_api, kafka, rest_api

Rows = Sequence[dict[str, Any]]
LambdaDoor = Callable[[Service, Rows, Path], list[dict[str, Any]]]


def function_of(service: Service, **environ: str) -> Function:
    return Function(service, function_settings(environ), has_bus="KAPPAWATT_BUS" in environ)


def http_api_list(service: Service, rows: Rows, folder: Path) -> list[dict[str, Any]]:
    answer = function_of(service)(http_api(body=json.dumps(rows)))
    assert answer["statusCode"] == 200, answer
    return list(json.loads(answer["body"])["predictions"])


def rest_api_one_by_one(service: Service, rows: Rows, folder: Path) -> list[dict[str, Any]]:
    function = function_of(service)
    return [json.loads(function(rest_api(body=json.dumps(row)))["body"]) for row in rows]


def arrow_in_base_64(service: Service, rows: Rows, folder: Path) -> list[dict[str, Any]]:
    body = write_columns({name: np.array([row[name] for row in rows]) for name in rows[0]})
    found = read_columns(content(function_of(service)(rest_api(body=body, content_type=ARROW, accept=ARROW))))
    return [{name: column[i].item() for name, column in found.items()} for i in range(len(rows))]


def direct_rows(service: Service, rows: Rows, folder: Path) -> list[dict[str, Any]]:
    return list(function_of(service)({"rows": list(rows)})["predictions"])


def kafka_records(service: Service, rows: Rows, folder: Path) -> list[dict[str, Any]]:
    stream = service.stream or PLANT  # a service without one says so
    n = len(rows)
    given = Records(
        stream.readings.name, 0, range(n), [1] * n, [b"p"] * n, [orjson.dumps(row) for row in rows], [()] * n
    )
    bus = connect(f"embedded:{folder}/bus.sqlite")
    try:
        bus.ensure(TOPICS)
        function_of(service, KAPPAWATT_BUS=bus.url)(kafka([given]))
        found = read_predictions(everything(bus, stream.answers.name))
        return sorted(found, key=lambda row: int(row["source_offset"]))
    finally:
        bus.close()


LAMBDA_DOORS: tuple[LambdaDoor, ...] = (
    http_api_list,
    rest_api_one_by_one,
    arrow_in_base_64,
    direct_rows,
    kafka_records,
)
