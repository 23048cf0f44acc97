"""Meters -> fit -> artifacts: the default and the baseline.

The default holds nothing of any meter but fingerprints of the days it was trained on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kappawatt.errors import ModelNotFound
from kappawatt.forecasting.history import Past
from kappawatt.models.artifact import find_artifact

from .inference import Fitted, pack, unpack
from .model import fit

if TYPE_CHECKING:
    from kappawatt.datasets.named import SeriesSet
    from kappawatt.models.publish import Trained
    from kappawatt.settings import Settings

__all__ = ["shipped", "train"]

log = logging.getLogger(__name__)

ARTIFACTS = Path(__file__).parent / "artifacts"
LIBRARIES = ("numpy",)


@cache
def shipped() -> Fitted | None:
    """Return the model that comes with the service; None if there is none yet."""
    try:
        artifact = find_artifact(ARTIFACTS)
    except ModelNotFound:
        return None
    return unpack({name: artifact.read(name) for name in artifact.manifest.files})


def train(
    settings: Settings,
    *,
    out: Path | None = None,
    report: Path | None = None,
    quick: bool = False,
    series: SeriesSet | None = None,
) -> list[Path]:
    """Fit one model to all meters and write its artifact.

    Parameters
    ----------
    settings : Settings
        `data` names the folder of data sets.
    out : Path, optional
        Folder of model versions; `artifacts` beside this file if absent.
    report : Path, optional
        Not used: `kappawatt backtest smart-meter` writes the report.
    quick : bool
        Leave the baseline out, which needs TensorFlow.
    series : SeriesSet, optional
        Meters to train on instead of those of the data sets.
    """
    from kappawatt.datasets import named as datasets
    from kappawatt.datasets.series import past_of
    from kappawatt.forecasting.training import save_trained
    from kappawatt.models.publish import Trained, make_current

    from .forecaster import FORECASTER

    meters = series or datasets.meters(settings.data)
    out = out or ARTIFACTS
    pasts = [past_of(one) for one in meters.series]
    written = []
    if not quick:
        trained = _tutorial(min(pasts, key=lambda past: past.step), meters.provenance())
        written.append(save_trained(out, FORECASTER, trained).path)
    fitted = fit(pasts, progress=log.info)
    artifact = save_trained(out, FORECASTER, Trained("default", pack(fitted), meters.provenance(), {}, LIBRARIES))
    make_current(out, artifact)
    return [*written, artifact.path]


def _tutorial(past: Past, data: Mapping[str, Any]) -> Trained:
    """The named baseline: the tutorial's LSTM on one meter, with its scores by the tutorial's own protocol."""
    from kappawatt.models.onnx import OnnxModel
    from kappawatt.models.publish import Trained

    from .lstm import LSTM_FILE, one_step_scores, to_onnx, train_lstm

    log.info("training the tutorial's LSTM on %s", past.key)
    lstm, _ = train_lstm(past.values)
    graph = to_onnx(lstm)
    metrics = {"one_step_67_33": one_step_scores(OnnxModel(graph), past.values)}
    return Trained("baseline", {LSTM_FILE: graph}, {**data, "meter": past.key}, metrics, ("keras", "tensorflow-cpu"))
