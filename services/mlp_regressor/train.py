"""Points of the function -> fit -> score against baselines -> artifact.

The protocol: 2,000 points drawn evenly from the training range fit the network, 1,000 others give the width of its
interval, and it is scored on 1,000 that took part in neither. Seeds are fixed.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.models.publish import Trained, make_current, publish
from kappawatt.models.scores import rmse, score_interval

from .features import END, FEATURE_NAMES, features
from .model import Network, fit, pack

if TYPE_CHECKING:
    from kappawatt.settings import Settings

__all__ = ["MODEL_FILE", "function", "points", "train"]

log = logging.getLogger(__name__)

Vector = NDArray[np.float64]

MODEL_FILE = "model.npz"
TRAINING, CALIBRATION, TEST = (2_000, 1), (1_000, 2), (1_000, 3)  # points and seed
WIDER = float(np.arctan(3.0))  # rad; a third oscillation, to measure what it costs
LEVEL = 0.9


def function(x: Vector) -> Vector:
    """Return sin(2 pi tan x) for x [rad]."""
    y: Vector = np.sin(2.0 * np.pi * np.tan(x))
    return y


def points(n: int, seed: int, end: float = END) -> tuple[Vector, Vector]:
    """Return n values of x drawn evenly from 0 to `end` [rad], and their y."""
    x = np.random.default_rng(seed).uniform(0.0, end, n)
    return x, function(x)


def train(
    settings: Settings, *, out: Path | None = None, report: Path | None = None, quick: bool = False
) -> list[Path]:
    """Fit the network, score it and its baselines, and write the artifact.

    Parameters
    ----------
    settings : Settings
        Not used: the data are a formula.
    out : Path, optional
        Folder of model versions; `artifacts` beside this file if absent.
    report : Path, optional
        Not used: the scores stand in the manifest.
    quick : bool
        Do not fit to the wider range, which is only measured, never served.

    Returns
    -------
    list of Path
        The artifact.
    """
    out = out or Path(__file__).parent / "artifacts"
    x, y = points(*TRAINING)
    log.info("fitting to %d points from 0 to %.4f rad", len(x), END)
    fitted = fit(features({"x": x}), y)
    calibration_x, calibration_y = points(*CALIBRATION)
    errors = np.abs(fitted.predict(features({"x": calibration_x}))["y"] - calibration_y)
    network = replace(fitted, half_width=np.quantile(errors, LEVEL, method="higher"))
    test_x, test_y = points(*TEST)
    answer = network.predict(features({"x": test_x}))
    metrics: dict[str, Any] = {
        "fresh_points": score_interval(test_y, answer["y"], answer["y_lower"], answer["y_upper"]),
        "largest_error": float(np.abs(answer["y"] - test_y).max()),
        "rmse_by_oscillation": {
            "first": _rmse_where(test_x < np.arctan(1.0), test_y, answer["y"]),
            "second": _rmse_where(test_x >= np.arctan(1.0), test_y, answer["y"]),
        },
        "baselines": _baselines((x, y), (test_x, test_y)),
    }
    if not quick:
        metrics["wider_range"] = _wider()
    log.info("RMSE %.4f, linear regression %.4f", metrics["fresh_points"]["rmse"], metrics["baselines"]["linear"])
    return [_save(out, network, metrics)]


def _rmse_where(rows: NDArray[np.bool_], measured: Vector, predicted: Vector) -> float:
    return rmse(measured[rows], predicted[rows])


def _baselines(training: tuple[Vector, Vector], test: tuple[Vector, Vector]) -> dict[str, float]:
    """Return the RMSE of a straight line through the points, and of straight lines between them."""
    (x, y), (test_x, test_y) = training, test
    order = np.argsort(x)
    slope, intercept = np.polyfit(x, y, 1)
    return {
        "linear": rmse(test_y, slope * test_x + intercept),
        "interpolation": rmse(test_y, np.interp(test_x, x[order], y[order])),
    }


def _wider() -> dict[str, float]:
    """Return scores of the same network fitted to the same number of points over three oscillations."""
    x, y = points(*TRAINING, end=WIDER)
    test_x, test_y = points(*TEST, end=WIDER)
    log.info("fitting to %d points from 0 to %.4f rad, to measure", len(x), WIDER)
    stretch = END / WIDER  # positions from -1 to 1 here too
    network = fit(features({"x": x * stretch}), y)
    predicted = network.predict(features({"x": test_x * stretch}))["y"]
    return {"end": WIDER, "rmse": rmse(test_y, predicted), "largest_error": float(np.abs(predicted - test_y).max())}


def _save(out: Path, network: Network, metrics: dict[str, Any]) -> Path:
    """Write the artifact, named after its file's hash, and have it served from now on."""
    x, y = points(*TRAINING)
    trained = Trained(
        kind="default",
        files={MODEL_FILE: pack(network)},
        data={
            "source": "computed: y = sin(2 pi tan x)",
            "sha256": hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest(),
            "rows": len(x),
        },
        metrics=metrics,
        libraries=("numpy", "scikit-learn"),
        training_range={"x": (0.0, END)},
    )
    answer = network.predict(features({"x": np.array([0.5])}))
    example = {"request": {"x": 0.5}, "answer": {key: float(value[0]) for key, value in answer.items()}}
    artifact = publish(out, "mlp-regressor", FEATURE_NAMES, trained, example)
    make_current(out, artifact)
    return artifact.path
