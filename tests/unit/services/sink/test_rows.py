"""Messages to rows, without a bus or a database: what is taken, refused, cut and counted."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from kappawatt.bus.interface import Outgoing, Records
from kappawatt.messages.ids import message_id
from kappawatt.services.sink.rows import Landing, Part, tables_of
from kappawatt.store.table import Table
from tests.unit.services.sink.messages import START, dead_letters_of, predictions_of

READINGS = "plant.readings"
ROW = {"ambient_temperature": 1, "exhaust_vacuum": 41, "ambient_pressure": 1024, "relative_humidity": 70}
FIRST = -62_135_510_400_000  # 0001-01-02, in ms
LAST = 253_402_128_000_000  # 9999-12-30


def records(
    topic: str,
    *values: bytes,
    timestamps: Sequence[int] | None = None,
    keys: Sequence[bytes | None] | None = None,
) -> Records:
    n = len(values)
    stamps, named = timestamps or [START] * n, keys or [b"plant-1"] * n
    return Records(topic, 2, range(40, 40 + n), stamps, named, values, [()] * n, "a-log")


def as_records(messages: Sequence[Outgoing], topic: str = "") -> Records:
    n = len(messages)
    columns = ([m.key for m in messages], [m.value for m in messages], [m.headers for m in messages])
    return Records(topic or messages[0].topic, 2, range(40, 40 + n), [START] * n, *columns)


def landed(*polled: Records) -> Landing:
    landing = Landing()
    for each in polled:
        landing.add(each)
    return landing


def rows_of(landing: Landing, table: str) -> list[dict[str, Any]]:
    columns = tables_of(landing.parts).get(table, {})
    n = max(map(len, columns.values()), default=0)
    return [{name: column[i] for name, column in columns.items()} for i in range(n)]


def test_messages_rows_and_bytes_are_counted_and_what_is_refused_by_its_reason() -> None:
    two = b"[%b,%b]" % (orjson.dumps(ROW), orjson.dumps(ROW))
    bad = [b"no", b"[1]", b"\xff"]

    landing = landed(records(READINGS, two, b"no"), records("plant.predictions", *bad))

    assert (landing.messages, landing.rows) == (5, 2 + 3)
    assert landing.size == len(two) + len(b"no") + sum(map(len, bad))
    assert landing.refused == Counter({"malformed": 3})
    assert landing.first.startswith("plant.predictions[2]@40: got malformed JSON")
    assert [row["source_offset"] for row in rows_of(landing, "rejections")] == [40, 41, 42]


def test_a_record_time_is_taken_from_the_first_day_of_a_store_to_its_last() -> None:
    stamps = [FIRST - 1, FIRST, LAST - 1, LAST]
    values = [orjson.dumps(ROW | {"ambient_temperature": t}) for t in range(4)]

    landing = landed(records(READINGS, *values, timestamps=stamps))

    assert [row["ambient_temperature"] for row in rows_of(landing, "readings")] == [1, 2]
    refused = rows_of(landing, "rejections")
    assert [row["message"] for row in refused] == [
        f"published: got {stamp}, allowed milliseconds from {FIRST} to {LAST - 1}" for stamp in (FIRST - 1, LAST)
    ]
    assert [(row["reason"], row["source_offset"]) for row in refused] == [("not_storable", 40), ("not_storable", 43)]
    assert all(np.isnat(row["published"]) for row in refused)
    assert landing.rows == 4


def test_a_rejection_was_published_at_any_time_that_a_store_takes() -> None:
    stamps = [FIRST, LAST - 1]

    landing = landed(records("plant.predictions", b"no", b"no", timestamps=stamps))

    assert [row["published"] for row in rows_of(landing, "rejections")] == [np.datetime64(at, "ms") for at in stamps]


@pytest.mark.parametrize(
    "topic", ["plant.predictions", "load.forecasts", "load.forecast-errors", "plant.readings.dead"]
)
def test_a_rejection_says_what_is_wrong_in_the_words_of_the_field(topic: str) -> None:
    landing = landed(records(topic, b'{"id": 7}', b"no"))

    messages = [row["message"] for row in rows_of(landing, "rejections")]
    assert messages[0] == "id: got 7, allowed text of 1 to 400 characters"
    assert messages[1].startswith("got malformed JSON")


def test_a_rejection_says_what_came_where_and_why() -> None:
    landing = landed(records("plant.predictions", b'{"id": 7}'))

    [row] = rows_of(landing, "rejections")
    assert row == row | {
        "id": message_id("plant.predictions", "a-log", 2, 40),
        "key": "plant-1",
        "reason": "malformed",
        "message": "id: got 7, allowed text of 1 to 400 characters",
        "rejected_rows": 1,
        "published": np.datetime64(START, "ms"),
        "content_type": "application/json",
        "original": '{"id": 7}',
        "original_base64": None,
        "source_topic": "plant.predictions",
        "source_log": "a-log",
        "source_partition": 2,
        "source_offset": 40,
    }


@pytest.mark.parametrize("letter", [b"x", "ü".encode()])
def test_of_a_message_that_the_sink_refuses_65536_characters_are_kept(letter: bytes) -> None:
    landing = landed(records("plant.predictions", letter * 65_536, letter * 65_537))

    assert [row["original"] for row in rows_of(landing, "rejections")] == [letter.decode() * 65_536] * 2


def test_of_bytes_that_are_no_text_as_many_are_kept_as_fit_the_same_column() -> None:
    values = [b"\xff" * 49_152, b"\xff" * 49_153, b"text with \x00"]

    rows = rows_of(landed(records("plant.predictions", *values)), "rejections")

    assert [row["original"] for row in rows] == [None] * 3
    kept = [base64.b64decode(row["original_base64"]) for row in rows]
    assert kept == [values[0], values[0], values[2]]


def test_of_a_message_that_another_refused_4000_characters_are_kept() -> None:
    [letter] = dead_letters_of([b"x" * 5000])

    [row] = rows_of(landed(as_records([letter])), "rejections")

    assert row["original"] == "x" * 4000


def test_a_dead_letter_without_counts_is_of_one_row_and_one_of_too_many_is_malformed() -> None:
    document = {"id": "a", "reason": "r", "topic": READINGS, "partition": 0, "offset": 3, "timestamp": START}
    more = [{}, {"rejected_rows": 2**31 - 1}, {"rejected_rows": 2**31}, {"log": "b"}, {"partition": 2**31}]
    values = [orjson.dumps(document | change) for change in more]

    rows = rows_of(landed(records("plant.readings.dead", *values)), "rejections")

    assert [(row["reason"], row["rejected_rows"]) for row in rows if row["reason"] == "r"] == [
        ("r", 1), ("r", 2**31 - 1), ("r", 1),
    ]  # fmt: skip
    assert sum(row["reason"] == "malformed" for row in rows) == 2
    assert [row["arrived"] for row in rows if row["reason"] == "r"] == [np.datetime64(START, "ms")] * 3
    assert [row["source_log"] for row in rows if row["reason"] == "r"] == ["", "", "b"]


def test_readings_are_under_their_own_key_else_their_messages_and_texts_are_storable() -> None:
    row = {"interval_start": "2016-07-01T04:00:00Z", "load": 1.0, "time_zone": "Mars\x00"}
    named = [row | {"load_zone": "DOM"}, row | {"load_zone": "D\x00M"}, row]

    landing = landed(records("load.readings", *map(orjson.dumps, named), keys=[b"PJME"] * 3))

    assert {r["time_zone"] for r in rows_of(landing, "load_readings")} == {"Mars\N{REPLACEMENT CHARACTER}"}
    assert [r["key"] for r in rows_of(landing, "load_readings")] == ["DOM", "D\N{REPLACEMENT CHARACTER}M", "PJME"]
    assert not landing.refused


def test_the_time_of_a_reading_that_says_none_is_when_it_was_published() -> None:
    with_time = ROW | {"event_time": "2026-01-02T00:00:00Z"}

    rows = rows_of(landed(records(READINGS, orjson.dumps([ROW, with_time]))), "readings")

    assert [row["event_time"] for row in rows] == [np.datetime64(START, "ms"), np.datetime64("2026-01-02")]
    assert {row["published"] for row in rows} == {np.datetime64(START, "ms")}
    assert [(row["source_offset"], row["source_row"]) for row in rows] == [(40, 0), (40, 1)]


def test_rows_that_a_database_refused_become_one_rejection_a_message_with_their_count() -> None:
    three, one = [orjson.dumps([ROW] * n) for n in (3, 1)]
    landing = landed(records(READINGS, three, one), records(READINGS, one))
    rows = [part.rows(slice(i, i + 1)) for part in landing.parts for i in range(len(part))]
    assert landing.rows == len(rows) == 5

    landing.refuse_parts([(rows[i], f"why {i}") for i in (0, 2, 3, 4)])

    assert {part.table.name for part in landing.parts} == {"rejections"}
    found = rows_of(landing, "rejections")
    assert [(row["message"], row["rejected_rows"], row["source_offset"]) for row in found] == [
        ("why 0", 2, 40), ("why 3", 1, 41), ("why 4", 1, 40),
    ]  # fmt: skip
    assert {row["reason"] for row in found} == {"not_storable"}
    assert landing.rows == 5 - 4 + 3


def test_a_block_goes_between_the_events_around_it() -> None:
    messages = [
        *predictions_of([1], [1.0]),
        *predictions_of([2, 3], [2.0, 3.0], as_block=True),
        *predictions_of([4], [4.0]),
    ]

    landing = landed(as_records(messages))

    assert [row["net_power"] for row in rows_of(landing, "predictions")] == [1.0, 2.0, 3.0, 4.0]
    assert [part.message.tolist() for part in landing.parts] == [[0], [1, 1], [2]]


def test_what_a_side_topic_holds_shows_in_the_first_message_that_says_so() -> None:
    good = predictions_of([1, 2], [1.0, 2.0], topic="side")
    [block] = predictions_of([3], [3.0], topic="side", as_block=True)
    unreadable = Outgoing("side", b"no", b"plant-1")
    of_nothing = Outgoing("side", b'{"source_topic": ["plant.readings"]}', b"plant-1")

    landing = landed(as_records([unreadable, of_nothing, *good, block]))

    assert [row["net_power"] for row in rows_of(landing, "predictions")] == [1.0, 2.0, 3.0]
    assert landing.refused == Counter({"malformed": 2})
    assert rows_of(landing, "rejections")[0]["message"].startswith("got malformed JSON")
    [alone] = rows_of(landed(as_records([unreadable])), "rejections")
    assert alone["message"].startswith("source_topic: got no topic of readings")


@pytest.mark.parametrize("source", ["plant.predictions", "nowhere", "plant.readings.dead"])
def test_a_side_topic_of_answers_to_no_readings_is_refused_whole(source: str) -> None:
    landing = landed(records("side", *[orjson.dumps({"source_topic": source})] * 2))

    messages = [row["message"] for row in rows_of(landing, "rejections")]
    assert len(messages) == 2
    assert all(m.startswith("source_topic: got no topic of readings, allowed ") for m in messages)
    allowed = set(messages[0].partition("allowed ")[2].split(", "))
    assert {READINGS, "load.readings", "meter.readings"} <= allowed
    assert "plant.predictions" not in allowed


def test_of_messages_that_break_a_reader_the_others_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Landing._add_readings

    def fragile(landing: Landing, polled: Records, stream: Any) -> None:
        read(landing, polled, stream)
        if any(b"13.5" in value for value in polled.values):
            raise ZeroDivisionError("of a reader")

    monkeypatch.setattr(Landing, "_add_readings", fragile)
    values = [orjson.dumps(ROW | {"ambient_temperature": t}) for t in (1.0, 13.5, 2.0, 3.0, 13.5)]

    landing = landed(records(READINGS, *values))

    assert [row["ambient_temperature"] for row in rows_of(landing, "readings")] == [1.0, 2.0, 3.0]
    assert landing.refused == Counter({"malformed": 2})
    assert landing.first == f"{READINGS}[2]@41: ZeroDivisionError: of a reader"
    assert landing.rows == 5


def test_rows_of_a_message_that_no_store_takes_are_counted_in_one_rejection() -> None:
    times = [START, 253_402_300_799_000, START + 1, 253_402_300_799_000]
    [block] = predictions_of([1, 2, 3, 4], [1.0, 2.0, 1e300, 4.0], event_time=times, as_block=True)

    landing = landed(as_records([block]))

    assert [row["net_power"] for row in rows_of(landing, "predictions")] == [1.0]
    [row] = rows_of(landing, "rejections")
    assert (row["reason"], row["rejected_rows"]) == ("not_storable", 3)
    assert row["message"].startswith("event_time: got 9999-12-31")
    assert landing.rows == 2


def test_a_part_is_as_long_as_its_rows() -> None:
    part = Part(Table("t", (), ""), {"x": np.arange(4)}, records("t"), np.array([0, 0, 1, 2]))

    few = part.rows(np.array([1, 3]))

    assert (len(part), len(few)) == (4, 2)
    assert (few.columns["x"].tolist(), few.message.tolist()) == ([1, 3], [0, 2])


def test_numbered_covariates_are_one_json_text_and_rows_without_have_none() -> None:
    row = {"interval_start": "2016-07-01T04:00:00Z", "load": 30_000.0, "temperature": 20.0}
    more = {**row, "temperature_2": 21.5, "wind_speed": 3, "weather_issue_time": "2016-06-30T12:00:00Z"}

    landing = landed(records("load.readings", orjson.dumps(row), orjson.dumps(more)))

    first, second = rows_of(landing, "load_readings")
    assert (first["temperature"], first["covariates"]) == (20.0, None)
    assert orjson.loads(second["covariates"]) == {"temperature_2": 21.5, "wind_speed": 3.0}
    assert second["weather_issue_time"] == np.datetime64("2016-06-30T12:00", "ms")
