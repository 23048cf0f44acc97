"""Data -> fit -> score against the baseline -> artifacts and report.

Three protocols, each fair to another question:

- holdout: 70/30, split by distinct row value, so that no row is on both sides.
- 5x2: the published cross-validation of Tufekci 2014, on the five shuffles as they come; rows of a test half
  that stand in its training half too are counted, and errors also given without them.
- unseen vacuum: whole values of exhaust vacuum are left out, which stands for days not seen. A random split
  flatters any model that recognises hours of equal vacuum, and this one does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluation import REGRESSIONS, SEED, TARGET, evaluate_5x2, evaluate_holdout, evaluate_unseen_vacuum, mean_scores
from .features import CONDITION_NAMES, FEATURE_NAMES, features
from .inference import Fitted, pack
from .model import Progress

if TYPE_CHECKING:
    from kappawatt.datasets.named import Dataset
    from kappawatt.settings import Settings

__all__ = ["MODEL_FILE", "backtest", "train"]

log = logging.getLogger(__name__)

MODEL_FILE = "model.npz"
RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "plant-power"


def train(
    settings: Settings, *, out: Path | None = None, report: Path | None = None, quick: bool = False
) -> list[Path]:
    """Fit default and baseline to all rows, score them, and write artifacts and a report.

    Parameters
    ----------
    settings : Settings
        `data` names the folder of data sets.
    out : Path, optional
        Folder of model versions; `artifacts` beside this file if absent.
    report : Path, optional
        HTML file; if absent `report.html` in `out`, or in `docs/results/plant-power` where `out` is absent too.
        `scores.json`, with every fold of the 5x2, is written beside it.
    quick : bool
        Skip the 5x2 cross-validation and the unseen vacuum.

    Returns
    -------
    list of Path
        The artifacts, baseline first, the report and the scores.
    """
    from kappawatt.datasets import named as datasets
    from kappawatt.models.artifact import CURRENT, write_whole

    from .report import TEMPERATURE_EDGES, score_by_bin, write_report

    dataset = datasets.plant(settings.data)
    report = report or (out or RESULTS) / "report.html"
    out = out or Path(__file__).parent / "artifacts"
    steps = _steps()
    holdout = evaluate_holdout(dataset.columns, steps)
    unseen = None if quick else evaluate_unseen_vacuum(dataset.columns, steps)
    scores: dict[str, Any] = {"data": dataset.provenance(), "holdout_30": holdout.scores}
    records: list[dict[str, Any]] = []
    if unseen:
        sheets, source = datasets.plant_shuffles(settings.data)
        records = evaluate_5x2(sheets, steps)
        means = {name: mean_scores(records, name) for name in REGRESSIONS}
        scores |= {
            "unseen_vacuum": unseen.scores,
            "unseen_vacuum_by_temperature": score_by_bin(unseen, "ambient_temperature", TEMPERATURE_EDGES),
            "5x2": {"source": source, "folds": records, "means": means},
        }

    written = []
    for name, build in REGRESSIONS.items():
        steps(f"fitting {name} to all rows")
        fitted = build().fit(features(dataset.columns), dataset.columns[TARGET], seed=SEED, progress=steps)
        metrics: dict[str, Any] = {"unseen_vacuum": unseen.scores[name]} if unseen else {}  # first: what a plant meets
        metrics["holdout_30"] = holdout.scores[name]
        if records:
            metrics["5x2"] = mean_scores(records, name)
        written.append(_save(out, name, fitted, dataset, metrics))
    write_whole(out / CURRENT, f"{written[-1].name}\n".encode())
    steps("drawing the report")
    write_report(report, dataset=dataset, holdout=holdout, unseen=unseen, records=records, fitted=fitted)
    scores_file = report.with_name("scores.json")
    scores_file.write_text(json.dumps(scores, indent=1) + "\n")
    return [*written, report, scores_file]


def backtest(settings: Settings, *, as_json: bool = False) -> list[dict[str, Any]]:
    """Print the 5x2 cross-validation, fold by fold, and return its records."""
    from kappawatt.datasets import named as datasets

    sheets, source = datasets.plant_shuffles(settings.data)
    records = evaluate_5x2(sheets, _steps())
    means = {name: mean_scores(records, name) for name in REGRESSIONS}
    if as_json:
        print(json.dumps({"source": source, "folds": records, "means": means}))
        return records
    print(f"5x2 cross-validation (Tufekci 2014) on {source}")
    print("regression  sheet  half   RMSE    MAE     R2  coverage  width  repeats  RMSE without")
    for r in records:
        print(
            f"{r['regression']:10} {r['sheet']:6} {r['tested_half']:5} {r['rmse']:6.3f} {r['mae']:6.3f} "
            f"{r['r2']:6.4f} {r['coverage_90']:9.3f} {r['width_90']:6.2f} {r['repeats']:8} "
            f"{r['rmse_without_repeats']:13.3f}"
        )
    for name, m in means.items():
        print(
            f"{name:10}   mean       {m['rmse']:6.3f} {m['mae']:6.3f} {m['r2']:6.4f} {m['coverage_90']:9.3f} "
            f"{m['width_90']:6.2f} {m['repeats']:8.1f} {m['rmse_without_repeats']:13.3f}"
        )
    return records


def _save(out: Path, kind: str, fitted: Fitted, dataset: Dataset, metrics: Mapping[str, Any]) -> Path:
    from kappawatt.models.publish import Trained, publish

    spans = {name: (float(column.min()), float(column.max())) for name, column in dataset.columns.items()}
    trained = Trained(
        kind,
        {MODEL_FILE: pack(fitted)},
        dataset.provenance(),
        metrics,
        ("numpy", "scipy"),
        training_range={name: spans[name] for name in CONDITION_NAMES},
    )
    first = {name: dataset.columns[name][:1] for name in CONDITION_NAMES}
    example = {
        "request": {name: float(value[0]) for name, value in first.items()},
        "answer": {name: float(value[0]) for name, value in fitted.predict(features(first)).items()},
    }
    return publish(out, "plant-power", FEATURE_NAMES, trained, example).path


def _steps() -> Progress:
    """Return a callback that logs each step with the seconds since the first."""
    from time import monotonic

    start = monotonic()

    def step(what: str) -> None:
        log.info("%s", what, extra={"seconds": round(monotonic() - start, 1)})

    return step
