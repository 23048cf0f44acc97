"""Splits and protocols behind the scores."""

from __future__ import annotations

import numpy as np
import pytest

from kappawatt.datasets.named import synthetic_plant
from kappawatt.services.plant_power import evaluation
from kappawatt.services.plant_power.model import build_baseline

BASELINE = {"baseline": build_baseline}


def doubled(rows: int, seed: int) -> dict[str, np.ndarray]:
    """A plant that says everything twice."""
    return {name: np.tile(column, 2) for name, column in synthetic_plant(rows, seed).items()}


def test_split_keeps_equal_rows_on_one_side() -> None:
    """Else a model would be asked what it was told."""
    plant = doubled(200, seed=5)

    training, test = evaluation.split_by_value(plant, 0.3, seed=0)

    assert len(training) + len(test) == 400
    assert len(test) == pytest.approx(120, abs=2)
    assert not evaluation.count_repeats(evaluation.take(plant, training), evaluation.take(plant, test)).any()


def test_repeats_are_counted_row_by_row() -> None:
    """All five values must be equal."""
    plant = synthetic_plant(50, seed=5)
    other = {name: column.copy() for name, column in plant.items()}
    other["net_power"][10:] += 0.01

    repeats = evaluation.count_repeats(plant, other)

    assert repeats.sum() == 10
    assert repeats[:10].all()


def test_5x2_tests_each_half_of_each_sheet_once() -> None:
    """Ten records a regression; repeats are those that stand in both halves."""
    repeated = doubled(60, seed=6)
    half_repeated = {
        name: np.concatenate([column, synthetic_plant(60, seed=1)[name]]) for name, column in repeated.items()
    }
    sheets = [{name: column[30:150] for name, column in half_repeated.items()}, synthetic_plant(120, seed=7)]

    records = evaluation.evaluate_5x2(sheets, regressions=BASELINE)

    assert [(r["sheet"], r["tested_half"]) for r in records] == [(1, 2), (1, 1), (2, 2), (2, 1)]
    assert [r["repeats"] for r in records[:2]] == [30, 30]
    assert np.isfinite([r["rmse_without_repeats"] for r in records]).all()
    assert [r["n"] for r in records] == [60] * 4
    assert evaluation.mean_scores(records[2:], "baseline")["rmse"] == pytest.approx(
        (records[2]["rmse"] + records[3]["rmse"]) / 2
    )


def test_unseen_vacuum_tests_every_row_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """No value of exhaust vacuum is in training and test."""
    monkeypatch.setattr(evaluation, "REGRESSIONS", BASELINE)
    seen = []
    original = evaluation.fit_and_predict

    def watched(regression, training, test, progress=None):  # type: ignore[no-untyped-def]
        seen.append(np.intersect1d(training["exhaust_vacuum"], test["exhaust_vacuum"]))
        return original(regression, training, test, progress)

    monkeypatch.setattr(evaluation, "fit_and_predict", watched)
    plant = synthetic_plant(400, seed=8)

    found = evaluation.evaluate_unseen_vacuum(plant)

    assert [len(common) for common in seen] == [0] * evaluation.VACUUM_FOLDS
    assert found.scores["baseline"]["n"] == 400
