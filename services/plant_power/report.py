"""One HTML file on a training run: data, errors, effects, intervals. Inline; readable in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.evaluation.report import BLUE, INK, ORANGE, canvas, figure, table, write_page
from kappawatt.models.scores import coverage, mean_width, rmse
from kappawatt.streams.plant import CONDITIONS, NET_POWER

from .features import CONDITION_NAMES, features
from .inference import OUTPUT_NAMES, Fitted

if TYPE_CHECKING:
    from kappawatt.datasets.named import Dataset

    from .evaluation import Evaluation

__all__ = ["TEMPERATURE_EDGES", "partial_dependence", "score_by_bin", "write_report"]

UNITS = {field.name: field.unit for field in (*CONDITIONS, NET_POWER)}
TEMPERATURE_EDGES = (-50.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 60.0)  # degC
SAMPLE_ROWS = 300  # readings averaged over in a partial dependence
GRID = 25


def write_report(
    path: Path,
    *,
    dataset: Dataset,
    holdout: Evaluation,
    unseen: Evaluation | None,
    records: Sequence[Mapping[str, Any]],
    fitted: Fitted,
) -> None:
    """Write the report.

    Parameters
    ----------
    path : Path
        HTML file; its folder is made.
    dataset : Dataset
        All rows, and where they are from.
    holdout : Evaluation
        Of the 70/30 split.
    unseen : Evaluation or None
        With values of exhaust vacuum left out; None leaves the section out.
    records : sequence of mapping
        Of `train.evaluate_5x2`; empty leaves the section out.
    fitted : Fitted
        The default, fitted to all rows, for the effects of conditions.
    """
    sections = ["<h1>Plant power: training report</h1>", _provenance(dataset)]
    if unseen:
        sections += [
            "<h2>Days the model has not seen</h2>",
            "<p class=note>A quarter of all values of exhaust vacuum left out at a time. Hours of equal "
            "vacuum err alike, and a random split puts them on both sides; this is the error to expect on "
            "new days.</p>",
            _score_table(unseen.scores),
            "<p class=note>The default by ambient temperature. The interval is meant to hold 90 % of readings.</p>",
            _bin_table(unseen),
        ]
    sections += [
        "<h2>Baseline and default</h2>",
        "<p class=note>30 % of the distinct rows held out; no row is on both sides.</p>",
        _score_table(holdout.scores),
    ]
    if records:
        sections += ["<h2>5x2 cross-validation</h2>", _fold_table(records)]
    sections += [
        "<h2>Interval and error by ambient temperature</h2>",
        "<p class=note>Default, on the held-out 30 %. The interval is meant to hold 90 % of readings.</p>",
        _bin_table(holdout),
        "<h2>Predicted and measured</h2>",
        figure("parity", "Predicted against measured power", _draw_parity(holdout)),
        "<h2>Residuals</h2>",
        "<p class=note>Measured minus predicted, on the held-out 30 %.</p>",
        figure(
            "residuals",
            "Residuals: histogram, against prediction, against temperature",
            _draw_residuals(holdout),
        ),
        "<h2>Effect of each condition</h2>",
        f"<p class=note>Partial dependence: mean prediction over {SAMPLE_ROWS} readings with one condition "
        "moved over its 1st to 99th percentile, the others as they were. Dew point follows temperature and "
        "humidity.</p>",
        figure("effects", "Partial dependence of power on each condition", _draw_effects(fitted, dataset.columns)),
        "<h2>Data</h2>",
        figure("histograms", "Histogram of each condition and of power", _draw_histograms(dataset.columns)),
        figure("correlations", "Correlations of conditions and power", _draw_correlations(dataset.columns)),
    ]
    write_page(path, "Plant power: training report", sections)


def partial_dependence(
    fitted: Fitted, columns: Mapping[str, NDArray[Any]], name: str, grid: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return mean power [MW] over evenly spaced readings with condition `name` set to each value of `grid`.

    Parameters
    ----------
    grid : ndarray of shape (n_values,)
        In the unit of the condition.
    """
    rows = np.unique(np.linspace(0, len(columns[name]) - 1, SAMPLE_ROWS).astype(int))
    sample = {condition: np.tile(columns[condition][rows], len(grid)) for condition in CONDITION_NAMES}
    sample[name] = np.repeat(grid, len(rows))
    power = fitted.predict(features(sample))["net_power"].reshape(len(grid), len(rows))
    means: NDArray[np.float64] = power.mean(axis=1)
    return means


def score_by_bin(evaluation: Evaluation, name: str, edges: Sequence[float]) -> list[dict[str, float]]:
    """Return `low`, `high`, `n`, `rmse`, `coverage_90` and `width_90` of the default for each bin."""
    answer = evaluation.predictions["default"]
    power, lower, upper = (answer[output] for output in OUTPUT_NAMES)
    measured, condition = evaluation.columns["net_power"], evaluation.columns[name]
    result = []
    for low, high in pairwise(edges):
        own = (condition >= low) & (condition < high)
        if own.any():
            result.append(
                {
                    "low": low,
                    "high": high,
                    "n": int(own.sum()),
                    "rmse": rmse(measured[own], power[own]),
                    "coverage_90": coverage(measured[own], lower[own], upper[own]),
                    "width_90": mean_width(lower[own], upper[own]),
                }
            )
    return result


def _provenance(dataset: Dataset) -> str:
    warning = (
        "<p class=synthetic><strong>SYNTHETIC DATA.</strong> No plant ever said this; errors below exercise "
        "the software and say nothing about plants.</p>"
        if dataset.is_synthetic
        else ""
    )
    return (
        f"{warning}<p>Data: {escape(dataset.source)}, {len(dataset):,} rows, SHA-256 of the values "
        f"<code>{dataset.sha256}</code>.</p>"
    )


def _score_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    head = ("regression", "rows", "RMSE [MW]", "MAE [MW]", "R²", "coverage", "mean width [MW]")
    rows = [
        (
            name,
            f"{s['n']:,}",
            *(f"{s[key]:.{digits}f}" for key, digits in
              (("rmse", 3), ("mae", 3), ("r2", 4), ("coverage_90", 3), ("width_90", 2))),
        )
        for name, s in scores.items()
    ]  # fmt: skip
    return table(head, rows)


def _fold_table(records: Sequence[Mapping[str, Any]]) -> str:
    from .evaluation import mean_scores

    keys = (
        ("rmse", 3), ("mae", 3), ("r2", 4), ("coverage_90", 3), ("width_90", 2), ("repeats", 0),
        ("rmse_without_repeats", 3),
    )  # fmt: skip
    scores = (
        "RMSE [MW]",
        "MAE [MW]",
        "R²",
        "coverage",
        "mean width [MW]",
        "repeated rows",
        "RMSE without [MW]",
    )
    head = ("regression", "sheet", "tested half", *scores)
    rows = [
        (r["regression"], str(r["sheet"]), str(r["tested_half"]), *(f"{r[k]:.{d}f}" for k, d in keys)) for r in records
    ]
    for name in dict.fromkeys(r["regression"] for r in records):
        mean = mean_scores(records, name)
        rows.append((name, "mean", "", *(f"{mean[k]:.{1 if k == 'repeats' else d}f}" for k, d in keys)))
    return table(head, rows)


def _bin_table(evaluation: Evaluation) -> str:
    head = ("ambient temperature [degC]", "rows", "RMSE [MW]", "coverage", "mean width [MW]")
    rows = [
        (
            _bin_name(b["low"], b["high"]),
            f"{b['n']:,}", f"{b['rmse']:.2f}", f"{b['coverage_90']:.3f}", f"{b['width_90']:.2f}",
        )
        for b in score_by_bin(evaluation, "ambient_temperature", TEMPERATURE_EDGES)
    ]  # fmt: skip
    return table(head, rows)


def _bin_name(low: float, high: float) -> str:
    if low == TEMPERATURE_EDGES[0]:
        return f"below {high:g}"
    return f"from {low:g}" if high == TEMPERATURE_EDGES[-1] else f"{low:g} to {high:g}"


def _label(name: str) -> str:
    return f"{name.replace('_', ' ')} [{UNITS[name]}]"


def _draw_histograms(columns: Mapping[str, NDArray[Any]]) -> Any:
    drawing, axes = canvas(2, 3, 5.5)
    for axis, name in zip(axes, (*CONDITION_NAMES, "net_power"), strict=False):
        axis.hist(columns[name], bins=40, color=BLUE)
        axis.set_xlabel(_label(name))
        axis.set_ylabel("readings")
    axes[-1].set_visible(False)
    return drawing


def _draw_correlations(columns: Mapping[str, NDArray[Any]]) -> Any:
    names = (*CONDITION_NAMES, "net_power")
    correlation = np.corrcoef([columns[name] for name in names])
    drawing, (axis,) = canvas(1, 1, 5.5)
    image = axis.imshow(correlation, vmin=-1, vmax=1, cmap="RdBu_r")
    words = [name.replace("_", " ") for name in names]
    axis.set_xticks(range(len(names)), words, rotation=25, ha="right")
    axis.set_yticks(range(len(names)), words)
    for (row, column), value in np.ndenumerate(correlation):
        colour = "white" if abs(value) > 0.6 else "black"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    bar = drawing.colorbar(image, ax=axis, shrink=0.8)
    bar.ax.tick_params(colors=INK)
    return drawing


def _draw_parity(evaluation: Evaluation) -> Any:
    measured = evaluation.columns["net_power"]
    drawing, axes = canvas(1, 2, 4.6)
    for axis, (name, answer) in zip(axes, evaluation.predictions.items(), strict=True):
        axis.scatter(measured, answer["net_power"], s=8, alpha=0.5, color=BLUE, linewidths=0, rasterized=True)
        ends = [measured.min(), measured.max()]
        axis.plot(ends, ends, color=ORANGE, linewidth=1.2)
        axis.set_xlabel(f"measured {_label('net_power')}")
        axis.set_ylabel(f"{name} [MW]")
    return drawing


def _draw_residuals(evaluation: Evaluation) -> Any:
    power = evaluation.predictions["default"]["net_power"]
    residual = evaluation.columns["net_power"] - power
    drawing, axes = canvas(1, 3, 3.6)
    axes[0].hist(residual, bins=60, color=BLUE)
    axes[0].set_xlabel("residual [MW]")
    axes[0].set_ylabel("readings")
    for axis, values, label in (
        (axes[1], power, "predicted net power [MW]"),
        (axes[2], evaluation.columns["ambient_temperature"], _label("ambient_temperature")),
    ):
        axis.scatter(values, residual, s=8, alpha=0.5, color=BLUE, linewidths=0, rasterized=True)
        axis.axhline(0, color=ORANGE, linewidth=1.2)
        axis.set_xlabel(label)
        axis.set_ylabel("residual [MW]")
    return drawing


def _draw_effects(fitted: Fitted, columns: Mapping[str, NDArray[Any]]) -> Any:
    drawing, axes = canvas(1, 4, 3.2)
    for axis, name in zip(axes, CONDITION_NAMES, strict=True):
        low, high = np.percentile(columns[name], [1, 99])
        grid = np.linspace(low, high, GRID)
        axis.plot(grid, partial_dependence(fitted, columns, name, grid), color=BLUE, linewidth=2)
        axis.set_xlabel(_label(name))
    limits = [axis.get_ylim() for axis in axes]
    for axis in axes:
        axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    axes[0].set_ylabel("mean predicted power [MW]")
    return drawing
