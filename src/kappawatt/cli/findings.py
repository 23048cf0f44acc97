"""What was found in a series, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kappawatt.datasets.quality import Quality, Span, Spans
from kappawatt.datasets.reading.assemble import Tally
from kappawatt.datasets.reading.labels import Change, Labels
from kappawatt.datasets.series import SeriesFile
from kappawatt.forecasting.calendar import HOUR, Instant, clock_changes, to_local, to_utc

__all__ = ["Finding", "change_text", "clock_findings", "findings", "length_text", "local_text", "number", "unit_of"]

SHOWN = 3
NEAR = 4 * HOUR  # of a change of the clock: labels in PJM's way miss up to three hours around it
CHECKS = (
    "missing", "doubled", "off the grid", "stuck", "zeros", "spikes", "negative", "beyond limits", "register", "level",
    "unit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a series.

    Parameters
    ----------
    name : str
        Of the check, one of `CHECKS` or `clock`.
    text : str
    count : int
        Intervals, rows or changes.
    """

    name: str
    text: str
    count: int


def findings(series: SeriesFile, quality: Quality, tally: Tally) -> list[Finding]:
    """Return what is wrong with a series, or may be; its changes of the clock stand for themselves."""
    unit = unit_of(series)
    told = [
        _missing(series, quality),
        _doubled(tally),
        _off_grid(series, tally),
        _stuck(series, quality, unit),
        _zeros(series, quality),
        _spikes(series, quality, unit),
        _negative(quality, unit),
        _beyond(series, quality, tally, unit),
        _register(series, quality, unit),
        _levels(quality, unit),
        _jumps(series, quality, unit),
    ]
    return [finding for finding in told if finding is not None]


def _missing(series: SeriesFile, quality: Quality) -> Finding | None:
    count = quality.intervals - quality.known
    if not count:
        return None
    near = _near_changes(series, quality.missing)
    where = f", {near:,} of them where the clock changes" if near else ""
    text = (
        f"{count:,} of {quality.intervals:,} intervals ({_percent(quality.missing_share)}) in "
        f"{_many(len(quality.missing), 'span')}{where}; {_longest(series, quality.missing)}"
    )
    return Finding("missing", text, count)


def _near_changes(series: SeriesFile, spans: Spans) -> int:
    if not len(spans):
        return 0
    instants, _ = clock_changes(series.time_zone, series.starts[0], series.starts[-1])
    if not len(instants):
        return 0
    short = spans.counts * spans.step <= 3 * 3600
    after = np.minimum(np.searchsorted(instants, spans.starts), len(instants) - 1)
    near = np.zeros(len(spans), dtype=np.bool_)
    for place in (after, np.maximum(after - 1, 0)):
        near |= np.abs(instants[place] - spans.starts) <= NEAR
    return int((near & short).sum())


def _doubled(tally: Tally) -> Finding | None:
    if not tally.agreeing + tally.contradicting:
        return None
    agree = f"{_many(tally.agreeing, 'row')} again that say the same or nothing" if tally.agreeing else ""
    against = (
        f"{_many(tally.contradicting, 'row')} of an interval to which a later row, the one taken, gives another value; "
        f"the first: {tally.first}"
        if tally.contradicting
        else ""
    )
    return Finding("doubled", "; ".join(filter(None, (against, agree))), tally.agreeing + tally.contradicting)


def _off_grid(series: SeriesFile, tally: Tally) -> Finding | None:
    if not tally.off_grid:
        return None
    text = f"{_many(tally.off_grid, 'row')} between whole intervals of {length_text(series.step)}, left out"
    return Finding("off the grid", text, tally.off_grid)


def _stuck(series: SeriesFile, quality: Quality, unit: str) -> Finding | None:
    spans = quality.flat
    if not len(spans):
        return None
    text = (
        f"{spans.total:,} intervals in {_many(len(spans), 'run')} of one value, as of a meter that stands still; "
        + _longest(series, spans, unit)
    )
    return Finding("stuck", text, spans.total)


def _zeros(series: SeriesFile, quality: Quality) -> Finding | None:
    if not quality.zero_count:
        return None
    spans = quality.zeros
    share = _percent(quality.zero_count / quality.known)
    runs = f", {spans.total:,} of them in {_many(len(spans), 'run')}; {_longest(series, spans)}" if len(spans) else ""
    return Finding("zeros", f"{_many(quality.zero_count, 'zero')} ({share}){runs}", quality.zero_count)


def _spikes(series: SeriesFile, quality: Quality, unit: str) -> Finding | None:
    count = len(quality.spikes)
    if not count:
        return None
    shown = [
        f"{local_text(at, series.time_zone)} {number(value)} {unit} where {number(usual)} is usual"
        for at, value, usual in quality.spikes.furthest(SHOWN)
    ]
    more = f", and {count - SHOWN:,} more" if count > SHOWN else ""
    text = f"{_many(count, 'value')} far from the same time of the days around: {', '.join(shown)}{more}"
    return Finding("spikes", text, count)


def _negative(quality: Quality, unit: str) -> Finding | None:
    if not quality.negative_count:
        return None
    share = _percent(quality.negative_count / quality.known)
    text = f"{_many(quality.negative_count, 'value')} ({share}), the lowest {number(quality.minimum)} {unit}"
    return Finding("negative", text, quality.negative_count)


def _beyond(series: SeriesFile, quality: Quality, tally: Tally, unit: str) -> Finding | None:
    count = quality.beyond_count + tally.beyond
    if not count:
        return None
    low, high = (number(limit) for limit in quality.limits)
    at = "" if quality.first_beyond is None else f", first at {local_text(quality.first_beyond, series.time_zone)}"
    return Finding("beyond limits", f"{_many(count, 'value')}{at}, refused; allowed {low} to {high} {unit}", count)


def _register(series: SeriesFile, quality: Quality, unit: str) -> Finding | None:
    if not len(quality.register):
        return None
    [longest] = quality.register.longest(1)
    days = longest.hours / 24
    since = local_text(longest.start, series.time_zone)
    if not quality.is_register:
        text = f"from {since} on values never fall for {days:.1f} days; is a part of it the readings of a counter?"
    else:
        text = (
            f"values never fall for {days:.1f} days from {since} on, up to {number(quality.maximum)} {unit}: they look "
            "like the readings of a counter; --register takes their differences"
        )
    return Finding("register", text, quality.register.total)


def _levels(quality: Quality, unit: str) -> Finding | None:
    if not quality.shifts:
        return None
    shown = [f"{one.date} from {number(one.before)} to {number(one.after)} {unit}" for one in quality.shifts[:SHOWN]]
    more = f", and {len(quality.shifts) - SHOWN} more" if len(quality.shifts) > SHOWN else ""
    text = f"the mean changes from one day to the next and stays for two weeks: {', '.join(shown)}{more}"
    return Finding("level", text, len(quality.shifts))


def _jumps(series: SeriesFile, quality: Quality, unit: str) -> Finding | None:
    if not quality.jumps:
        return None
    shown = [
        f"{local_text(one.start, series.time_zone)} from {number(one.before)} to {number(one.after)} {unit}"
        for one in quality.jumps[:SHOWN]
    ]
    more = f", and {len(quality.jumps) - SHOWN} more" if len(quality.jumps) > SHOWN else ""
    text = f"values jump by a factor of 1000 and stay, as if their unit changed: {', '.join(shown)}{more}"
    return Finding("unit", text, len(quality.jumps))


def _longest(series: SeriesFile, spans: Spans, unit: str = "") -> str:
    shown = spans.longest(SHOWN)
    return ("longest: " if len(spans) > 1 else "") + ", ".join(_span(series, span, unit) for span in shown)


def _span(series: SeriesFile, span: Span, unit: str) -> str:
    value = f" at {number(span.value)} {unit}" if unit else ""
    return f"{local_text(span.start, series.time_zone)} ({length_text(round(span.hours * 3600))}{value})"


# ---- changes of the clock


def change_text(change: Change) -> str:
    """Return how labels show one change of the clock."""
    if not change.seen:
        return "no rows around it"
    if change.skips:
        return {
            Labels.START: "no row at the time that is skipped, which is right",
            Labels.AFTER_START: "no row an interval later than the time that is skipped, PJM's way",
        }.get(change.shown or Labels.END, "rows at the time that is skipped: filled by the publisher, or another clock")
    return {
        Labels.START: "two rows at each time that comes twice, which is right",
        Labels.AFTER_START: "two rows an interval later than the time that comes twice, PJM's way",
    }.get(change.shown or Labels.END, "one row where the time comes twice: left out by the publisher, or another clock")


def clock_findings(series: SeriesFile, changes: Sequence[Change] | None) -> list[Finding]:
    """Return how a series' labels show changes of the clock, alike ones together; None is that labels are instants."""
    if changes is None:
        inside = clock_changes(series.time_zone, series.starts[0], series.starts[-1])[0] if len(series) else ()
        if not len(inside):
            return []
        text = f"times say their offset or are in UTC, so that all {len(inside)} changes are right by themselves"
        return [Finding("clock", text, len(inside))]
    ways = Counter((change.skips, change_text(change)) for change in changes)
    first = {(c.skips, change_text(c)): c.instant for c in reversed(changes)}
    total = Counter(change.skips for change in changes)
    told = []
    for (skips, text), count in sorted(ways.items(), key=lambda pair: (not pair[0][0], -pair[1])):
        which = f"{count} of {total[skips]} changes in {'spring' if skips else 'autumn'}"
        since = local_text(first[skips, text], series.time_zone)[:10]
        when = f"from {since} on" if count > 1 else since
        told.append(Finding("clock", f"{which} ({when}): {text}", count))
    return told


# ---- words


def unit_of(series: SeriesFile) -> str:
    """Return the unit of a series' values."""
    return series.stream.schema.field(series.stream.target).unit


def number(value: float) -> str:
    """Return a number with four digits or more.

    Examples
    --------
    >>> number(32187.4), number(0.24561), number(-3.0), number(float("nan"))
    ('32,187', '0.2456', '-3', '-')
    """
    if not np.isfinite(value):
        return "-"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def length_text(seconds: int) -> str:
    """Return a length of time.

    Examples
    --------
    >>> length_text(900), length_text(7200), length_text(72 * 3600)
    ('15 min', '2 h', '3 days')
    """
    if seconds < 3600:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 172_800 else f"{seconds / 86_400:.3g} days"


def local_text(moment: Instant, zone: str) -> str:
    """Return a moment as the zone's clock shows it, with its offset where the clock shows that time twice.

    Examples
    --------
    >>> local_text(np.datetime64("2024-11-03T06:30"), "America/New_York")
    '2024-11-03 01:30-05:00'
    """
    instants = np.array([moment], dtype="datetime64[ms]")
    wall = to_local(instants, zone)
    text = str(wall[0].astype("datetime64[m]")).replace("T", " ")
    if zone == "UTC" or to_utc(wall, zone)[0] == to_utc(wall, zone, second=True)[0]:
        return text
    minutes = int((wall - instants)[0].astype(np.int64)) // 60_000
    return f"{text}{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
