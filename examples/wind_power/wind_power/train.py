"""Readings of a turbine that never was -> curve -> scores against a cube law -> artifact."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kappawatt.datasets.named import Dataset
from kappawatt.models.publish import Trained, make_current, publish
from kappawatt.models.scores import rmse, score_interval

from .features import FEATURE_NAMES, features
from .model import fit, pack

if TYPE_CHECKING:
    from kappawatt.settings import Settings

__all__ = ["readings", "train"]

RATED = 2_000.0  # kW, from 12 m/s of standard air on
SEED = 61400
ROWS = 20_000


def readings(folder: Path | None) -> Dataset:
    """Return readings of a synthetic turbine: Weibull wind, a cubic curve up to its rated power, noise."""
    random = np.random.default_rng(SEED)
    wind, density = random.weibull(2.0, ROWS) * 8.5, random.normal(1.22, 0.04, ROWS).clip(1.05, 1.4)
    share = (features({"wind_speed": wind, "air_density": density}) / 12.0) ** 3
    power = RATED * share.clip(0.0, 1.0) * (wind > 3.0) * (wind < 25.0) + random.normal(0.0, 25.0, ROWS)
    columns = {"wind_speed": wind.clip(0, 40), "air_density": density, "power": power}
    digest = hashlib.sha256(b"".join(column.tobytes() for column in columns.values())).hexdigest()
    return Dataset(columns, f"SYNTHETIC, seed {SEED}: no turbine ever said it", digest)


def train(
    settings: Settings, *, out: Path | None = None, report: Path | None = None, quick: bool = False
) -> list[Path]:
    """Fit the first half, score on the second, write the artifact and have it served."""
    dataset = readings(settings.data)
    speed, power = features(dataset.columns), dataset.columns["power"]
    half = ROWS // 2
    curve = fit(speed[:half], power[:half])
    answer = curve.predict(speed[half:])
    measured = power[half:]
    metrics = {
        "second_half": score_interval(measured, answer["power"], answer["power_lower"], answer["power_upper"]),
        "baselines": {"cube_law": rmse(measured, RATED * (speed[half:] / 12.0).clip(0, 1) ** 3)},
    }
    spans = {name: (float(dataset.columns[name].min()), float(dataset.columns[name].max())) for name in ("wind_speed",)}
    trained = Trained("default", {"model.npz": pack(curve)}, dataset.provenance(), metrics, ("numpy",), spans)
    request = {"wind_speed": 8.2, "air_density": 1.22}
    first = curve.predict(features({name: np.array([value]) for name, value in request.items()}))
    example = {"request": request, "answer": {name: float(value[0]) for name, value in first.items()}}
    out = out or Path(__file__).parent / "artifacts"
    artifact = publish(out, "wind-power", FEATURE_NAMES, trained, example)
    make_current(out, artifact)
    return [artifact.path]
