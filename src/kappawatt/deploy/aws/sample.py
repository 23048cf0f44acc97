"""Rows to ask a new endpoint, and whether it answers as the same model does here."""

from __future__ import annotations

import math
from pathlib import Path

from kappawatt.columns.content import CSV
from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.models.artifact import Manifest
from kappawatt.models.predictor import Predictor
from kappawatt.serving.service import Service
from kappawatt.settings import Settings

__all__ = ["MOST_BYTES", "answer_here", "read_sample", "same_answer", "sample_of"]

MOST_BYTES = 6 * 1024 * 1024  # of an invocation; AWS refuses more
TOLERANCE = 1e-5  # relative; another CPU may round a sum differently


def read_sample(path: Path) -> bytes:
    """Return a CSV file as it is sent; SettingInvalid if it cannot be."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingInvalid(f"--sample: {path}: {error.strerror}") from error
    if not 0 < len(content) <= MOST_BYTES:
        raise SettingInvalid(f"--sample: {path}: got {len(content)} bytes, allowed 1 to {MOST_BYTES}")
    return content


def sample_of(predictor: Predictor | Forecaster, manifest: Manifest) -> bytes:
    """Return the manifest's own example as CSV.

    A predictor's example is one row without a header. A forecaster's is its history, and the hours it forecasts as
    rows without a measurement, under a header.
    """
    if isinstance(predictor, Forecaster):
        return _forecast_sample(predictor, manifest)
    row = manifest.example["request"]
    values = [row.get(field.name) for field in predictor.request.csv_fields]
    while values and values[-1] is None:  # optional fields at the end
        values.pop()
    return (",".join("" if value is None else str(value) for value in values) + "\n").encode()


def answer_here(service: Service, settings: Settings, sample: bytes) -> str:
    """Return what this machine's own `/invocations` answers to `sample`: the endpoint has to answer the same.

    Raises
    ------
    PayloadInvalid
        The sample, or the model, is refused; the message is the service's own.
    """
    from kappawatt.serving.app import create_app

    client = create_app(service, settings).test_client()
    response = client.post("/invocations", data=sample, headers={"content-type": CSV, "accept": CSV})
    if response.status_code != 200:
        detail = (response.get_json(silent=True) or {}).get("detail") or response.get_data(as_text=True)
        raise PayloadInvalid(f"sample: {service.name} refuses it here with {response.status_code}: {detail}")
    return response.get_data(as_text=True)


def same_answer(got: str, expected: str) -> bool:
    """Return whether two CSV answers agree: numbers to within rounding, everything else exactly."""
    rows = [[line.split(",") for line in text.strip().splitlines()] for text in (got, expected)]
    if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
        return False
    pairs = ((a, b) for ours, theirs in zip(*rows, strict=True) for a, b in zip(ours, theirs, strict=True))
    return all(_same(a, b) for a, b in pairs)


def _same(got: str, expected: str) -> bool:
    try:
        return got == expected or math.isclose(float(got), float(expected), rel_tol=TOLERANCE)
    except ValueError:
        return False


def _forecast_sample(forecaster: Forecaster, manifest: Manifest) -> bytes:
    from kappawatt.forecasting.request import read_forecast_request

    request = dict(manifest.example["request"])
    history, targets, issue_time = read_forecast_request(request, forecaster)
    if history is None:
        raise SettingInvalid(f"example of {manifest.version}: got no history, allowed one; give --sample FILE")
    past = history.until(issue_time)
    starts = next(f for f in forecaster.request.csv_fields if f.name == "interval_start")
    measured = forecaster.request.field(forecaster.target)
    lines = [f"{starts.column},{measured.column}"]
    for start, value in zip(past.times, past.values.tolist(), strict=True):
        if math.isfinite(value):
            lines.append(f"{start}Z,{value!r}")
    lines += [f"{target}Z," for target in targets]
    return ("\n".join(lines) + "\n").encode()
