"""The classic endpoint's form of rows at `/invocations`: features, or bare timestamps, answered by a plain regression.

A service that forecasts may ship a calendar-only regression beside its model. Endpoints of that kind are sent one row
of features a line; a line may also be the hour itself.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from kappawatt.columns.batch import Answer, Batch, Columns
from kappawatt.columns.codec import decode
from kappawatt.columns.content import CSV, JSON
from kappawatt.columns.json_rows import decode_objects
from kappawatt.columns.strict_json import load_json
from kappawatt.errors import ArtifactInvalid
from kappawatt.forecasting.calendar import HOUR, Times, as_instant, to_local
from kappawatt.models.predictor import Model, Predictor
from kappawatt.serving.models import Models

__all__ = ["ClassicRows", "classic_door", "read_classic"]

log = logging.getLogger(__name__)

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d+)?)?)?)?(Z|[+-]\d\d:?\d\d)?")
MOST_LINES = 1_000_000


@dataclass(frozen=True, slots=True)
class ClassicRows:
    """How the classic rows are read and answered.

    Parameters
    ----------
    predictor : Predictor
        Its request schema has the features as CSV columns, its `load` reads them from the same artifact.
    features_of : callable
        Local labels of hours' ends, shape (n,), to the request's columns.
    time_zone : str
        IANA name: instants with a zone are turned into labels of it.
    """

    predictor: Predictor
    features_of: Callable[[Times], Columns]
    time_zone: str


def classic_door(rows: ClassicRows, models: Models[Any]) -> Callable[[bytes, str], Answer | None]:
    """Return what answers a body in the classic form, by the regression in the current artifact; else None."""

    @cache
    def regression() -> Model | None:
        try:
            artifact = models.artifact()
            return Model(rows.predictor, rows.predictor.load(artifact), artifact.manifest)
        except ArtifactInvalid as error:
            log.info("no classic rows", extra={"version": models.current.version, "error": str(error)})
            return None

    def answer(body: bytes, kind: str) -> Answer | None:
        batch = read_classic(body, kind, rows)
        if batch is None:
            return None
        model = regression()
        return None if model is None else model.answer(batch)

    return answer


def read_classic(body: bytes, kind: str, classic: ClassicRows) -> Batch | None:
    """Return the rows if the body is in the classic form: as many numbers a line as there are features, or one
    timestamp a line; None if it is anything else.
    """
    if kind == JSON:
        return _json(body, classic)
    if kind != CSV:
        return None
    lines = [line.strip() for line in body[:200_000_000].decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines or len(lines) > MOST_LINES:
        return None
    fields = classic.predictor.request.csv_fields
    if lines[-1].count(",") == len(fields) - 1:
        return decode(body, CSV, classic.predictor.request).batch
    if lines[0].strip('"').lower() in ("datetime", "timestamp"):
        lines = lines[1:]
    return _timestamps([line.strip('"') for line in lines], classic)


def _json(body: bytes, classic: ClassicRows) -> Batch | None:
    if b'"features"' not in body:
        return None
    document = load_json(body)
    instances = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(instances, list) or not instances:
        return None
    fields = classic.predictor.request.csv_fields
    rows: list[dict[str, Any]] = []
    for instance in instances:
        values = instance.get("features") if isinstance(instance, dict) else None
        if not isinstance(values, list) or len(values) != len(fields):
            return None
        rows.append({f.name: value for f, value in zip(fields, values, strict=True)})
    return decode_objects(rows, classic.predictor.request)


def _timestamps(lines: list[str], classic: ClassicRows) -> Batch | None:
    """Labels as a PJM file has them (local, end of the hour), or instants with a zone (start of the hour)."""
    moments = [found for line in lines if (found := TIMESTAMP.fullmatch(line))]
    if not lines or len(moments) < len(lines):
        return None
    labels = np.empty(len(lines), dtype="datetime64[ms]")
    try:
        for i, (line, found) in enumerate(zip(lines, moments, strict=True)):
            zone = found.group(5)
            moment = as_instant(line.removesuffix(zone or "").replace(" ", "T"))
            if zone is not None:
                moment = moment - _offset(zone) + HOUR
                moment = to_local(np.array([moment]), classic.time_zone)[0]
            labels[i] = moment
    except ValueError:
        return None
    columns = classic.features_of(labels)
    return classic.predictor.request.check(columns, len(labels))


def _offset(zone: str) -> np.timedelta64:
    if zone == "Z":
        return np.timedelta64(0, "ms")
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    sign = -1 if zone[0] == "-" else 1
    return np.timedelta64(sign * (hours * 60 + minutes) * 60_000, "ms")
