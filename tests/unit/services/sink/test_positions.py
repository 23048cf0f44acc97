"""Where the sink goes on: where its store ends, whatever the group has committed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from kappawatt.bus import Bus, connect
from kappawatt.bus.interface import Offsets, Records
from kappawatt.cli.main import main
from kappawatt.services.sink.loop import open_sink
from kappawatt.services.sink.positions import Positions
from kappawatt.settings import Settings
from kappawatt.store.interface import Rows
from kappawatt.streams.table import TOPICS
from tests.conftest import wait_until
from tests.unit.services.sink.messages import batch_of, partition_of, publish_readings
from tests.unit.services.sink.test_sink import ask, land_all, running

COUNT = "SELECT count(*), count(DISTINCT id) FROM readings"
TOPIC = "plant.readings"


def database(settings: Settings) -> Path:
    return Path(settings.database.removeprefix("duckdb:"))


def positions(settings: Settings) -> list[tuple[Any, ...]]:
    return ask(
        settings,
        f"SELECT source_log, source_partition, next_offset FROM sink_positions WHERE source_topic = '{TOPIC}'",
    )


def forget_topic(settings: Settings, statements: tuple[str, ...]) -> None:
    with closing(sqlite3.connect(settings.bus.removeprefix("embedded:"))) as connection, connection:
        for statement in statements:
            connection.execute(statement, (TOPIC,))


def test_rows_and_their_position_are_written_together(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(7), block_rows=0)

    land_all(settings, 7)

    assert positions(settings) == [(bus.log_id(TOPIC), partition_of(bus, TOPIC), 7)]


def test_messages_without_rows_move_the_position_too(bus: Bus, settings: Settings) -> None:
    from kappawatt.bus import Outgoing
    from tests.conftest import publish

    publish(bus, [Outgoing(TOPIC, b"{}", b"p")] * 3)
    sink = open_sink(settings)

    with running(sink):
        wait_until(lambda: sum(bus.committed("sink", TOPIC).values()) == 3)

    assert [at for _, _, at in positions(settings)] == [3]


def test_an_empty_store_is_built_again_from_the_beginning(bus: Bus, settings: Settings) -> None:
    """Also of partitions to which nothing comes any more, and though the group has committed all of them."""
    publish_readings(bus, batch_of(100), block_rows=0)
    land_all(settings, 100)
    database(settings).unlink()

    land_all(settings, 100)

    assert ask(settings, COUNT) == [(100, 100)]


def test_a_restored_store_goes_on_where_the_backup_ends(bus: Bus, settings: Settings, tmp_path: Path) -> None:
    publish_readings(bus, batch_of(100), block_rows=0)
    land_all(settings, 100)
    shutil.copy(database(settings), tmp_path / "backup")
    publish_readings(bus, batch_of(30), block_rows=0)
    land_all(settings, 30)
    shutil.copy(tmp_path / "backup", database(settings))
    sink = open_sink(settings)

    with running(sink):
        wait_until(lambda: sink.landed >= 30)

    assert ask(settings, COUNT) == [(130, 130)]
    assert sink.landed == 30  # and not all of it


def test_a_file_that_is_replaced_while_the_sink_runs_is_built_again_too(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(100), block_rows=0)
    publish_readings(bus, batch_of(10), "plant-2", block_rows=0)
    sink = open_sink(settings)

    with running(sink):
        wait_until(lambda: sink.landed == 110)
        database(settings).unlink()
        publish_readings(bus, batch_of(1), "plant-2", block_rows=0)
        wait_until(lambda: database(settings).exists() and ask_or_none(settings) == [(111, 111)], 60)


def test_a_file_that_goes_while_nothing_comes_is_built_again_too(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(10), block_rows=0)
    sink = open_sink(settings)

    with running(sink):
        wait_until(lambda: sink.landed == 10)
        database(settings).unlink()
        wait_until(lambda: sink.landed == 20, 60)

    assert ask(settings, COUNT) == [(10, 10)]


def ask_or_none(settings: Settings) -> list[tuple[Any, ...]] | None:
    try:
        return ask(settings, COUNT)
    except duckdb.Error:  # just being made
        return None


def test_a_store_of_a_release_before_goes_on_at_what_the_group_has_committed(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(50), block_rows=0)
    land_all(settings, 50)
    ask(settings, "DROP TABLE sink_positions")
    ask(settings, "DELETE FROM readings WHERE source_offset < 40")  # it would come back if all were landed again
    publish_readings(bus, batch_of(5), block_rows=0)

    land_all(settings, 5)

    assert ask(settings, "SELECT min(source_offset), count(*) FROM readings") == [(40, 15)]
    assert max(at for _, _, at in positions(settings)) == 55


def test_all_is_landed_again_on_demand_and_nothing_doubles(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(50), block_rows=0)
    land_all(settings, 50)
    ask(settings, "DELETE FROM readings WHERE source_offset < 40")

    land_all(replace(settings, from_beginning=True), 50)
    sink = open_sink(settings)
    with running(sink):
        publish_readings(bus, batch_of(1), block_rows=0)
        wait_until(lambda: sink.landed == 1)

    assert ask(settings, COUNT) == [(51, 51)]


def test_on_demand_it_lands_again_while_another_sink_runs(bus: Bus, settings: Settings) -> None:
    settings = replace(settings, session_timeout=1.0)
    publish_readings(bus, batch_of(50), block_rows=0)
    first = open_sink(settings)

    with running(first):
        wait_until(lambda: first.landed == 50)
        ask(settings, "DELETE FROM readings")
        second = open_sink(replace(settings, from_beginning=True))
        with running(second):
            wait_until(lambda: ask_or_none(settings) == [(50, 50)], 60)


def test_a_topic_that_was_made_again_lands_beside_its_old_rows(bus: Bus, settings: Settings) -> None:
    publish_readings(bus, batch_of(20), block_rows=0)
    land_all(settings, 20)
    old = bus.log_id(TOPIC)
    before = positions(settings)
    forget_topic(
        settings,
        tuple(
            f"DELETE FROM {table} WHERE {column} = ?"
            for table, column in (
                ("topic", "name"),
                ("partition", "topic"),
                ("message", "topic"),
                ("committed", "topic"),
            )
        ),
    )
    bus.ensure(TOPICS)
    publish_readings(bus, batch_of(30), block_rows=0)

    land_all(settings, 30)

    assert ask(settings, COUNT) == [(50, 50)]
    assert ask(settings, "SELECT count(*) FROM readings WHERE source_log = ''") == [(0,)]
    assert bus.log_id(TOPIC) != old
    assert {log for log, _, _ in positions(settings)} == {old, bus.log_id(TOPIC)}
    assert set(before) <= set(positions(settings))


def test_another_bus_lands_from_its_beginning(bus: Bus, settings: Settings, tmp_path: Path) -> None:
    publish_readings(bus, batch_of(20), block_rows=0)
    land_all(settings, 20)
    other = replace(settings, bus=f"embedded:{tmp_path}/other.sqlite")
    second = connect(other.bus)
    second.ensure(TOPICS)
    publish_readings(second, batch_of(3), block_rows=0)

    land_all(other, 3)

    assert ask(settings, COUNT) == [(23, 23)]
    assert [at for _, _, at in sorted(positions(settings), key=lambda row: row[2])] == [3, 20]


def test_what_retention_has_taken_does_not_keep_the_sink_waiting(
    bus: Bus, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    publish_readings(bus, batch_of(20), block_rows=0)
    land_all(settings, 20)
    publish_readings(bus, batch_of(20), block_rows=0)
    forget_topic(
        settings,
        (
            "DELETE FROM message WHERE topic = ? AND offset < 30",
            "UPDATE partition SET begin_offset = 30 WHERE topic = ? AND end_offset > 0",
        ),
    )

    land_all(settings, 10)

    assert ask(settings, COUNT) == [(30, 30)]
    assert [at for _, _, at in positions(settings)] == [40]
    assert "messages are gone that had not landed: retention was faster" in {r.message for r in caplog.records}


def test_a_log_that_ends_before_the_position_is_landed_whole(bus: Bus, settings: Settings) -> None:
    """A volume of the bus that was restored: the same log, shorter than it was."""
    publish_readings(bus, batch_of(20), block_rows=0)
    land_all(settings, 20)
    ask(settings, "UPDATE sink_positions SET next_offset = 500")

    land_all(settings, 20)

    assert [at for _, _, at in positions(settings)] == [20]


def test_the_command_takes_it_from_the_sink_only() -> None:
    refused = CliRunner().invoke(main, ["consume", "plant-power", "--from-beginning"])

    assert refused.exit_code != 0
    assert "--from-beginning: got with plant-power" in refused.output
    for command in (["sink"], ["consume", "sink"]):
        assert "--from-beginning" in CliRunner().invoke(main, [*command, "--help"]).output


class Assigned:
    """A member whose partitions are assigned and moved as a test tells."""

    def __init__(self, at: dict[tuple[str, int], int], committed: int) -> None:
        self.at = at
        self._committed = committed
        self.may_commit = True
        self.sought: list[int] = []

    def positions(self) -> Mapping[tuple[str, int], int]:
        return dict(self.at)

    def committed(self, place: tuple[str, int]) -> int | None:
        return self._committed

    def commit(self) -> None:
        if self.may_commit:
            self._committed = self.at[PLACE]

    def seek(self, place: tuple[str, int], offset: int) -> None:
        self.at[place] = offset
        self.sought.append(offset)


class Log:
    """Of a bus: one topic of one partition."""

    def offsets(self, topic: str) -> dict[int, Offsets]:
        return {0: Offsets(0, 1_000)}

    def log_id(self, topic: str) -> str:
        return "a"


PLACE = (TOPIC, 0)


def records_of(*offsets: int, log: str = "a") -> Records:
    n = len(offsets)
    return Records(TOPIC, 0, offsets, [0] * n, [None] * n, [b""] * n, [()] * n, log)


def handed_out(stored: int | None, member: Assigned, polls: list[list[int]]) -> list[int]:
    """Return the offsets that are landed of what is polled."""
    rows = [] if stored is None else [(TOPIC, "a", 0, stored)]
    following = Positions(Log(), lambda: Rows([], rows))  # type: ignore[arg-type]
    found: list[int] = []
    for offsets in polls:
        if offsets:
            member.at[PLACE] = offsets[-1] + 1
        kept = following.follow(member, [records_of(*offsets)] if offsets else [])  # type: ignore[arg-type]
        found += [offset for records in kept for offset in records.offsets]
    return found


def test_gaps_of_a_log_are_no_reason_to_read_again() -> None:
    member = Assigned({PLACE: 0}, committed=0)

    assert handed_out(0, member, [[0, 1], [7, 8], [], [20]]) == [0, 1, 7, 8, 20]
    assert member.sought == []


def test_a_rebalance_that_skips_what_is_not_in_the_store_is_put_right() -> None:
    member = Assigned({PLACE: 0}, committed=500)

    assert handed_out(None, member, [[], [0, 1], [500, 501], [0, 1, 2, 3]]) == [0, 1, 0, 1, 2, 3]
    assert member.sought == [0]


def test_rebalances_that_follow_each_other_before_anything_is_committed_skip_nothing() -> None:
    """Each of them drops the commit and puts the member to the same offset, as a slow group of Kafka does."""
    member = Assigned({PLACE: 500}, committed=500)
    member.may_commit = False

    assert handed_out(None, member, [[], [500, 501], [500, 501], [500], [0, 1]]) == [0, 1]


def test_a_gap_around_what_is_committed_does_not_keep_it_waiting() -> None:
    """Nothing is left between the store's position and an offset beyond what the group has committed."""
    member = Assigned({PLACE: 600}, committed=500)

    assert handed_out(None, member, [[600], [600, 601]]) == [600, 601]
