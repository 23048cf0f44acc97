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
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Bus, Consumer, Headers, Outgoing, Producer, Records
from kappawatt.bus.promotions import Serving, StreamFollower, group_of
from kappawatt.columns.batch import Answer, Batch, Rejection
from kappawatt.columns.codec import READABLE, ManyDecoded, decode_many
from kappawatt.errors import BusError, HistoriesBehind, Overloaded
from kappawatt.messages.predictions import (
    Prediction,
    content_type,
    dead_letter_message,
    prediction_block,
    prediction_event,
)
from kappawatt.models.predictor import Model
from kappawatt.settings import Settings
from kappawatt.telemetry import Telemetry

__all__ = ["Answering", "Answers", "Outcome", "Worker", "carried_headers"]

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
LOOK_SECONDS = 1.0  # between two looks at the lag and at promotions
BLOCK_ROWS_MOST = 10_000  # rows in one outgoing block: some 600 kB, below a broker's default limit of 1 MB
CARRIED = ("traceparent", "tracestate")  # headers that go on from a reading to its answer


@dataclass(slots=True)
class Outcome:
    """What became of one poll."""

    outgoing: list[Outgoing] = field(default_factory=list)
    rows: int = 0
    refused: list[Rejection] = field(default_factory=list)
    refused_rows: int = 0
    event_times: list[NDArray[np.int64]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answering:
    """How a poll of one source topic is answered.

    Parameters
    ----------
    model : Model
    output, dead : str
        Topic names.
    block_rows : int
        From how many answers of one key on they travel as one block; 0 never.
    """

    model: Model
    output: str
    dead: str
    block_rows: int

    def answer(self, polled: Sequence[Records]) -> Outcome:
        """Return everything to publish for `polled`; depends on nothing but its argument and the model."""
        outcome = Outcome()
        for kind, parts in _by_content_type(polled).items():
            values = [value for records in parts for value in records.values]
            decoded = self._decode(values, kind)
            self._publish_part(parts, decoded, self.model.answer(decoded.batch), outcome)
        return outcome

    def _decode(self, values: Sequence[bytes], kind: str) -> ManyDecoded:
        schema = self.model.predictor.request
        if kind in READABLE:
            return decode_many(values, kind, schema)
        refused = [
            Rejection(i, "malformed", "content-type", kind[:80], ", ".join(READABLE)) for i in range(len(values))
        ]
        every = np.arange(len(values), dtype=np.intp)
        return ManyDecoded(schema.check({}, len(values), refused), every, np.zeros_like(every))

    def _publish_part(self, parts: Sequence[Records], decoded: ManyDecoded, answer: Answer, outcome: Outcome) -> None:
        starts = np.concatenate(([0], np.cumsum([len(records) for records in parts])))
        if answer.rejections:
            outcome.outgoing += self._dead_letters(parts, starts, decoded, answer.rejections)
            outcome.refused += answer.rejections
            outcome.refused_rows += len({r.row for r in answer.rejections})
        outcome.rows += len(answer)
        whole = bool(answer.valid.all())
        for part, (first, last) in zip(parts, pairwise(starts), strict=True):
            low, high = np.searchsorted(decoded.message, (first, last))
            for key, members in _by_key(part):
                rows = np.arange(low, high)
                if members is not None:
                    rows = rows[members[decoded.message[low:high] - first]]
                if not whole:
                    rows = rows[answer.valid[rows]]
                if len(rows):
                    local = decoded.message[rows] - first
                    self._publish_key(part, key, rows, local, decoded, answer, outcome)

    def _publish_key(
        self,
        part: Records,
        key: bytes | None,
        rows: NDArray[np.intp],
        local: NDArray[np.intp],
        decoded: ManyDecoded,
        answer: Answer,
        outcome: Outcome,
    ) -> None:
        arrived = np.asarray(part.timestamps, dtype=np.int64)[local]
        outcome.event_times.append(arrived)
        columns = self._columns(rows, arrived, decoded.batch, answer)
        offsets = np.asarray(part.offsets, dtype=np.int64)[local]
        inner = decoded.row[rows].astype(np.int32)
        for start in range(0, len(rows), BLOCK_ROWS_MOST):
            cut = slice(start, start + BLOCK_ROWS_MOST)
            prediction = Prediction(
                self.output,
                key,
                {name: column[cut] for name, column in columns.items()},
                offsets[cut],
                inner[cut],
                part.topic,
                part.partition,
                self.model.name,
                self.model.version,
                carried_headers(part.headers[int(local[start])]),
            )
            if self.block_rows and len(prediction.offsets) >= self.block_rows:
                outcome.outgoing.append(prediction_block(prediction))
            else:
                outcome.outgoing += prediction_event(prediction)

    def _columns(
        self, rows: NDArray[np.intp], arrived: NDArray[np.int64], batch: Batch, answer: Answer
    ) -> dict[str, NDArray[np.generic]]:
        moments = arrived.astype("datetime64[ms]")
        if "event_time" in batch.columns:
            given = batch.columns["event_time"][rows]
            moments = np.where(np.isnat(given), moments, given)
        columns = {"event_time": moments}
        columns |= {name: column[rows] for name, column in answer.columns.items()}
        target = self.model.predictor.target
        if target in batch.columns:
            columns[f"measured_{target}"] = batch.columns[target][rows]
        return columns

    def _dead_letters(
        self,
        parts: Sequence[Records],
        starts: NDArray[np.intp],
        decoded: ManyDecoded,
        rejections: Sequence[Rejection],
    ) -> Iterator[Outgoing]:
        for message, group in groupby(rejections, key=lambda r: int(decoded.message[r.row])):
            place = int(np.searchsorted(starts, message, side="right")) - 1
            reasons = [r.at(int(decoded.row[r.row])) for r in group]
            yield dead_letter_message(
                self.dead,
                parts[place],
                message - int(starts[place]),
                reasons,
                self.model.name,
                self.model.version,
            )


def _by_content_type(polled: Sequence[Records]) -> dict[str, list[Records]]:
    """Group messages by content type, keeping their order; a poll of one type is passed on as it is."""
    groups: dict[str, list[Records]] = defaultdict(list)
    for records in polled:
        known: dict[Headers, str] = {}
        kinds = []
        for headers, value in zip(records.headers, records.values, strict=True):
            kind = known.get(headers)
            if kind is None:
                kind = content_type(headers, value)
                if headers:
                    known[headers] = kind
            kinds.append(kind)
        if len(set(kinds)) == 1:
            groups[kinds[0]].append(records)
            continue
        for kind in dict.fromkeys(kinds):
            groups[kind].append(records.pick([i for i, k in enumerate(kinds) if k == kind]))
    return groups


def _by_key(records: Records) -> Iterator[tuple[bytes | None, NDArray[np.bool_] | None]]:
    """Yield each key with the mask of its messages; a single key with None."""
    keys = dict.fromkeys(records.keys)
    if len(keys) == 1:
        yield records.keys[0], None
        return
    codes = {key: code for code, key in enumerate(keys)}
    coded = np.fromiter((codes[key] for key in records.keys), dtype=np.int64, count=len(records))
    for key, code in codes.items():
        yield key, coded == code


def carried_headers(headers: Headers) -> Headers:
    """Return the headers of a reading that go on to its answer."""
    if not headers:
        return ()
    return tuple((name, value) for name, value in headers if name in CARRIED)


class Answers(Protocol):
    """What a worker does with a poll: `Answering` predicts row by row, `Forecasting` keeps histories."""

    def answer(self, polled: Sequence[Records]) -> Outcome:
        """Return everything to publish for `polled`."""
        ...


class Worker:
    """One member of a consumer group that answers one source topic.

    Parameters
    ----------
    bus : Bus
    open_answers : callable
        (version, None for the current one; output topic) to what answers polls and the model's name and version;
        called at start and when another version takes over.
    stream : str
        Name of the stream of predictions, which is also its first output topic.
    source : str
        Topic name.
    service : str
        Name of the service, and of its first consumer group.
    """

    def __init__(
        self,
        bus: Bus,
        open_answers: Callable[[str | None, str], tuple[Answers, str, str]],
        *,
        stream: str,
        source: str,
        service: str,
        settings: Settings,
        telemetry: Telemetry,
    ) -> None:
        self._bus = bus
        self._open_answers = open_answers
        self._stream = stream
        self._source = source
        self._service = service
        self._settings = settings
        self._telemetry = telemetry
        self._stopped = threading.Event()
        self._follower = StreamFollower(bus, stream)
        self._serving: Serving | None = None
        self._answering: Answers | None = None
        self.answered = 0

    def stop(self) -> None:
        """Finish the poll at hand, commit it, and return from `run`. Safe in a signal handler."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def run(self) -> None:
        """Answer until `stop` is called.

        Raises
        ------
        BusError
            The bus has failed for longer than the setting `retry_for`.
        """
        producer = self._bus.producer()
        try:
            self._serve(self._follower.read())
            while not self.stopped:
                consumer = self._join()
                try:
                    self._answer_until_promoted(consumer, producer)
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

    def _answer_until_promoted(self, consumer: Consumer, producer: Producer) -> None:
        """Answer until `stop` is called, or until another topic and version take over."""
        failing_since: float | None = None
        next_look = 0.0
        while not self.stopped:
            try:
                self.step(consumer, producer)
                failing_since = None
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + LOOK_SECONDS
                    self._note_lag(consumer)
                    promoted = self._follower.poll()
                    if promoted is not None:
                        self._serve(promoted)
                        return
            except HistoriesBehind as error:
                log.info("reading histories", extra={"at": str(error)})
                self._rewind(consumer)
            except (BusError, Overloaded) as error:
                failing_since = failing_since or time.monotonic()
                failing = time.monotonic() - failing_since
                if failing > self._settings.retry_for:
                    raise
                log.warning("bus failed; reading again from the last commit", extra={"error": str(error)})
                self._stopped.wait(random.uniform(0.1, 1.0))  # noqa: S311 (jitter, not a secret)
                self._rewind(consumer)

    def _rewind(self, consumer: Consumer) -> None:
        try:
            consumer.rewind()
        except BusError as error:
            log.warning("could not go back yet", extra={"error": str(error)})

    def step(self, consumer: Consumer, producer: Producer) -> int:
        """Poll once and deal with all that came; return how many messages that was."""
        polled = consumer.poll(POLL_SECONDS)
        self._telemetry.polled()
        if not polled:
            return 0
        assert self._answering is not None
        outcome = self._answering.answer(polled)
        producer.publish(outcome.outgoing)
        consumer.commit()
        self._note(polled, outcome)
        return sum(map(len, polled))

    def _serve(self, serving: Serving | None) -> None:
        output = serving.topic if serving else self._stream
        self._answering, model, version = self._open_answers(serving.version if serving else None, output)
        self._serving = serving
        self._telemetry.serves(model, version)
        log.info("serving", extra={"model": model, "version": version, "output": output})

    def _note(self, polled: Sequence[Records], outcome: Outcome) -> None:
        service = self._telemetry.service
        self.answered += outcome.rows
        self._telemetry.rows.labels(service, "bus").inc(outcome.rows - outcome.refused_rows)
        self._telemetry.batch_rows.labels(service).observe(outcome.rows)
        for rejection in outcome.refused:
            self._telemetry.rejections.labels(service, "bus", rejection.code).inc()
        if outcome.refused:
            first = polled[0]
            log.warning(
                "rows refused",
                extra={
                    "count": len(outcome.refused),
                    "first": outcome.refused[0].message,
                    "poll_starts_at": f"{first.topic}[{first.partition}]@{first.offsets[0]}",
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
