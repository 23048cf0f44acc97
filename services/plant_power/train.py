"""Data -> fit -> score against the baseline -> artifacts and report.

Three protocols, each fair to another question:

- holdout: 70/30, split by distinct row value, so that no row is on both sides.
- 5x2: the published cross-validation of Tufekci 2014, on the five shuffles as they come; rows of a test half
  that stand in its training half too are counted, and errors also given without them.
- unseen vacuum: whole values of exhaust vacuum are left out, which stands for days not seen. A random split
  flatters any model that recognises hours of equal vacuum, and this one does.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.models.scores import rmse, score_interval

from .features import CONDITION_NAMES, FEATURE_NAMES, features
from .inference import OUTPUT_NAMES, Fitted, pack
from .model import Progress, Regression, build_baseline, build_model, split_groups

if TYPE_CHECKING:
    from kappawatt.datasets.named import Dataset
    from kappawatt.settings import Settings

__all__ = [
    "MODEL_FILE",
    "TARGET",
    "Evaluation",
    "backtest",
    "count_repeats",
    "evaluate_5x2",
    "evaluate_holdout",
    "evaluate_unseen_vacuum",
    "fit_and_predict",
    "mean_scores",
    "split_by_value",
    "train",
]

log = logging.getLogger(__name__)

Columns = Mapping[str, NDArray[Any]]
Rows = NDArray[np.intp]

MODEL_FILE = "model.npz"
RESULTS = Path(__file__).parents[2] / "docs" / "results" / "plant-power"
TARGET = "net_power"
HOLDOUT_SHARE = 0.3
SEED = 2014  # the year of the publication; never varied
VACUUM_FOLDS = 4
REGRESSIONS: dict[str, Callable[[], Regression]] = {"baseline": build_baseline, "default": build_model}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores by regression name, and the rows and answers behind them.

    Parameters
    ----------
    scores : mapping of str to mapping of str to float
        Of `kappawatt.models.scores.score_interval`, for `baseline` and `default`.
    columns : mapping of str to ndarray of shape (n,)
        Conditions and measured power of the rows that were tested.
    predictions : mapping of str to mapping of str to ndarray of shape (n,)
        `OUTPUT_NAMES` [MW], for `baseline` and `default`.
    """

    scores: dict[str, dict[str, float]]
    columns: dict[str, NDArray[Any]]
    predictions: dict[str, dict[str, NDArray[np.float64]]]


def take(columns: Columns, rows: Rows | NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Return some rows of the conditions and measured power."""
    return {name: columns[name][rows] for name in (*CONDITION_NAMES, TARGET)}


def fit_and_predict(
    regression: Regression, training: Columns, test: Columns, progress: Progress | None = None
) -> dict[str, NDArray[np.float64]]:
    """Fit to `training` and return `OUTPUT_NAMES` [MW] for the rows of `test`."""
    fitted = regression.fit(features(training), training[TARGET], seed=SEED, progress=progress)
    return fitted.predict(features(test))


def split_by_value(columns: Columns, test_share: float, seed: int) -> tuple[Rows, Rows]:
    """Return positions of training and test rows; rows of equal values stay on one side.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (n,)
    test_share : float
        Share of distinct rows to test.
    seed : int

    Examples
    --------
    >>> same = {name: np.array([1.0, 1.0]) for name in (*CONDITION_NAMES, TARGET)}
    >>> [len(rows) for rows in split_by_value(same, 0.5, seed=0)] in ([2, 0], [0, 2])
    True
    """
    number = _row_numbers(columns)
    distinct = int(number.max()) + 1
    order = np.random.default_rng(seed).permutation(distinct)
    in_test = np.isin(number, order[: round(test_share * distinct)])
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


def count_repeats(training: Columns, test: Columns) -> NDArray[np.bool_]:
    """Return True for each row of `test` that stands in `training` with the same five values."""
    together = {name: np.concatenate([training[name], test[name]]) for name in (*CONDITION_NAMES, TARGET)}
    number = _row_numbers(together)
    n = len(training[TARGET])
    return np.isin(number[n:], number[:n])


def evaluate_holdout(columns: Columns, progress: Progress | None = None, seed: int = SEED) -> Evaluation:
    """Fit to 70 % of the distinct rows and test on the others."""
    training, test = split_by_value(columns, HOLDOUT_SHARE, seed)
    return _evaluate(columns, [(training, test)], progress)


def evaluate_unseen_vacuum(columns: Columns, progress: Progress | None = None, seed: int = SEED) -> Evaluation:
    """Leave out a quarter of all distinct values of exhaust vacuum at a time; every row is tested once."""
    splits = list(split_groups(columns["exhaust_vacuum"], VACUUM_FOLDS, seed))
    return _evaluate(columns, splits, progress)


def evaluate_5x2(
    sheets: Sequence[Columns],
    progress: Progress | None = None,
    regressions: Mapping[str, Callable[[], Regression]] = REGRESSIONS,
) -> list[dict[str, Any]]:
    """Return one record for each fold and regression of the 5x2 cross-validation.

    For each sheet the first half trains and the second tests, then the other way round.

    Parameters
    ----------
    sheets : sequence of mapping of str to ndarray of shape (n,)
        Shuffles of the same rows.

    Returns
    -------
    list of dict
        `regression`, `sheet` (from 1), `tested_half` (2 or 1), the scores of
        `kappawatt.models.scores.score_interval`, `repeats` (test rows that stand in the training half too) and
        `rmse_without_repeats` [MW].

    References
    ----------
    P. Tufekci, Int. J. Electrical Power & Energy Systems 60 (2014) 126-140.
    """
    records = []
    for sheet, columns in enumerate(sheets, start=1):
        n = len(columns[TARGET])
        halves = take(columns, np.arange(n // 2)), take(columns, np.arange(n // 2, n))
        for tested_half, (training, test) in ((2, halves), (1, halves[::-1])):
            repeats = count_repeats(training, test)
            for name, build in regressions.items():
                if progress:
                    progress(f"5x2: sheet {sheet} of {len(sheets)}, half {tested_half}, {name}")
                answer = fit_and_predict(build(), training, test)
                records.append(
                    {
                        "regression": name,
                        "sheet": sheet,
                        "tested_half": tested_half,
                        **_score(test[TARGET], answer),
                        "repeats": int(repeats.sum()),
                        "rmse_without_repeats": rmse(test[TARGET][~repeats], answer[TARGET][~repeats]),
                    }
                )
    return records


def mean_scores(records: Sequence[Mapping[str, Any]], regression: str) -> dict[str, float]:
    """Return the plain mean of each score over the folds of one regression, as the paper averages them."""
    own = [record for record in records if record["regression"] == regression]
    names = ("rmse", "mae", "r2", "coverage_90", "width_90", "rmse_without_repeats", "repeats")
    return {name: float(np.mean([record[name] for record in own])) for name in names}


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

    from .report import write_report

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
            "5x2": {"source": source, "folds": records, "means": means},
        }

    written = []
    for name, build in REGRESSIONS.items():
        steps(f"fitting {name} to all rows")
        fitted = build().fit(features(dataset.columns), dataset.columns[TARGET], seed=SEED, progress=steps)
        metrics: dict[str, Any] = {"holdout_30": holdout.scores[name]}
        if unseen:
            metrics["unseen_vacuum"] = unseen.scores[name]
        if records:
            metrics["5x2"] = mean_scores(records, name)
        written.append(_save(out, name, fitted, dataset, metrics))
    (out / "CURRENT").write_text(written[-1].name + "\n")
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


def _evaluate(columns: Columns, splits: Sequence[tuple[Rows, Rows]], progress: Progress | None) -> Evaluation:
    tested = np.concatenate([test for _, test in splits])
    test_columns = take(columns, tested)
    predictions = {}
    for name, build in REGRESSIONS.items():
        parts = []
        for number, (training, test) in enumerate(splits, start=1):
            if progress:
                progress(f"{name}: split {number} of {len(splits)}")
            parts.append(fit_and_predict(build(), take(columns, training), take(columns, test)))
        predictions[name] = {output: np.concatenate([part[output] for part in parts]) for output in OUTPUT_NAMES}
    scores = {name: _score(test_columns[TARGET], answer) for name, answer in predictions.items()}
    return Evaluation(scores, test_columns, predictions)


def _score(measured: NDArray[np.float64], answer: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    return score_interval(measured, *(answer[name] for name in OUTPUT_NAMES))


def _row_numbers(columns: Columns) -> Rows:
    """Return a number for each row, the same for rows of equal values."""
    matrix = np.column_stack([columns[name] for name in (*CONDITION_NAMES, TARGET)])
    numbers: Rows = np.unique(matrix, axis=0, return_inverse=True)[1].reshape(-1)
    return numbers


def _save(out: Path, kind: str, fitted: Fitted, dataset: Dataset, metrics: Mapping[str, Any]) -> Path:
    """Write one artifact; its version is its kind and the start of its file's hash."""
    from kappawatt.models.artifact import Manifest, save_artifact

    content = pack(fitted)
    version = f"{kind}-{hashlib.sha256(content).hexdigest()[:8]}"
    first = {name: dataset.columns[name][:1] for name in CONDITION_NAMES}
    manifest = Manifest(
        model="plant-power",
        version=version,
        kind=kind,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data=dataset.provenance(),
        feature_names=FEATURE_NAMES,
        training_range={
            name: (float(dataset.columns[name].min()), float(dataset.columns[name].max())) for name in CONDITION_NAMES
        },
        metrics=metrics,
        libraries=_libraries(),
        files={},
        example={
            "request": {name: float(value[0]) for name, value in first.items()},
            "answer": {name: float(value[0]) for name, value in fitted.predict(features(first)).items()},
        },
    )
    save_artifact(out / version, {MODEL_FILE: content}, manifest)
    return out / version


def _libraries() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("numpy", "scipy")}


def _steps() -> Progress:
    """Return a callback that logs each step with the seconds since the first."""
    from time import monotonic

    start = monotonic()

    def step(what: str) -> None:
        log.info("%s", what, extra={"seconds": round(monotonic() - start, 1)})

    return step
