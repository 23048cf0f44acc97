"""Score a shipped model on a file it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kappawatt.columns.batch import Batch
from kappawatt.columns.budget import FILES
from kappawatt.columns.codec import decode
from kappawatt.columns.content import CSV
from kappawatt.datasets.named import read_bytes
from kappawatt.datasets.reading.plain import is_cut_otherwise, plain_csv
from kappawatt.errors import PayloadInvalid
from kappawatt.models.predictor import Model
from kappawatt.models.scores import score_interval

__all__ = ["score_file"]


def score_file(model: Model, path: Path) -> dict[str, Any]:
    """Return n, mae, rmse, r2, coverage_90 and width_90 of `model` on the measured rows of a CSV file.

    Rows that the schema refuses, and rows without a measurement, are counted and left out.

    Raises
    ------
    PayloadInvalid
        The file cannot be read, or no row of it can be scored.
    """
    content = read_bytes(path)
    try:
        if is_cut_otherwise(content):
            content, _ = plain_csv(model.predictor.request, content)
        batch: Batch = decode(content, CSV, model.predictor.request, FILES).batch
    except PayloadInvalid as error:
        raise PayloadInvalid(f"{path}: {error}") from None
    answer = model.answer(batch)
    target = model.predictor.target
    measured = batch.columns[target]
    rows = answer.valid & np.isfinite(measured)
    if not rows.any():
        why = f"; row 1: {answer.rejections[0].message}" if answer.rejections else ""
        raise PayloadInvalid(f"{path}: got no row with a measured {target}{why}")
    scores = score_interval(
        measured[rows],
        answer.columns[target][rows],
        answer.columns[f"{target}_lower"][rows],
        answer.columns[f"{target}_upper"][rows],
    )
    return {
        "model": model.name,
        "version": model.version,
        **scores,
        "rejected": int((~answer.valid).sum()),
        "without_measurement": int((answer.valid & ~np.isfinite(measured)).sum()),
    }
