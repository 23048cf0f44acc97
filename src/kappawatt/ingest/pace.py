"""Rows at a steady rate: the clock, the progress bar, and the sum at the end."""

from __future__ import annotations

import itertools
import math
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch, Columns, Rejection
from kappawatt.errors import PayloadInvalid
from kappawatt.ingest.files import Numbered, read_file
from kappawatt.ingest.senders import Send, Sent
from kappawatt.ingest.series_rows import SeriesRows, merged
from kappawatt.messages.readings import BLOCK_ROWS_MOST
from kappawatt.streams.stream import Stream

__all__ = ["Summary", "send_columns", "send_file", "send_series"]

TICK_SECONDS = 0.05  # above 20 rows a second, rows that fall due within this time travel together
REFUSALS_SHOWN = 100


@dataclass(slots=True)
class Summary:
    """What became of a file.

    Parameters
    ----------
    rows : int
        Read; accepted + refused + unconfirmed.
    unconfirmed : int
        Sent when Ctrl-C came, before there was an answer.
    refusals : list of str
        The first hundred, each with line and reason.
    """

    rows: int = 0
    accepted: int = 0
    refused: int = 0
    unconfirmed: int = 0
    retries: int = 0
    seconds: float = 0.0
    is_interrupted: bool = False
    refusals: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        speed = self.rows / self.seconds if self.seconds else 0.0
        text = (
            f"{self.rows:,} rows in {self.seconds:.1f} s ({speed:,.1f} rows/s): "
            f"{self.accepted:,} accepted, {self.refused:,} refused, {self.retries:,} retries"
        )
        if self.unconfirmed:
            text += f", {self.unconfirmed:,} without an answer yet"
        return text + (" (interrupted)" if self.is_interrupted else "")


def send_file(
    stream: Stream,
    source: Path,
    *,
    send: Send,
    rate: float,
    loop: bool = False,
    progress: bool = True,
) -> Summary:
    """Stream a file at `rate` rows a second until its end, for ever if `loop`, or until Ctrl-C.

    The clock has no drift: row i is due `i / rate` seconds after the first, and after an outage what is
    overdue follows as fast as the other side takes it.

    Parameters
    ----------
    source : Path
        `.csv`, `.ndjson` or `.arrow`, each also with `.gz`. CSV with header (CCPP's AT, V, AP, RH, PE or full
        names; an unnamed running number in front is left out), or without in this order.
    send : callable
        `http_sender(...)` or `bus_sender(...)`; gets valid rows only.
    rate : float
        Rows a second, above 0.
    progress : bool
        Show a bar, and each refused row with its reason, on standard error.

    Raises
    ------
    PayloadInvalid
        The file is none of the formats above.
    DeliveryFailed
        The other side did not take rows for five minutes.
    """
    return _send_all([(_repeat(stream, source, loop), rate)], send, progress, threading.Event())


def send_columns(
    stream: Stream,
    columns: Columns,
    *,
    send: Send,
    rate: float,
    loop: bool = False,
    progress: bool = False,
    stopped: threading.Event | None = None,
) -> Summary:
    """Stream readings that are in memory, as `send_file` does a file, until `stopped` is set."""
    n = len(next(iter(columns.values())))
    whole = stream.schema.check(columns, n)
    parts = [(_span(start, n) + 1, whole.take(_span(start, n))) for start in range(0, n, BLOCK_ROWS_MOST)]
    source = itertools.cycle(parts) if loop else iter(parts)
    return _send_all([(source, rate)], send, progress, stopped or threading.Event())


def send_series(
    series: Sequence[SeriesRows],
    *,
    send: Send,
    rate: float,
    progress: bool = False,
    stopped: threading.Event | None = None,
) -> Summary:
    """Stream load zones or meters: what is history first and at once, the rest in order of time at `rate`.

    Parameters
    ----------
    series : sequence of SeriesRows
        Of one stream; `SeriesRows.between` says what is history.
    send : callable
        One that takes the rows' own keys.
    rate : float
        Rows a second, of all series together.
    """
    history = ((_span(start, n) + 1, one.history.take(_span(start, n)))
               for one in series for n in (len(one.history),) for start in range(0, n, BLOCK_ROWS_MOST))  # fmt: skip
    live = merged([one.live for one in series])
    n = len(live)
    steady = ((_span(start, n) + 1, live.take(_span(start, n))) for start in range(0, n, BLOCK_ROWS_MOST))
    problems = [problem.message for one in series for problem in one.problems]
    whole = [(history, math.inf), (steady, rate)]
    return _send_all(whole, send, progress, stopped or threading.Event(), problems)


def _span(start: int, n: int) -> NDArray[np.intp]:
    return np.arange(start, min(start + BLOCK_ROWS_MOST, n))


def _send_all(
    sources: Sequence[tuple[Iterator[Numbered], float]],
    send: Send,
    progress: bool,
    stopped: threading.Event,
    problems: Sequence[str] = (),
) -> Summary:
    """Send one source after the other, each at its own rate."""
    summary = Summary()
    began = time.monotonic()
    with _Bar(progress) as bar:
        for problem in problems:
            _note_refusal(problem, summary, bar)
        summary.rows = summary.refused = len(problems)
        try:
            for source, rate in sources:
                clock = _Clock(rate, stopped)
                for lines, batch in source:
                    _send_batch(lines, batch, send, clock, summary, bar)
                    if stopped.is_set():
                        return summary
        except KeyboardInterrupt:
            summary.is_interrupted = True
        finally:
            summary.seconds = time.monotonic() - began
    return summary


def _send_batch(lines: NDArray[np.int64], batch: Batch, send: Send, clock: _Clock, summary: Summary, bar: _Bar) -> None:
    start = 0
    while start < len(batch):
        count = min(clock.wait(), len(batch) - start)
        if clock.is_stopped:
            return
        part = batch.take(np.arange(start, start + count))
        good = np.flatnonzero(part.valid)
        clock.take(count)
        summary.rows += count
        summary.unconfirmed = len(good)
        sent = send(part if len(good) == count else part.take(good)) if len(good) else Sent(0)
        summary.unconfirmed = 0
        summary.accepted += sent.accepted
        summary.refused += count - len(good) + sent.refused
        summary.retries += sent.retries
        refused = [(int(lines[start + r.row]), r) for r in part.rejections]
        refused += [(int(lines[start + good[r.row]]), r) for r in sent.rejections]
        _report(refused, summary, bar)
        bar.update(count, summary)
        start += count


def _report(refused: list[tuple[int, Rejection]], summary: Summary, bar: _Bar) -> None:
    for line, rejection in refused:
        _note_refusal(f"row {line} refused: {rejection.message}", summary, bar)


def _note_refusal(text: str, summary: Summary, bar: _Bar) -> None:
    if len(summary.refusals) == REFUSALS_SHOWN:
        return
    summary.refusals.append(text)
    bar.write(text)
    if len(summary.refusals) == REFUSALS_SHOWN:
        bar.write("further refused rows are only counted")


class _Clock:
    """Says how many rows are due. Due times are computed from the start, so that errors do not add up."""

    def __init__(self, rate: float, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._rate = rate
        self._tick = TICK_SECONDS if rate > 1 / TICK_SECONDS else 0.0
        self._start = self._last = time.monotonic()
        self._taken = 0

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more is wanted."""
        return self._stopped.is_set()

    def wait(self) -> int:
        """Sleep until a row is due; return how many are, at most a block."""
        if math.isinf(self._rate):
            return BLOCK_ROWS_MOST
        due = self._start + self._taken / self._rate
        if self._taken:
            due = max(due, self._last + self._tick)
        pause = due - time.monotonic()
        if pause > 0:
            self._stopped.wait(pause)
        self._last = max(due, time.monotonic())
        count = int((self._last - self._start) * self._rate) + 1 - self._taken
        return max(1, min(count, BLOCK_ROWS_MOST))

    def take(self, count: int) -> None:
        """Note that `count` rows were sent."""
        self._taken += count


class _Bar:
    """A progress bar, or silence."""

    def __init__(self, is_shown: bool) -> None:
        self._bar: Any = None
        if is_shown:
            from tqdm import tqdm

            self._bar = tqdm(unit=" rows", unit_scale=True, dynamic_ncols=True, file=sys.stderr)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, count: int, summary: Summary) -> None:
        if self._bar is not None:
            self._bar.set_postfix(refused=summary.refused, refresh=False)
            self._bar.update(count)

    def write(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)


def _repeat(stream: Stream, source: Path, loop: bool) -> Iterator[Numbered]:
    while True:
        is_empty = True
        for part in read_file(stream, source):
            is_empty = False
            yield part
        if is_empty:
            raise PayloadInvalid(f"{source}: got no row, allowed 1 row of {stream.schema.name} or more")
        if not loop:
            return
