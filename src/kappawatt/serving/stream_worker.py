"""The loop of a service that answers its stream: bus, model and worker, put together."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

from kappawatt.bus import Bus, connect_as
from kappawatt.bus.standing import say_away
from kappawatt.columns.memory import keep_few_heaps
from kappawatt.errors import BusUnreachable
from kappawatt.forecasting.holidays import holidays_set
from kappawatt.serving.service import Context, ModelKind
from kappawatt.settings import Settings
from kappawatt.streams.stream import Stream
from kappawatt.streams.table import TOPICS
from kappawatt.telemetry import Telemetry
from kappawatt.worker.interface import Answers
from kappawatt.worker.loop import Worker

__all__ = ["stream_worker"]

log = logging.getLogger(__name__)

WAIT_SECONDS = 1.0  # between two questions to a bus that is not there yet
SLICE_SECONDS = 3.0  # of reading histories between two polls


def stream_worker(kind: ModelKind[Any], stream: Stream, context: Context) -> Worker:
    """Return the worker of a model's stream; waits for a bus that is not there yet."""
    service, settings, telemetry = context.service, context.settings, context.telemetry
    if kind.most_records is not None:
        most = kind.most_records
        if settings.forecast_updates:  # more messages make a forecast due, and it covers more days
            most //= 2 + settings.forecast_days
        settings = replace(settings, max_records=min(settings.max_records, most))
    keep_few_heaps()
    holidays_set(settings.holidays)  # what nobody knows is said before a bus is waited for
    bus = _open_bus(settings, telemetry)

    def open_answers(version: str | None, output: str) -> tuple[Answers, str, str]:
        model = service.open(settings, version)
        answers = kind.answers(
            model,
            bus,
            stream,
            output,
            settings,
            alive=telemetry.polled,
            slice_seconds=SLICE_SECONDS,
        )
        if kind.series_bytes is not None:
            telemetry.keeps(lambda: answers.series)
        return answers, model.name, model.version

    worker = Worker(bus, open_answers, stream=stream, service=service.name, settings=settings, telemetry=telemetry)
    context.ready.append(worker.why_not_ready)
    return worker


def _open_bus(settings: Settings, telemetry: Telemetry) -> Bus:
    """Return the bus with all topics; one that does not answer yet gets as long as one that stops answering."""
    bus = connect_as(settings, telemetry.skipped)
    deadline = time.monotonic() + settings.retry_for
    while True:
        try:
            bus.ensure(TOPICS)
            return bus
        except BusUnreachable as error:
            if time.monotonic() > deadline:
                raise
            say_away(log, "bus is not there yet; asking again", error=str(error))
            time.sleep(WAIT_SECONDS)
