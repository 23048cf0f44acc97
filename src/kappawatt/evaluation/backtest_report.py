"""The report of a backtest: one HTML file, what one would rather look at than read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.series import SeriesFile
from kappawatt.evaluation.backtest import Result
from kappawatt.evaluation.days import Day
from kappawatt.evaluation.peers import forecast_at
from kappawatt.evaluation.report import BLUE, INK, ORANGE, canvas, figure, table, write_page
from kappawatt.forecasting.calendar import to_local
from kappawatt.forecasting.fan import interval_percent

__all__ = ["write_backtest_report"]

SHOWN_DAYS = 14  # of the excerpt
WORST = 10
SERIES_TABLE = 40


def write_backtest_report(
    path: Path, result: Result, *, source: str, series: Sequence[SeriesFile], peers: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write the report.

    Parameters
    ----------
    path : Path
        HTML file; its folder is made.
    result : Result
    source : str
        Where the data is from, and its hash.
    series : sequence of SeriesFile
        Hours of the day are by their clocks.
    peers : sequence of mapping
        What `peers.score_peers` found.
    """
    time_zones = {one.key: one.time_zone for one in series}
    scores = result.scores
    unit, percent = scores["unit"], interval_percent(result.levels)
    answered = [day for day in result.days if day.refused is None and np.isfinite(day.measured).any()]
    key = answered[0].key
    title = f"{scores['service']}: backtest {scores['from']} to {scores['to']}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(source)}</p>",
        f"<p>{_protocol(scores)}</p>",
        "<h2>Scores</h2>",
        _summary(scores, unit, percent),
        _figures_table(scores["day_figures"], percent),
        _weather(scores["weather_brought"], unit, percent),
        _peers(peers, unit),
        _sum(scores.get("sum"), unit, percent),
        _leads(scores.get("leads", ()), unit, percent),
        "<h2>By month</h2>",
        _months(scores["months"], percent),
        figure("months", "Error and coverage by month", _draw_months(scores["months"], unit, percent)),
        "<h2>By hour of the day</h2>",
        figure("hours", "Mean absolute error by local hour", _draw_hours(answered, time_zones, unit)),
        "<h2>Are the quantiles right?</h2>",
        "<p class=note>Share of measurements below each quantile: on the diagonal if calibrated.</p>",
        figure("reliability", "Reliability", _draw_reliability(answered)),
        f"<h2>Two weeks of {escape(key)}</h2>",
        figure(
            "excerpt",
            f"Forecast fans ({_bands_text(result.levels)}) and what was measured",
            _draw_excerpt(answered, next(one for one in series if one.key == key), unit),
        ),
        "<h2>The worst days</h2>",
        _worst_table(answered, unit),
        figure("worst", "The three worst days", _draw_worst(answered, time_zones, unit)),
        _refused(result.days),
        _by_series(scores["by_series"], unit, percent),
    ]
    write_page(path, title, [section for section in sections if section])


def _protocol(scores: Mapping[str, Any]) -> str:
    lead = scores.get("lead", "all")
    if lead != "all":
        return (
            f"Each interval is forecast {lead} h before it ends, whatever the hour, from what was known then; trained "
            f"on what lies before, retrained {scores['retrain']}. {scores['days']:,} days answered, "
            f"{scores['refused_days']} refused, {scores['fallback_days']} with the seasonal naive in them. Took "
            f"{scores['seconds']:g} s."
        )
    when = "when the day begins" if scores["issue"] == "00:00" else f"at {scores['issue']} local time on the day before"
    return (
        f"Each local day is forecast whole, {when}, from what was known then; trained on what lies before, "
        f"retrained {scores['retrain']}. {scores['days']:,} days answered, {scores['refused_days']} refused, "
        f"{scores['fallback_days']} by the seasonal naive. Took {scores['seconds']:g} s."
    )


def _cell(value: Any, digits: int = 4) -> str:
    return (
        ""
        if value is None
        else f"{value:,.{digits}g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,.0f}"
    )


def _cells(scores: Mapping[str, Any], names: Iterable[str], percent: int) -> tuple[str, ...]:
    """How many intervals, some scores, and what the interval holds: a line of a table."""
    return (*(_cell(scores[name]) for name in ("n", *names)), f"{scores[f'coverage_{percent}']:.3f}")


def _summary(scores: Mapping[str, Any], unit: str, percent: int) -> str:
    rows = [
        ("intervals", _cell(scores["n"])),
        (f"MAE [{unit}]", _cell(scores["mae"])),
        (f"RMSE [{unit}]", _cell(scores["rmse"])),
        (f"bias [{unit}]", _cell(scores["bias"])),
        ("MAPE [%]", _cell(scores["mape"])),
        ("sMAPE [%]", _cell(scores["smape"])),
        ("rMAE (over the seasonal naive)", _cell(scores["rmae"])),
        (f"CRPS [{unit}]", _cell(scores["crps"])),
        ("rCRPS (over the seasonal naive)", _cell(scores["rcrps"])),
        (f"{percent} % interval holds", f"{100 * scores[f'coverage_{percent}']:.1f} %"),
        (f"its mean width [{unit}]", _cell(scores[f"width_{percent}"])),
    ]
    return table(("score", "value"), rows)


def _figures_table(figures: Mapping[str, Mapping[str, Any]], percent: int) -> str:
    if not figures:
        return ""
    rows = [(name.replace("_", " "), *_cells(f, ("mae", "rmae", "crps"), percent)) for name, f in figures.items()]
    return table(("figure of the day", "days", "MAE", "rMAE", "CRPS", f"{percent} % interval holds"), rows)


def _weather(brought: Mapping[str, Any] | None, unit: str, percent: int) -> str:
    if not brought:
        return ""
    scored = ("mae", "mape", "rmae", "crps", f"width_{percent}")
    ways = (("with weather", brought["with"]), ("without", brought["without"]))
    rows = [(name, *_cells(s, scored, percent)) for name, s in ways]
    head = ("the same model", "intervals", f"MAE [{unit}]", "MAPE [%]", "rMAE", "CRPS", "width", f"{percent} % holds")
    return "<h2>What weather brought</h2>" + table(head, rows)


def _peers(peers: Sequence[Mapping[str, Any]], unit: str) -> str:
    if not peers:
        return ""
    rows = [
        (line["series"], whose, _cell(line["n"]), *(_cell(scores[name]) for name in ("mae", "rmse", "bias", "mape")))
        for line in peers
        for whose, scores in ((line["forecast"], line["peer"]), ("model", line["model"]))
    ]
    head = ("series", "forecast", "intervals", f"MAE [{unit}]", f"RMSE [{unit}]", f"bias [{unit}]", "MAPE [%]")
    note = (
        "<p class=note>The file holds somebody's forecast of the same intervals. No model has read it; when it was "
        "issued the file does not say.</p>"
    )
    return "<h2>Beside the forecast that the file holds</h2>" + note + table(head, rows)


def _sum(found: Mapping[str, Any] | None, unit: str, percent: int) -> str:
    if found is None:
        return ""
    scored = ("mae", "mean_rmse", "rmae", "crps", f"width_{percent}")
    rows = [
        (key, way.replace("_", " "), *_cells(s, scored, percent))
        for key, ways in ((found["name"], found["sum"]), *found["members"].items())
        for way, s in ways.items()
    ]
    head = ("series", "forecast", "intervals", f"MAE [{unit}]", f"RMSE of the mean [{unit}]", "rMAE", "CRPS", "width",
            f"{percent} % holds")  # fmt: skip
    note = (
        f"<p class=note>{escape(found['name'])} is the sum of the others, on intervals that all have a measurement of. "
        "Alone it is forecast as a series of its own; added up are its members' quantiles; reconciled are all of them, "
        f"by minimum trace, so that their {found['adds_up']}s add up.</p>"
    )
    return "<h2>The sum</h2>" + note + table(head, rows)


def _leads(lines: Sequence[Mapping[str, Any]], unit: str, percent: int) -> str:
    if not lines:
        return ""
    scored = ("mae", "mape", "rmae", "crps", f"width_{percent}")
    rows = [(line["lead"], *_cells(line, scored, percent)) for line in lines]
    head = ("lead", "intervals", f"MAE [{unit}]", "MAPE [%]", "rMAE", "CRPS", "width", f"{percent} % holds")
    note = (
        "<p class=note>Hours are from the newest value to the end of each interval, at every hour of the day; days are "
        "forecast whole at the issue time.</p>"
    )
    return "<h2>By lead</h2>" + note + table(head, rows)


def _months(months: Mapping[str, Mapping[str, Any]], percent: int) -> str:
    scored = {"MAE": "mae", "MAPE [%]": "mape", "rMAE": "rmae", "CRPS": "crps", "width": f"width_{percent}"}
    rows = [(month, *_cells(s, scored.values(), percent)) for month, s in months.items() if s["n"]]
    head = ("month", "intervals", *scored, f"{percent} % holds")
    return table(head, rows)


def _by_series(by_series: Mapping[str, Mapping[str, Any]], unit: str, percent: int) -> str:
    known = [(key, s) for key, s in by_series.items() if s["n"]]
    if not known:
        return ""
    known.sort(key=lambda pair: -(pair[1]["rmae"] or 0))
    rows = [(key, *_cells(s, ("mae", "rmae", "crps"), percent)) for key, s in known[:SERIES_TABLE]]
    more = f"<p class=note>The {SERIES_TABLE} worst of {len(known)}.</p>" if len(known) > SERIES_TABLE else ""
    return (
        "<h2>By series</h2>"
        + more
        + table(("series", "intervals", f"MAE [{unit}]", "rMAE", "CRPS", f"{percent} % holds"), rows)
    )


def _refused(days: Sequence[Day]) -> str:
    refused = [day for day in days if day.refused is not None]
    if not refused:
        return ""
    rows = [(day.key, str(day.date), day.refused or "") for day in refused[:WORST]]
    return f"<h2>{len(refused)} days refused</h2>" + table(("series", "day", "why"), rows)


def _error(day: Day) -> float:
    return float(np.nanmean(np.abs(day.measured - day.median)))


def _worst(days: Sequence[Day]) -> list[Day]:
    return sorted(days, key=_error, reverse=True)[:WORST]


def _worst_table(days: Sequence[Day], unit: str) -> str:
    rows = []
    for day in _worst(days):
        bias = float(np.nanmean(day.median - day.measured))
        rows.append((day.key, f"{day.date} {day.date.item():%A}", _cell(_error(day)), _cell(bias)))
    return table(("series", "day", f"MAE [{unit}]", f"bias [{unit}]"), rows)


def _draw_months(months: Mapping[str, Mapping[str, Any]], unit: str, percent: int) -> Any:
    drawing, axes = canvas(1, 2, 3.6)
    known = {month: s for month, s in months.items() if s["n"]}
    place = np.arange(len(known))
    names = [month[2:] for month in known]
    axes[0].bar(place, [s["mae"] for s in known.values()], color=BLUE, label="model")
    naive = [s.get("naive_mae") or np.nan for s in known.values()]
    axes[0].plot(place, naive, "o", color=ORANGE, label="seasonal naive")
    axes[0].set_ylabel(f"MAE [{unit}]")
    axes[1].axhspan(percent / 100 - 0.02, percent / 100 + 0.02, color=BLUE, alpha=0.2, linewidth=0)
    axes[1].axhline(percent / 100, color=INK, linewidth=0.8)
    axes[1].plot(place, [s[f"coverage_{percent}"] for s in known.values()], "o-", color=ORANGE)
    axes[1].set_ylabel(f"share inside the {percent} % interval")
    for axis in axes:
        axis.set_xticks(place, names, rotation=45, ha="right")
    _legend(axes[0])
    return drawing


def _local_hour(day: Day, zones: Mapping[str, str]) -> NDArray[np.int64]:
    local = to_local(day.targets, zones[day.key])
    result: NDArray[np.int64] = (local - local.astype("datetime64[D]")).astype("timedelta64[h]").astype(np.int64)
    return result


def _draw_hours(days: Sequence[Day], zones: Mapping[str, str], unit: str) -> Any:
    hours = np.concatenate([_local_hour(day, zones) for day in days])
    own = np.abs(np.concatenate([day.measured - day.median for day in days]))
    naive = np.abs(np.concatenate([day.measured - day.naive_median for day in days]))
    drawing, (axis,) = canvas(1, 1, 3.4)
    every = np.unique(hours)
    axis.bar(every, [np.nanmean(own[hours == h]) for h in every], color=BLUE, label="model")
    axis.plot(every, [np.nanmean(naive[hours == h]) for h in every], "o-", color=ORANGE, label="seasonal naive")
    axis.set_xlabel("local hour")
    axis.set_ylabel(f"MAE [{unit}]")
    _legend(axis)
    return drawing


def _draw_reliability(days: Sequence[Day]) -> Any:
    measured = np.concatenate([day.measured for day in days])
    quantiles = np.concatenate([day.quantiles for day in days])
    known = np.isfinite(measured)
    share = (measured[known, None] <= quantiles[known]).mean(axis=0)
    drawing, (axis,) = canvas(1, 1, 4.2)
    axis.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    axis.plot(days[0].levels, share, "o-", color=BLUE)
    axis.set_xlabel("quantile level")
    axis.set_ylabel("share of measurements below it")
    return drawing


def _bands(levels: tuple[float, ...]) -> list[tuple[int, int]]:
    """Positions of the levels that bound what is shaded: the outer ones, and the quartiles if they are there."""
    bands = [(0, len(levels) - 1)]
    if 0.25 in levels and 0.75 in levels:
        bands.append((levels.index(0.25), levels.index(0.75)))
    return bands


def _fan(axis: Any, days: Sequence[Day], zones: Mapping[str, str]) -> None:
    times = np.concatenate([to_local(day.targets, zones[day.key]) for day in days])
    quantiles = np.concatenate([day.quantiles for day in days])
    for (low, high), alpha in zip(_bands(days[0].levels), (0.25, 0.4), strict=False):
        axis.fill_between(times, quantiles[:, low], quantiles[:, high], color=BLUE, alpha=alpha, linewidth=0)
    axis.plot(times, np.concatenate([day.median for day in days]), color=BLUE, linewidth=1.2, label="forecast")
    axis.plot(times, np.concatenate([day.measured for day in days]), color=ORANGE, linewidth=1.4, label="measured")


def _bands_text(levels: tuple[float, ...]) -> str:
    return ", ".join(f"{100 * levels[low]:g} to {100 * levels[high]:g} %" for low, high in _bands(levels))


def _draw_excerpt(days: Sequence[Day], series: SeriesFile, unit: str) -> Any:
    own = [day for day in days if day.key == series.key]
    middle = len(own) // 2
    shown = own[middle : middle + SHOWN_DAYS] or own[:SHOWN_DAYS]
    drawing, (axis,) = canvas(1, 1, 4)
    _fan(axis, shown, {series.key: series.time_zone})
    for name in list(series.forecasts)[:1]:
        times = np.concatenate([to_local(day.targets, series.time_zone) for day in shown])
        axis.plot(times, forecast_at(series, name, shown), ":", color=INK, linewidth=1, label="the file's forecast")
    axis.set_ylabel(f"[{unit}]")
    axis.tick_params(axis="x", rotation=30)
    _legend(axis)
    return drawing


def _draw_worst(days: Sequence[Day], zones: Mapping[str, str], unit: str) -> Any:
    worst = _worst(days)[:3]
    drawing, axes = canvas(1, len(worst), 3.4)
    for axis, day in zip(axes, worst, strict=True):
        _fan(axis, [day], zones)
        axis.set_title(f"{day.key} {day.date}", color=INK, fontsize=9)
        axis.tick_params(axis="x", rotation=60)
    axes[0].set_ylabel(f"[{unit}]")
    return drawing


def _legend(axis: Any) -> None:
    for text in axis.legend(frameon=False).get_texts():
        text.set_color(INK)
