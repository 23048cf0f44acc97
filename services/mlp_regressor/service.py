"""Wiring of the MLP regressor service."""

from __future__ import annotations

from dataclasses import dataclass

from kappawatt.columns.batch import Columns
from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.models.artifact import Artifact
from kappawatt.models.limits import Limits
from kappawatt.models.predictor import Predictor
from kappawatt.serving.service import Service

from .features import FEATURE_NAMES, features
from .model import Network, unpack
from .train import MODEL_FILE, train

LAST = 1.5707  # rad; the last four digits before the pole at pi/2, where the function has no value

POINT = Schema(
    "Point",
    "A place on the curve; `y` is there when it was measured.",
    (
        Field("x", "rad", "angle", minimum=0, maximum=LAST, column="x", example=0.5),
        Field("y", "", "measured sin(2 pi tan x)", minimum=-1, maximum=1, column="y", required=False, example=-0.286),
    ),
)

CURVE = Schema(
    "Curve",
    "What the network takes for sin(2 pi tan x), with its 90 % prediction interval.",
    (
        Field("y", "", "expected sin(2 pi tan x)", example=-0.286),
        Field("y_lower", "", "lower end of the 90 % prediction interval", example=-0.293),
        Field("y_upper", "", "upper end of the 90 % prediction interval", example=-0.279),
        Field("extrapolated", "", "x lies outside the training range", kind=Kind.BOOLEAN, example=False),
    ),
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The network, and where it was trained."""

    network: Network
    limits: Limits


def load(artifact: Artifact) -> Loaded:
    """Return the network in an artifact that `train` wrote."""
    return Loaded(unpack(artifact.read(MODEL_FILE)), Limits(artifact.manifest.training_range))


def predict(loaded: Loaded, columns: Columns) -> Columns:
    """Return y and its interval for a column of x."""
    return {**loaded.network.predict(features(columns)), "extrapolated": loaded.limits.exceeded(columns)}


SERVICE = Service(
    name="mlp-regressor",
    summary="A multilayer perceptron on y = sin(2 pi tan x): bring your own model in five files.",
    port=8088,
    predictor=Predictor(
        name="mlp-regressor",
        request=POINT,
        response=CURVE,
        target="y",
        feature_names=FEATURE_NAMES,
        load=load,
        predict=predict,
    ),
    train=train,
)
