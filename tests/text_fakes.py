"""A model that answers in words, in a few lines. Everything around it is real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kappawatt.columns.batch import Columns
from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.models.artifact import Artifact, save_artifact
from kappawatt.models.predictor import Model, Predictor
from kappawatt.serving.kinds import predicts
from kappawatt.streams import plant
from tests import fakes
from tests.fakes import EXAMPLE, POISON

TEXTS = (
    "trip",
    "",
    None,
    "compressor, then turbine",
    'said "too hot"',
    "first line\nsecond line",
    "carriage\r\nreturn",
    "Überdruck im Kühlkreis: 3 µm, 温度, 🔥",
    "  blanks at both ends  ",
    "null",
    "NaN",
    "-1.5",
    "'single', \\back\\slash\t\ttabs",
    "a" * 5_000,
    '"',
    '""',
)


def predict(shift: int, columns: Columns) -> Columns:
    """Words by the whole degree, and how sure the model is."""
    temperature = columns["ambient_temperature"]
    if np.any(temperature == POISON):
        raise ArithmeticError("poison")
    places = (temperature.astype(np.int64) + shift) % len(TEXTS)
    return {
        "cause": np.array([f"class {place}" for place in places.tolist()]),  # NumPy's own strings, as models give them
        "explanation": np.array([TEXTS[place] for place in places.tolist()], dtype=object),
        "probability": 1.0 / (1.0 + places),
    }


PREDICTOR = Predictor(
    name="fake-cause",
    request=plant.READING,
    response=Schema(
        "Cause",
        "Why a plant tripped.",
        (
            Field("cause", "", "class of the incident", kind=Kind.TEXT, example="class 0"),
            Field(
                "explanation",
                "",
                "what happened, in words",
                kind=Kind.TEXT,
                minimum=0,
                maximum=20_000,
                required=False,
                example="trip",
            ),
            Field("probability", "", "how sure the model is", minimum=0, maximum=1, example=1.0),
        ),
    ),
    target="cause",
    feature_names=("temperature",),
    load=lambda artifact: int(artifact.read("shift.txt")),
    predict=predict,
)
STREAM = replace(
    plant.STREAM,
    service=PREDICTOR.name,
    target=PREDICTOR.target,
    answers=replace(plant.PLANT_PREDICTIONS, message=PREDICTOR.response),
)
SERVICE = predicts(PREDICTOR, summary="Fake causes.", port=8997, stream=STREAM)


def write_artifact(root: Path, version: str = "1", shift: int = 0, **example: Any) -> Artifact:
    answer = predict(shift, {name: np.array([value]) for name, value in EXAMPLE.items()})
    own = fakes.manifest(
        version,
        0.0,
        model=PREDICTOR.name,
        feature_names=PREDICTOR.feature_names,
        training_range={},
        example={"request": EXAMPLE, "answer": {name: c.tolist()[0] for name, c in answer.items()} | example},
    )
    artifact = save_artifact(root / version, {"shift.txt": str(shift).encode()}, own)
    (root / "CURRENT").write_text(version)
    return artifact


def model(root: Path) -> Model:
    return PREDICTOR.open(write_artifact(root))
