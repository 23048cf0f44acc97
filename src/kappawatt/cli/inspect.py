"""`kappawatt inspect`."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import click
import numpy as np
import orjson

from kappawatt.cli import blocks
from kappawatt.cli.findings import (
    CHECKS,
    Finding,
    change_text,
    clock_findings,
    findings,
    length_text,
    local_text,
    number,
    unit_of,
)
from kappawatt.cli.options import json_option, options_of, reading_options
from kappawatt.datasets.glance import HEAD, Glance, glance
from kappawatt.datasets.profiles import daily_means, is_weekend, mean_day, mean_week
from kappawatt.datasets.quality import Quality, Spans, examine, without_spikes
from kappawatt.datasets.reading.assemble import Found, Tally
from kappawatt.datasets.reading.labels import Change
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import is_of_unknown_layout, layouts, read_bytes
from kappawatt.datasets.reading.table import Fact
from kappawatt.datasets.reading.told import fact_document, left_out_document, moment_text
from kappawatt.datasets.series import MOST_BYTES, Problem, SeriesFile
from kappawatt.errors import KappawattError, PayloadInvalid, PayloadTooLarge, SettingInvalid
from kappawatt.streams.stream import Stream
from kappawatt.streams.table import STREAMS

__all__ = ["Seen", "document", "inspect"]

UNNAMED = "unnamed"
UNREADABLE = 2  # exit code
SERIES_SHOWN = 4
SERIES_LISTED = 30
PROBLEMS_SHOWN = 5
PROBLEMS_KEPT = 100  # in JSON and in the report
SPANS_KEPT = 100
LEFT_OUT_SHOWN = 8
COLUMNS_SHOWN = 20
CELL = 24
NAME = 15  # width of names at the left
SAY_BYTES = 4 * 2**20  # of a file that is announced, since it takes longer than a second
SAY_SECONDS = 1.0
FEW_DAYS = 7  # of which the intervals are drawn, and not the means of days
PLOT = blocks.WIDTH - blocks.LABEL - 2
EXAMPLES = {
    "--time-zone": "Europe/Berlin",
    "--labels": "start",
    "--unit": "kWh",
    "--sep": "semicolon",
    "--day-first": "",
    "--month-first": "",
    "--resample": "1h",
    "--register": "",
    "--stream": "load",
}
"""A value of each option that an error may ask for."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A series, and what there is to say of it.

    Parameters
    ----------
    series : SeriesFile
    quality : Quality
    tally : Tally
    changes : list of Change or None
        None where times are instants, which show no change of the clock.
    findings, clock : list of Finding
    """

    series: SeriesFile
    quality: Quality
    tally: Tally
    changes: list[Change] | None
    findings: list[Finding]
    clock: list[Finding]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@reading_options
@click.option("--key", default="", help="Of a file of several series the one to look at; else a name for its only one.")
@click.option(
    "--stream",
    "stream_name",
    type=click.Choice([stream.name for stream in STREAMS if stream.steps]),
    help="Whose readings they are; told by columns and units if absent.",
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="HTML file to write, with figures.")
@json_option
def inspect(file: Path, key: str, stream_name: str | None, report: Path | None, as_json: bool, **given: Any) -> None:
    """Say how FILE is read and what is in it, before it is used.

    Any table of measurements: CSV, workbook, Parquet, Arrow, JSON, Green Button, NEM12, packed or not. What is told
    comes with what told it; what can be meant in two ways is refused with the option that settles it, and exit code 2.
    `ingest` and `backtest` take the same options and read the file in the same way.

    Of each series: missing intervals, rows that come twice, rows between intervals, stuck values, zeros, spikes, values
    beyond limits, a counter's readings taken for consumption, changes of level, and how changes of the clock look.
    Times are local ones of the series' zone; in JSON they are UTC.
    """
    options = options_of(given)
    stream = next((one for one in STREAMS if one.name == stream_name), None)
    out = _Output(as_json)
    told: list[Fact] = []
    data = b""
    try:
        data = _bytes(file)
        if len(data) > SAY_BYTES:
            out.progress(f"reading {len(data) / 2**20:.0f} MB")
        found = _only(_read(data, options, stream, file.name, told), key)
    except KappawattError as error:
        out.progress("")
        if _tell_rows(out, file):
            return
        _refuse(out, file, data, options, told, error)
        raise SystemExit(UNREADABLE) from None
    seen = list(_look(found, out))
    if report is not None:
        out.progress("drawing the report")
        _write_report(report, file, found, seen)
    out.progress("")
    if as_json:
        out.json(document(file, len(data), found, seen, report))
        return
    _tell(out, file, len(data), found, seen)
    if report is not None:
        out.say(f"\nreport         {report}")


class _Output:
    """Standard output that takes any text, and a line of progress where somebody looks."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.is_live = sys.stderr.isatty()
        self.encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        self.marks = blocks.BLOCKS if self._can(blocks.BLOCKS + blocks.AXIS) else blocks.ASCII

    def _can(self, text: str) -> bool:
        try:
            text.encode(self.encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def say(self, text: str = "") -> None:
        """Print a line, unless JSON is wanted."""
        if not self.as_json:
            self._print(text)

    def json(self, document: dict[str, Any]) -> None:
        """Print one line of JSON."""
        self._print(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS).decode())

    def pair(self, name: str, text: str) -> None:
        """Print a name and what there is to say of it, on several lines if it is long."""
        first, *more = _wrapped(_plain(text), 110 - NAME - 2)
        self.say(f"  {name:<{NAME - 1}} {first}")
        for line in more:
            self.say(" " * (NAME + 2) + line)

    def progress(self, what: str) -> None:
        """Say what takes long, on a line that is written over; empty wipes it."""
        if self.is_live:
            click.echo(f"\r\x1b[K{what}", err=True, nl=False)

    def _print(self, text: str) -> None:
        click.echo(text if self._can(text) else text.encode(self.encoding, "backslashreplace").decode(self.encoding))


def _plain(text: str) -> str:
    """A text of somebody else's file, of which a terminal obeys nothing."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


# ---- reading


def _bytes(path: Path) -> bytes:
    """A file's bytes; more than can be read are not, and a pipe has no size to ask for."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise PayloadInvalid(f"{path}: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise PayloadTooLarge.of("file", f"more than {MOST_BYTES} bytes", f"up to {MOST_BYTES}: a part of it")
    return data


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def _read(data: bytes, options: Options, stream: Stream | None, name: str, told: list[Fact]) -> Found:
    """The file's series; one that has no name can be looked at all the same."""
    try:
        return read_bytes(data, options, stream, name=name, told=told)
    except PayloadInvalid as error:
        if error.field != "key" or error.got != "nothing":
            raise
        told.clear()
        found = read_bytes(data, replace(options, key=UNNAMED), stream, name=name, told=told)
        return replace(found, facts=[*found.facts, Fact("key", UNNAMED, f"{error.allowed}; --key does")])


def _only(found: Found, key: str) -> Found:
    """The one series that is asked for, of several; a lone one under the name that is given."""
    if not key:
        return found
    if len(found.series) == 1:
        [one] = found.series
        facts = [fact for fact in found.facts if fact.name != "key"]
        return replace(found, series=[replace(one, key=one.stream.key.checked(key))], facts=facts)
    chosen = [i for i, one in enumerate(found.series) if one.key == key]
    if not chosen:
        names = ", ".join(one.key for one in found.series[:8])
        more = f" and {len(found.series) - 8} more" if len(found.series) > 8 else ""
        raise SettingInvalid.of("--key", repr(key[:80]), f"one of the file's: {names}{more}")
    return replace(found, series=[found.series[chosen[0]]], tallies=[found.tallies[chosen[0]]])


def _look(found: Found, out: _Output) -> Iterator[Seen]:
    last = monotonic()
    for i, (series, tally) in enumerate(zip(found.series, found.tallies, strict=True)):
        if monotonic() - last > SAY_SECONDS or not i:
            last = monotonic()
            out.progress(f"looking at {_plain(series.key)}, {i + 1} of {len(found.series)}")
        quality = examine(series)
        changes = found.changes.get(series.key, found.changes.get(""))
        changes = next(iter(found.changes.values())) if changes is None and len(found.changes) == 1 else changes
        yield Seen(series, quality, tally, changes, findings(series, quality, tally), clock_findings(series, changes))


# ---- words


def _tell(out: _Output, file: Path, size: int, found: Found, seen: Sequence[Seen]) -> None:
    out.say(f"{_plain(file.name)} ({_size(size)})")
    out.say("\nhow it is read")
    for name, value, because in how(found):
        out.pair(name, f"{value}{f' ({because})' if because else ''}")
    if len(seen) > 1:
        _list(out, seen)
    for one in seen[:SERIES_SHOWN]:
        _tell_series(out, one)
    if len(seen) > SERIES_SHOWN:
        out.say(f"\nand {len(seen) - SERIES_SHOWN} more series; --key shows another one, --json all of them")
    _tell_problems(out, found.problems)


def how(found: Found) -> list[tuple[str, str, str]]:
    """Return how a file was read: name, value, and what told it."""
    facts = sorted(found.facts, key=lambda fact: fact.name != "layout")
    rows = [(fact.name, fact.value, fact.because) for fact in facts]
    rows.extend(("left out", repr(one.name), one.why) for one in found.left_out[:LEFT_OUT_SHOWN])
    if len(found.left_out) > LEFT_OUT_SHOWN:
        names = ", ".join(repr(one.name) for one in found.left_out[LEFT_OUT_SHOWN:][:LEFT_OUT_SHOWN])
        rows.append(("left out", f"{len(found.left_out) - LEFT_OUT_SHOWN} more columns", f"{names}, ..."))
    return rows


def _list(out: _Output, seen: Sequence[Seen]) -> None:
    out.say(f"\n{len(seen)} series")
    width = min(max(len(one.series.key) for one in seen[:SERIES_LISTED]), 30)
    for one in seen[:SERIES_LISTED]:
        wrong = ", ".join(finding.name for finding in one.findings) or "nothing"
        out.say(
            f"  {_plain(one.series.key)[:width]:<{width}} {one.quality.known:>9,} values, mean "
            f"{number(one.quality.mean):>8} {unit_of(one.series)}; {wrong}"
        )
    if len(seen) > SERIES_LISTED:
        out.say(f"  and {len(seen) - SERIES_LISTED} more")


def title(series: SeriesFile) -> str:
    """Return what a series is."""
    return (
        f"{series.key}: {series.stream.target} [{unit_of(series)}] every {length_text(series.step)}, {series.time_zone}"
    )


def _tell_series(out: _Output, one: Seen) -> None:
    series, quality = one.series, one.quality
    out.say(f"\n{_plain(title(series))}")
    if not len(series):
        out.pair("values", "none")
        return
    first, last = (local_text(series.starts[i], series.time_zone) for i in (0, -1))
    out.pair("intervals", f"from {first} to {last} (their starts)")
    out.pair(
        "values",
        f"{quality.known:,} of {quality.intervals:,}; mean {number(quality.mean)}, lowest {number(quality.minimum)}, "
        f"highest {number(quality.maximum)}",
    )
    for line in _plots(without_spikes(series, quality), out.marks):
        out.say(line)
    out.say()
    for finding in (*one.findings, *one.clock):
        out.pair(finding.name, finding.text)
    told = {finding.name for finding in one.findings}
    short = {check: days for check, days in quality.unchecked.items() if check not in told}
    nothing = [check for check in CHECKS if check not in told and check not in short]
    out.pair("nothing of", ", ".join(nothing))
    if short:
        needed = ", ".join(f"{check}: {days} day{'s' if days > 1 else ''}" for check, days in short.items())
        out.pair("not checked", f"for which the series is too short ({needed} and more)")


def _plots(series: SeriesFile, marks: str) -> Iterator[str]:
    """The series by day, a mean day and a mean week."""
    dates, means = daily_means(series)
    if not len(dates):
        return
    indent = " " * (blocks.LABEL + 2)
    if len(dates) < FEW_DAYS:
        known = np.isfinite(series.values)
        places, means = (series.starts[known] - series.starts[0]).astype(np.float64), series.values[known]
        count = int(places[-1]) // (series.step * 1000) + 1
        column = series.step * count / min(count, PLOT)
    else:
        places = (dates - dates[0]).astype(np.float64)
        count = int(places[-1]) + 1
        column = 86_400 * count / min(count, PLOT)
    columns = min(count, PLOT)
    wide = columns * max(1, PLOT // columns)
    shown = blocks.binned(places, means, columns)
    yield ""
    yield f"{indent}means, {length_text(round(column))} a column"
    yield from blocks.bars(np.repeat(shown, wide // columns), 6, marks)
    first, last = (local_text(series.starts[i], series.time_zone)[:10] for i in (0, -1))
    yield indent + (first + last.rjust(wide - len(first)) if wide > 2 * len(first) else first)
    week = mean_week(series)
    if np.isfinite(week).all() and len(dates) >= 14:
        yield ""
        yield f"{indent}mean week, 3 hours a column"
        yield from blocks.bars(week.reshape(-1, 3).mean(axis=1), 4, marks)
        yield indent + "".join(name.ljust(8) for name in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")).rstrip()
    yield ""
    yield f"{indent}mean day: {'Monday to Friday':<28}Saturday and Sunday"
    weekend = is_weekend(series)
    both = np.concatenate([mean_day(series, ~weekend), np.full(4, np.nan), mean_day(series, weekend)])
    yield from blocks.bars(both, 4, marks)
    clock = "00    06    12    18    "
    yield f"{indent}{clock}    {clock}".rstrip()


def _tell_problems(out: _Output, problems: Sequence[Problem]) -> None:
    if not problems:
        return
    out.say(f"\n{len(problems):,} row{'s' if len(problems) > 1 else ''} refused")
    for problem in problems[:PROBLEMS_SHOWN]:
        out.say(f"  {_plain(problem.message)}")
    if len(problems) > PROBLEMS_SHOWN:
        out.say(f"  and {len(problems) - PROBLEMS_SHOWN:,} more")


def _size(size: int) -> str:
    return f"{size:,} bytes" if size < 10_000 else f"{size / 1e3:,.0f} kB" if size < 1e7 else f"{size / 1e6:,.0f} MB"


# ---- files that are not read as series


def _refuse(out: _Output, file: Path, data: bytes, options: Options, told: list[Fact], error: KappawattError) -> None:
    """Say why a file is not read, what it looks like, and what could be said of it."""
    looks = glance(data or _head(file), file.name, options)
    facts = list(dict.fromkeys([*looks.facts, *told]))
    text = str(error).removeprefix(f"{file}: ").partition(". Known by name: ")[0]
    is_unknown = not told and isinstance(error, PayloadInvalid) and is_of_unknown_layout(error)
    is_unknown = is_unknown and not isinstance(error, PayloadTooLarge)
    if out.as_json:
        out.json(
            {
                **_nothing(file, len(data)),
                "facts": [fact_document(fact) for fact in facts],
                "columns": [{"name": c.name, "holds": c.holds, "samples": list(c.samples)} for c in looks.columns],
                "layouts": [layout.name for layout in layouts()] if is_unknown else [],
                "error": text,
            }
        )
        return
    out.say(f"{_plain(file.name)} ({_size(len(data) or file.stat().st_size)})")
    if facts:
        out.say("\nwhat can be told")
        for fact in facts:
            out.pair(fact.name, f"{fact.value}{f' ({fact.because})' if fact.because else ''}")
    _tell_columns(out, looks)
    if is_unknown:
        out.say("\nknown by their columns are")
        for line in _wrapped(", ".join(layout.name for layout in layouts()), 108):
            out.say(f"  {line}")
        out.say("others are read by names, units and what stands in them")
    click.echo(f"\nError: {_plain(text)}", err=True)
    for line in _hints(file, text, looks, options.time_zone):
        click.echo(line, err=True)


def _tell_columns(out: _Output, looks: Glance) -> None:
    if not looks.columns:
        if looks.lines:
            out.say("\nit begins with")
            for line in looks.lines:
                out.say(f"  {_plain(line)}")
        return
    width = min(max(len(column.name) for column in looks.columns[:COLUMNS_SHOWN]) + 2, 40)
    out.say("\nits columns, what they hold and their first cells")
    for column in looks.columns[:COLUMNS_SHOWN]:
        cells = " | ".join(_plain(cell)[:CELL] for cell in column.samples)
        name = repr(column.name) if len(column.name) + 2 <= width else repr(column.name[: width - 5]) + "..."
        out.say(f"  {_plain(name):<{width}} {column.holds:<17} {cells}".rstrip())
    if len(looks.columns) > COLUMNS_SHOWN:
        out.say(f"  and {len(looks.columns) - COLUMNS_SHOWN} more")


def _hints(file: Path, error: str, looks: Glance, time_zone: str) -> Iterator[str]:
    """The same command with the options that an error names."""
    flags = list(dict.fromkeys(re.findall(r"--[a-z]+(?:-[a-z]+)*", error)))
    holding = {kind: [c.name for c in looks.columns if c.holds == kind and c.name] for kind in ("numbers", "times")}
    zones = re.findall(r"\b(?:Europe|America|Australia|Asia|Africa|Pacific)/\w+", error)
    if "--day-first" in flags:
        flags.insert(flags.index("--day-first") + 1, "--month-first")
    for flag in flags:
        named = re.findall(rf"{flag} ((?:[A-Z][a-z]+/|UTC|Etc/)[\w/+:-]*)", error)
        for value in dict.fromkeys(named):
            days = ["--time-zone", time_zone] if flag == "--clock" and time_zone else []
            if (flag, value) != ("--time-zone", time_zone):
                yield f"for instance: kappawatt inspect {shlex.join([_plain(str(file)), *days, flag, value])}"
        if named:
            continue
        value = EXAMPLES.get(flag)
        if flag == "--value-column":
            value = next(iter(holding["numbers"]), None)
        elif flag == "--time-column":
            value = next(iter(holding["times"]), None)
        elif flag in ("--decimal", "--thousands"):
            is_comma = re.search(r"'[^']*,", error) and f"{flag} ." not in error
            value = "," if is_comma else "."  # whichever of the two it is, it is this one
        elif flag == "--sheet":
            value = next(iter(re.findall(r"'([^']+)'", error)), None)
        elif flag == "--time-zone" and zones:
            value = zones[0]
        elif flag == "--epoch":
            value = "ms" if "--epoch ms" in error else "s"
        elif flag == "--unit":
            told = re.search(r"--unit ([kMG]?Wh?)\b", error)
            is_none = "a unit that is not read" in error  # then any unit would be a guess
            value = told[1] if told else None if is_none else "MW" if "MW" in error else value
        if value is None:
            continue
        given = shlex.join(_plain(word) for word in (str(file), flag, *([value] if value else [])))
        yield f"for instance: kappawatt inspect {given}"


def _tell_rows(out: _Output, file: Path) -> bool:
    """Say what is in a file of readings without times of their own; False if it is none."""
    from kappawatt.ingest.files import read_file
    from kappawatt.ingest.series_rows import recognise

    try:
        if not file.is_file():
            return False
        stream = recognise(file)
        if stream is None or stream.steps:
            return False
        batches = list(read_file(stream, file))
    except (KappawattError, OSError, UnicodeDecodeError, EOFError):
        return False
    rows = sum(len(batch) for _, batch in batches)
    valid = sum(int(batch.valid.sum()) for _, batch in batches)
    if not valid:
        return False
    problems = [
        Problem(int(lines[r.row]), r.field or "row", str(r.got), r.allowed)
        for lines, batch in batches
        for r in batch.rejections
    ]
    fields = []
    for field in stream.schema.fields:
        values = [batch.columns[field.name][batch.valid] for _, batch in batches if field.name in batch.columns]
        whole = np.concatenate(values) if values else np.zeros(0)
        if whole.dtype.kind == "f" and np.isfinite(whole).any():
            fields.append((field, float(np.nanmean(whole)), float(np.nanmin(whole)), float(np.nanmax(whole))))
    if out.as_json:
        out.json(_rows_document(file, stream, valid, problems, fields))
        return True
    out.say(f"{_plain(file.name)} ({_size(file.stat().st_size)})")
    out.say(f"\n{rows:,} rows of {stream.title}, which say no time: no series; `kappawatt ingest` streams them")
    for field, mean, low, high in fields:
        name = f"{field.name} [{field.unit}]" if field.unit else field.name
        out.say(f"  {name:<28} mean {number(mean):>8}, lowest {number(low):>8}, highest {number(high):>8}")
    _tell_problems(out, problems)
    return True


def _rows_document(
    file: Path,
    stream: Stream,
    valid: int,
    problems: Sequence[Problem],
    fields: Sequence[tuple[Any, float, float, float]],
) -> dict[str, Any]:
    return {
        **_nothing(file, file.stat().st_size),
        "layout": f"rows of {stream.title}",
        "rows": {
            "stream": stream.name,
            "valid": valid,
            "fields": {f.name: {"unit": f.unit, "mean": m, "min": low, "max": high} for f, m, low, high in fields},
        },
        "refused": _refused(problems),
    }


# ---- JSON


def _nothing(file: Path, size: int) -> dict[str, Any]:
    """A document of a file of which nothing is known: all names, in order."""
    return {
        "file": file.name,
        "bytes": size,
        "layout": None,
        "facts": [],
        "left_out": [],
        "series": [],
        "rows": None,
        "refused": _refused(()),
        "columns": [],
        "layouts": [],
        "report": None,
        "error": None,
    }


def document(file: Path, size: int, found: Found, seen: Sequence[Seen], report: Path | None) -> dict[str, Any]:
    """Return everything there is to say of a file; times are UTC, values in the stream's unit."""
    return {
        **_nothing(file, size),
        "layout": found.layout,
        "facts": [fact_document(fact) for fact in found.facts],
        "left_out": [left_out_document(one) for one in found.left_out],
        "series": [_series(one) for one in seen],
        "refused": _refused(found.problems),
        "report": None if report is None else str(report),
    }


def _refused(problems: Sequence[Problem]) -> dict[str, Any]:
    rows = [{"line": p.line, "field": p.field, "got": p.got, "allowed": p.allowed} for p in problems[:PROBLEMS_KEPT]]
    return {"count": len(problems), "rows": rows}


def _series(one: Seen) -> dict[str, Any]:
    series, quality, tally = one.series, one.quality, one.tally
    low, high = quality.limits
    return {
        "key": series.key,
        "stream": series.stream.name,
        "unit": unit_of(series),
        "time_zone": series.time_zone,
        "interval_seconds": series.step,
        "first": moment_text(series.starts[:1]),
        "last": moment_text(series.starts[-1:]),
        "intervals": quality.intervals,
        "values": quality.known,
        "mean": _number(quality.mean),
        "min": _number(quality.minimum),
        "max": _number(quality.maximum),
        "covariates": sorted(series.covariates),
        "missing": {
            "count": quality.intervals - quality.known,
            "share": quality.missing_share,
            **_spans(quality.missing),
        },
        "doubled": {"agreeing": tally.agreeing, "contradicting": tally.contradicting},
        "off_grid": tally.off_grid,
        "at_skipped_time": tally.skipped,
        "stuck": {"count": quality.flat.total, **_spans(quality.flat)},
        "zeros": {"count": quality.zero_count, **_spans(quality.zeros)},
        "spikes": {
            "count": len(quality.spikes),
            "furthest": [
                {"start": moment_text(np.array([at])), "value": value, "usual": usual}
                for at, value, usual in quality.spikes.furthest(SPANS_KEPT)
            ],
        },
        "negative": quality.negative_count,
        "beyond_limits": {"count": quality.beyond_count + tally.beyond, "min": low, "max": high},
        "register": {"is_register": quality.is_register, **_spans(quality.register)},
        "unit_changes": [
            {"at": moment_text(np.array([j.start])), "before": j.before, "after": j.after} for j in quality.jumps
        ],
        "not_checked": list(quality.unchecked),
        "level_changes": [{"date": str(s.date), "before": s.before, "after": s.after} for s in quality.shifts],
        "clock_changes": None if one.changes is None else [_change(change) for change in one.changes],
        "clock": [f.text for f in one.clock],
        "findings": [{"name": f.name, "count": f.count, "text": f.text} for f in one.findings],
    }


def _spans(spans: Spans) -> dict[str, Any]:
    kept = [
        {
            "start": moment_text(np.array([span.start])),
            "end": moment_text(np.array([span.end])),
            "count": span.count,
            "value": _number(span.value),
        }
        for span in spans.longest(SPANS_KEPT)
    ]
    return {"spans": len(spans), "longest": kept}


def _change(change: Change) -> dict[str, Any]:
    return {
        "at": moment_text(np.array([change.instant])),
        "skips": change.skips,
        "seen": change.seen,
        "shown": None if change.shown is None else change.shown.name.lower(),
        "text": change_text(change),
    }


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


# ---- the report


def _write_report(path: Path, file: Path, found: Found, seen: Sequence[Seen]) -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise SettingInvalid("--report: matplotlib is not installed: pip install 'kappawatt[cli]'") from error
    from kappawatt.evaluation.inspect_report import Part, write_inspect_report

    parts = [
        Part(
            title(one.series),
            one.series,
            one.quality,
            [(f.name, f.text) for f in (*one.findings, *one.clock)],
        )
        for one in seen
    ]
    try:
        write_inspect_report(path, file.name, how(found), parts, found.problems[:PROBLEMS_KEPT], len(found.problems))
    except OSError as error:
        raise SettingInvalid(f"--report: got {path}, allowed a file that can be written ({error.strerror})") from error
