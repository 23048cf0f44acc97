"""One poll of the loop at a time: what it counts, says and survives."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kappawatt.bus import Bus, Outgoing, Records
from kappawatt.bus.promotions import Serving
from kappawatt.columns.batch import Rejection
from kappawatt.errors import BatchUnreadable, BusUnreachable, Overloaded
from kappawatt.settings import Settings
from kappawatt.telemetry import Telemetry
from kappawatt.worker import loop
from kappawatt.worker.interface import INTERNAL, Outcome
from kappawatt.worker.loop import Worker
from tests import fakes
from tests.conftest import wait_until
from tests.unit.worker.test_worker import PREDICTIONS, READINGS, make_worker, records, running


class Polls:
    """A consumer and a producer of what is given, poll by poll; an error is raised."""

    def __init__(self, *polls: Sequence[Records] | Exception) -> None:
        self.polls = list(polls)
        self.calls: list[str] = []
        self.waited: list[float] = []
        self.published: list[Outgoing] = []

    def poll(self, seconds: float) -> Sequence[Records]:
        self.calls.append("poll")
        self.waited.append(seconds)
        found = self.polls.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def positions(self) -> dict[tuple[str, int], int]:
        return {(READINGS, 0): 0}

    def publish(self, messages: Sequence[Outgoing]) -> None:
        self.calls.append("publish")
        self.published += messages

    def commit(self) -> None:
        self.calls.append("commit")

    def rewind(self) -> None:
        self.calls.append("rewind")

    def lag(self) -> dict[Any, int]:
        return {}


class Says:
    """Answers every portion with the same outcome."""

    series = 0

    def __init__(self, outcome: Callable[[], Outcome] = Outcome) -> None:
        self._outcome = outcome

    def answer(self, polled: Sequence[Records]) -> Outcome:
        return self._outcome()


def internal(messages: int) -> Outcome:
    outcome = Outcome(rows=messages)
    for at in range(messages):
        outcome.refuse(records(*[b"x"] * messages), at, [Rejection(0, INTERNAL, None, None, "a worker without a bug")])
    return outcome


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry("fake-power")


@pytest.fixture
def worker(bus: Bus, settings: Settings, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """One that waits for a hundredth of a second when the bus fails."""
    monkeypatch.setattr(loop, "random", SimpleNamespace(uniform=lambda *_: 0.01))
    return make_worker(bus, settings, telemetry=telemetry)


def step(worker: Worker, polls: Polls, outcome: Callable[[], Outcome] = Outcome) -> int:
    return worker.step(polls, polls, Says(outcome))  # type: ignore[arg-type]


def test_a_step_says_how_many_messages_came_and_commits_even_none(worker: Worker) -> None:
    polls = Polls([records(b"1", b"2"), records(b"3")], [])

    assert [step(worker, polls) for _ in range(2)] == [3, 0]
    assert polls.calls == ["poll", "publish", "commit", "poll", "commit"]
    assert polls.waited == [0.5, 0.5]  # so long at most, with nothing to do


def test_a_worker_is_not_ready_after_ten_messages_in_a_row_that_it_could_not_answer(worker: Worker) -> None:
    polls = Polls(*([records(*[b"x"] * n)] for n in (4, 5, 1, 2, 1)))

    step(worker, polls, lambda: internal(4))
    step(worker, polls, lambda: internal(5))
    assert worker.why_not_ready() is None
    step(worker, polls, lambda: internal(1))
    assert (worker.why_not_ready() or "").startswith("messages: got 10 in a row that could not be answered (")
    step(worker, polls, lambda: internal(1))  # one of two
    assert worker.why_not_ready() is None
    step(worker, polls, lambda: internal(1))
    assert worker.why_not_ready() is None


def test_the_age_of_the_last_poll_begins_with_each(
    worker: Worker, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert telemetry.last_poll is None

    began = time.monotonic()
    step(worker, Polls([]))

    assert telemetry.last_poll is not None
    assert telemetry.last_poll >= began


def test_rows_reasons_and_ages_are_counted(
    worker: Worker, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "time", SimpleNamespace(time=lambda: 1_700_000_010.0))
    outcome = Outcome(rows=7, event_times=[np.array([1_700_000_000_000]), np.array([1_700_000_012_000])])
    outcome.refuse(records(b"x"), 0, [Rejection(0, "out_of_range", "a", 1, "less")], 3)
    outcome.unlisted = Counter({"out_of_range": 2})
    outcome.suspects = Counter({"spike": 2})

    step(worker, Polls([records(b"x")]), lambda: outcome)

    text = telemetry.render().decode()
    assert worker.answered == 7
    assert 'kappawatt_rows_total{door="bus",service="fake-power"} 4.0' in text
    assert 'kappawatt_rejections_total{door="bus",reason="out_of_range",service="fake-power"} 3.0' in text
    assert 'kappawatt_suspect_values_total{door="bus",service="fake-power",why="spike"} 2.0' in text
    assert 'kappawatt_batch_rows_sum{service="fake-power"} 7.0' in text
    assert 'kappawatt_event_to_prediction_seconds_sum{service="fake-power"} 10.0' in text  # none comes from the future
    assert 'kappawatt_event_to_prediction_seconds_count{service="fake-power"} 2.0' in text


@pytest.mark.parametrize(("rows", "observed"), [(1, 1), (64, 64), (127, 127), (128, 64), (6400, 64)])
def test_of_a_large_poll_64_ages_are_observed(telemetry: Telemetry, rows: int, observed: int) -> None:
    loop.observe_many(telemetry, "fake-power", np.ones(rows))

    text = telemetry.render().decode()
    assert f'kappawatt_event_to_prediction_seconds_count{{service="fake-power"}} {observed}.0' in text


class Bound(Polls):
    """One that ends its worker when nothing is left to poll."""

    def __init__(self, worker: Worker, *polls: Sequence[Records] | Exception) -> None:
        super().__init__(*polls)
        self._worker = worker

    def poll(self, seconds: float) -> Sequence[Records]:
        if len(self.polls) == 1:
            self._worker.stop()
        return super().poll(seconds)


def test_what_the_bus_fails_on_is_read_again_from_the_last_commit(worker: Worker) -> None:
    polls = Bound(worker, BusUnreachable("away"), [records(b"1")])

    worker._answer_until_promoted(polls, polls, Says())  # type: ignore[arg-type]

    assert polls.calls == ["poll", "rewind", "poll", "publish", "commit"]


def test_a_bus_that_is_too_far_away_to_go_back_on_is_no_reason_to_end(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = Bound(worker, BusUnreachable("away"), [])
    monkeypatch.setattr(polls, "rewind", lambda: polls.poll(0) and None)
    polls.polls.insert(1, BusUnreachable("still away"))

    worker._answer_until_promoted(polls, polls, Says())  # type: ignore[arg-type]

    assert polls.polls == []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (BatchUnreadable(READINGS, 0, 7, "damaged"), f"{READINGS}[0]@7 cannot be read"),
        (Overloaded("queue is full"), None),
    ],
)
def test_only_what_the_bus_fails_on_is_told_to_probes(worker: Worker, error: Exception, why: str | None) -> None:
    polls = Bound(worker, error, [])

    worker._answer_until_promoted(polls, polls, Says())  # type: ignore[arg-type]

    said = worker.standing.why_not_alive()
    assert (said is None) if why is None else (said or "").startswith(why)


def test_a_bus_that_is_away_for_longer_than_it_is_waited_for_ends_the_worker(
    bus: Bus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, now = make_worker(bus, settings), [1000.0]  # which waits for 30 s
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(worker._stopped, "wait", lambda seconds: now.__setitem__(0, now[0] + 10.0))
    away = [BusUnreachable(f"{n}") for n in range(5)]
    polls = Polls(away[0], [records(b"1")], *away)

    with pytest.raises(BusUnreachable, match="4"):
        worker._answer_until_promoted(polls, polls, Says())  # type: ignore[arg-type]

    assert now[0] == 1000.0 + 10.0 + 40.0


def test_lag_and_promotions_are_looked_at_once_a_second(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = iter([0.0, 0.0, 0.5, 0.99, 1.0, 1.0, 1.5, 2.0, 2.0]), []
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(now)))
    polls = Bound(worker, *[[]] * 6)
    monkeypatch.setattr(polls, "lag", lambda: looks.append(len(polls.polls)) or {})

    worker._answer_until_promoted(polls, polls, Says())  # type: ignore[arg-type]

    assert looks == [5, 2, 0]  # polls that were left: at 0 s, 1 s and 2 s
    assert next(now, None) is None


def test_a_promotion_that_cannot_be_followed_is_tried_once(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Serving] = []
    promotions = iter([Serving(PREDICTIONS, READINGS, "2", {})])
    monkeypatch.setattr(loop, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(worker._follower, "poll", lambda: next(promotions, None))
    monkeypatch.setattr(worker, "_follow", lambda promoted: tried.append(promoted))
    polls = Bound(worker, [], [], [])

    worker._answer_until_promoted(polls, polls, Says())  # type: ignore[arg-type]

    assert len(tried) == 1


def test_a_promotion_is_tried_again_when_the_bus_fails_meanwhile(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Serving] = []
    promotions = iter([Serving(PREDICTIONS, "side", "2", {})])

    def follow(promoted: Serving) -> Says | None:
        tried.append(promoted)
        if len(tried) == 1:
            raise BusUnreachable("away")
        return Says()

    monkeypatch.setattr(loop, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(worker._follower, "poll", lambda: next(promotions, None))
    monkeypatch.setattr(worker, "_follow", follow)
    polls, before = Bound(worker, [], [], []), Says()

    assert worker._answer_until_promoted(polls, polls, before) is not before  # type: ignore[arg-type]
    assert len(tried) == 2


def test_everything_it_opened_is_closed_in_the_end(
    bus: Bus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.write_artifact(settings.artifacts)
    worker, closed = make_worker(bus, settings), []
    monkeypatch.setattr(worker._follower, "close", lambda: closed.append("follower"))
    producer, consumer = bus.producer(), bus.consumer([READINGS], "fake-power")
    monkeypatch.setattr(bus, "producer", lambda: producer)
    monkeypatch.setattr(bus, "consumer", lambda *_, **__: consumer)
    for name, each in (("producer", producer), ("consumer", consumer)):
        monkeypatch.setattr(each, "close", lambda name=name: closed.append(name))

    with running(worker):
        wait_until(lambda: worker.standing.why_not_ready() is None)

    assert closed == ["consumer", "producer", "follower"]


def test_a_promotion_back_to_the_streams_own_topic_is_followed(bus: Bus, settings: Settings) -> None:
    fakes.write_artifact(settings.artifacts, "2", 10.0)
    fakes.write_artifact(settings.artifacts, "1", 0.0)
    worker = make_worker(bus, settings)
    assert worker._follow(Serving(PREDICTIONS, READINGS, "2", {})) is None
    assert "one of a replay's own" in (worker.why_not_ready() or "")

    assert worker._follow(Serving(PREDICTIONS, PREDICTIONS, "2", {})) is not None

    assert worker.why_not_ready() is None
