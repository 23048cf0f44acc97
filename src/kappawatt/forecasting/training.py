"""From a fitted forecaster to an artifact whose example its model answers as it is loaded again from its files."""

from __future__ import annotations

from pathlib import Path

from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.model import ForecastModel, open_forecaster
from kappawatt.forecasting.request import example_request, read_forecast_request
from kappawatt.models.artifact import Artifact, open_artifact
from kappawatt.models.publish import Trained, publish

__all__ = ["save_trained"]

EXAMPLE_KEY = "example"


def save_trained(out: Path, forecaster: Forecaster, trained: Trained) -> Artifact:
    """Write an artifact below `out`; its example is answered by the model as it is loaded again from its files."""
    request = example_request(forecaster, EXAMPLE_KEY)
    first = publish(out, forecaster.name, forecaster.feature_names, trained, {"request": request, "answer": {}})
    model = ForecastModel(forecaster, forecaster.load(first), first.manifest)
    history, targets, issue_time = read_forecast_request(request, forecaster)
    median = model.issue(history.until(issue_time), targets).fan.median
    answer = {forecaster.target: [float(f"{value:.9g}") for value in median]}
    artifact = publish(out, forecaster.name, forecaster.feature_names, trained, {"request": request, "answer": answer})
    open_forecaster(forecaster, open_artifact(artifact.path))
    return artifact
