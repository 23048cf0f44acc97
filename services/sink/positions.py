"""How far each partition of each log has landed: kept in the store, in the transaction of the rows themselves.

So a store always goes on where it ends, whatever the group has committed: an empty one at the beginning of each log,
one that was restored where its backup ends. What is committed on the bus serves the lag, and whoever scales by it; a
group that is set back lands again what it is set back by, since whichever of the two is earlier counts.

Several sinks may share a store. A write holds only if the positions in the store are those that this sink read or wrote
last (`guard`); if another sink or a restored backup has changed them, its rows are dropped and read again from there.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from kappawatt.bus.interface import Bus, Offsets, Records, TopicPartition
from kappawatt.columns.batch import Columns
from kappawatt.errors import BusError
from kappawatt.store.interface import Guard, Rows
from kappawatt.store.limits import checked
from kappawatt.store.table import quoted

from .member import GROUP, Member
from .tables import LAYOUT, POSITIONS

__all__ = ["ANY_ROWS", "MOST", "STORED", "Key", "Positions", "first_positions", "guard_of", "rows_of", "stored_in"]

log = logging.getLogger(__name__)

Key = tuple[str, str, int]  # topic, log, partition

MOST = 1_000_000  # partitions of all logs there have been
STORED = f"SELECT source_topic, source_log, source_partition, next_offset FROM {POSITIONS.name}"  # noqa: S608
ANY_ROWS = " UNION ALL ".join(
    f"(SELECT 1 FROM {quoted(table.name)} LIMIT 1)"  # noqa: S608 (our own names)
    for table in LAYOUT.tables
    if table is not POSITIONS
)


@dataclass(slots=True)
class _At:
    """Where reading a partition stands.

    Attributes
    ----------
    log : str
    next : int
        Offset up to which everything was handed out.
    """

    log: str
    next: int


class Positions:
    """The positions of one member.

    Parameters
    ----------
    bus : Bus
    read : callable
        Returns the rows of `STORED`.
    """

    def __init__(self, bus: Bus, read: Callable[[], Rows]) -> None:
        self._bus = bus
        self._read = read
        self._at: dict[TopicPartition, _At] = {}
        self._stored: dict[Key, int | None] = {}  # as this member read or wrote it last
        self._landing: dict[Key, int] = {}  # of rows that wait for the store

    def forget(self) -> None:
        """Read what is stored again before anything else is landed."""
        self._at.clear()
        self._stored.clear()
        self._landing.clear()

    def follow(self, member: Member, polled: list[Records]) -> list[Records]:
        """Put partitions that are assigned anew where the store ends; return what of the poll is to be landed."""
        positions = member.positions()
        self._at = {place: at for place, at in self._at.items() if place in positions}
        came: dict[TopicPartition, Records] = {}
        for records in polled:
            came.setdefault((records.topic, records.partition), records)
        nexts = {place: came[place].begin if place in came else at for place, at in positions.items()}
        astray = [place for place in positions if self._is_astray(member, place, nexts[place], came.get(place))]
        moved = self._put_right(member, astray, nexts, came) if astray else set()
        kept = []
        for records in polled:
            place = (records.topic, records.partition)
            at = self._at.get(place)
            if at is None or at.log != records.log or place in moved:
                continue  # it is polled again
            at.next = self._landing[records.topic, at.log, records.partition] = records.next_offset
            kept.append(records)
        return kept

    def _is_astray(self, member: Member, place: TopicPartition, next_: int, came: Records | None) -> bool:
        """Whether a partition was assigned anew, so that what comes next is not what follows in the store."""
        at = self._at.get(place)
        if at is None or (came is not None and came.log != at.log):
            return True
        if next_ <= at.next:
            return False
        # Offsets have gaps (retention, markers of transactions). A rebalance puts a member to what is committed, which
        # nobody but this member changes from then on, and it has not between that poll and here.
        committed = member.committed(place)
        if committed is not None and at.next < committed <= next_:
            return True
        if came is None:
            at.next = next_
        return False

    def _put_right(
        self,
        member: Member,
        places: Iterable[TopicPartition],
        nexts: Mapping[TopicPartition, int],
        came: Mapping[TopicPartition, Records],
    ) -> set[TopicPartition]:
        """Go on where the store ends; return the partitions that had to be moved for it."""
        stored = stored_in(self._read())
        by_topic: dict[str, list[TopicPartition]] = defaultdict(list)
        for place in places:
            by_topic[place[0]].append(place)
        moved = set()
        for topic, own in by_topic.items():
            kept = self._bus.offsets(topic)
            named = next((came[place].log for place in own if place in came), None)
            log_id = self._bus.log_id(topic) if named is None else named
            for place in own:
                if place[1] not in kept:
                    continue  # a partition that the bus has just got
                key = (topic, log_id, place[1])
                start = _start(key, stored, kept[place[1]])
                if nexts[place] > start:
                    try:
                        member.seek(place, start)
                    except BusError as error:
                        log.info("partition is assigned to another member by now", extra={"error": str(error)})
                        self._at.pop(place, None)
                        continue
                    moved.add(place)
                self._at[place] = _At(log_id, min(start, nexts[place]))
                self._stored[key] = stored.get(key)
                self._landing.pop(key, None)
        if moved:
            member.commit()  # else a gap of the log around what was committed would look like the next rebalance
        return moved

    @property
    def rows(self) -> Columns:
        """What is to be written with the rows that wait."""
        return rows_of(self._landing)

    @property
    def guard(self) -> Guard:
        """What has to stand in the store for that to be right."""
        assigned = {(topic, at.log, number) for (topic, number), at in self._at.items()}
        return guard_of({key: self._stored.get(key) for key in assigned | self._landing.keys()})

    def is_stale(self, found: Rows) -> bool:
        """Whether others have changed the positions of partitions that are assigned here."""
        stored = stored_in(found)
        keys = [(topic, at.log, number) for (topic, number), at in self._at.items()]
        return any(stored.get(key) != self._stored.get(key) for key in keys)

    def written(self) -> None:
        """Note that what was to be written was."""
        self._stored |= self._landing
        self._landing.clear()


def _start(key: Key, stored: Mapping[Key, int], kept: Offsets) -> int:
    """Return where to go on: where the store ends, if the log has it."""
    topic, log_id, number = key
    at = stored.get(key)
    place = {"topic": topic, "partition": number, "log": log_id}
    if at is None:
        if any((topic, number) == (other[0], other[2]) for other in stored):
            log.warning("another log of a topic: its rows land beside those of the old", extra=place)
        return kept.begin
    if at > kept.end:
        extra = {**place, "stored": at, "end": kept.end}
        log.warning("the log ends before the store's position: landed from its beginning", extra=extra)
        return kept.begin
    if at < kept.begin:
        if at:
            extra = {**place, "stored": at, "begin": kept.begin}
            log.warning("messages are gone that had not landed: retention was faster", extra=extra)
        return kept.begin
    return at


def stored_in(found: Rows) -> dict[Key, int]:
    """Return the positions in a store."""
    return {(topic, log_id, number): at for topic, log_id, number, at in found.rows}


def first_positions(
    bus: Bus, topics: Iterable[str], stored: Collection[Key], *, has_rows: bool, from_beginning: bool
) -> dict[Key, int]:
    """Return positions to be written before anything is landed.

    A store that a release before has filled has rows and no positions: it goes on at what the group has committed.
    """
    found: dict[Key, int] = {}
    if from_beginning:
        found |= dict.fromkeys(stored, 0)
        for topic in topics:
            found |= dict.fromkeys([(topic, bus.log_id(topic), number) for number in bus.offsets(topic)], 0)
    elif has_rows and not stored:
        for topic in topics:
            committed = bus.committed(GROUP, topic)
            if committed:
                log_id = bus.log_id(topic)
                found |= {(topic, log_id, number): at for number, at in committed.items()}
    return found


def rows_of(positions: Mapping[Key, int]) -> Columns:
    """Return positions as columns of their table."""
    topics, logs, numbers = (np.array([key[i] for key in positions], dtype=object) for i in range(3))
    n = len(positions)
    columns, _ = checked(
        POSITIONS,
        {
            "id": np.array([_id(key) for key in positions], dtype=object),
            "source_topic": topics,
            "source_log": logs,
            "source_partition": numbers.astype(np.int64),
            "next_offset": np.array(list(positions.values()), dtype=np.int64),
            "landed": np.full(n, time.time_ns() // 1_000_000, dtype="datetime64[ms]"),
        },
        n,
    )
    return columns


def guard_of(stored: Mapping[Key, int | None]) -> Guard:
    """Return what a write that rests on these positions needs."""
    return Guard(POSITIONS.name, "next_offset", {_id(key): at for key, at in stored.items()})


def _id(key: Key) -> str:
    topic, log_id, number = key
    return f"{topic}:{log_id}-{number}"
