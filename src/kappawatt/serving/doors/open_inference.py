"""Open Inference Protocol v2 over REST: one tensor a field, JSON or binary tensor data.

Errors are `{"error": text}` as the protocol has it. A request with refused rows is answered with 422, unless it
says `"parameters": {"partial": true}`: then null stands in place of a refused row, and the response's parameter
`rejections` says why.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from flask import Flask, Response, request
from numpy.typing import NDArray

from kappawatt import __version__
from kappawatt.columns.batch import Answer, Batch, RowsRejected
from kappawatt.columns.budget import Account, Budget
from kappawatt.columns.content import Decoded
from kappawatt.columns.plain import plain_values
from kappawatt.columns.refusals import Refusals
from kappawatt.columns.schema import Field, Kind, Schema, shorten
from kappawatt.columns.strict_json import load_json
from kappawatt.columns.values import LONGEST_TIME, column_of, moments_of
from kappawatt.errors import KappawattError, ModelNotFound, NotReady, PayloadInvalid
from kappawatt.serving.body import read_body
from kappawatt.serving.doors.predict import answer_valid, count
from kappawatt.serving.models import Models
from kappawatt.serving.openapi import JSON, Right, operation
from kappawatt.serving.service import Context

__all__ = ["add_routes"]

BINARY_HEADER = "Inference-Header-Content-Length"
LONGEST_NUMBER = 12  # digits of a length
DATATYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
MANY = 1_000  # values of a tensor from which on they are written without a list of them
A_TEXT = 58  # bytes of an empty text and its place in a list
LONGEST_ID = 1_000  # characters; it is sent back
OF_KIND = {Kind.TEXT: "BYTES", Kind.BOOLEAN: "BOOL", Kind.INTEGER: "INT64", Kind.TIMESTAMP: "INT64"}
ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
TENSOR = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
    "required": ["name", "shape", "datatype"],
}
INFER = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": TENSOR, "minItems": 1},
        "outputs": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        },
    },
    "required": ["inputs"],
}
METADATA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


def add_routes(app: Flask, context: Context, models: Models[Any]) -> None:
    """Add `/v2/...`."""
    service = context.service
    predictor = models.predictor
    budget = context.budget

    def model_of(name: str, version: str | None) -> Any:
        if name != service.name:
            raise ModelNotFound(f"model: got {name[:80]!r}, allowed {service.name}")
        return models.get(version)

    own_name = (
        {
            "name": "name",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "enum": [service.name]},
        },
    )

    binary = {
        "name": BINARY_HEADER,
        "in": "header",
        "required": False,
        "description": "Bytes of the JSON part, where tensors follow it as binary data.",
        "schema": {"type": "integer", "minimum": 0},
    }

    def errors(*statuses: int) -> dict[int, Any]:
        return dict.fromkeys(statuses, ERROR)

    @app.get("/v2/health/live", provide_automatic_options=False)
    @operation("Open Inference: is the server alive?", tag="open inference v2", answers={200: {"type": "object"}})
    def v2_live() -> Response:
        return _json({"live": True})

    @app.get("/v2/health/ready", provide_automatic_options=False)
    @operation(
        "Open Inference: can all models answer?",
        tag="open inference v2",
        answers={200: {"type": "object"}} | errors(503),
    )
    def v2_ready() -> Response:
        reason = context.drain.why_not_ready() or models.why_not_ready()
        return _json({"ready": True}) if reason is None else _json({"error": reason}, 503)

    @app.get("/v2", provide_automatic_options=False)
    @operation("Open Inference: server metadata", tag="open inference v2", answers={200: METADATA})
    def v2_server() -> Response:
        return _json({"name": "kappawatt", "version": __version__, "extensions": ["binary_tensor_data"]})

    @app.get("/v2/models/<name>", provide_automatic_options=False, defaults={"version": None})
    @app.get("/v2/models/<name>/versions/<version>", provide_automatic_options=False)
    @operation(
        "Open Inference: model metadata",
        tag="open inference v2",
        parameters=own_name,
        answers={200: METADATA} | errors(404, 501, 503),
    )
    def v2_model(name: str, version: str | None) -> Response:
        try:
            model = model_of(name, version)
            return _json(
                {
                    "name": name,
                    "versions": models.versions(),
                    "platform": f"kappawatt_{Path(next(iter(model.manifest.files))).suffix[1:]}",
                    "inputs": [_tensor_metadata(f) for f in predictor.request.fields],
                    "outputs": [_tensor_metadata(f) for f in predictor.response.fields],
                }
            )
        except KappawattError as error:
            return _error(error)

    @app.get("/v2/models/<name>/ready", provide_automatic_options=False, defaults={"version": None})
    @app.get("/v2/models/<name>/versions/<version>/ready", provide_automatic_options=False)
    @operation(
        "Open Inference: can this model answer?",
        tag="open inference v2",
        parameters=own_name,
        answers={200: METADATA} | errors(404, 501, 503),
    )
    def v2_model_ready(name: str, version: str | None) -> Response:
        try:
            model_of(name, version)
            reason = context.drain.why_not_ready()
            if reason is not None:
                raise NotReady(reason)
            return _json({"name": name, "ready": True})
        except KappawattError as error:
            return _error(error)

    @app.post("/v2/models/<name>/infer", provide_automatic_options=False, defaults={"version": None})
    @app.post("/v2/models/<name>/versions/<version>/infer", provide_automatic_options=False)
    @operation(
        "Open Inference: infer",
        tag="open inference v2",
        parameters=(*own_name, binary),
        access=Right.READ,
        repeatable=True,
        description="One tensor a field, of shape [n] or [n, 1]. `parameters.partial = true` answers the rows that "
        "are valid although others are refused.",
        body={JSON: INFER},
        examples={JSON: _example(predictor.request)},
        answers={
            200: {
                "type": "object",
                "properties": {
                    "model_name": {"type": "string"},
                    "outputs": {"type": "array", "items": TENSOR},
                },
                "required": ["model_name", "outputs"],
            }
        }
        | errors(400, 404, 413, 415, 422, 501, 503),
    )
    def v2_infer(name: str, version: str | None) -> Response:
        try:
            body = read_body()
            model = model_of(name, version)
            wanted, raw = _split(body, request.headers.get(BINARY_HEADER), budget)
            batch = _read_inputs(wanted, raw, predictor.request, budget)
            answer = model.answer(batch)
            count(context.telemetry, answer, "open-inference")
            if answer.rejections and not _parameters(wanted).get("partial"):
                raise RowsRejected.of(answer)
            return _answer(wanted, answer, predictor.response)
        except KappawattError as error:
            return _error(error)

    def lane(body: bytes) -> bytes | None:
        wanted: dict[str, Any] = {}

        def read() -> Decoded:
            found, raw = _split(body, None, budget)
            wanted.update(found)
            return Decoded(_read_inputs(found, raw, predictor.request, budget))

        answer = answer_valid(models, read, "table")
        if answer is None or wanted.keys() - {"id", "inputs"}:
            return None
        count(context.telemetry, answer, "open-inference")
        return orjson.dumps(_result(wanted, answer, predictor.response)[0], option=orjson.OPT_SERIALIZE_NUMPY)

    path = f"/v2/models/{service.name}/infer"
    context.lanes[path] = ("/v2/models/<name>/infer", lane)


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), status, content_type=JSON)


def _error(error: KappawattError) -> Response:
    return _json({"error": str(error)}, error.status)


def _tensor_metadata(field: Field) -> dict[str, Any]:
    parameters = {"unit": field.unit, "required": field.required}
    return {
        "name": field.name,
        "datatype": OF_KIND.get(field.kind, "FP64"),
        "shape": [-1],
        "parameters": parameters,
    }


def _example(schema: Schema) -> dict[str, Any]:
    return {
        "inputs": [
            {
                "name": f.name,
                "shape": [1],
                "datatype": "BYTES" if isinstance(f.example, str) else "FP64",
                "data": [f.example],
            }
            for f in schema.required
        ]
    }


def _split(body: bytes, header: str | None, budget: Budget) -> tuple[dict[str, Any], bytes]:
    """Split a body into its JSON part and the raw tensor data behind it."""
    length = len(body)
    if header is not None:
        is_number = header.isascii() and header.isdigit() and len(header) <= LONGEST_NUMBER
        length = int(header) if is_number else -1
        if not 0 <= length <= len(body):
            raise PayloadInvalid.of(BINARY_HEADER, repr(header[:80]), f"0 to {len(body)}")
    if not body[:length].strip():
        raise PayloadInvalid.of("body", "nothing", "an inference request")
    document = load_json(body[:length], budget)
    if type(document) is not dict:
        raise PayloadInvalid.of("body", repr(shorten(document)), "an object, each key once")
    return document, body[length:]


def _parameters(document: dict[str, Any]) -> dict[str, Any]:
    given = document.get("parameters", {})
    if not isinstance(given, dict):
        raise PayloadInvalid.of("parameters", repr(shorten(given)), "an object")
    return given


def _read_inputs(document: dict[str, Any], raw: bytes, schema: Schema, budget: Budget) -> Batch:
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise PayloadInvalid.of("inputs", repr(shorten(inputs)), "a list of tensors, one a field")
    for name in ("id", "outputs"):
        expected: type = str if name == "id" else list
        if name in document and not isinstance(document[name], expected):
            raise PayloadInvalid.of(name, repr(shorten(document[name])), expected.__name__)
    if len(document.get("id", "")) > LONGEST_ID:
        raise PayloadInvalid.of("id", f"{len(document['id'])} characters", f"up to {LONGEST_ID}")
    _parameters(document)
    columns: dict[str, NDArray[Any]] = {}
    refusals: Refusals | None = None
    lengths: dict[str, int] = {}
    account = budget.account()
    for tensor in inputs:
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise PayloadInvalid.of("inputs", repr(shorten(tensor)), "tensors with a name")
        name = tensor["name"]
        if not schema.knows(name):
            raise schema.unknown(0, name, "this tensor").error
        schema.more([*columns, name])
        if name in columns:
            raise PayloadInvalid.of(name, "two tensors of it", "one")
        field = schema.field(name)
        n = _rows_of(tensor)
        budget.allow_rows(n)
        if lengths and n not in lengths.values():
            raise PayloadInvalid.of("inputs", f"{lengths | {name: n}} rows", "one number of rows for all")
        if refusals is None:
            refusals = schema.refusals(n, budget.listed)
        size = _parameters(tensor).get("binary_data_size")
        if size is not None:
            columns[name], raw = _binary(tensor, field, n, size, raw, refusals, account)
        else:
            columns[name] = _listed(tensor, field, n, refusals)
        lengths[name] = n
    if raw:
        raise PayloadInvalid.of("body", f"{len(raw)} bytes behind the last tensor", "none")
    return schema.check(columns, n, refusals)


def _rows_of(tensor: dict[str, Any]) -> int:
    name, shape = tensor["name"], tensor.get("shape")
    is_shape = isinstance(shape, list) and len(shape) in (1, 2) and all(type(size) is int for size in shape)
    if not isinstance(shape, list) or not is_shape or shape[0] < 1 or shape[1:] not in ([], [1]):
        raise PayloadInvalid.of(name, f"shape {_brief(shape)}", "[n] or [n, 1] with n from 1 up")
    return int(shape[0])


def _brief(value: Any) -> str:
    is_flat = isinstance(value, list) and len(value) < 10 and not any(isinstance(each, list | dict) for each in value)
    return json.dumps(value)[:80] if is_flat else str(shorten(value))


def _listed(tensor: dict[str, Any], field: Field, n: int, refusals: Refusals) -> NDArray[Any]:

    values = tensor.get("data")
    if not isinstance(values, list):
        raise PayloadInvalid.of(field.name, f"data {shorten(values)!r}", f"a list of {n} values")
    flat = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in values]
    if len(flat) != n:
        raise PayloadInvalid.of(field.name, f"{len(flat)} values", f"{n} as its shape says")
    datatype = _datatype(tensor)
    if datatype != "BYTES" and datatype not in DATATYPES:
        raise _no_datatype(field, datatype)
    return column_of(flat, field, refusals)


def _binary(
    tensor: dict[str, Any], field: Field, n: int, size: Any, raw: bytes, refusals: Refusals, account: Account
) -> tuple[NDArray[Any], bytes]:
    datatype = _datatype(tensor)
    if datatype == "BYTES" and field.kind in (Kind.TEXT, Kind.TIMESTAMP):
        if type(size) is not int or not 0 <= size <= len(raw):
            raise PayloadInvalid.of(field.name, f"binary_data_size {shorten(size)!r}", f"0 to {len(raw)}")
        return column_of(_elements(field, n, raw[:size], account), field, refusals), raw[size:]
    if datatype not in DATATYPES or field.kind is Kind.TEXT or (datatype == "BOOL" and field.kind is not Kind.BOOLEAN):
        raise _no_datatype(field, datatype)
    dtype = np.dtype(DATATYPES[datatype]).newbyteorder("<")
    if type(size) is not int or size != n * dtype.itemsize or size > len(raw):
        raise PayloadInvalid.of(
            field.name, f"binary_data_size {shorten(size)!r} and {len(raw)} bytes", n * dtype.itemsize
        )
    values: NDArray[Any] = np.frombuffer(raw, dtype=dtype, count=n).astype(np.float64)
    if field.kind is Kind.TIMESTAMP:
        refusals.refuse_all(values != np.floor(values), "not_a_timestamp", field.name, values, field.allowed)  # or NaN
        return moments_of(values, field, refusals), raw[size:]
    return values, raw[size:]


def _datatype(tensor: dict[str, Any]) -> str:
    given = tensor.get("datatype")
    return given if isinstance(given, str) else repr(shorten(given))


def _no_datatype(field: Field, got: str) -> PayloadInvalid:
    allowed = [name for name in DATATYPES if name != "BOOL" or field.kind is Kind.BOOLEAN]
    return PayloadInvalid.of(field.name, f"datatype {shorten(got)!r}", ", ".join(allowed))


def _answer(document: dict[str, Any], answer: Answer, schema: Schema) -> Response:
    result, blobs = _result(document, answer, schema)
    if not blobs:
        return _json(result)
    head = orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY)
    response = Response(b"".join([head, *blobs]), content_type="application/octet-stream")
    response.headers[BINARY_HEADER] = str(len(head))
    return response


def _result(document: dict[str, Any], answer: Answer, schema: Schema) -> tuple[dict[str, Any], list[bytes]]:
    """The response's JSON part, and the tensors that were asked for as binary data."""
    outputs, blobs = [], []
    for name, binary in _wanted_outputs(document, schema):
        column = answer.columns[name]
        tensor: dict[str, Any] = {
            "name": name,
            "shape": [len(answer)],
            "datatype": OF_KIND.get(schema.field(name).kind, "FP64"),
        }
        if binary:
            blob = _raw(column)
            tensor["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            tensor["data"] = _listed_output(column, answer.valid)
        outputs.append(tensor)
    result: dict[str, Any] = {
        "model_name": answer.model,
        "model_version": answer.version,
        "outputs": outputs,
    }
    if "id" in document:
        result["id"] = document["id"]
    if answer.rejections:
        result["parameters"] = {"rejections": json.dumps([r.to_json() for r in answer.rejections])}
        if answer.unlisted:
            result["parameters"]["unlisted"] = sum(answer.unlisted.values())
    return result, blobs


def _listed_output(column: NDArray[Any], valid: NDArray[np.bool_]) -> Any:
    """A tensor as orjson takes it: floats as they are, of which NaN becomes the null of a refused row."""
    if len(column) >= MANY and (column.dtype == np.float64 or (column.dtype.kind in "biu" and valid.all())):
        return np.ascontiguousarray(column)
    values = plain_values(column)
    return values if valid.all() else [v if ok else None for v, ok in zip(values, valid, strict=True)]


def _raw(column: NDArray[Any]) -> bytes:
    """A tensor as binary data; text is BYTES, each element after its length, and nothing is empty (it has no null)."""
    if column.dtype != object:
        return np.ascontiguousarray(column).tobytes()
    texts = [(text or "").encode() for text in column.tolist()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _elements(field: Field, n: int, content: bytes, account: Account) -> list[str]:
    """The n elements of a BYTES tensor; one that is too long for the field is cut, and still too long."""
    most = 4 * (LONGEST_TIME if field.kind is Kind.TIMESTAMP else field.lengths[1])  # bytes, a letter has 4 at most
    found, at = [], 0
    try:
        for _ in range(n):
            (length,) = struct.unpack_from("<I", content, at)
            element = content[at + 4 : at + 4 + min(length, most + 4)]
            at += 4 + length
            if at > len(content):
                raise struct.error
            wide = 1 if element.isascii() else 4
            account.spend(wide * len(element) + A_TEXT, f"text of {field.name!r}")
            found.append(element.decode(errors="replace" if length > most + 4 else "strict"))
    except (struct.error, UnicodeDecodeError):
        at = -1
    if at != len(content):
        got, allowed = f"{len(content)} bytes", f"{n} UTF-8 texts, each after its length in 4 bytes"
        raise PayloadInvalid.of(field.name, got, allowed)
    return found


def _wanted_outputs(document: dict[str, Any], schema: Schema) -> list[tuple[str, bool]]:
    """Names of the outputs asked for, and whether each should be binary data."""
    default = bool(_parameters(document).get("binary_data_output"))
    wanted = document.get("outputs")
    if wanted is None:
        return [(name, default) for name in schema.names]
    choice: list[tuple[str, bool]] = []
    for output in wanted:
        name = output.get("name") if isinstance(output, dict) else None
        if name not in schema.names:
            raise PayloadInvalid.of("outputs", repr(shorten(name)), ", ".join(schema.names))
        if len(choice) >= len(schema.names):
            raise PayloadInvalid.of("outputs", f"{len(wanted)} outputs", f"each of {', '.join(schema.names)} once")
        choice.append((name, bool(_parameters(output).get("binary_data", default))))
    return choice
