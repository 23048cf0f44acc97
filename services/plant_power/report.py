"""One HTML file on a training run: data, errors, effects, intervals. Inline; readable in light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.events.plant import CONDITIONS, NET_POWER
from kappawatt.metrics import coverage, mean_width, rmse
from services.plant_power.features import CONDITION_NAMES, features
from services.plant_power.inference import OUTPUT_NAMES, Fitted

if TYPE_CHECKING:
    from kappawatt.datasets import Dataset
    from services.plant_power.train import Evaluation

__all__ = ["partial_dependence", "score_by_bin", "write_report"]

UNITS = {field.name: field.unit for field in (*CONDITIONS, NET_POWER)}
TEMPERATURE_EDGES = (-50.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 60.0)  # degC
SAMPLE_ROWS = 300  # readings averaged over in a partial dependence
GRID = 25
BLUE, ORANGE = "#3d85c6", "#d9822b"  # contrast 3:1 and more on white and on the dark ground
INK = "#010203"  # replaced by the page's own text colour
STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14181d; --ink: #e6edf3; --soft: #9da7b1; --line: #3d444d; } }
body { background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 64rem; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
p.note, figcaption { color: var(--soft); } figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } code { overflow-wrap: anywhere; }
.synthetic { border: 2px solid #d9822b; padding: .5rem 1rem; }
"""


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
    sections = [
        "<h1>Plant power: training report</h1>",
        _provenance(dataset),
        "<h2>Baseline and default</h2>",
        "<p class=note>30 % of the distinct rows held out; no row is on both sides.</p>",
        _score_table(holdout.scores),
    ]
    if unseen:
        sections += [
            "<h2>Days the model has not seen</h2>",
            "<p class=note>A quarter of all values of exhaust vacuum left out at a time. Hours of equal "
            "vacuum err alike, and a random split puts them on both sides; this is the error to expect on "
            "new days.</p>",
            _score_table(unseen.scores),
        ]
    if records:
        sections += ["<h2>5x2 cross-validation</h2>", _fold_table(records)]
    sections += [
        "<h2>Interval and error by ambient temperature</h2>",
        "<p class=note>Default, on the held-out 30 %. The interval is meant to hold 90 % of readings.</p>",
        _bin_table(holdout),
        "<h2>Predicted and measured</h2>",
        _figure("parity", "Predicted against measured power", _draw_parity(holdout)),
        "<h2>Residuals</h2>",
        "<p class=note>Measured minus predicted, on the held-out 30 %.</p>",
        _figure(
            "residuals",
            "Residuals: histogram, against prediction, against temperature",
            _draw_residuals(holdout),
        ),
        "<h2>Effect of each condition</h2>",
        f"<p class=note>Partial dependence: mean prediction over {SAMPLE_ROWS} readings with one condition "
        "moved over its 1st to 99th percentile, the others as they were. Dew point follows temperature and "
        "humidity.</p>",
        _figure("effects", "Partial dependence of power on each condition", _draw_effects(fitted, dataset.columns)),
        "<h2>Data</h2>",
        _figure("histograms", "Histogram of each condition and of power", _draw_histograms(dataset.columns)),
        _figure("correlations", "Correlations of conditions and power", _draw_correlations(dataset.columns)),
    ]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<title>Plant power: training report</title>"
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body>\n{chr(10).join(sections)}\n</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


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


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"


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
    return _table(head, rows)


def _fold_table(records: Sequence[Mapping[str, Any]]) -> str:
    from services.plant_power.train import mean_scores

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
    return _table(head, rows)


def _bin_table(evaluation: Evaluation) -> str:
    head = ("ambient temperature [degC]", "rows", "RMSE [MW]", "coverage", "mean width [MW]")
    rows = [
        (
            _bin_name(b["low"], b["high"]),
            f"{b['n']:,}", f"{b['rmse']:.2f}", f"{b['coverage_90']:.3f}", f"{b['width_90']:.2f}",
        )
        for b in score_by_bin(evaluation, "ambient_temperature", TEMPERATURE_EDGES)
    ]  # fmt: skip
    return _table(head, rows)


def _bin_name(low: float, high: float) -> str:
    if low == TEMPERATURE_EDGES[0]:
        return f"below {high:g}"
    return f"from {low:g}" if high == TEMPERATURE_EDGES[-1] else f"{low:g} to {high:g}"


def _label(name: str) -> str:
    return f"{name.replace('_', ' ')} [{UNITS[name]}]"


def _canvas(rows: int, columns: int, height: float) -> tuple[Any, Any]:
    """Return a figure and its axes, all drawn in INK on no ground."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.patch.set_alpha(0)
        axis.tick_params(colors=INK)
        axis.spines[["top", "right"]].set_visible(False)
        for part in (*axis.spines.values(), axis.xaxis.label, axis.yaxis.label):
            (part.set_edgecolor if hasattr(part, "set_edgecolor") else part.set_color)(INK)
    return figure, axes


def _figure(name: str, caption: str, figure: Any) -> str:
    """Return a figure as inline SVG whose ink is the page's text colour and whose ids are its own."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, dpi=120, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\1{name}-", svg)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _draw_histograms(columns: Mapping[str, NDArray[Any]]) -> Any:
    figure, axes = _canvas(2, 3, 5.5)
    for axis, name in zip(axes, (*CONDITION_NAMES, "net_power"), strict=False):
        axis.hist(columns[name], bins=40, color=BLUE)
        axis.set_xlabel(_label(name))
        axis.set_ylabel("readings")
    axes[-1].set_visible(False)
    return figure


def _draw_correlations(columns: Mapping[str, NDArray[Any]]) -> Any:
    names = (*CONDITION_NAMES, "net_power")
    correlation = np.corrcoef([columns[name] for name in names])
    figure, (axis,) = _canvas(1, 1, 5.5)
    image = axis.imshow(correlation, vmin=-1, vmax=1, cmap="RdBu_r")
    words = [name.replace("_", " ") for name in names]
    axis.set_xticks(range(len(names)), words, rotation=25, ha="right")
    axis.set_yticks(range(len(names)), words)
    for (row, column), value in np.ndenumerate(correlation):
        colour = "white" if abs(value) > 0.6 else "black"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    bar = figure.colorbar(image, ax=axis, shrink=0.8)
    bar.ax.tick_params(colors=INK)
    return figure


def _draw_parity(evaluation: Evaluation) -> Any:
    measured = evaluation.columns["net_power"]
    figure, axes = _canvas(1, 2, 4.6)
    for axis, (name, answer) in zip(axes, evaluation.predictions.items(), strict=True):
        axis.scatter(measured, answer["net_power"], s=8, alpha=0.5, color=BLUE, linewidths=0, rasterized=True)
        ends = [measured.min(), measured.max()]
        axis.plot(ends, ends, color=ORANGE, linewidth=1.2)
        axis.set_xlabel(f"measured {_label('net_power')}")
        axis.set_ylabel(f"{name} [MW]")
    return figure


def _draw_residuals(evaluation: Evaluation) -> Any:
    power = evaluation.predictions["default"]["net_power"]
    residual = evaluation.columns["net_power"] - power
    figure, axes = _canvas(1, 3, 3.6)
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
    return figure


def _draw_effects(fitted: Fitted, columns: Mapping[str, NDArray[Any]]) -> Any:
    figure, axes = _canvas(1, 4, 3.2)
    for axis, name in zip(axes, CONDITION_NAMES, strict=True):
        low, high = np.percentile(columns[name], [1, 99])
        grid = np.linspace(low, high, GRID)
        axis.plot(grid, partial_dependence(fitted, columns, name, grid), color=BLUE, linewidth=2)
        axis.set_xlabel(_label(name))
    limits = [axis.get_ylim() for axis in axes]
    for axis in axes:
        axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    axes[0].set_ylabel("mean predicted power [MW]")
    return figure
