"""A plant model in a few lines: a linear formula instead of a file of trees. Everything around it is real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from kappawatt.columns.batch import Columns
from kappawatt.models.artifact import Artifact, Manifest, save_artifact
from kappawatt.models.predictor import Model, Predictor
from kappawatt.serving.kinds import predicts
from kappawatt.streams import plant

FEATURES = tuple(f.name for f in plant.CONDITIONS)
EXAMPLE = {
    "ambient_temperature": 14.96,
    "exhaust_vacuum": 41.76,
    "ambient_pressure": 1024.07,
    "relative_humidity": 73.17,
}
POISON = 13.13  # an ambient temperature the fake model breaks on


def predict(offset: float, columns: Columns) -> Columns:
    """500 MW less 2 MW a degree, plus an offset that tells versions apart."""
    temperature = columns["ambient_temperature"]
    if np.any(temperature == POISON):
        raise ArithmeticError("poison")
    power = 500.0 + offset - 2.0 * temperature
    return {
        "net_power": power,
        "net_power_lower": power - 5,
        "net_power_upper": power + 5,
        "extrapolated": temperature > 37,
    }


PREDICTOR = Predictor(
    name="fake-power",
    request=plant.READING,
    response=plant.POWER,
    target="net_power",
    feature_names=FEATURES,
    load=lambda artifact: float(artifact.read("offset.txt")),
    predict=predict,
)
STREAM = replace(plant.STREAM, service="fake-power")
SERVICE = predicts(PREDICTOR, summary="A fake plant.", port=8999, stream=STREAM)


def manifest(version: str, offset: float, **changes: Any) -> Manifest:
    answer = predict(offset, {name: np.array([value]) for name, value in EXAMPLE.items()})
    whole = Manifest(
        model="fake-power",
        version=version,
        kind="default",
        created="2026-01-01T00:00:00Z",
        data={"source": "SYNTHETIC, none", "sha256": "0" * 64, "rows": 0},
        feature_names=FEATURES,
        training_range={"ambient_temperature": (0.0, 37.0)},
        metrics={},
        libraries={},
        files={},
        example={"request": EXAMPLE, "answer": {name: column[0] for name, column in answer.items()}},
    )
    return replace(whole, **changes)


def write_artifact(root: Path, version: str = "1", offset: float = 0.0, **changes: Any) -> Artifact:
    artifact = save_artifact(root / version, {"offset.txt": str(offset).encode()}, manifest(version, offset, **changes))
    (root / "CURRENT").write_text(version)
    return artifact


def model(root: Path, version: str = "1", offset: float = 0.0) -> Model:
    return PREDICTOR.open(write_artifact(root, version, offset))


def json_rows(temperatures: Sequence[float]) -> list[bytes]:
    return [orjson.dumps(EXAMPLE | {"ambient_temperature": t}) for t in temperatures]
