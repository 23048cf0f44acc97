"""A forecaster with a fitted model in it: a batch of rows to forecasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Answer, Batch, Rejection
from kappawatt.columns.budget import LISTED
from kappawatt.columns.schema import Kind, nothing
from kappawatt.errors import (
    ArtifactInvalid,
    FieldError,
    HistoryInsufficient,
    PayloadInvalid,
    PayloadTooLarge,
    SettingInvalid,
)
from kappawatt.forecasting.calendar import HOUR, Instant, Times, day_start, zone_meant, zone_named
from kappawatt.forecasting.fan import level_name
from kappawatt.forecasting.forecaster import EVER, LEAD_TIME, UNNAMED, Forecaster, Issued, Lookup, iso
from kappawatt.forecasting.grid import CONFIRMABLE, CONFIRMED, is_no_span, length_of, listed, off_clock, said_length
from kappawatt.forecasting.group import IssuedGroup, issue_group
from kappawatt.forecasting.group_request import GroupRequest
from kappawatt.forecasting.history import History, Past
from kappawatt.forecasting.holidays import HOLIDAYS, OF_THE_ZONE, holidays_named
from kappawatt.forecasting.request import read_forecast_request, require_same_holidays
from kappawatt.models.artifact import Artifact, Manifest
from kappawatt.models.opening import opening

__all__ = ["ForecastModel", "history_of", "holidays_of", "is_asked", "known_from", "open_forecaster", "zone_of"]

MOST_TOGETHER = 1_000  # forecasts of a request, of all its series: each takes some milliseconds
EXAMPLE_TOLERANCE = 1e-5  # relative; another CPU may round a sum differently


@dataclass(frozen=True, slots=True)
class ForecastModel:
    """A forecaster with a fitted model in it, and where it finds the history of a series that a request names."""

    predictor: Forecaster
    fitted: Any
    manifest: Manifest
    lookup: Lookup | None = None

    @property
    def name(self) -> str:
        """The forecaster's name."""
        return self.predictor.name

    @property
    def version(self) -> str:
        """The artifact's version."""
        return self.manifest.version

    def issue(self, past: Past, targets: Times) -> Issued:
        """Forecast one target window; see `Forecaster.issue`."""
        return self.predictor.issue(self.fitted, past, targets)

    def issue_group(self, asked: GroupRequest, available_at: Instant | None = None) -> IssuedGroup:
        """Forecast a sum and its members; see `kappawatt.forecasting.group.issue_group`."""
        window = asked.targets, asked.issue_time, available_at
        return issue_group(self.predictor, self.fitted, asked.key, asked.members, *window, adds_up=asked.adds_up)

    def answer(self, batch: Batch) -> Answer:
        """Forecast every row without a measurement, series by series; rows with one are history and stay NaN.

        Returns
        -------
        Answer
            As many rows as the batch.

        Raises
        ------
        PayloadTooLarge
            It asks for more forecasts than one request may.
        """
        answer = _Rows(self, batch)
        keys = batch.columns[self.predictor.key]
        valid = np.flatnonzero(batch.valid)
        unknown = valid[is_asked(batch.columns, self.predictor.target)[valid]]
        asked = len({keys[row] or UNNAMED for row in unknown.tolist()})
        if asked > MOST_TOGETHER:
            raise PayloadTooLarge.of("body", f"{asked:,} series to forecast", f"{MOST_TOGETHER:,} in a request")
        groups: dict[str, list[int]] = {}
        for row in valid.tolist():
            groups.setdefault(keys[row] or UNNAMED, []).append(row)
        for key, rows in groups.items():
            answer.add_series(key, np.array(rows, dtype=np.intp))
        return answer.result()

    def check_example(self) -> None:
        """Raise ArtifactInvalid unless the manifest's example is answered as the manifest says."""
        example = self.manifest.example
        history, targets, issue_time = read_forecast_request(dict(example["request"]), self.predictor)
        issued = self.issue(history.until(issue_time), targets)
        got, expected = issued.fan.median, np.asarray(example["answer"][self.predictor.target], np.float64)
        if got.shape != expected.shape or not np.allclose(got, expected, rtol=EXAMPLE_TOLERANCE, atol=0):
            raise ArtifactInvalid(
                f"example: got {got[:3]}, allowed {expected[:3]} as the manifest of {self.version} says"
            )


def open_forecaster(forecaster: Forecaster, artifact: Artifact, lookup: Lookup | None = None) -> ForecastModel:
    """Load a model and have it answer its own example.

    Parameters
    ----------
    lookup : callable, optional
        Where the model finds the history of a series that a request only names.

    Raises
    ------
    ArtifactInvalid
        It was made for another model or other features, is damaged, or answers its example differently.
    """
    with opening(forecaster, artifact.manifest):
        model = ForecastModel(forecaster, forecaster.load(artifact), artifact.manifest, lookup)
        model.check_example()
    return model


class _Rows:
    """The answer to a batch while it is being put together."""

    def __init__(self, model: ForecastModel, batch: Batch) -> None:
        self._model = model
        self._batch = batch
        n = len(batch)
        self._columns: dict[str, NDArray[Any]] = {
            f.name: np.zeros(n, np.bool_) if f.kind is Kind.BOOLEAN else nothing(f, n).copy()
            for f in model.predictor.response.fields
        }
        self._valid = batch.valid.copy()
        self._rejections: list[Rejection] = list(batch.rejections)
        self._unlisted = Counter(batch.unlisted)
        self._suspects: Counter[str] = Counter()
        self._asked = 0

    def result(self) -> Answer:
        rejections = tuple(sorted(self._rejections, key=lambda r: r.row))
        return Answer(
            self._columns,
            self._valid,
            rejections,
            self._model.name,
            self._model.version,
            dict(self._unlisted),
            dict(self._suspects),
        )

    def add_series(self, key: str, rows: NDArray[np.intp]) -> None:
        forecaster = self._model.predictor
        wanted = rows[is_asked(self._batch.columns, forecaster.target)[rows]]
        if not len(wanted):
            return
        try:
            history = self._history(key, rows, wanted)
            clock = history.known_until()
        except (HistoryInsufficient, PayloadInvalid, SettingInvalid) as error:
            missing = isinstance(error, HistoryInsufficient)
            self._refuse_for(wanted, "history_missing" if missing else "out_of_range", error)
            return
        window = forecaster.window
        issue_times = self._batch.columns["issue_time"][wanted]
        moments = np.unique(issue_times)  # NaT, the last, is one of them
        if len(moments) > window.most:
            self._refuse_count(wanted, len(moments))
            return
        asked = []
        for moment in moments:
            own = wanted[np.isnat(issue_times) if np.isnat(moment) else issue_times == moment]
            starts = self._batch.columns["interval_start"][own]
            issue = clock if np.isnat(moment) else moment
            asked.append((own, issue, *window.split(starts, issue, history.time_zone)))
        count = sum(len(dates) for _, _, dates, _ in asked)
        if count > window.most:
            self._refuse_count(wanted, count)
            return
        self._asked += count
        if self._asked > MOST_TOGETHER:
            got = f"{self._asked:,} {window.noun} or more to forecast, of all series"
            raise PayloadTooLarge.of("body", got, f"{MOST_TOGETHER:,} in a request")
        for own, issue, dates, member in asked:
            for i, date in enumerate(dates):
                for rows_of_window, moment in self._moments(history, date, issue, own[member == i]):
                    targets = window.targets(date, moment, history.time_zone, history.step)
                    self._add_window(history, targets, moment, rows_of_window)

    def _moments(
        self, history: History, date: Instant, issue: Instant, rows: NDArray[np.intp]
    ) -> list[tuple[NDArray[np.intp], Instant]]:
        """Rows of one local day by the time their forecast is issued.

        What is left of a day is forecast as of now. Values that are missing before are forecast as of the start of
        their day, as they were before it began.
        """
        is_given = not np.isnat(self._batch.columns["issue_time"][rows[0]])
        if is_given or not self._model.predictor.window.within_day:
            return [(rows, issue)]
        is_past = self._batch.columns["interval_start"][rows] < issue
        start = day_start(np.array([date]), history.time_zone)[0]
        parts = [(rows[is_past], min(issue, start)), (rows[~is_past], issue)]
        return [(own, moment) for own, moment in parts if len(own)]

    def _history(self, key: str, rows: NDArray[np.intp], wanted: NDArray[np.intp]) -> History:
        """The history the rows bring, or else the one known from the bus."""
        forecaster = self._model.predictor
        columns = {name: column[rows] for name, column in self._batch.columns.items()}
        if len(wanted) == len(rows):
            known = self._model.lookup(key) if self._model.lookup else None
            if known is None or known.clock is None:
                raise HistoryInsufficient.of(
                    forecaster.key, key, "a series whose history is known here, or rows that bring it"
                )
            zone = zone_of(columns, forecaster, known.time_zone)
            if zone_meant(zone) != zone_meant(known.time_zone):
                raise PayloadInvalid.of("time_zone", zone, f"{known.time_zone}, which the series has")
            said = said_length(columns.get("interval_seconds"), forecaster.steps)
            if said not in (None, known.step):
                raise PayloadInvalid.of("interval_seconds", f"{said}", f"{known.step}, which the series has")
            require_same_holidays(holidays_of(columns), known)
            return known
        return history_of(key, columns, forecaster)

    def _add_window(self, history: History, targets: Times, issue: Instant, rows: NDArray[np.intp]) -> None:
        starts = self._batch.columns["interval_start"][rows]
        if not len(targets):  # an issue time was given, and the day was over by then
            allowed = f"{iso(issue)}, the issue time, or later"
            self._refuse(rows, "out_of_range", "interval_start", iso(starts[0]), allowed)
            return
        place = np.searchsorted(targets, starts)
        begin = targets[0]
        longest = self._model.predictor.window.longest_lead
        is_given = not np.isnat(self._batch.columns["issue_time"][rows[0]])
        issue_time = issue if is_given else min(issue, begin)
        if not begin - longest <= issue_time <= begin:
            if is_given:
                allowed = f"{iso(begin - longest)} to {iso(begin)}, which is before the day of {iso(starts[0])}"
                self._refuse(rows, "out_of_range", "issue_time", iso(issue_time), allowed)
            else:
                lead = f"{longest / HOUR:g} hours"
                allowed = f"a day that begins within {lead} of {iso(issue_time)}, when the history ends"
                self._refuse(rows, "out_of_range", "interval_start", iso(starts[0]), allowed)
            return
        outside = (starts < begin) | (starts >= targets[-1] + np.timedelta64(history.step * 1000, "ms"))
        if outside.any():
            allowed = f"{iso(begin)} to {iso(targets[-1])}, which is what is forecast at {iso(issue_time)}"
            self._refuse(rows[outside], "out_of_range", "interval_start", iso(starts[outside][0]), allowed)
            rows, place, starts = rows[~outside], place[~outside], starts[~outside]
        off = (place >= len(targets)) | (targets[np.minimum(place, len(targets) - 1)] != starts)
        if off.any():
            self._refuse(
                rows[off], "out_of_range", "interval_start", iso(starts[off][0]), f"a multiple of {history.step} s"
            )
            rows, place = rows[~off], place[~off]
        if not len(rows):
            return
        try:
            issued = self._model.issue(history.until(issue_time, None if is_given else EVER), targets)
        except HistoryInsufficient as error:
            self._refuse_for(rows, "history_gap", error)
            return
        self._suspects += issued.suspects
        self._fill(rows, place, issued)

    def _fill(self, rows: NDArray[np.intp], place: NDArray[np.intp], issued: Issued) -> None:
        fan = issued.fan
        quantiles, median = fan.quantiles[place], fan.levels.index(0.5)
        self._columns[self._model.predictor.target][rows] = quantiles[:, median]
        for i, level in enumerate(fan.levels):
            self._columns[level_name(level)][rows] = quantiles[:, i]
        for name, figure in fan.day.items():
            for end, i in (("", median), ("_lower", 0), ("_upper", -1)):
                self._columns[name + end][rows] = figure[i]
        self._columns["filled"][rows] = issued.filled
        if "suspect" in self._columns:  # of a service of one's own the response may have no such field
            self._columns["suspect"][rows] = issued.suspect
        if LEAD_TIME in self._columns:
            self._columns[LEAD_TIME][rows] = issued.lead_time[place]
        self._columns["fallback"][rows] = issued.fallback is not None

    def _refuse_count(self, rows: NDArray[np.intp], count: int) -> None:
        window = self._model.predictor.window
        got, allowed = f"{count} {window.noun}", f"{window.most} in a request"
        self._refuse(rows, "out_of_range", "interval_start", got, allowed)

    def _refuse_for(self, rows: NDArray[np.intp], code: str, error: FieldError) -> None:
        self._refuse(rows, code, error.field, error.got, error.allowed)

    def _refuse(self, rows: NDArray[np.intp], code: str, field: str | None, got: Any, allowed: str) -> None:
        self._valid[rows] = False
        room = max(0, LISTED - len(self._rejections))
        self._rejections += [Rejection(row, code, field, got, allowed) for row in rows[:room].tolist()]
        if len(rows) > room:
            self._unlisted[code] += len(rows) - room


def history_of(key: str, columns: Mapping[str, NDArray[Any]], forecaster: Forecaster) -> History:
    """Return the history that rows of one series bring.

    Raises
    ------
    PayloadInvalid, SettingInvalid
        The rows are on no grid of an interval that can be forecast, or name no time zone.
    """
    zone, step = zone_of(columns, forecaster), _step(columns, forecaster)
    history = History(key, zone, step, holidays=holidays_of(columns))
    covariates = forecaster.covariates_in(columns)
    says = (forecaster.target, *covariates)
    rows = np.flatnonzero(np.any([~np.isnan(columns[name]) for name in says], axis=0))
    known = known_from(columns)
    starts = columns["interval_start"][rows]
    off = off_clock(starts, step, zone)
    if off.any():
        allowed = f"whole multiples of {step} s by the clock of {zone}"
        raise PayloadInvalid.of("interval_start", f"{iso(starts[off][0])}", allowed)
    values = columns[forecaster.target][rows]
    # Weather beside a measurement was measured with it: no forecast knew it before, unless the row says so.
    at_end = np.where(np.isnan(values), np.datetime64("NaT"), starts + np.timedelta64(step * 1000, "ms"))
    said = at_end if known is None else np.where(np.isnat(known[rows]), at_end, known[rows])
    history.add(
        starts,
        values,
        said,
        {name: columns[name][rows] for name in covariates},
    )
    _confirm(history, columns)
    return history


def _confirm(history: History, columns: Mapping[str, NDArray[Any]]) -> None:
    """Take the values of spans for real that rows of a request confirm: known to whoever asks, or when they say."""
    if CONFIRMED not in columns:
        return
    spans = np.flatnonzero(~np.isnat(columns[CONFIRMED]))
    if not len(spans):
        return
    starts, until = columns["interval_start"][spans], columns[CONFIRMED][spans]
    wrong = is_no_span(starts, until, history.step)
    if wrong.any():
        raise PayloadInvalid.of(CONFIRMED, iso(until[wrong][0]), CONFIRMABLE.format(history.step))
    known = columns.get("available_at")
    history.confirm(starts, until, None if known is None else known[spans])


def is_asked(columns: Mapping[str, NDArray[Any]], target: str) -> NDArray[np.bool_]:
    """Return which rows of a request are to be forecast: those that neither hold a value nor confirm some."""
    confirmed = columns.get(CONFIRMED)
    is_asked_: NDArray[np.bool_] = np.isnan(columns[target])
    return is_asked_ if confirmed is None else is_asked_ & np.isnat(confirmed)


def known_from(columns: Mapping[str, NDArray[Any]]) -> Times | None:
    """Return when rows say that they became known: a forecast of weather when it was issued, if they do not say later.

    None if the rows cannot say.
    """
    known = columns.get("available_at")
    issued = columns.get("weather_issue_time")
    if known is None or issued is None:
        return known
    later: Times = np.fmax(known, issued)
    return later


def zone_of(columns: Mapping[str, NDArray[Any]], forecaster: Forecaster, absent: str | None = None) -> str:
    """Return the time zone that rows of one series name first, else `absent`, else the forecaster's.

    Raises
    ------
    SettingInvalid
        There is no such zone.
    """
    named = [zone for zone in columns.get("time_zone", ()) if zone is not None]
    return zone_named(named[0]) if named else absent or forecaster.time_zone


def holidays_of(columns: Mapping[str, NDArray[Any]]) -> str:
    """Return whose holidays rows of one series name first, see `Past`.

    Raises
    ------
    SettingInvalid
        Nobody knows them.
    """
    named = [name for name in columns.get(HOLIDAYS, ()) if name is not None]
    return holidays_named(named[0]) if named else OF_THE_ZONE


def _step(columns: Mapping[str, NDArray[Any]], forecaster: Forecaster) -> int:
    """The interval [s] the rows say, or else show, or else the forecaster's usual one."""
    is_measured = ~np.isnan(columns[forecaster.target])
    given = columns.get("interval_seconds")
    step, _ = length_of(columns["interval_start"], given, is_measured, forecaster.steps)
    step = step or forecaster.supposed_step
    if step is None:
        allowed = f"{listed(forecaster.steps)}: these rows do not show it"
        raise PayloadInvalid.of("interval_seconds", "nothing", allowed)
    return step
