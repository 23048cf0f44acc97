"""How good a regression is, by three protocols: shuffled halves, rows held out, vacuums never seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.models.scores import rmse, score_interval

from .features import CONDITION_NAMES, features
from .inference import OUTPUT_NAMES
from .model import Progress, Regression, build_baseline, build_model, split_groups

__all__ = [
    "TARGET",
    "Evaluation",
    "count_repeats",
    "evaluate_5x2",
    "evaluate_holdout",
    "evaluate_unseen_vacuum",
    "fit_and_predict",
    "mean_scores",
    "split_by_value",
]

Columns = Mapping[str, NDArray[Any]]
Rows = NDArray[np.intp]

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
