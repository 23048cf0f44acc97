"""Readings in, forecasts out, on the event clock: what a worker of a forecasting service does with a poll.

A series' clock is the end of its newest measured interval. When it passes an issue time, the next target window is
forecast from what was known then; when late data changes what would have been known, a correction follows; when the
truth of an interval that was forecast comes in, the error is published. All of it depends on nothing but the log up to
that message and the model.

The histories of a partition are exactly the log up to one offset. Whatever comes next that is not that offset of that
log (a restart, a rebalance, a rewind after a failed publish, a topic that was made again) has them read again from the
log first, silently.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Bus, Headers, Outgoing, Records
from kappawatt.bus.reading import read_span
from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.budget import LISTED, LISTED_TOGETHER
from kappawatt.errors import HistoriesBehind, HistoryInsufficient
from kappawatt.forecasting.calendar import DAY, Times, issue_time, local_date, parse_clock
from kappawatt.forecasting.fan import naive_values
from kappawatt.forecasting.forecaster import Issued
from kappawatt.forecasting.history import History
from kappawatt.forecasting.model import ForecastModel
from kappawatt.messages.dead_letters import dead_letter_message
from kappawatt.messages.forecasts import error_document, error_message, forecast_document, forecast_message
from kappawatt.messages.readings import carried_headers, decoded_messages, rejections_of
from kappawatt.streams.stream import Stream
from kappawatt.worker.histories import NO_SETTING, Entry, Histories, Step
from kappawatt.worker.interface import INTERNAL, Outcome
from kappawatt.worker.isolating import RAISED
from kappawatt.worker.updates import NO_UPDATES, Updates

__all__ = ["Forecasting"]

log = logging.getLogger(__name__)

WEEK = 7 * DAY
MOST_OPEN = 8  # forecasts of a series that truth and late data are still held against


@dataclass(frozen=True, slots=True)
class _Version:
    """What a forecast said, and what the seasonal naive did, as of one `available_at`; without the past behind them."""

    issued: Issued
    naive: NDArray[np.float64]


@dataclass(slots=True)
class _Open:
    """A forecast that was due, and its corrections. Fans are computed when they are needed: they depend only on
    the history."""

    issue_time: np.datetime64
    targets: Times
    available_at: list[np.datetime64]
    versions: dict[np.datetime64, _Version] = field(default_factory=dict)


@dataclass(slots=True)
class _Partition:
    """The histories of a partition's series, which hold `log` up to `next_offset`."""

    histories: Histories
    log: str
    next_offset: int


class Forecasting:
    """Answers polls of a topic of readings with forecasts and realised errors.

    Parameters
    ----------
    bus : Bus
        Where histories are read again from.
    model : ForecastModel
    stream : Stream
        One that is forecast.
    output : str
        Topic of forecasts.
    alive : callable
        Told now and then while histories are read again, which may take minutes.
    updates : Updates
        When forecasts are issued between the issue times, and how far they reach.
    holidays : mapping of str or None to str
        Whose holidays series have whose rows do not say, see `Histories`.
    slice_seconds : float
        How long to read histories before `HistoriesBehind` asks for another poll: a group expels a member that does
        not poll.
    """

    def __init__(
        self,
        bus: Bus,
        model: ForecastModel,
        stream: Stream,
        *,
        output: str,
        updates: Updates = NO_UPDATES,
        alive: Callable[[], None] = lambda: None,
        slice_seconds: float = math.inf,
        holidays: Mapping[str | None, str] = NO_SETTING,
    ) -> None:
        self._bus = bus
        self.model = model
        self.output = output
        self._errors = stream.forecast_errors.name
        self._dead = stream.dead.name
        self._updates = updates
        self._alive = alive
        self._slice_seconds = slice_seconds
        self._holidays = holidays
        self._clocks = [parse_clock(text) for text in model.predictor.issue_times]
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._suspects: Counter[str] = Counter()  # of the forecasts to publish for the poll at hand

    @property
    def series(self) -> int:
        """How many series' histories are kept."""
        return sum(len(partition.histories) for partition in list(self._partitions.values()))

    def answer(self, polled: Sequence[Records]) -> Outcome:
        """Return everything to publish for `polled`.

        Raises
        ------
        HistoriesBehind
            Histories are not read up to these messages yet; nothing of them was taken.
        """
        outcome = Outcome()
        self._suspects = outcome.suspects
        first = {(r.topic, r.partition): r for r in reversed(polled)}
        for records in first.values():  # all before anything is taken: this may take several polls
            self._partition(records)
        try:
            for records in polled:
                self._take(records, self._partition(records), outcome, quiet=False)
        except BaseException:  # what was taken in part is read again from the log
            for where in first:
                self._partitions.pop(where, None)
            raise
        return outcome

    def _partition(self, records: Records) -> _Partition:
        """The partition's histories up to just before these records, read again if need be."""
        where = (records.topic, records.partition)
        state = self._partitions.get(where)
        first = records.offsets[0]
        if state is None or state.log != records.log or state.next_offset > first:
            begin = self._bus.offsets(records.topic)[records.partition].begin
            state = self._partitions[where] = _Partition(
                Histories(self.model.predictor, self._holidays), records.log, begin
            )
        if state.next_offset < records.begin:
            self._read_again(where, state, first)
        return state

    def _read_again(self, where: tuple[str, int], state: _Partition, end: int) -> None:
        topic, number = where
        started = state.next_offset
        until = time.monotonic() + self._slice_seconds
        self._alive()
        for polled in read_span(self._bus, [topic], {where: started}, {where: end}):
            for records in polled:
                self._take(records, state, Outcome(), quiet=True)
            self._alive()
            if time.monotonic() > until and state.next_offset < end:
                raise HistoriesBehind(f"{topic}[{number}]: read up to {state.next_offset} of {end}")
        state.next_offset = max(state.next_offset, end)
        log.info(
            "histories read from the log",
            extra={"partition": f"{topic}[{number}]", "from": started, "to": end, "series": len(state.histories)},
        )

    def _take(self, records: Records, state: _Partition, outcome: Outcome, *, quiet: bool) -> None:
        refused: list[tuple[int, Rejection]] = []
        unread: Counter[int] = Counter()  # rows of each message that the schema refuses
        others: defaultdict[int, set[int]] = defaultdict(set)  # and those refused after it
        seen: Batch | None = None
        for message, batch, rows in decoded_messages(records, self.model.predictor.request):
            outcome.rows += len(rows)
            if batch is not seen:
                outcome.unlisted.update(batch.unlisted)
                seen = batch
            unread[message] += int((~batch.valid[rows]).sum())
            first = len(refused)
            for rejection in rejections_of(batch, rows):
                self._list(message, rejection.at(rejection.row - int(rows[0])), refused, first, outcome)
            valid = rows[batch.valid[rows]]
            for found in self._answer_message(records, message, batch, valid, state, quiet) if len(valid) else ():
                if isinstance(found, Outgoing):
                    outcome.outgoing.append(found)
                else:
                    self._list(message, found.at(found.row - int(rows[0])), refused, first, outcome)
                    others[message].add(found.row)
            outcome.event_times.append(np.array([records.timestamps[message]], dtype=np.int64))
        state.next_offset = records.next_offset
        if quiet:
            return
        for message, group in groupby(sorted(refused, key=lambda pair: pair[0]), key=lambda pair: pair[0]):
            reasons = [rejection for _, rejection in group]
            count = unread[message] + len(others[message])
            outcome.refuse(records, message, reasons, count)
            outcome.outgoing.append(
                dead_letter_message(self._dead, records, message, reasons, self.model.name, self.model.version, count)
            )

    @staticmethod
    def _list(
        message: int, rejection: Rejection, refused: list[tuple[int, Rejection]], first: int, outcome: Outcome
    ) -> None:
        """Keep one more reason of a message, whose own begin at `first`, or count it if there are very many."""
        own = len(refused) - first
        if own >= LISTED or (own and len(refused) >= LISTED_TOGETHER):
            outcome.unlisted[rejection.code] += 1
        else:
            refused.append((message, rejection))

    def _answer_message(
        self,
        records: Records,
        message: int,
        batch: Batch,
        rows: NDArray[np.intp],
        state: _Partition,
        quiet: bool,
    ) -> Iterator[Outgoing | Rejection]:
        """What one message's valid rows lead to; whatever fails on it, the stream goes on."""
        origin = {
            "source_topic": records.topic,
            "source_log": records.log,
            "source_partition": records.partition,
            "source_offset": records.offsets[message],
        }
        carried = carried_headers(records.headers[message])
        try:
            for step in state.histories.steps(records.keys[message], batch, rows, records.timestamps[message]):
                if isinstance(step, Rejection):
                    yield step
                else:
                    yield from self._follow(step, int(rows[0]), origin, carried, quiet)
        except RAISED:
            raise
        except Exception as error:  # a message nobody thought of must not end the worker at each restart
            log.exception("a message could not be answered", extra=origin)
            reason = f"could not be answered: {type(error).__name__}: {error}"[:400]
            yield Rejection(int(rows[0]), INTERNAL, None, None, f"a message that can be answered ({reason})")

    def _follow(
        self, step: Step, row: int, origin: dict[str, Any], carried: Headers, quiet: bool
    ) -> Iterator[Outgoing | Rejection]:
        """What one message means for one series: truth for open forecasts, corrections, a new forecast."""
        clock = step.after
        if clock is None or not len(step.changed) + len(step.confirmed):
            return
        open_: list[_Open] = step.entry.notes.setdefault("open", [])
        update: list[_Open] = step.entry.notes.setdefault("update", [])  # the newest one alone
        for forecast in (*open_, *update):
            yield from self._correct(step, clock, row, forecast, origin, carried, quiet)
            if not quiet:
                yield from self._realised(step, forecast, origin)
            if forecast.targets[-1] < clock - DAY:  # a revision has it computed again
                forecast.versions.clear()
        due = self._due(step, clock)
        if due is not None:
            open_.append(due)
            del open_[:-MOST_OPEN]
            if not quiet:
                yield from self._publish(step.entry, due, due.issue_time, row, origin, carried)
        newer = self._due_update(step, clock)
        if newer is not None and (due is None or newer.issue_time > due.issue_time):
            update[:] = [newer]
            if not quiet:
                yield from self._publish(step.entry, newer, newer.issue_time, row, origin, carried)
        elif due is not None:
            update.clear()  # what was due replaces it

    def _due(self, step: Step, clock: np.datetime64) -> _Open | None:
        """The newest forecast whose issue time the clock has just reached, if any of it is still to come."""
        history = step.entry.history
        if step.before == clock:
            return None
        today = local_date(np.array([clock]), history.time_zone)[0]
        found: list[tuple[np.datetime64, np.datetime64]] = []
        for hour in self._clocks:
            for date in (today, today + 1):
                issue = issue_time(date, hour, history.time_zone)
                if issue <= clock and (step.before is None or issue > step.before):
                    found.append((issue, date))
        if not found:
            return None
        issue, date = max(found)
        if self._updates.every is None:
            targets = self.model.predictor.window.targets(date, issue, history.time_zone, history.step)
        else:
            targets = self._updates.targets(issue, date, history.time_zone, history.step)
        return _opened(history, issue, targets, clock)

    def _due_update(self, step: Step, clock: np.datetime64) -> _Open | None:
        """The newest update that is due between the issue times."""
        history = step.entry.history
        issue = self._updates.due(step.before, clock, history.time_zone)
        if issue is None:
            return None
        targets = self._updates.targets(issue, None, history.time_zone, history.step)
        return _opened(history, issue, targets, clock)

    def _publish(
        self,
        entry: Entry,
        forecast: _Open,
        available_at: np.datetime64,
        row: int,
        origin: dict[str, Any],
        carried: Headers,
    ) -> Iterator[Outgoing | Rejection]:
        try:
            issued = self._version(entry, forecast, available_at).issued
        except HistoryInsufficient as error:
            yield Rejection.of(row, "history_gap", error)
            return
        if available_at != forecast.issue_time and self._same_as_before(entry, forecast, available_at, issued):
            return
        self._suspects.update(issued.suspects)
        document = forecast_document(self.model, issued, available_at, origin["source_log"])
        yield forecast_message(self.output, document, origin, carried)

    def _same_as_before(self, entry: Entry, forecast: _Open, available_at: np.datetime64, issued: Issued) -> bool:
        earlier = [at for at in forecast.available_at if at < available_at]
        try:
            before = self._version(entry, forecast, earlier[-1]).issued
        except HistoryInsufficient:
            return False
        return np.array_equal(before.fan.quantiles, issued.fan.quantiles) and before.fallback == issued.fallback

    def _last_published(self, entry: Entry, forecast: _Open, moment: np.datetime64) -> np.datetime64:
        """The newest version that was published by `moment`: a correction that changed nothing never was."""
        for available_at in reversed([at for at in forecast.available_at[1:] if at <= moment]):
            issued = self._version(entry, forecast, available_at).issued
            if not self._same_as_before(entry, forecast, available_at, issued):
                return available_at
        return forecast.issue_time

    def _version(self, entry: Entry, forecast: _Open, available_at: np.datetime64) -> _Version:
        version = forecast.versions.get(available_at)
        if version is None:
            issued = self.model.issue(entry.history.until(forecast.issue_time, available_at), forecast.targets)
            naive = naive_values(issued.past, forecast.targets)
            kept = replace(issued, past=issued.past.without_values())
            version = forecast.versions[available_at] = _Version(kept, naive)
        return version

    def _correct(
        self,
        step: Step,
        clock: np.datetime64,
        row: int,
        forecast: _Open,
        origin: dict[str, Any],
        carried: Headers,
        quiet: bool,
    ) -> Iterator[Outgoing | Rejection]:
        interval = np.timedelta64(step.entry.history.step * 1000, "ms")
        news = np.concatenate([step.changed, step.confirmed])
        late = (news + interval <= forecast.issue_time).any()
        if not late or forecast.targets[-1] < clock:
            return
        if forecast.available_at[-1] != step.available_at:
            forecast.available_at.append(step.available_at)
        forecast.versions.pop(step.available_at, None)
        if not quiet:
            yield from self._publish(step.entry, forecast, step.available_at, row, origin, carried)

    def _realised(self, step: Step, forecast: _Open, origin: dict[str, Any]) -> Iterator[Outgoing]:
        """The error of each interval whose truth this message brought, of the last forecast made before it began."""
        changed, targets = step.changed, forecast.targets
        if not len(changed) or changed[-1] < targets[0] or changed[0] > targets[-1]:
            return
        truths = np.intersect1d(changed, targets)
        measured = step.entry.history.measured(truths)
        for start in truths:
            try:
                available_at = self._last_published(step.entry, forecast, start)
                version = self._version(step.entry, forecast, available_at)
            except HistoryInsufficient:
                continue  # it was refused when it was due, and a dead letter says so
            at = int(np.searchsorted(forecast.targets, start))
            naive = float(version.naive[at])
            document = error_document(
                self.model, version.issued, available_at, at, measured[start], naive, origin["source_log"]
            )
            yield error_message(self._errors, document, origin)


def _opened(history: History, issue: np.datetime64, targets: Times, clock: np.datetime64) -> _Open | None:
    """A forecast that is due, if any of it is still to come and the series is not too young."""
    first = history.first
    if not len(targets) or targets[-1] < clock:
        return None
    if first is None or first > targets[0] - WEEK:
        return None  # not even the seasonal naive can say anything
    return _Open(issue, targets, [issue])
