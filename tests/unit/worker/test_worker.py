"""The worker: every message becomes a prediction or a dead letter, once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from kappawatt.bus import Bus, Outgoing, Records
from kappawatt.bus.partitioner import partition_for
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.content import ARROW, CSV
from kappawatt.columns.schema import MAX_TIMESTAMP
from kappawatt.errors import DeliveryFailed
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.predictions import read_predictions
from kappawatt.models.artifact import find_artifact
from kappawatt.settings import Settings
from kappawatt.telemetry import Telemetry
from kappawatt.worker.loop import Worker
from kappawatt.worker.predicting import Answering
from tests import fakes
from tests.conftest import everything, wait_until
from tests.fakes import EXAMPLE, POISON, PREDICTOR, STREAM

READINGS, PREDICTIONS, DEAD = "plant.readings", "plant.predictions", "plant.readings.dead"


LOG = "5xB0xqDOQ9ukA7dY2wPNSw"
PARTITION = partition_for(b"plant-1", 4)


def done(bus: Bus, group: str) -> int:
    """How many readings a group has committed."""
    return sum(bus.committed(group, READINGS).values())


def make_worker(bus: Bus, settings: Settings, **changes: Any) -> Worker:
    root = settings.artifacts
    assert root is not None
    parts: dict[str, Any] = {
        "stream": STREAM,
        "service": "fake-power",
        "settings": settings,
        "telemetry": Telemetry("fake-power"),
    }

    def open_answers(version: str | None, output: str) -> tuple[Answering, str, str]:
        model = PREDICTOR.open(find_artifact(root, version))
        return Answering(model, output, DEAD, settings.block_rows), model.name, model.version

    return Worker(bus, open_answers, **parts | changes)


@contextmanager
def running(worker: Worker) -> Iterator[None]:
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(20)
        assert not thread.is_alive()


def publish(bus: Bus, values: list[bytes], key: bytes = b"plant-1", headers: Any = ()) -> None:
    producer = bus.producer()
    producer.publish([Outgoing(READINGS, value, key, headers) for value in values])
    producer.close()


def records(*values: bytes, keys: list[bytes | None] | None = None, headers: Any = ()) -> Records:
    n = len(values)
    columns = range(100, 100 + n), [1_700_000_000_000] * n, keys or [b"p"] * n, values, [headers] * n
    return Records(READINGS, 3, *columns, LOG)


def answering(tmp_path: Path, block_rows: int = 0) -> Answering:
    return Answering(fakes.model(tmp_path), PREDICTIONS, DEAD, block_rows)


def as_records(messages: list[Outgoing], topic: str) -> Records:
    own = [m for m in messages if m.topic == topic]
    n = len(own)
    return Records(topic, 0, range(n), [0] * n, [m.key for m in own], [m.value for m in own], [m.headers for m in own])


def test_every_message_gets_a_prediction_or_a_dead_letter(bus: Bus, settings: Settings) -> None:
    fakes.write_artifact(settings.artifacts)
    publish(bus, [*fakes.json_rows(range(10)), b"junk", b"99,41,1000,50", b"11,41,1000,50,470.5"])

    with running(make_worker(bus, settings)):
        wait_until(lambda: done(bus, "fake-power") == 13, what="all committed")

    predictions = read_predictions(everything(bus, PREDICTIONS))
    letters = read_dead_letters(everything(bus, DEAD))
    assert [p["net_power"] for p in predictions] == [500.0 - 2 * t for t in [*range(10), 11]]
    assert predictions[-1]["measured_net_power"] == 470.5
    assert [(x["offset"], x["reason"], x["field"]) for x in letters] == [
        (10, "malformed", None),
        (11, "out_of_range", "ambient_temperature"),
    ]


def test_a_dead_letter_holds_reason_range_origin_and_original_bytes(tmp_path: Path) -> None:
    outcome = answering(tmp_path).answer([records(b"14,812,1000,50", b"\xff\xfe")])

    first, second = read_dead_letters([as_records(outcome.outgoing, DEAD)])
    assert first["reason"] == "out_of_range"
    assert first["field"] == "exhaust_vacuum"
    assert first["got"] == 812.0
    assert first["allowed"] == "a number from 0 to 100 cm Hg"
    assert (first["topic"], first["partition"], first["offset"], first["key"]) == (READINGS, 3, 100, "p")
    assert first["original"] == "14,812,1000,50"
    assert first["id"] == f"plant.readings:{LOG}-3-100"
    assert second["original_base64"] == "//4="


def test_ids_come_from_topic_partition_offset_row_and_version(tmp_path: Path) -> None:
    outcome = answering(tmp_path).answer([records(b"1,2,1000,4", b"5,6,1000,8\n9,10,1000,12")])

    ids = [p["id"] for p in read_predictions([as_records(outcome.outgoing, PREDICTIONS)])]
    assert ids == [
        f"plant.readings:{LOG}-3-100-0@1",
        f"plant.readings:{LOG}-3-101-0@1",
        f"plant.readings:{LOG}-3-101-1@1",
    ]


def test_a_block_and_its_bad_rows_are_told_apart(tmp_path: Path) -> None:
    columns = {name: np.full(1000, value) for name, value in EXAMPLE.items()}
    columns["exhaust_vacuum"][[7, 700]] = 812.0
    block = records(write_columns(columns), headers=(("content-type", ARROW.encode()),))

    outcome = answering(tmp_path, block_rows=64).answer([block])

    (letter,) = read_dead_letters([as_records(outcome.outgoing, DEAD)])
    predictions = read_predictions([as_records(outcome.outgoing, PREDICTIONS)])
    assert [error["row"] for error in letter["errors"]] == [7, 700]
    assert letter["rejected_rows"] == 2
    assert sorted(p["source_row"] for p in predictions) == sorted(set(range(1000)) - {7, 700})
    assert len([m for m in outcome.outgoing if m.topic == PREDICTIONS]) == 1


@pytest.mark.parametrize("block_rows", [0, 1, 64])
def test_blocks_and_events_say_the_same(tmp_path: Path, block_rows: int) -> None:
    values = [b"%d,41.5,1000,50%s" % (t, b",470.25" if t % 3 else b"") for t in range(40)]
    keys: list[bytes | None] = [(b"a", b"b", None)[t % 3] for t in range(40)]

    blocks = answering(tmp_path, block_rows).answer([records(*values, keys=keys)])
    events = answering(tmp_path, 0).answer([records(*values, keys=keys)])

    def flat(outcome: Any) -> list[dict[str, Any]]:
        found = read_predictions([as_records(outcome.outgoing, PREDICTIONS)])
        plain = [{k: v for k, v in p.items() if k != "offset"} for p in found]
        return sorted(plain, key=lambda p: p["source_offset"])

    assert flat(blocks) == flat(events)


@pytest.mark.parametrize("block_rows", [0, 1, 3])
def test_each_answer_has_the_key_of_its_reading_whatever_is_polled_with_it(tmp_path: Path, block_rows: int) -> None:
    keys = [[b"a"] * 3, [b"a", b"b", None, b"b", b"a"], [b"c"], [b"b", b"c", b"b"]]
    rows = iter(fakes.json_rows(range(12)))
    polled = [records(*[next(rows) for _ in part], keys=list(part)) for part in keys]

    outcome = answering(tmp_path, block_rows).answer(polled)

    answers = [
        (message.key, round((500.0 - p["net_power"]) / 2))
        for message in outcome.outgoing
        for p in read_predictions([as_records([message], PREDICTIONS)])
    ]
    expected = dict(enumerate(key for part in keys for key in part))
    assert len(answers) == len(expected)
    assert {number: key for key, number in answers} == expected


@pytest.mark.parametrize("at", [-1, 0, MAX_TIMESTAMP, MAX_TIMESTAMP + 1])
def test_a_reading_without_a_time_that_came_at_none_is_refused(tmp_path: Path, at: int) -> None:
    came = Records(READINGS, 3, [100], [at], [b"p"], fakes.json_rows([1.0]), [()], LOG)

    outcome = answering(tmp_path).answer([came])

    is_time = 0 <= at <= MAX_TIMESTAMP
    assert len(read_predictions([as_records(outcome.outgoing, PREDICTIONS)])) == is_time
    fields = [x["field"] for x in read_dead_letters([as_records(outcome.outgoing, DEAD)])]
    assert fields == ([] if is_time else ["event_time"])


def test_a_worker_that_answers_row_by_row_keeps_no_histories(tmp_path: Path) -> None:
    assert answering(tmp_path).series == 0


def test_mixed_content_types_in_one_poll_are_all_answered_in_order(tmp_path: Path) -> None:
    values = [b"1,2,1000,4", *fakes.json_rows([2]), b"3,2,1000,4"]

    outcome = answering(tmp_path).answer([records(*values)])

    found = read_predictions([as_records(outcome.outgoing, PREDICTIONS)])
    assert sorted((p["source_offset"], p["net_power"]) for p in found) == [
        (100, 498.0),
        (101, 496.0),
        (102, 494.0),
    ]


def test_an_unknown_content_type_is_a_dead_letter(tmp_path: Path) -> None:
    outcome = answering(tmp_path).answer([records(b"<x/>", headers=(("content-type", b"text/xml"),))])

    (letter,) = read_dead_letters([as_records(outcome.outgoing, DEAD)])
    assert letter["field"] == "content-type"
    assert CSV in letter["allowed"]


def test_a_row_that_breaks_the_model_does_not_stop_the_stream(tmp_path: Path) -> None:
    rows = fakes.json_rows([1.0, POISON, 3.0])

    outcome = answering(tmp_path).answer([records(*rows)])

    assert [x["reason"] for x in read_dead_letters([as_records(outcome.outgoing, DEAD)])] == ["model_failed"]
    assert len(read_predictions([as_records(outcome.outgoing, PREDICTIONS)])) == 2


def test_the_trace_goes_on_from_reading_to_prediction(tmp_path: Path) -> None:
    trace = (("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)

    outcome = answering(tmp_path).answer([records(b"1,2,1000,4", headers=trace)])

    assert trace[0] in outcome.outgoing[0].headers


def test_messages_read_twice_get_the_same_ids_and_bytes(tmp_path: Path) -> None:
    poll = [records(*fakes.json_rows(range(5)), b"junk")]

    first = answering(tmp_path).answer(poll).outgoing
    second = answering(tmp_path).answer(poll).outgoing

    assert first == second


class FailingOnce:
    """A producer whose first publish is stored but not acknowledged, as when a broker dies in between."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.failed = False

    def publish(self, messages: Any, **how: Any) -> None:
        self.inner.publish(messages, **how)
        if not self.failed:
            self.failed = True
            raise DeliveryFailed("the broker went away")

    def close(self) -> None:
        self.inner.close()


def test_a_crash_between_publish_and_commit_loses_nothing_and_doubles_no_id(
    bus: Bus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.write_artifact(settings.artifacts)
    publish(bus, fakes.json_rows(range(20)))
    failing = FailingOnce(bus.producer())
    monkeypatch.setattr(bus, "producer", lambda: failing)

    with running(make_worker(bus, settings)):
        wait_until(lambda: done(bus, "fake-power") == 20)

    found = read_predictions(everything(bus, PREDICTIONS))
    assert failing.failed
    assert len(found) == 40
    assert {p["id"] for p in found} == {f"plant.readings:{bus.log_id(READINGS)}-{PARTITION}-{i}-0@1" for i in range(20)}


def test_a_worker_goes_on_where_the_last_one_stopped(bus: Bus, settings: Settings) -> None:
    fakes.write_artifact(settings.artifacts)
    for start in (0, 10):
        publish(bus, fakes.json_rows(range(start, start + 10)))
        with running(make_worker(bus, settings)):
            end = start + 10
            wait_until(lambda end=end: done(bus, "fake-power") == end)

    assert len(read_predictions(everything(bus, PREDICTIONS))) == 20


def test_the_log_names_the_place_of_the_first_refused_message(
    bus: Bus, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    fakes.write_artifact(settings.artifacts)
    publish(bus, [*fakes.json_rows(range(3)), b"99,41,1000,50", b"junk", *fakes.json_rows(range(2))])

    with running(make_worker(bus, settings)):
        wait_until(lambda: done(bus, "fake-power") == 7)

    (line,) = [record for record in caplog.records if record.message == "rows refused"]
    assert (line.__dict__["at"], line.__dict__["count"]) == (f"plant.readings[{PARTITION}]@3", 2)
    assert line.__dict__["first"].startswith("ambient_temperature: got 99.0")


def test_the_place_of_a_refusal_is_its_own_partition_s(tmp_path: Path) -> None:
    good, bad = fakes.json_rows([20.0])[0], b"99,41,1000,50"
    polled = [
        Records("plant.readings", partition, [offset, offset + 4], [0, 0], [b"p"] * 2, values, [()] * 2)
        for partition, offset, values in ((0, 100, [good, good]), (2, 700, [good, bad]))
    ]

    outcome = answering(tmp_path).answer(polled)

    assert (outcome.first_refused, outcome.refused_rows) == ("plant.readings[2]@704", 1)


def test_metrics_tell_rows_rejections_model_and_lag(bus: Bus, settings: Settings) -> None:
    fakes.write_artifact(settings.artifacts)
    publish(bus, [*fakes.json_rows(range(3)), b"99,41,1000,50"])
    telemetry = Telemetry("fake-power")

    with running(make_worker(bus, settings, telemetry=telemetry)):
        wait_until(lambda: b"kappawatt_consumer_lag{" in telemetry.render())
        wait_until(lambda: done(bus, "fake-power") == 4)

    text = telemetry.render().decode()
    assert 'kappawatt_rows_total{door="bus",service="fake-power"} 3.0' in text
    assert 'kappawatt_rejections_total{door="bus",reason="out_of_range",service="fake-power"} 1.0' in text
    assert 'kappawatt_model_info{model="fake-power",service="fake-power",version="1"} 1.0' in text
    assert "kappawatt_event_to_prediction_seconds_count" in text
    assert "kappawatt_poll_age_seconds" in text


def test_orjson_reads_what_is_published(tmp_path: Path) -> None:
    (message,) = answering(tmp_path).answer([records(b"1,2,1000,4")]).outgoing

    document = orjson.loads(message.value)
    assert document["event_time"] == "2023-11-14T22:13:20.000Z"
    assert document["version"] == "1"
