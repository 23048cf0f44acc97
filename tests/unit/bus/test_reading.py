"""Spans that are read to their end, and tails that go where promotions say, on the real embedded bus."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kappawatt.bus import Bus, Outgoing, connect
from kappawatt.bus.interface import Records
from kappawatt.bus.promotions import PROMOTIONS, Serving, promote
from kappawatt.bus.reading import Tail, ends_of, read_span
from kappawatt.bus.topic import Topic
from kappawatt.errors import SpanIncomplete, TopicUnknown

ANSWERS = Topic("answers", "key", None, 2, 3600, (), (), "answers")
ERRORS = replace(ANSWERS, name="errors", partitions=1)


@pytest.fixture
def bus(bus_url: str) -> Iterator[Bus]:
    bus = connect(bus_url)
    bus.ensure([ANSWERS, ERRORS, PROMOTIONS])
    yield bus
    bus.close()


def publish(bus: Bus, *values: str, topic: str = "answers", partition: int = 0) -> None:
    producer = bus.producer()
    producer.publish([Outgoing(topic, value.encode(), b"k", partition=partition) for value in values])
    producer.close()


def values_of(polls: Iterator[list[Records]] | list[list[Records]]) -> list[str]:
    return [value.decode() for polled in polls for records in polled for value in records.values]


def next_of(tail: Tail) -> list[str]:
    tail.move()
    return values_of([tail.poll(0.5)])


def test_a_span_ends_where_it_was_said_to_whatever_comes_later(bus: Bus) -> None:
    publish(bus, "a", "b", "c")
    publish(bus, "x", "y", partition=1)
    end = {("answers", 0): 2, ("answers", 1): 1}

    assert sorted(values_of(read_span(bus, ["answers"], {}, end))) == ["a", "b", "x"]


def test_a_span_without_an_end_is_what_there_was_when_it_began(bus: Bus) -> None:
    publish(bus, "a", "b")
    span = read_span(bus, ["answers", "errors"], {("answers", 0): 1}, max_records=1)
    first = next(span)
    publish(bus, "late")

    assert values_of([first, *span]) == ["b"]


def test_partitions_without_an_end_are_not_read(bus: Bus) -> None:
    publish(bus, "a", "b")
    publish(bus, "x", partition=1)

    assert values_of(read_span(bus, ["answers"], {}, {("answers", 1): 1})) == ["x"]


def test_a_span_with_nothing_in_it_ends_at_once(bus: Bus) -> None:
    publish(bus, "a")

    assert list(read_span(bus, ["answers"], ends_of(bus, ["answers"]))) == []


def test_a_span_whose_end_does_not_come_says_so_and_shows_life_until_then(bus: Bus) -> None:
    publish(bus, "a")
    span = read_span(bus, ["answers"], {}, {("answers", 0): 3}, poll_seconds=0.01, idle_seconds=0.1)
    seen: list[list[Records]] = []

    with pytest.raises(SpanIncomplete, match=r"answers: got nothing for 0.1 s, allowed 2 messages"):
        seen.extend(span)

    assert values_of(seen) == ["a"]
    assert [] in seen


def test_a_span_of_a_topic_that_is_not_there_is_refused(bus: Bus) -> None:
    with pytest.raises(TopicUnknown):
        list(read_span(bus, ["nothing"], {}))


def test_a_tail_begins_with_what_comes_next(bus: Bus) -> None:
    publish(bus, "before")
    tail = Tail(bus, "answers", ["errors"])

    publish(bus, "after")
    publish(bus, "off", topic="errors")

    assert sorted(next_of(tail)) == ["after", "off"]
    assert tail.positions()["answers", 0] == 2
    tail.close()


def test_a_tail_goes_where_a_promotion_says_and_stays_on_the_others(bus: Bus) -> None:
    bus.ensure([replace(ANSWERS, name="better")])
    tail = Tail(bus, "answers", ["errors"], start=lambda topic, log, offsets: {p: o.begin for p, o in offsets.items()})
    publish(bus, "better 1", topic="better")
    serving = Serving("answers", "better", "v2", {0: 0}, "better")

    promote(bus, serving, "service", "answers")

    assert tail.move()
    assert not tail.move()
    assert (tail.topic, tail.serving and tail.serving.version) == ("better", "v2")
    publish(bus, "off", topic="errors")
    publish(bus, "of the old one")
    assert sorted(next_of(tail)) == ["better 1", "off"]
    tail.close()


def test_a_tail_that_is_made_later_begins_where_the_last_promotion_says(bus: Bus) -> None:
    bus.ensure([replace(ANSWERS, name="better")])
    promote(bus, Serving("answers", "better", "v2", {}), "service", "answers")

    tail = Tail(bus, "answers")

    assert tail.topic == "better"
    tail.close()


def test_a_tail_waits_for_topics_that_do_not_exist(bus: Bus) -> None:
    tail = Tail(bus, "later", ["errors", "last"], look_seconds=0.0)
    assert tail.missing == ("later", "last")
    publish(bus, "off", topic="errors")
    assert next_of(tail) == ["off"]

    bus.ensure([replace(ANSWERS, name="later")])

    assert tail.move()
    assert tail.missing == ("last",)
    publish(bus, "a", topic="later")
    assert "a" in next_of(tail)
    tail.close()


def test_a_tail_of_nothing_at_all_waits(bus: Bus) -> None:
    tail = Tail(bus, "later")

    assert tail.waits
    assert (tail.poll(0.0), tail.lag(), tail.positions()) == ([], {}, {})
    tail.close()


def test_a_tail_skips_what_it_is_told_to(bus: Bus) -> None:
    tail = Tail(bus, "answers", max_records=1)
    publish(bus, *map(str, range(10)))
    assert next_of(tail) == ["0"]

    assert tail.skip(("answers", 0), tail.lag()["answers", 0] - 2) == 8

    assert list(itertools.chain(next_of(tail), next_of(tail))) == ["8", "9"]
    tail.close()
