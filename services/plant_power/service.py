"""Wiring of the plant power service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.topic import PLANT_PREDICTIONS, PLANT_READINGS
from kappawatt.columns.batch import Columns
from kappawatt.models.artifact import Artifact
from kappawatt.models.limits import Limits
from kappawatt.models.onnx import load_onnx
from kappawatt.models.predictor import Predictor
from kappawatt.serving.service import Service, Stream
from kappawatt.streams import plant

from .features import FEATURE_NAMES, features
from .inference import unpack
from .train import MODEL_FILE, backtest, train


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model as it serves: features to power and its interval [MW], and where it was trained."""

    run: Callable[[NDArray[np.float32]], Columns]
    limits: Limits


def load(artifact: Artifact) -> Loaded:
    """Return the model in `model.npz`, which `train` writes, or else in `model.onnx`, which anyone may bring."""
    own = MODEL_FILE in artifact.manifest.files
    run = unpack(artifact.read(MODEL_FILE)).predict if own else load_onnx(artifact).run
    return Loaded(run, Limits(artifact.manifest.training_range))


def predict(loaded: Loaded, columns: Columns) -> Columns:
    """Return expected power and its interval [MW] for columns of conditions."""
    return {**loaded.run(features(columns)), "extrapolated": loaded.limits.exceeded(columns)}


SERVICE = Service(
    name="plant-power",
    summary="Net power of a combined-cycle power plant from four ambient conditions, with a 90 % interval.",
    port=8081,
    predictor=Predictor(
        name="plant-power",
        request=plant.READING,
        response=plant.POWER,
        target=plant.NET_POWER.name,
        feature_names=FEATURE_NAMES,
        load=load,
        predict=predict,
    ),
    stream=Stream(source=PLANT_READINGS, output=PLANT_PREDICTIONS),
    train=train,
    backtest=backtest,
)
