"""Every door rows can come through, as one function each: rows in, answers out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from flask import Flask

from kappawatt.columns.arrow import read_columns, write_columns
from kappawatt.columns.content import ARROW
from kappawatt.columns.json_rows import decode_objects
from kappawatt.messages.predictions import read_predictions
from kappawatt.models.predictor import Model
from kappawatt.serving.service import Service
from kappawatt.worker.predicting import Answering
from tests.unit.worker.test_worker import as_records, records

Rows = Sequence[dict[str, Any]]
Door = Callable[[Flask, Model, Rows], list[dict[str, Any]]]


def columns_of(rows: Rows) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def tensors_of(rows: Rows) -> list[dict[str, Any]]:
    """The rows as an open inference request has them, a tensor a column."""
    return [
        {"name": name, "shape": [len(rows)], "datatype": "FP64", "data": values}
        for name, values in columns_of(rows).items()
    ]


def rows_of(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    lists = [column.tolist() for column in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)]


def post(app: Flask, path: str, **how: Any) -> Any:
    response = app.test_client().post(path, **how)
    assert response.status_code == 200, response.data
    return response


def answer_directly(app: Flask, model: Model, rows: Rows) -> list[dict[str, Any]]:
    """No door at all: what all others are compared with."""
    answer = model.answer(decode_objects(rows, model.predictor.request))
    return rows_of(answer.columns)


def predict_list(app: Flask, model: Model, rows: Rows) -> list[dict[str, Any]]:
    return list(post(app, "/predict", json=rows).json["predictions"])


def predict_one_by_one(app: Flask, model: Model, rows: Rows) -> list[dict[str, Any]]:
    return [post(app, "/predict", json=row).json for row in rows]


def predict_around_the_fast_lane(app: Flask, model: Model, rows: Rows) -> list[dict[str, Any]]:
    kind = "application/json; charset=utf-8"
    return [post(app, "/predict", data=orjson.dumps(row), content_type=kind).json for row in rows]


def predict_columns(app: Flask, model: Model, rows: Rows) -> list[dict[str, Any]]:
    found = post(app, "/predict", json={"columns": columns_of(rows)}).json["columns"]
    return [{name: column[i] for name, column in found.items()} for i in range(len(rows))]


def predict_csv(app: Flask, model: Model, rows: Rows) -> list[dict[str, Any]]:
    lines = [",".join(rows[0])] + [",".join(repr(v) for v in row.values()) for row in rows]
    return list(post(app, "/predict", data="\n".join(lines), content_type="text/csv").json["predictions"])


def predict_arrow(app: Flask, model: Model, rows: Rows) -> list[dict[str, Any]]:
    import numpy as np

    body = write_columns({name: np.array(values) for name, values in columns_of(rows).items()})
    response = post(app, "/predict", data=body, content_type=ARROW, headers={"Accept": ARROW})
    found = read_columns(response.data)
    return rows_of(found)


def open_inference(app: Flask, model: Model, rows: Rows) -> list[dict[str, Any]]:
    found = post(app, f"/v2/models/{model.name}/infer", json={"inputs": tensors_of(rows)}).json["outputs"]
    return [{tensor["name"]: tensor["data"][i] for tensor in found} for i in range(len(rows))]


def sagemaker(app: Flask, model: Model, rows: Rows) -> list[dict[str, Any]]:
    instances = [{"features": [row[f.name] for f in model.predictor.request.csv_fields if f.required]} for row in rows]
    return list(post(app, "/invocations", json={"instances": instances}).json["predictions"])


def worker_events(app: Flask, model: Model, rows: Rows) -> list[dict[str, Any]]:
    return _worker(model, rows, 0)


def worker_blocks(app: Flask, model: Model, rows: Rows) -> list[dict[str, Any]]:
    return _worker(model, rows, 1)


def _worker(model: Model, rows: Rows, block_rows: int) -> list[dict[str, Any]]:
    answering = Answering(model, "out", "dead", block_rows)
    outcome = answering.answer([records(*[orjson.dumps(row) for row in rows])])
    return read_predictions([as_records(outcome.outgoing, "out")])


DOORS: tuple[Door, ...] = (
    predict_list,
    predict_one_by_one,
    predict_around_the_fast_lane,
    predict_columns,
    predict_csv,
    predict_arrow,
    open_inference,
    sagemaker,
    worker_events,
    worker_blocks,
)


def example_rows(service: Service, n: int) -> list[dict[str, Any]]:
    """Rows spread over the middle of every field's range, none alike."""
    rows = []
    for i in range(n):
        row = {}
        for f in service.modelled().predictor.request.required:
            example = float(f.example)
            row[f.name] = round(example * (0.98 + 0.04 * ((i * 7 + len(f.name)) % n) / n), 2)
        rows.append(row)
    return rows
