"""The SageMaker container contract on the same app: `/ping`, `/invocations`, `/execution-parameters`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from flask import Flask, Response, request

from kappawatt.columns.batch import Answer, Batch, RowsRejected
from kappawatt.columns.blocks import in_blocks, joined
from kappawatt.columns.budget import Budget
from kappawatt.columns.codec import decode
from kappawatt.columns.content import CSV, JSON, NDJSON, content_type_of
from kappawatt.columns.json_rows import decode_objects
from kappawatt.columns.schema import Schema, shorten
from kappawatt.columns.strict_json import load_json
from kappawatt.errors import NotReady, PayloadInvalid
from kappawatt.serving.body import read_body
from kappawatt.serving.doors.predict import answer_rows, count, csv_blocks, csv_example, each_part, rows_body
from kappawatt.serving.models import Models
from kappawatt.serving.openapi import Right, operation
from kappawatt.serving.service import Context

__all__ = ["Classic", "add_routes", "no_classic_rows"]

Classic = Callable[[bytes, str], Answer | None]  # (body, content type) to the answer; None if it is in no such form


def no_classic_rows(body: bytes, kind: str) -> Answer | None:
    """Answer nothing: the service knows no classic rows."""
    return None


def add_routes(app: Flask, context: Context, models: Models[Any], classic: Classic = no_classic_rows) -> None:
    """Add the three routes the platform calls; `classic` answers bodies in the classic endpoint's form."""
    predictor = models.predictor

    @app.get("/ping", provide_automatic_options=False)
    @operation("SageMaker: ready?", tag="sagemaker", answers={200: None, 503: "problem"})
    def ping() -> Response:
        reason = context.drain.why_not_ready() or models.why_not_ready()
        if reason is not None:
            raise NotReady(reason)
        return Response(b"", content_type=JSON)

    @app.get("/execution-parameters", provide_automatic_options=False)
    @operation("SageMaker: how to send batches", tag="sagemaker", answers={200: {"type": "object"}})
    def execution_parameters() -> Response:
        workers = context.settings.workers * context.settings.threads
        document = {"MaxConcurrentTransforms": workers, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}
        return Response(orjson.dumps(document), content_type=JSON)

    @app.post("/invocations", provide_automatic_options=False)
    @operation(
        "SageMaker: predict",
        tag="sagemaker",
        access=Right.READ,
        repeatable=True,
        description='CSV without a header, one row a line, is answered as CSV. JSON takes `{"instances": [...]}` with '
        '`{"features": [...]}`, `{"data": {...}}` or plain rows, and all forms of `/predict`. Rows that are '
        "refused make the whole call a 422 that names them.",
        body=_bodies(predictor.request),
        examples={CSV: csv_example(predictor.request).split("\n")[1] + "\n"},
        answers={
            200: {JSON: {"type": "object"}, CSV: {"type": "string"}, NDJSON: {"type": "string"}},
            **dict.fromkeys((400, 413, 415, 422, 501, 503), "problem"),
        },
    )
    def invocations() -> Response:
        body = read_body()
        kind = content_type_of(request.content_type)
        answer = classic(body, kind)
        if answer is None:
            answer = models.current.answer(_read(body, kind, predictor.request, context.budget))
        del body
        count(context.telemetry, answer, "sagemaker")
        if answer.rejections:
            raise RowsRejected.of(answer)
        accept = request.headers.get("Accept", "*/*").split(";", 1)[0].strip()
        if accept in ("", "*/*"):
            accept = kind if kind in (CSV, NDJSON) else JSON
        if accept == CSV:
            numbers = [f.name for f in predictor.response.fields if f.name == predictor.target]
            return Response(csv_blocks(answer, header=False, names=numbers), content_type=f"{CSV}; charset=utf-8")
        parts = each_part(answer)
        if accept in (NDJSON, "application/jsonlines"):
            lines = [b"".join(orjson.dumps(row) + b"\n" for row in answer_rows(part)) for part in parts]
            return Response(lines, content_type=accept)
        blocks = [orjson.dumps(answer_rows(part))[1:-1] for part in parts]
        content = [text for block in blocks for text in (b",", block)]
        return Response([b'{"predictions":[', *content[1:], b"]}"], content_type=JSON)


def _bodies(schema: Schema) -> dict[str, Any]:
    bodies = rows_body(schema)
    instances = {
        "type": "object",
        "properties": {"instances": {"type": "array", "minItems": 1}},
        "required": ["instances"],
    }
    return {**bodies, JSON: {"anyOf": [instances, *bodies[JSON]["anyOf"]]}}


def _read(body: bytes, kind: str, schema: Schema, budget: Budget) -> Batch:
    if kind != JSON or b'"instances"' not in body:
        return decode(body, kind, schema, budget).batch

    def parse(text: bytes) -> Any:
        return load_json(text, budget)

    def take(instances: list[Any], first: int) -> Batch:
        return decode_objects([_row(first + i, one, schema) for i, one in enumerate(instances)], schema, budget)

    batches = in_blocks(body, parse, take, budget, inside="instances")
    if batches is not None:
        return joined(batches, schema, budget.listed)
    document = parse(body)
    instances = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(instances, list) or not instances:
        raise PayloadInvalid.of("instances", repr(shorten(instances)), "a list of 1 row or more")
    return take(instances, 0)


def _row(i: int, instance: Any, schema: Schema) -> Any:
    """One instance as a row, from any of the three forms."""
    if isinstance(instance, dict) and instance.keys() == {"data"}:
        return instance["data"]
    if isinstance(instance, dict) and instance.keys() == {"features"}:
        instance = instance["features"]
    if not isinstance(instance, list):
        return instance
    fields = schema.csv_fields
    least = sum(f.required for f in fields)
    if not least <= len(instance) <= len(fields):
        raise PayloadInvalid.of(f"instances[{i}]", f"{len(instance)} values", ", ".join(f.name for f in fields))
    return {f.name: value for f, value in zip(fields, instance, strict=False)}
