"""The worker: poll, answer the whole poll as one batch, publish, commit. This is where a message becomes a
prediction.

    Answering.answer   messages in, messages out; pure, so that a replay is the same code
    Worker.run         the loop around it: group, commit, retry, drain, take over

Nothing is lost: an offset is committed only after the bus acknowledged every answer to it. Nothing doubles: the
answers to a message that is read twice have the ids they had the first time.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Bus, Consumer, Producer, Records
from kappawatt.bus.promotions import PromotionFollower, Serving, group_of
from kappawatt.bus.standing import Standing, say_away
from kappawatt.errors import BusError, HistoriesBehind, KappawattError, Overloaded, SettingInvalid
from kappawatt.messages.portions import portions
from kappawatt.settings import Settings
from kappawatt.streams.stream import Stream
from kappawatt.streams.table import TOPICS
from kappawatt.telemetry import Telemetry
from kappawatt.worker.heap import Heap
from kappawatt.worker.interface import INTERNAL, Answers, Outcome

__all__ = ["Worker"]

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
LOOK_SECONDS = 1.0  # between two looks at the lag and at promotions
MOST_UNANSWERED = 10  # messages in a row for an error of ours: one is a bad message, so many are a bad worker
NOT_PROMOTED = frozenset(topic.name for topic in TOPICS)  # what others write and read


class Worker:
    """One member of a consumer group that answers one source topic.

    Parameters
    ----------
    bus : Bus
    open_answers : callable
        (version, None for the current one; output topic) to what answers polls and the model's name and version;
        called at start and when another version takes over.
    stream : Stream
    service : str
        Name of the service, and of its first consumer group.
    """

    def __init__(
        self,
        bus: Bus,
        open_answers: Callable[[str | None, str], tuple[Answers, str, str]],
        *,
        stream: Stream,
        service: str,
        settings: Settings,
        telemetry: Telemetry,
    ) -> None:
        self._bus = bus
        self._open_answers = open_answers
        self._stream = stream.answers.name
        self._source = stream.readings.name
        self._service = service
        self._settings = settings
        self._telemetry = telemetry
        self._stopped = threading.Event()
        self._follower = PromotionFollower(bus, stream.answers.name)
        self._serving: Serving | None = None
        self._pending: Serving | None = None  # a promotion that was read and not followed yet
        self._unfollowed: str | None = None
        self._unanswered = 0  # messages in a row that could not be answered for an error of ours
        self._last_internal = ""
        self.standing = Standing()
        self.answered = 0

    def stop(self) -> None:
        """Finish the poll at hand, commit it, and return from `run`.

        Takes a lock, so never called in a signal handler: `kappawatt.signals`.
        """
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def why_not_ready(self) -> str | None:
        """Return None unless a promotion cannot be followed, or nothing can be answered any more."""
        if self._unanswered >= MOST_UNANSWERED:
            return f"messages: got {self._unanswered} in a row that could not be answered ({self._last_internal})"
        return self._unfollowed

    def run(self) -> None:
        """Answer until `stop` is called.

        Raises
        ------
        BusError
            The bus has failed for longer than the setting `retry_for`.
        """
        producer = self._bus.producer()
        try:
            promoted = self._follower.read()
            answers = (promoted and self._follow(promoted)) or self._serve(None)
            while not self.stopped:
                consumer = self._join()
                try:
                    answers = self._answer_until_promoted(consumer, producer, answers)
                finally:
                    consumer.close()
        finally:
            producer.close()
            self._follower.close()

    def _join(self) -> Consumer:
        return self._bus.consumer(
            [self._source],
            group_of(self._service, self._serving),
            instance_id=self._settings.instance_id or None,
            max_records=self._settings.max_records,
        )

    def _answer_until_promoted(self, consumer: Consumer, producer: Producer, answers: Answers) -> Answers:
        """Answer until `stop` is called, or until another topic and version take over; return what answers then."""
        failing_since: float | None = None
        next_look = 0.0
        heap = Heap()
        while not self.stopped:
            heap.give_back()
            try:
                self.step(consumer, producer, answers)
                failing_since = None
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + LOOK_SECONDS
                    self._note_lag(consumer)
                    self._pending = self._follower.poll() or self._pending
                    if self._pending is not None:
                        promoted = self._follow(self._pending)
                        self._pending = None
                        if promoted is not None:
                            return promoted
            except HistoriesBehind as error:
                log.info("reading histories", extra={"at": str(error)})
                self._rewind(consumer)
            except (BusError, Overloaded) as error:
                if isinstance(error, BusError):
                    self.standing.failed(error)
                failing_since = failing_since or time.monotonic()
                failing = time.monotonic() - failing_since
                if failing > self._settings.retry_for:
                    raise
                say_away(log, "bus failed; reading again from the last commit", error=str(error))
                self._stopped.wait(random.uniform(0.1, 1.0))  # noqa: S311 (jitter, not a secret)
                self._rewind(consumer)
        return answers

    def _rewind(self, consumer: Consumer) -> None:
        try:
            consumer.rewind()
        except BusError as error:
            say_away(log, "could not go back yet", error=str(error))

    def step(self, consumer: Consumer, producer: Producer, answers: Answers) -> int:
        """Poll once and deal with all that came; return how many messages that was."""
        polled = consumer.poll(POLL_SECONDS)
        self._telemetry.polled()
        self.standing.polled(consumer.positions())
        if not polled:
            consumer.commit()  # positions move over what is no message, too
            return 0
        messages, internal = sum(map(len, polled)), 0
        for portion in portions(polled):  # what small messages unpack to may be more than the memory there is
            internal += self._answer(portion, producer, answers)
        consumer.commit()
        self._unanswered = self._unanswered + messages if internal == messages else 0
        return messages

    def _follow(self, promoted: Serving) -> Answers | None:
        """Return what answers by a promotion; None if it cannot be followed, and then all stays as it is.

        Anybody who can write to the bus can promote a version that is not here, or a topic that is not there. Then
        the worker says that it is not ready, and waits for the next promotion.
        """
        try:
            if promoted.topic != self._stream and promoted.topic in NOT_PROMOTED:
                raise SettingInvalid.of("topic", repr(promoted.topic), "one of a replay's own")
            if promoted.topic not in self._bus.topics():
                raise SettingInvalid.of("topic", repr(promoted.topic), f"one that is on {self._bus.url}")
            answers = self._serve(promoted)
        except BusError:
            raise
        except KappawattError as error:
            self._unfollowed = f"promotion to {promoted.topic} ({promoted.version}) cannot be followed: {error}"
            log.error("a promotion cannot be followed", extra={"topic": promoted.topic, "error": str(error)})
            return None
        self._unfollowed = None
        return answers

    def _answer(self, portion: Sequence[Records], producer: Producer, answers: Answers) -> int:
        """Answer one portion, of which nothing stays while the next is read; return its `Outcome.internal`."""
        outcome = answers.answer(portion)
        producer.publish(outcome.outgoing)
        self._note(outcome)
        return outcome.internal

    def _serve(self, serving: Serving | None) -> Answers:
        output = serving.topic if serving else self._stream
        answers, model, version = self._open_answers(serving.version if serving else None, output)
        self._serving = serving
        self._telemetry.serves(model, version)
        log.info("serving", extra={"model": model, "version": version, "output": output})
        return answers

    def _note(self, outcome: Outcome) -> None:
        service = self._telemetry.service
        self.answered += outcome.rows
        self._telemetry.rows.labels(service, "bus").inc(outcome.rows - outcome.refused_rows)
        self._telemetry.batch_rows.labels(service).observe(outcome.rows)
        for code, count in (Counter(r.code for r in outcome.refused) + outcome.unlisted).items():
            self._telemetry.rejections.labels(service, "bus", code).inc(count)
        self._telemetry.suspects("bus", outcome.suspects)
        if outcome.internal:
            self._last_internal = next(r.message for r in outcome.refused if r.code == INTERNAL)[:200]
        if outcome.refused:
            log.warning(
                "rows refused",
                extra={
                    "count": len(outcome.refused) + sum(outcome.unlisted.values()),
                    "first": outcome.refused[0].message,
                    "at": outcome.first_refused,
                },
            )
        if outcome.event_times:
            ages = time.time() - np.concatenate(outcome.event_times) / 1000.0
            observe_many(self._telemetry, service, ages)

    def _note_lag(self, consumer: Consumer) -> None:
        self._telemetry.lags(consumer.lag())


def observe_many(telemetry: Telemetry, service: str, seconds: NDArray[np.float64]) -> None:
    """Observe a sample of at most 64 latencies of one poll: they differ by less than a poll takes."""
    stride = max(1, len(seconds) // 64)
    histogram = telemetry.event_seconds.labels(service)
    for value in seconds[::stride].tolist():
        histogram.observe(max(0.0, value))
