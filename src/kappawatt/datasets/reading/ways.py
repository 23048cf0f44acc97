"""What is the same for all series of a table: what labels stand for and whose clock they follow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.reading.clocks import Evidence, clocks_in, offset_text, require_words_of, tell_clock
from kappawatt.datasets.reading.labels import Change, Labels, changes_in, interval_of, tell_labels, told_by_ends
from kappawatt.datasets.reading.meaning import Form, Meaning
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.row_times import RowTimes
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import Times

__all__ = ["Ways"]

HOUR_SECONDS = 3600
HINTS = (
    "America/New_York", "America/Chicago", "America/Los_Angeles", "Europe/Berlin", "Europe/London", "Australia/Sydney"
)  # fmt: skip


class Ways:
    """How the rows of one table say their times.

    Parameters
    ----------
    table : Table
    meaning : Meaning
    options : Options
    times : RowTimes
    groups : mapping of str to ndarray of int
        Positions of each series' rows, by its name in the file.
    facts : list of Fact
        Where it goes what was told by what.

    Attributes
    ----------
    steps : dict of str to int
        Length of each series' intervals [s]; 0 if its rows tell none.
    changes : dict of str to list of Change
        How each series' labels show changes of the clock; empty where times are instants.
    labels : Labels
    zone, clock : str
        IANA names: whose days are meant, and by which clock labels are.
    """

    def __init__(
        self,
        table: Table,
        meaning: Meaning,
        options: Options,
        times: RowTimes,
        groups: Mapping[str, NDArray[np.intp]],
        facts: list[Fact],
    ) -> None:
        self.table, self.meaning, self.options, self.times = table, meaning, options, times
        self.time, self.groups, self.facts = meaning.time, groups, facts
        self.steps: dict[str, int] = {}
        self.changes: dict[str, list[Change]] = {}
        self.labels = Labels.START
        self.zone = self.clock = ""

    def find(self, clock: str, *, is_told: bool) -> None:
        """Find all of it.

        Parameters
        ----------
        clock : str
            That of the labels, as far as anybody says; "" if nobody does.
        is_told : bool
            Whether the layout says it, so that no option can.

        Raises
        ------
        PayloadInvalid
            Something can be meant in two ways; the message names the option that settles it.
        """
        self._refuse_clock(is_told)
        self.labels = self._labels(clock)
        self.zone = self._zone(clock)
        self.clock = clock or self.zone

    def _tell(self, name: str, value: str, because: str = "") -> None:
        self.facts.append(Fact(name, value, because))

    def examine_clock(self, numbers: NDArray[np.float64]) -> None:
        """Say what tells the labels' clock where they do not show it, once it was found.

        Parameters
        ----------
        numbers : ndarray of shape (n,)
            Of a measured column.

        Raises
        ------
        PayloadInvalid
            Labels, or abbreviations beside them, contradict the zone that a person names, or nothing tells.
        """
        times, zone, name = self.times, self.options.time_zone, self.table.header[self.time.place]
        shown = self.changes if self.clock == zone and self.changes else {
            key: changes_in(times.wall[rows], zone, self.steps[key] or HOUR_SECONDS)
            for key, rows in self.groups.items()
        }  # fmt: skip
        every = [change for changes in shown.values() for change in changes]
        if not self.options.clock:
            words = times.words or clocks_in(self.table.said(self.time.place)) or self.time.words
            where = self.time.said if words == self.time.words and words else name
            require_words_of(zone, words, where, times.wall, every, in_cells=bool(times.words))
        if times.has_instants:
            return
        if self.clock != zone:
            change = next((one for one in every if one.shown is not None), None)
            if change is not None:
                got = f"labels that show {zone}'s change of the clock at {str(change.instant)[:16]}Z"
                raise PayloadInvalid.of(name, got, f"labels of {self.clock}, as --clock says")
            return
        evidence = Evidence(zone)
        for key, rows in self.groups.items():
            step = self.steps[key] or HOUR_SECONDS
            evidence.add(times.wall[rows], numbers[rows], step, shown[key])
            seen = [change.shown for change in shown[key] if change.seen]
            others = self._fitting(times.wall[rows], step) if seen and not any(seen) else []
            if others and not self.options.clock:
                got = f"labels that show no change of {zone}'s clock, and those of {' and '.join(others)}"
                raise PayloadInvalid.of(
                    name, got, f"--time-zone {others[0]}; --clock {zone} if it is that all the same"
                )
        fact = tell_clock(evidence, self.options.clock, name)
        if fact is not None:
            self.facts.append(fact)

    def _labels(self, clock: str) -> Labels:
        """What labels stand for; also the interval of each series, and how it shows changes of the clock."""
        times, time = self.times, self.time
        moments = times.instant if times.has_instants else times.labels
        for key, rows in self.groups.items():
            step = times.length or time.step or interval_of(moments[rows])
            self.steps[key] = min(step or time.longest_step, time.longest_step) if time.longest_step else step
            if not times.has_instants and clock:
                self.changes[key] = changes_in(times.labels[rows], clock, self.steps[key] or HOUR_SECONDS)
        known = moments[~np.isnat(moments)]
        if len(known) and not times.has_instants and not clock:
            got = f"{str(known[0].astype('datetime64[m]')).replace('T', ' ')!r}, by a clock that nothing names"
            raise PayloadInvalid.of(
                self.table.header[time.place], got, f"--time-zone, or times with an offset{self._hint(times.labels)}"
            )
        if self.options.register:
            self._tell("labels", "the moment of a reading", "--register")
            return Labels.START
        if time.form in (Form.SPAN, Form.DATE_PERIOD) or time.end_place is not None:
            period = time.form is Form.DATE_PERIOD
            self._tell(
                "labels", "start", f"rows say the interval's {'number in the day' if period else 'begin and end'}"
            )
            return Labels.START
        if not len(known):
            return Labels.START
        steps = list(self.steps.values())
        common = max(steps, key=steps.count)
        changes = [change for found in self.changes.values() for change in found]
        said, own = self.options.labels, time.labels
        if said and own is not None and (own is Labels.START) != (said == "start"):
            raise PayloadInvalid.of(
                self.table.header[time.place], f"labels of the {own.value}", f"{said}, as --labels says"
            )
        self._require_one_way(moments, common or HOUR_SECONDS)
        labels, fact = tell_labels(times.labels, common or HOUR_SECONDS, changes, time.labels, self.options.labels)
        if times.has_instants and labels is not None and not said and own is None:
            other = told_by_ends(known, common or HOUR_SECONDS)
            if other is not None and (other is Labels.START) != (labels is Labels.START):
                labels = None  # whole days of UTC, shown by another clock
        if labels is None:
            got = f"labels {fact.because}, which may be those of starts or of ends"
            raise PayloadInvalid.of(self.table.header[time.place], got, "--labels start or --labels end")
        self.facts.append(fact)
        return labels

    def _refuse_clock(self, is_told: bool) -> None:
        """Refuse a clock of the times that a person names where the file has one of its own."""
        own = self.time.zone or self.meaning.days_in
        is_open = self.meaning.takes_clock or not (is_told or self.time.zone)
        if self.options.clock and not is_open and self.options.clock != own:
            name = self.table.header[self.time.place]
            raise PayloadInvalid.of(name, f"times by the clock of {own}", f"{self.options.clock}, as --clock says")

    def _require_one_way(self, moments: Times, step: int) -> None:
        """Refuse series of which one is labelled by starts and another by ends, as their first and last labels say."""
        if len(self.groups) < 2 or self.time.labels is not None:
            return
        labels = self.times.labels
        told: dict[Labels, str] = {}
        for key, rows in self.groups.items():
            own = self.steps[key] or step
            way = told_by_ends(labels[rows], own, strictly=True)
            if way is None and self.times.has_instants:
                way = told_by_ends(moments[rows], own, strictly=True)
            if way is None and any(one.shown is Labels.AFTER_START for one in self.changes.get(key, ())):
                way = Labels.END
            if way is not None:
                told.setdefault(way, key)
        if len(told) > 1:
            texts = [
                f"{key!r} from {_clock(labels[self.groups[key]].min())} to {_clock(labels[self.groups[key]].max())}"
                for key in told.values()
            ]
            got = f"labels of {' and '.join(texts)}: of one they are starts, of the other ends"
            raise PayloadInvalid.of(
                self.table.header[self.time.place], got, "one way in all of a file: a file for each"
            )

    def _hint(self, labels: Times) -> str:
        """Zones whose changes of the clock the labels show."""
        rows = next(iter(self.groups.values()), np.zeros(0, np.intp))
        step = interval_of(labels[rows]) or HOUR_SECONDS
        fitting = self._fitting(labels[rows], step)
        return f": their clock is changed on the days of {' and '.join(fitting)}" if fitting else ""

    def _fitting(self, labels: Times, step: int) -> list[str]:
        shown = {zone: changes_in(labels, zone, step) for zone in HINTS}
        return [zone for zone, found in shown.items() if found and all(c.shown is not None for c in found)]

    def _zone(self, clock: str) -> str:
        """The clock that the series' days follow."""
        said, own = self.options.time_zone, self.meaning.days_in
        name = self.table.header[self.time.place]
        labels = f"times follow the clock of {clock}" if clock else "times have offsets"
        if said:
            told = "--time-zone" if clock == said else f"--time-zone; {labels}"
            self._tell("time zone", said, told)
            return said
        if self.options.clock and not own:
            self._tell("time zone", clock, "--clock; days follow it too, unless --time-zone names another")
            return clock
        if own or clock not in ("", "UTC"):
            self._tell("time zone", own or clock, f"the layout's; {labels}" if own and own != clock else "the layout's")
            return own or clock
        known = ~np.isnat(self.times.instant) & ~np.isnat(self.times.wall)
        offsets = np.unique((self.times.wall[known] - self.times.instant[known]).astype(np.int64)).tolist()
        if clock == "UTC" or offsets in ([], [0]):
            told = f"the column {name!r}" if clock == "UTC" else "the times' offset"
            self._tell("time zone", "UTC", f"{told}; days follow it too, unless --time-zone names another")
            return "UTC"
        texts = " and ".join(offset_text(offset).removeprefix("UTC") for offset in offsets[:3])
        raise PayloadInvalid.of(name, f"times with the offset {texts}", "a zone whose days they follow: --time-zone")


def _clock(moment: np.datetime64) -> str:
    return str(moment.astype("datetime64[m]"))[11:]
