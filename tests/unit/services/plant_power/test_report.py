"""The training report."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from kappawatt.datasets.named import Dataset, synthetic_plant
from kappawatt.services.plant_power import evaluation
from kappawatt.services.plant_power.features import features
from kappawatt.services.plant_power.inference import FittedBaseline
from kappawatt.services.plant_power.model import build_baseline
from kappawatt.services.plant_power.report import partial_dependence, score_by_bin, write_report


@pytest.fixture(scope="module")
def plant() -> dict[str, np.ndarray]:
    """A small synthetic plant."""
    return synthetic_plant(400, seed=9)


@pytest.fixture(scope="module")
def baseline(plant: dict[str, np.ndarray]) -> FittedBaseline:
    """The baseline, fitted to it."""
    return build_baseline().fit(features(plant), plant["net_power"])


def test_report_is_one_file_that_says_its_data_is_synthetic(
    plant: dict[str, np.ndarray], baseline: FittedBaseline, tmp_path: Path
) -> None:
    """Nothing is fetched, all sections are there, and no id is used twice."""
    path = tmp_path / "deep" / "report.html"
    dataset = Dataset(plant, "SYNTHETIC, seed 9", "0" * 64)
    holdout = evaluation.evaluate_holdout(plant)
    records = evaluation.evaluate_5x2([plant])

    write_report(path, dataset=dataset, holdout=holdout, unseen=holdout, records=records, fitted=baseline)

    page = path.read_text()
    assert "SYNTHETIC DATA" in page
    assert "5x2 cross-validation" in page
    assert page.count("<figure>") == 5
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)


def test_partial_dependence_of_a_line_is_its_slope(plant: dict[str, np.ndarray], baseline: FittedBaseline) -> None:
    """Linear regression has the same effect everywhere."""
    effect = partial_dependence(baseline, plant, "ambient_pressure", np.array([1000.0, 1010.0]))

    assert effect[1] - effect[0] == pytest.approx(10 * baseline.linear[3], abs=0.002)


def test_bins_hold_every_row_once(plant: dict[str, np.ndarray]) -> None:
    """Edges belong to the bin above."""
    holdout = evaluation.evaluate_holdout(plant)

    bins = score_by_bin(holdout, "ambient_temperature", [-50, 10, 20, 60])

    assert sum(b["n"] for b in bins) == holdout.scores["default"]["n"]
