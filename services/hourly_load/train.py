"""Zones -> fit -> artifacts: the default model, with the classic rows in it, and the baseline alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kappawatt.datasets.series import SeriesFile
from kappawatt.forecasting.calendar import HOUR, Times, to_local

from .horizon_fit import fit_any_lead
from .inference import Classic, pack, pack_classic
from .model import fit_classic

if TYPE_CHECKING:
    from kappawatt.datasets.named import SeriesSet
    from kappawatt.settings import Settings

__all__ = ["reproduce_published", "train"]

log = logging.getLogger(__name__)

LIBRARIES = ("numpy", "xgboost-cpu", "xgboost", "holidays")
CLASSIC_ZONE = "PJME"  # the published baseline is one of this zone
SPLIT = np.datetime64("2015-01-01", "ms")  # local label at which the publication splits training from test


def train(
    settings: Settings,
    *,
    out: Path | None = None,
    report: Path | None = None,
    quick: bool = False,
    series: SeriesSet | None = None,
) -> list[Path]:
    """Fit the default model to all zones and the baseline to PJME, and write both artifacts.

    Parameters
    ----------
    settings : Settings
        `data` names the folder of data sets.
    out : Path, optional
        Folder of model versions; `artifacts` beside this file if absent.
    report : Path, optional
        Not used: `kappawatt backtest hourly-load` writes the report.
    quick : bool
        Skip the reproduction of the published score.
    series : SeriesSet, optional
        Zones to train on instead of those of the data sets.
    """
    from kappawatt.datasets import named as datasets
    from kappawatt.datasets.series import past_of
    from kappawatt.forecasting.training import save_trained
    from kappawatt.models.publish import Trained, make_current

    from .forecaster import FORECASTER

    zones = series or datasets.load_zones(settings.data)
    out = out or Path(__file__).parent / "artifacts"
    metrics: dict[str, Any] = {}
    classic_zone = next((z for z in zones.series if z.key == CLASSIC_ZONE), zones.series[0])
    if not quick:
        log.info("reproducing the published baseline")
        metrics = {"published_protocol": reproduce_published(classic_zone)}
    log.info("fitting the baseline to %s", classic_zone.key)
    classic = _fit_classic(classic_zone)
    log.info("fitting the default to %s", ", ".join(z.key for z in zones.series))
    fitted = fit_any_lead([past_of(zone) for zone in zones.series], log.info)
    written = []
    for kind, files in (("baseline", pack_classic(classic)), ("default", pack(fitted) | pack_classic(classic))):
        trained = Trained(kind, files, zones.provenance(), metrics if kind == "baseline" else {}, LIBRARIES)
        artifact = save_trained(out, FORECASTER, trained)
        written.append(artifact.path)
    make_current(out, artifact)
    return written


def labels_of(zone: SeriesFile) -> Times:
    """Return the local labels of the hours' ends, as the file has them."""
    return to_local(zone.starts, zone.time_zone) + HOUR


def _fit_classic(zone: SeriesFile) -> Classic:
    return fit_classic(labels_of(zone), zone.values)


def reproduce_published(zone: SeriesFile) -> dict[str, dict[str, float]]:
    """Return the score of the published baseline by its own protocol, and by an honest one.

    The publication trains before 2015 and stops early on the very data it then reports. `honest` watches the end of the
    training span instead.
    """
    from kappawatt.models.scores import mae, mape, rmse

    from .features import calendar_features

    labels = labels_of(zone)
    before = labels < SPLIT
    scores = {}
    stops: dict[str, Sequence[Any]] = {"published": (labels[~before], zone.values[~before]), "honest": ()}
    for name, stop in stops.items():
        classic = fit_classic(labels[before], zone.values[before], *stop)
        predicted = classic.predict(calendar_features(labels[~before]))
        measured = zone.values[~before]
        scores[name] = {
            "n": len(measured),
            "rmse": rmse(measured, predicted),
            "mae": mae(measured, predicted),
            "mape": mape(measured, predicted),
        }
    return scores
