"""Who is in a group, and since when nothing was heard of each.

A member shows a sign of life every fifth of its session; whoever does so next drops those that showed none for a
whole one, and a new generation shares the partitions anew. Signs of life are told by the machine's own clock, which
runs on when somebody sets the time of day: with that, one hour back would leave the partitions of a dead member
unanswered for an hour. It begins anew with the machine, so a sign of life from the future is of a time before, and
counts as none.
"""

from __future__ import annotations

import sqlite3
import uuid

from kappawatt.bus.embedded.file import File
from kappawatt.bus.interface import TopicPartition
from kappawatt.clock import machine_seconds

__all__ = ["Membership", "count_alive"]

SIGNS = 5  # of life in one session


def count_alive(connection: sqlite3.Connection, group: str, session: float) -> int:
    """Return how many members of a group have shown a sign of life within a session; asked inside a write."""
    now = machine_seconds()
    (count,) = connection.execute(
        "SELECT COUNT(*) FROM member WHERE consumer_group = ? AND seen BETWEEN ? AND ?", (group, now - session, now)
    ).fetchone()
    return int(count)


class Membership:
    """One member of a group.

    Parameters
    ----------
    file : File
    group : str
    instance : str or None
        Makes the member static: its place waits for it over a restart, until its session ends.
    topics : tuple of str
        What it reads.
    session : float
        Seconds without a sign of life after which a member is dropped.
    """

    def __init__(self, file: File, group: str, instance: str | None, topics: tuple[str, ...], session: float) -> None:
        self.group = group
        self.session = session
        self._file = file
        self._instance = instance
        self._name = instance or uuid.uuid4().hex
        self._topics = topics
        self._next_sign = 0.0

    def keep(self) -> int:
        """Show a sign of life when it is time, drop members that show none, and return the generation."""
        if machine_seconds() < self._next_sign:
            return self.generation(self._file.connection())
        with self._file.write() as connection:
            now = machine_seconds()  # in here: who waited for the lock finds signs of life of meanwhile
            gone = connection.execute(
                "DELETE FROM member WHERE consumer_group = ? AND seen NOT BETWEEN ? AND ?",
                (self.group, now - self.session, now),
            ).rowcount
            topics = ",".join(self._topics)
            known = connection.execute(
                "UPDATE member SET seen = ? WHERE consumer_group = ? AND member = ? AND topics = ?",
                (now, self.group, self._name, topics),
            ).rowcount
            if not known:
                connection.execute(
                    "INSERT OR REPLACE INTO member VALUES (?, ?, ?, ?, ?)",
                    (self.group, self._name, self._instance, topics, now),
                )
            if gone or not known:
                self._begin_generation(connection)
            current = self.generation(connection)
        self._next_sign = now + self.session / SIGNS
        return current

    def share(self) -> list[TopicPartition]:
        """Return the partitions that are this member's."""
        members = [
            (member, topics.split(","))
            for member, topics in self._file.connection().execute(
                "SELECT member, topics FROM member WHERE consumer_group = ? ORDER BY member", (self.group,)
            )
        ]
        mine: list[TopicPartition] = []
        for topic in self._topics:
            sharing = [member for member, topics in members if topic in topics]
            if self._name not in sharing:
                continue
            place = sharing.index(self._name)
            mine += [(topic, p) for p in self._file.offsets(topic) if p % len(sharing) == place]
        return mine

    def generation(self, connection: sqlite3.Connection) -> int:
        """Return the number of the group's generation."""
        row = connection.execute("SELECT number FROM generation WHERE consumer_group = ?", (self.group,)).fetchone()
        return int(row[0]) if row else 0

    def leave(self) -> None:
        """Give the partitions to the others; a static member keeps its place."""
        if self._instance is not None:
            return
        with self._file.write() as connection:
            gone = connection.execute(
                "DELETE FROM member WHERE consumer_group = ? AND member = ?", (self.group, self._name)
            ).rowcount
            if gone:
                self._begin_generation(connection)

    def _begin_generation(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO generation VALUES (?, 1) ON CONFLICT (consumer_group) DO UPDATE SET number = number + 1",
            (self.group,),
        )
