"""The report on a file: how it was read, and its series as one would rather look at them than read of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.profiles import SEASONS, mean_day, season_of, weekday_of
from kappawatt.datasets.quality import Quality, Spans, without_spikes
from kappawatt.datasets.series import Problem, SeriesFile
from kappawatt.evaluation.report import BLUE, INK, ORANGE, canvas, figure, table, write_page
from kappawatt.forecasting.calendar import DAY, HOUR, Instant, Times, clock_changes, to_local

__all__ = ["Part", "write_inspect_report"]

MOST_SERIES = 6
MOST_POINTS = 2_000  # of a line: more are less than a pixel each
MOST_CHANGES = 6
MOST_MARKS = 200
BINS = 60
AROUND = 8 * HOUR  # of a change of the clock
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
GREEN, RED, GREY = "#3f9b5f", "#d1495b", "#8a94a0"  # contrast 3:1 and more on white and on the dark ground
PURPLE, BROWN, CYAN = "#9a6fd0", "#a9744f", "#2b98a8"
LINES = (BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, CYAN)


@dataclass(frozen=True, slots=True)
class Part:
    """One series of the report.

    Parameters
    ----------
    title : str
    series : SeriesFile
    quality : Quality
    findings : sequence of (str, str)
        Name of the check and what it found.
    """

    title: str
    series: SeriesFile
    quality: Quality
    findings: Sequence[tuple[str, str]]


def write_inspect_report(
    path: Path,
    name: str,
    how: Sequence[tuple[str, str, str]],
    parts: Sequence[Part],
    problems: Sequence[Problem],
    refused: int,
) -> None:
    """Write the report.

    Parameters
    ----------
    path : Path
        HTML file; its folder is made.
    name : str
        Of the file that was read.
    how : sequence of (str, str, str)
        How it was read: name, value, and what told it.
    parts : sequence of Part
    problems : sequence of Problem
        The first rows that were refused.
    refused : int
        All of them.
    """
    sections = [f"<h1>{escape(name)}</h1>", "<h2>How it is read</h2>", _words(("", "", "told by"), how)]
    for i, part in enumerate(parts[:MOST_SERIES]):
        sections.extend(_series(f"s{i}", part))
    if len(parts) > MOST_SERIES:
        sections.append(f"<p class=note>And {len(parts) - MOST_SERIES} more series.</p>")
    if refused:
        rows = [(f"{p.line:,}", p.field, p.got, p.allowed) for p in problems]
        more = f"<p class=note>The first {len(rows)}.</p>" if refused > len(rows) else ""
        sections += [f"<h2>{refused:,} rows refused</h2>", more, _words(("line", "field", "got", "allowed"), rows)]
    write_page(path, f"{name}: how it is read and what is in it", sections)


def _words(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text, whose cells begin at the left."""
    return table(head, rows).replace("<div class=wide>", '<div class="wide words">', 1)


def _series(ident: str, part: Part) -> list[str]:
    series, quality = part.series, part.quality
    sections = [f"<h2>{escape(part.title)}</h2>"]
    if not quality.known:
        return [*sections, "<p>No value.</p>"]
    usual = without_spikes(series, quality)
    unit = series.stream.schema.field(series.stream.target).unit
    sections += [
        f"<p>{quality.known:,} of {quality.intervals:,} intervals have a value: mean {_cell(quality.mean)}, from "
        f"{_cell(quality.minimum)} to {_cell(quality.maximum)} {escape(unit)}.</p>",
        _words(("check", "what it found"), part.findings) if part.findings else "<p>Nothing is wrong with it.</p>",
        _wide(f"{ident}-all", _caption(quality), _draw_all(part, unit)),
        _wide(f"{ident}-days", "Mean day by weekday, and by season", _draw_days(usual, unit)),
    ]
    changes = _changes(series)
    if len(changes):
        caption = f"Changes of {series.time_zone}'s clock, the hours around each in UTC"
        sections.append(_wide(f"{ident}-clock", caption, _draw_changes(series, changes, unit)))
    sections.append(_wide(f"{ident}-values", "How often each value comes", _draw_values(series, unit)))
    return sections


def _wide(name: str, caption: str, drawing: Any) -> str:
    """A figure that keeps its size where the page is narrow, and is moved to and fro."""
    return figure(name, caption, drawing).replace("<figure>", "<figure class=wide>", 1)


def _cell(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _caption(quality: Quality) -> str:
    marks = [
        word
        for word, count in (
            ("missing (red)", len(quality.missing)),
            ("stuck (orange)", len(quality.flat)),
            ("runs of zeros (purple)", len(quality.zeros)),
            ("spikes (rings, at the edge if they are beyond it)", len(quality.spikes)),
            ("changes of level (dashed)", len(quality.shifts)),
        )
        if count
    ]
    return "The series, local time" + (f"; marked: {', '.join(marks)}" if marks else "")


def _draw_all(part: Part, unit: str) -> Any:
    series, quality = part.series, part.quality
    drawing, (axis,) = canvas(1, 1, 3.8)
    times, low, high = _thinned(without_spikes(series, quality))
    if len(series) > MOST_POINTS:
        axis.fill_between(times, low, high, color=BLUE, alpha=0.6, linewidth=0.6)
    else:
        axis.plot(times, low, color=BLUE, linewidth=1)
    begin, end = to_local(series.starts[[0, -1]], series.time_zone)
    least = (end - begin) / 400  # what is narrower would not be seen
    for spans, color in ((quality.missing, RED), (quality.flat, ORANGE), (quality.zeros, PURPLE)):
        for one, other in _edges(spans, series.time_zone, least):
            axis.axvspan(one, other, color=color, alpha=0.45, linewidth=0)
    spikes = quality.spikes
    at = to_local(spikes.starts[:MOST_MARKS], series.time_zone)
    room = 0.08 * ((np.nanmax(high) - np.nanmin(low)) or 1.0)
    edge = np.clip(spikes.values[:MOST_MARKS], np.nanmin(low) - room, np.nanmax(high) + room)
    axis.plot(at, edge, "o", color=RED, fillstyle="none", markersize=8, linestyle="none")
    for shift in quality.shifts:
        axis.axvline(shift.date.astype("datetime64[ms]"), color=INK, linewidth=0.9, linestyle="--")
    axis.set_ylabel(f"[{unit}]")
    axis.margins(x=0.01)
    return drawing


def _thinned(series: SeriesFile) -> tuple[Times, NDArray[np.float64], NDArray[np.float64]]:
    """Times of equal parts of a series, and the lowest and highest value of each; NaN in those without any."""
    known = np.isfinite(series.values)
    wall, values = to_local(series.starts[known], series.time_zone), series.values[known]
    span = (wall[-1] - wall[0]).astype(np.int64) + series.step * 1000
    parts = min(MOST_POINTS, int(span // (series.step * 1000)))
    place = np.minimum((wall - wall[0]).astype(np.int64) * parts // span, parts - 1)
    low, high = np.full(parts, np.inf), np.full(parts, -np.inf)
    np.minimum.at(low, place, values)
    np.maximum.at(high, place, values)
    nothing = ~np.isfinite(low)
    low[nothing] = high[nothing] = np.nan
    times = wall[0] + (np.arange(parts) * (span // parts)).astype("timedelta64[ms]")
    return times, low, high


def _edges(spans: Spans, zone: str, least: np.timedelta64) -> list[tuple[Instant, Instant]]:
    found = []
    for span in spans.longest(MOST_MARKS):
        begin, end = to_local(np.array([span.start, span.end]), zone)
        found.append((begin, max(end, begin + least)))
    return found


def _draw_days(series: SeriesFile, unit: str) -> Any:
    drawing, axes = canvas(1, 2, 3.6)
    hours = np.arange(24)
    for axis, names, group in ((axes[0], WEEKDAYS, weekday_of(series)), (axes[1], SEASONS, season_of(series))):
        for i, name in enumerate(names):
            line = mean_day(series, group == i)
            if np.isfinite(line).any():
                axis.plot(hours, line, color=LINES[i], linewidth=1.5, label=name)
        axis.set_xticks(np.arange(0, 25, 6))
        axis.set_xlabel("local hour")
        for text in axis.legend(frameon=False, fontsize=8, ncols=2).get_texts():
            text.set_color(INK)
    axes[0].set_ylabel(f"[{unit}]")
    return drawing


def _changes(series: SeriesFile) -> Times:
    instants, _ = clock_changes(series.time_zone, series.starts[0] + DAY, series.starts[-1] - DAY)
    if len(instants) <= MOST_CHANGES:
        return instants
    return instants[np.r_[0:2, -(MOST_CHANGES - 2) : 0]]  # the first two, and the newest


def _draw_changes(series: SeriesFile, changes: Times, unit: str) -> Any:
    rows = -(-len(changes) // 2)
    drawing, axes = canvas(rows, 2, 2.6 * rows)
    interval = np.timedelta64(series.step * 1000, "ms")
    for axis, instant in zip(axes, changes, strict=False):
        times = np.arange(instant - AROUND, instant + AROUND, interval)
        place = np.minimum(np.searchsorted(series.starts, times), len(series) - 1)
        values = np.where(series.starts[place] == times, series.values[place], np.nan)
        axis.step(times, values, where="post", color=BLUE, linewidth=1.2)
        axis.plot(times + interval / 2, values, "o", color=BLUE, markersize=3)
        for time in times[np.isnan(values)]:
            axis.axvspan(time, time + interval, color=RED, alpha=0.3, linewidth=0)
        axis.axvline(instant, color=ORANGE, linewidth=1.2)
        axis.set_xlim(times[0], times[-1] + interval)
        ticks = np.arange(instant - 6 * HOUR, instant + 7 * HOUR, 3 * HOUR)
        axis.set_xticks(ticks, [str(tick.astype("datetime64[m]"))[11:] for tick in ticks])
        axis.set_title(str(instant.astype("datetime64[m]")).replace("T", " ") + "Z", color=INK, fontsize=9)
    for axis in axes[len(changes) :]:
        axis.set_visible(False)
    axes[0].set_ylabel(f"[{unit}]")
    return drawing


def _draw_values(series: SeriesFile, unit: str) -> Any:
    drawing, (axis,) = canvas(1, 1, 3)
    known = series.values[np.isfinite(series.values)]
    low, high = np.quantile(known, [0.001, 0.999])
    inside = known[(known >= low) & (known <= high)]
    axis.hist(inside, bins=BINS, color=BLUE)
    left = len(known) - len(inside)
    axis.set_xlabel(f"[{unit}]" + (f", without the {left:,} furthest values" if left else ""))
    axis.set_ylabel("intervals")
    return drawing
