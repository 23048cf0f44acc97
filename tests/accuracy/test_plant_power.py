"""The plant power model against its published baselines, on real data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kappawatt import datasets
from services.plant_power import train
from services.plant_power.model import build_model

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
MOST_UNSEEN_RMSE = 4.45  # MW; linear regression has 4.6
LEAST_UNSEEN_COVERAGE = 0.78  # short of 0.90: see the model card
BASELINE_RMSE = 4.56  # MW, as commonly published for a 70/30 split; single splits differ by 0.2


def test_5x2_beats_the_published_error() -> None:
    """Mean of the ten halves, and of their coverage."""
    sheets, _ = datasets.plant_shuffles(Path(FOLDER or ""))

    mean = train.mean_scores(train.evaluate_5x2(sheets, regressions={"default": build_model}), "default")

    assert mean["rmse"] <= MOST_5X2_RMSE
    assert mean["rmse_without_repeats"] <= MOST_5X2_RMSE
    assert mean["mae"] <= MOST_5X2_MAE
    assert mean["coverage_90"] == pytest.approx(0.90, abs=0.015)


def test_holdout_beats_the_baseline_and_the_baseline_is_the_published_one() -> None:
    """70/30 by distinct row."""
    scores = train.evaluate_holdout(datasets.plant(Path(FOLDER or "")).columns).scores

    assert scores["baseline"]["rmse"] == pytest.approx(BASELINE_RMSE, abs=0.25)
    assert scores["default"]["rmse"] <= MOST_HOLDOUT_RMSE
    for name in ("baseline", "default"):
        assert scores[name]["coverage_90"] == pytest.approx(0.90, abs=0.02)


def test_days_not_seen_are_answered_better_than_by_the_baseline() -> None:
    """The model must not buy its error on known days with that on new ones."""
    scores = train.evaluate_unseen_vacuum(datasets.plant(Path(FOLDER or "")).columns).scores

    assert scores["default"]["rmse"] <= MOST_UNSEEN_RMSE
    assert scores["default"]["rmse"] < scores["baseline"]["rmse"]
    assert scores["default"]["coverage_90"] >= LEAST_UNSEEN_COVERAGE
