"""The plant power model against its published baselines, on real data. All folds: `kappawatt backtest plant-power`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from kappawatt.datasets import named as datasets
from kappawatt.models.artifact import find_artifact
from kappawatt.models.scores import rmse
from kappawatt.services.plant_power import evaluation, train
from kappawatt.services.plant_power.features import features
from kappawatt.services.plant_power.inference import OUTPUT_NAMES, unpack
from kappawatt.services.plant_power.model import build_model
from kappawatt.services.plant_power.report import TEMPERATURE_EDGES, score_by_bin

FOLDER = os.environ.get("KAPPAWATT_DATA")
pytestmark = [
    pytest.mark.accuracy,
    pytest.mark.timeout(3_600),
    pytest.mark.skipif(not FOLDER, reason="KAPPAWATT_DATA names no folder of data sets"),
]

# The best published 5x2 result (Tufekci 2014, bagged REP trees, all 9,568 rows) is an RMSE of 3.787 and an
# MAE of 2.818 MW; boosted trees as they come reach about 3.42 and 2.42. The bars stand below both.
MOST_5X2_RMSE = 2.90  # MW
MOST_5X2_MAE = 1.90  # MW
MOST_HOLDOUT_RMSE = 2.95  # MW
MOST_UNSEEN_RMSE = 4.25  # MW; linear regression has 4.6
UNSEEN_COVERAGE = (0.88, 0.92)
LEAST_COVERAGE_BY_TEMPERATURE = 0.85  # on vacuums not seen, in each band
MOST_KNOWN_WIDTH = 7.6  # MW, where days are known; the width of the release before, whose new days held 81 %
MOST_RMSE_ON_TRAINING_ROWS = 2.2  # MW
BASELINE_RMSE = 4.56  # MW, as commonly published for a 70/30 split; single splits differ by 0.2


def test_5x2_beats_the_published_error() -> None:
    """Mean of both halves of the first sheet; kernels were chosen on one of them, so only half of it is untouched."""
    sheets, _ = datasets.plant_shuffles(Path(FOLDER or ""))

    records = evaluation.evaluate_5x2(sheets[:1], regressions={"default": build_model})
    mean = evaluation.mean_scores(records, "default")

    assert mean["rmse"] <= MOST_5X2_RMSE
    assert mean["rmse_without_repeats"] <= MOST_5X2_RMSE
    assert mean["mae"] <= MOST_5X2_MAE
    assert mean["coverage_90"] == pytest.approx(0.90, abs=0.015)
    assert mean["width_90"] <= MOST_KNOWN_WIDTH


def test_holdout_beats_the_baseline_and_the_baseline_is_the_published_one() -> None:
    """70/30 by distinct row."""
    scores = evaluation.evaluate_holdout(datasets.plant(Path(FOLDER or "")).columns).scores

    assert scores["baseline"]["rmse"] == pytest.approx(BASELINE_RMSE, abs=0.25)
    assert scores["default"]["rmse"] <= MOST_HOLDOUT_RMSE
    for name in ("baseline", "default"):
        assert scores[name]["coverage_90"] == pytest.approx(0.90, abs=0.02)


@pytest.fixture(scope="module")
def unseen() -> evaluation.Evaluation:
    """All four folds of whole vacuums left out."""
    return evaluation.evaluate_unseen_vacuum(datasets.plant(Path(FOLDER or "")).columns)


def test_days_not_seen_are_answered_better_than_by_the_baseline(unseen: evaluation.Evaluation) -> None:
    """The model must not buy its error on known days with that on new ones."""
    assert unseen.scores["default"]["rmse"] <= MOST_UNSEEN_RMSE
    assert unseen.scores["default"]["rmse"] < unseen.scores["baseline"]["rmse"] - 0.3


def test_interval_holds_on_days_not_seen_at_every_temperature(unseen: evaluation.Evaluation) -> None:
    """Where a running plant uses it: 88 to 92 % of all readings, and 85 % or more in each band of 5 degC."""
    bands = score_by_bin(unseen, "ambient_temperature", TEMPERATURE_EDGES)

    assert UNSEEN_COVERAGE[0] <= unseen.scores["default"]["coverage_90"] <= UNSEEN_COVERAGE[1]
    assert {
        band["low"]: band["coverage_90"] for band in bands if band["coverage_90"] < LEAST_COVERAGE_BY_TEMPERATURE
    } == {}


def test_shipped_artifact_scores_as_its_manifest_says() -> None:
    """It was fitted to these rows, so its own error on them is lower than on others, but no copy of them."""
    artifact = find_artifact(Path(train.__file__).parent / "artifacts")
    data = datasets.plant(Path(FOLDER or ""))
    answer = unpack(artifact.read(train.MODEL_FILE)).predict(features(data.columns))
    measured, metrics = data.columns[evaluation.TARGET], artifact.manifest.metrics

    assert artifact.manifest.data["sha256"] == data.sha256
    assert metrics["5x2"]["rmse"] <= MOST_5X2_RMSE
    assert metrics["5x2"]["mae"] <= MOST_5X2_MAE
    assert metrics["holdout_30"]["rmse"] <= MOST_HOLDOUT_RMSE
    assert metrics["unseen_vacuum"]["rmse"] <= MOST_UNSEEN_RMSE
    assert UNSEEN_COVERAGE[0] <= metrics["unseen_vacuum"]["coverage_90"] <= UNSEEN_COVERAGE[1]
    assert 0.5 < rmse(measured, answer["net_power"]) <= MOST_RMSE_ON_TRAINING_ROWS
    assert all(np.isfinite(answer[name]).all() for name in OUTPUT_NAMES)
