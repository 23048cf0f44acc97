"""Wiring of the plant power service."""

from __future__ import annotations

from kappawatt.batch import Columns
from kappawatt.bus.topics import PLANT_PREDICTIONS, PLANT_READINGS
from kappawatt.events import plant
from kappawatt.onnx import OnnxModel, load_onnx
from kappawatt.predictor import Predictor
from kappawatt.service import Service, Stream
from services.plant_power.features import FEATURE_NAMES, features
from services.plant_power.train import backtest, train


def predict(fitted: OnnxModel, columns: Columns) -> Columns:
    """Return expected power and its interval [MW] for columns of conditions."""
    return {**fitted.run(features(columns)), "extrapolated": fitted.extrapolates(columns)}


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
        load=load_onnx,
        predict=predict,
    ),
    stream=Stream(source=PLANT_READINGS, output=PLANT_PREDICTIONS),
    train=train,
    backtest=backtest,
)
