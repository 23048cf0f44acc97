"""Readings that a platform polled from Kafka and hands over as an event, answered as a worker answers a poll.

The platform commits what was handed over when the call returns, and hands it over again when the call fails. So this
raises for whatever another try may mend, and for nothing else: a reading that cannot be answered is a dead letter. Ids
come from topic, partition, offset, row and version as everywhere, so what was published by a call that failed later is
overwritten, not doubled.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kappawatt.bus.interface import Bus, Headers, Producer, Records
from kappawatt.bus.promotions import PromotionFollower, Serving
from kappawatt.bus.wrapped_keys import bare_keys
from kappawatt.columns.schema import shorten
from kappawatt.errors import BusError, PayloadInvalid
from kappawatt.models.opening import AnyModel
from kappawatt.serving.service import ModelKind
from kappawatt.settings import Settings
from kappawatt.streams.stream import Stream

__all__ = ["EventSource", "read_kafka_event"]

log = logging.getLogger(__name__)


def read_kafka_event(event: Mapping[str, Any]) -> list[Records]:
    """Return the messages in an event of Amazon MSK or of a self-managed Kafka, one block a partition.

    Raises
    ------
    PayloadInvalid
        It is no such event, or damaged.
    """
    try:
        return [_records(messages) for messages in event["records"].values() if messages]
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        raise PayloadInvalid(
            f"event: got {shorten(event)!r} ({type(error).__name__}: {error}), allowed records of a Kafka event source"
        ) from error


class EventSource:
    """Publishes answers to the readings in events, over connections that stay open between calls.

    Parameters
    ----------
    open_bus : callable
        Called for the first event.
    settings : Settings
        How answers travel, and what messages of a topic are wrapped in.
    """

    def __init__(
        self,
        open_bus: Callable[[], Bus],
        kind: ModelKind[Any],
        stream: Stream,
        settings: Settings,
    ) -> None:
        self._open_bus = open_bus
        self._kind = kind
        self._stream = stream
        self._settings = settings
        self._bus: Bus | None = None
        self._producer: Producer | None = None
        self._follower: PromotionFollower | None = None
        self._promoted: Serving | None = None

    def answer(self, event: Mapping[str, Any], model: AnyModel, timeout: float) -> dict[str, int]:
        """Publish the answers to all readings in an event; return how many rows there were, and how many refused.

        Parameters
        ----------
        timeout : float
            Seconds within which the bus has to acknowledge them.

        Raises
        ------
        PayloadInvalid
            The event is no Kafka event, or is of another topic than the service reads.
        BusError
            The bus did not acknowledge all of them, or the stream is served by a replay's topic.
        """
        polled = read_kafka_event(event)
        source = self._stream.readings.name
        for records in polled:
            if records.topic != source:
                raise PayloadInvalid(f"topic: got {records.topic!r}, allowed {source!r}")
        bus, producer = self._connected()
        known = bus.log_id(source)  # the event does not say it
        envelope = self._settings.envelopes.get(source, "")
        polled = [
            replace(records, log=known, envelope=envelope, keys=bare_keys(records.keys, envelope)) for records in polled
        ]
        output = self._stream.answers.name
        answers = self._kind.answers(model, bus, self._stream, output, self._settings)
        outcome = answers.answer(polled)
        producer.publish(outcome.outgoing, timeout=timeout)
        counts = {"rows": outcome.rows, "refused": outcome.refused_rows}
        places = [f"{r.topic}[{r.partition}]@{r.offsets[0]}" for r in polled]
        log.info("event answered", extra=counts | {"starts_at": places})
        return counts

    def _connected(self) -> tuple[Bus, Producer]:
        if self._bus is None:
            self._bus = self._open_bus()
        if self._producer is None:
            self._producer = self._bus.producer()
        promoted = self._promotion(self._bus)
        if promoted is not None:
            # Whoever takes over joins another consumer group, which starts where the replay ended. The platform's
            # group is fixed, so the promoted topic would have a gap.
            raise BusError(
                f"{promoted.stream}: got a promotion to {promoted.topic} ({promoted.version}), allowed none: a "
                "promoted stream is answered by `kappawatt consume`"
            )
        return self._bus, self._producer

    def _promotion(self, bus: Bus) -> Serving | None:
        """Return the newest promotion, found by any call: one that was found once is not forgotten by the next."""
        if self._follower is None:
            follower = PromotionFollower(bus, self._stream.answers.name)
            try:
                self._promoted = follower.read()
            except BusError:
                follower.close()
                raise
            self._follower = follower
        else:
            self._promoted = self._follower.poll() or self._promoted
        return self._promoted


def _records(messages: list[Mapping[str, Any]]) -> Records:
    ordered = sorted(messages, key=lambda message: int(message["offset"]))
    return Records(
        topic=str(ordered[0]["topic"]),
        partition=int(ordered[0]["partition"]),
        offsets=[int(message["offset"]) for message in ordered],
        timestamps=[int(message["timestamp"]) for message in ordered],
        keys=[None if message.get("key") is None else _bytes(message["key"]) for message in ordered],
        values=[_bytes(message.get("value") or "") for message in ordered],
        headers=[_headers(message.get("headers") or []) for message in ordered],
    )


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _headers(given: list[Mapping[str, list[int] | None]]) -> Headers:
    # Java's bytes have a sign, and some pollers hand them on as they are.
    return tuple((name, bytes(value & 0xFF for value in values or ())) for one in given for name, values in one.items())
