"""Wiring of the wind power service."""

from __future__ import annotations

from dataclasses import dataclass

from kappawatt.columns.batch import Columns
from kappawatt.models.artifact import Artifact
from kappawatt.models.limits import Limits
from kappawatt.models.predictor import Predictor
from kappawatt.serving.kinds import predicts

from .features import FEATURE_NAMES, features
from .model import Curve, unpack
from .stream import ANSWER, READING, STREAM
from .train import train


@dataclass(frozen=True, slots=True)
class Loaded:
    """The curve, and where it was drawn."""

    curve: Curve
    limits: Limits


def load(artifact: Artifact) -> Loaded:
    """Return the curve in an artifact that `train` wrote."""
    return Loaded(unpack(artifact.read("model.npz")), Limits(artifact.manifest.training_range))


def predict(loaded: Loaded, columns: Columns) -> Columns:
    """Return power and its interval [kW] for columns of wind and air."""
    return {**loaded.curve.predict(features(columns)), "extrapolated": loaded.limits.exceeded(columns)}


SERVICE = predicts(
    Predictor(
        name="wind-power",
        request=READING,
        response=ANSWER,
        target="power",
        feature_names=FEATURE_NAMES,
        load=load,
        predict=predict,
    ),
    summary="Power of a wind turbine from wind speed and air density, with a 90 % interval.",
    port=8095,
    stream=STREAM,
    train=train,
)
