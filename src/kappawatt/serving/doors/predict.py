"""`POST /predict` and `GET /params`: rows in, answers out, in kappawatt's own plain forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson
from flask import Flask, Response, g, request
from numpy.typing import NDArray

from kappawatt.columns.arrow import write_columns
from kappawatt.columns.batch import Answer, RowsRejected
from kappawatt.columns.codec import decode
from kappawatt.columns.content import ARROW, CSV, JSON, NDJSON, Decoded, content_type_of
from kappawatt.columns.plain import csv_cells, plain_values
from kappawatt.columns.schema import Schema
from kappawatt.errors import KappawattError
from kappawatt.models.opening import Described
from kappawatt.serving.body import read_body
from kappawatt.serving.models import Models
from kappawatt.serving.openapi import Right, operation
from kappawatt.serving.problems import PROBLEM, problem_document, refused_rows, rejected
from kappawatt.serving.service import Context
from kappawatt.telemetry import Telemetry

__all__ = ["add_routes", "answer_rows", "count", "csv_blocks", "csv_example", "each_part", "rows_body"]

BLOCK_ROWS = 4_096  # of an answer that are written at a time
VERSION = {
    "name": "version",
    "in": "query",
    "required": False,
    "schema": {"type": "string"},
    "description": "Model version to answer, or a kind (`baseline`) for the newest of it; the current one if absent.",
}


def add_routes(app: Flask, context: Context, models: Models[Any]) -> None:
    """Add `/predict` and `/params`."""
    predictor = models.predictor
    budget = context.budget

    @app.post("/predict", provide_automatic_options=False)
    @operation(
        f"Predict {predictor.target}",
        tag="predict",
        access=Right.READ,
        repeatable=True,
        description="One row gives one answer; several give `predictions` in the same order. With refused rows "
        "the status is 422: `errors` names them, and `predictions` still holds the answers to all others "
        "(null in place of a refused row). `Accept` chooses JSON, CSV or Arrow.",
        body=rows_body(predictor.request),
        examples={JSON: example_of(predictor.request), CSV: csv_example(predictor.request)},
        parameters=(VERSION,),
        answers={
            200: answer_media(predictor),
            **dict.fromkeys((400, 404, 413, 415, 422, 501, 503), "problem"),
        },
    )
    def predict() -> Response:
        model = models.get(request.args.get("version")) if request.query_string else models.current
        body = read_body()
        decoded = decode(body, content_type_of(request.content_type), predictor.request, budget)
        del body  # large ones are not kept while they are answered
        answer = model.answer(decoded.batch)
        count(context.telemetry, answer, "http")
        return respond(answer, decoded.form, request.headers.get("Accept", JSON))

    def lane(body: bytes) -> bytes | None:
        answer = answer_valid(models, lambda: decode(body, JSON, predictor.request, budget), "object")
        if answer is None:
            return None
        count(context.telemetry, answer, "http")
        return object_body(answer)

    context.lanes["/predict"] = ("/predict", lane)

    @app.get("/params", provide_automatic_options=False)
    @operation(
        "The model card: version, data, features, training range, metrics",
        tag="predict",
        parameters=(VERSION,),
        answers={200: {"type": "object"}, **dict.fromkeys((404, 501, 503), "problem")},
    )
    def params() -> Response:
        model = models.get(request.args.get("version"))
        document = model.manifest.to_json() | {
            "versions": models.versions(),
            "request_schema": predictor.request.json_schema(),
            "response_schema": predictor.response.json_schema(),
        }
        return Response(orjson.dumps(document), content_type=JSON)


def answer_valid(models: Models[Any], read: Callable[[], Decoded], form: str) -> Answer | None:
    """Return the answer if the body can be read, has this form, and no row is refused; else None."""
    try:
        decoded = read()
        if decoded.form != form or decoded.batch.rejections:
            return None
        answer: Answer = models.current.answer(decoded.batch)
    except KappawattError:
        return None
    return None if answer.rejections else answer


def object_body(answer: Answer) -> bytes:
    """Return the answer to a single row as JSON."""
    row = {name: plain_values(column)[0] for name, column in answer.columns.items()}
    row["model"], row["version"] = answer.model, answer.version
    return orjson.dumps(row)


def count(telemetry: Telemetry, answer: Answer, door: str) -> None:
    """Count the rows of an answer and the reasons of those refused."""
    service = telemetry.service
    telemetry.rows_at(door).inc(len(answer))
    for code, found in answer.refused.items() if answer.rejections else ():
        telemetry.rejections.labels(service, door, code).inc(found)
    telemetry.suspects(door, answer.suspects)


def respond(answer: Answer, form: str, accept: str) -> Response:
    """Return an answer in the form the rows came in and the media type the client asks for."""
    if form == "object":
        if answer.rejections:
            raise RowsRejected.of(answer)
        return Response(object_body(answer), content_type=JSON)
    if not answer.rejections:
        if accept.startswith(CSV):
            return Response(csv_blocks(answer), content_type=f"{CSV}; charset=utf-8")
        if accept.startswith(ARROW):
            return Response(write_columns(answer.columns), content_type=ARROW)
    if form == "columns" and not answer.rejections:
        content: dict[str, Any] = {"columns": {name: _json_column(c) for name, c in answer.columns.items()}}
    elif len(answer) > BLOCK_ROWS:
        return _in_blocks(answer)
    else:
        content = {"predictions": answer_rows(answer)}
    content |= {"model": answer.model, "version": answer.version}
    if answer.rejections:
        return rejected(RowsRejected.of(answer), **content)
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), content_type=JSON)


def _in_blocks(answer: Answer) -> Response:
    """Many rows as JSON, of which never more exist as Python objects than a block has."""
    who = {"model": answer.model, "version": answer.version}
    status, document = 200, orjson.dumps(who)
    if answer.rejections:
        error = RowsRejected.of(answer)
        more = {**refused_rows(error), **who}
        status = error.status
        document = problem_document(status, error.title, str(error), g.get("request_id"), **more)
    head = document[:-1] + b',"predictions":['
    blocks = [orjson.dumps(answer_rows(part))[1:-1] for part in each_part(answer)]
    content = [head, *(text for block in blocks for text in (block, b",")), b"]}"]
    del content[-2]  # the comma after the last
    return Response(content, status, content_type=PROBLEM if answer.rejections else JSON)


def each_part(answer: Answer) -> Iterator[Answer]:
    """Yield the rows of an answer, some thousand at a time, without their rejections."""
    for start in range(0, len(answer), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        columns = {name: column[part] for name, column in answer.columns.items()}
        yield Answer(columns, answer.valid[part], (), answer.model, answer.version)


def _json_column(column: NDArray[Any]) -> Any:
    """A column as orjson takes it: numbers as they are, which is fastest, text and times as a list."""
    return plain_values(column) if column.dtype.kind in "OM" else column


def answer_rows(answer: Answer) -> list[dict[str, Any] | None]:
    """Return an answer as one object a row, None in place of a refused row."""
    names = tuple(answer.columns)
    lists = [plain_values(column) for column in answer.columns.values()]
    rows: list[dict[str, Any] | None] = [dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True)]
    for row in np.flatnonzero(~answer.valid).tolist():
        rows[row] = None
    return rows


def csv_blocks(answer: Answer, header: bool = True, names: Sequence[str] | None = None) -> list[bytes]:
    """Return an answer as CSV, one line a row, in blocks of rows."""
    names = tuple(names or answer.columns)
    blocks = [f"{','.join(names)}\n".encode()] if header else []
    for part in each_part(answer):
        lists = [csv_cells(part.columns[name]) for name in names]
        blocks.append("".join(f"{','.join(values)}\n" for values in zip(*lists, strict=True)).encode())
    return blocks


def rows_body(schema: Schema) -> dict[str, Any]:
    """Return the JSON Schemas of every body that holds rows of `schema`, by content type."""
    row = schema.json_schema()
    columns = {
        "type": "object",
        "properties": {"columns": schema.columns_json_schema()},
        "required": ["columns"],
        "additionalProperties": False,
    }
    text = {"type": "string", "minLength": 1}
    several = {"type": "array", "items": row, "minItems": 1}
    return {
        JSON: {"anyOf": [row, several, columns]},
        NDJSON: {**text, "description": "one row of JSON a line"},
        CSV: {**text, "description": f"with a header, or without in the order {csv_order(schema)}"},
        ARROW: {
            **text,
            "contentEncoding": "binary",
            "description": "an Arrow IPC stream, one column a field",
        },
    }


def csv_order(schema: Schema) -> str:
    """Return the order of CSV without a header, optional fields in brackets."""
    parts = [f.column or f.name for f in schema.csv_fields if f.required]
    rest = [f"[,{f.column or f.name}]" for f in schema.csv_fields if not f.required]
    return ",".join(parts) + "".join(rest)


def example_of(schema: Schema, *also: str) -> dict[str, Any]:
    """Return a row that is accepted, with all that is required and the fields named."""
    return {f.name: f.example for f in schema.fields if f.example is not None and (f.required or f.name in also)}


def csv_example(schema: Schema, *also: str) -> str:
    """Return CSV that is accepted, with all that is required and the fields named."""
    without_header = [f for f in schema.csv_fields if f.required]
    named = [f for f in schema.fields if f.name in also and f not in without_header]
    fields = [*named, *without_header]
    return ",".join(f.column or f.name for f in fields) + "\n" + ",".join(str(f.example) for f in fields) + "\n"


def answer_media(predictor: Described) -> dict[str, Any]:
    """Return the JSON Schemas of an answer by media type."""
    row = predictor.response.json_schema()
    who = {"model": {"type": "string"}, "version": {"type": "string"}}
    one = row | {"properties": row["properties"] | who, "required": [*row["required"], *who]}
    one = {key: value for key, value in one.items() if key != "additionalProperties"}
    several = {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": row}} | who,
        "required": ["predictions", *who],
    }
    columns = {
        "type": "object",
        "properties": {"columns": {"type": "object"}} | who,
        "required": ["columns", *who],
    }
    return {
        JSON: {"anyOf": [one, several, columns]},
        CSV: {"type": "string"},
        ARROW: {"type": "string", "contentEncoding": "binary"},
    }
