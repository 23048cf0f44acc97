"""The classic endpoint's form of rows at `/invocations`: features, or bare timestamps, answered by a plain regression.

A service that forecasts may ship a calendar-only regression beside its model. Endpoints of that kind are sent one row
of features a line; a line may also be the hour itself.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from kappawatt.columns.batch import Answer, Batch, Columns
from kappawatt.columns.blocks import BLOCK_BYTES, lines_of
from kappawatt.columns.budget import Budget
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

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d{1,9})?)?)?)?(Z|[+-]\d\d:?\d\d)?")


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


def classic_door(rows: ClassicRows, models: Models[Any], budget: Budget) -> Callable[[bytes, str], Answer | None]:
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
        batch = read_classic(body, kind, rows, budget)
        if batch is None:
            return None
        model = regression()
        return None if model is None else model.answer(batch)

    return answer


def read_classic(body: bytes, kind: str, classic: ClassicRows, budget: Budget) -> Batch | None:
    """Return the rows if the body is in the classic form: as many numbers a line as there are features, or one
    timestamp a line; None if it is anything else.

    Of CSV the first line that is not blank says which form it may be.

    Raises
    ------
    PayloadTooLarge
        It is in the classic form, and has more rows than the budget allows.
    """
    if kind == JSON:
        return _json(body, classic, budget)
    if kind != CSV:
        return None
    request = classic.predictor.request
    first = next(_lines_of(body), [""])[0]
    if first.count(",") == len(request.csv_fields) - 1:
        return decode(body, CSV, request, budget).batch
    if not _is_header(first) and TIMESTAMP.fullmatch(first.strip('"')) is None:
        return None
    return _timestamps(body, classic, budget)


def _lines_of(body: bytes) -> Iterator[list[str]]:
    """The lines that are not blank, as many at a time as a block has; one that fills a block alone is in no form."""
    for block in lines_of(body):
        if len(block) > BLOCK_BYTES:
            yield [""]
        elif lines := [line.strip() for line in block.decode("utf-8", "replace").splitlines() if line.strip()]:
            yield lines


def _is_header(line: str) -> bool:
    return line.strip('"').lower() in ("datetime", "timestamp")


def _json(body: bytes, classic: ClassicRows, budget: Budget) -> Batch | None:
    if b'"features"' not in body:
        return None
    document = load_json(body, budget)
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
    return decode_objects(rows, classic.predictor.request, budget)


def _timestamps(body: bytes, classic: ClassicRows, budget: Budget) -> Batch | None:
    """Labels as a PJM file has them (local, end of the hour), or instants with a zone (start of the hour)."""
    parts: list[Times] = []
    count = 0
    for lines in _lines_of(body):
        if not parts and _is_header(lines[0]):
            lines = lines[1:]
        labels = _labels([line.strip('"') for line in lines], classic.time_zone)
        if labels is None:
            return None
        count += len(labels)
        budget.allow_rows(count)
        parts.append(labels)
    if count == 0:
        return None
    request = classic.predictor.request
    return request.check(classic.features_of(np.concatenate(parts)), count, request.refusals(count, budget.listed))


def _labels(lines: list[str], time_zone: str) -> Times | None:
    """Local ends of hours; None if a line is no timestamp."""
    labels = np.empty(len(lines), dtype="datetime64[ms]")
    try:
        for i, line in enumerate(lines):
            found = TIMESTAMP.fullmatch(line)
            if found is None:
                return None
            zone = found.group(5)
            moment = as_instant(line.removesuffix(zone or "").replace(" ", "T"))
            if zone is not None:
                moment = moment - _offset(zone) + HOUR
                moment = to_local(np.array([moment]), time_zone)[0]
            labels[i] = moment
    except ValueError:
        return None
    return labels


def _offset(zone: str) -> np.timedelta64:
    if zone == "Z":
        return np.timedelta64(0, "ms")
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    sign = -1 if zone[0] == "-" else 1
    return np.timedelta64(sign * (hours * 60 + minutes) * 60_000, "ms")
