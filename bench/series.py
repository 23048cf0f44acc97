"""What a series costs in memory: real `serve` and `consume` of a forecasting service, with few and with many series.

`python -m bench.series [--service smart-meter] [--step 1800] [--few 300] [--many 800]` publishes made-up series to an
embedded bus: more history of each than a service keeps in the long run, then some days one by one, so that the worker
has issued forecasts and holds them against their truth. What the process has more with many series than with few,
divided by their difference, is what one series costs; one JSON line a role. A poll is 200 messages, and takes memory
of its own: FEW should be more than that. The worker forecasts every series once a day, so it takes MANY x DAYS
forecasts of 10 to 40 ms.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, before NumPy starts its threads

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.measure import say
from bench.processes import BenchError, free_port, memory, running, until, until_answers
from kappawatt.bus import Bus, Outgoing, connect
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.content import ARROW
from kappawatt.forecasting.calendar import DAY, day_intervals
from kappawatt.forecasting.history import intervals_ahead
from kappawatt.serving.service import Service, find_service
from kappawatt.streams.series import INTERVAL_SECONDS
from kappawatt.streams.table import TOPICS
from kappawatt.worker.heap import PAUSE_SECONDS

FIRST_LIVE = np.datetime64("2022-06-01", "D")
SECONDS = 3600.0  # that one measurement may take
ROLES = ("serve", "consume")
KEPT_MORE = 5 * DAY  # than a model looks back on: forecasts of the last days are still corrected


def series(number: int, times: np.ndarray, step: int) -> np.ndarray:
    """Return a made-up household's or zone's values: a day's shape and chance."""
    generator = np.random.default_rng(number)
    hour = times.astype("datetime64[s]").astype(np.int64) / 3600 % 24
    shape = 0.1 + 0.5 * np.exp(-(((hour - 1) / 2) ** 2))
    values: np.ndarray = shape * generator.lognormal(0.0, 0.4, len(times)) * step / 1800
    return values


def publish(bus: Bus, service: Service, count: int, step: int, days: int) -> None:
    """Publish the history of `count` series as two blocks each, then `days` days as one block each."""
    stream, forecaster = service.streamed(), service.modelled().predictor
    zone = forecaster.time_zone  # type: ignore[attr-defined]
    room = int(np.ceil(intervals_ahead(step) * step / 86_400)) + 1  # days that arrays grow by before they forget
    back = int((service.modelled().looks_back + KEPT_MORE) / DAY) + room
    edges = [FIRST_LIVE - back, FIRST_LIVE - room, *(FIRST_LIVE + np.arange(days + 1))]
    spans = list(itertools.pairwise(edges))
    producer = bus.producer()
    for begin, end in spans:
        times = np.concatenate([day_intervals(date, zone, step) for date in np.arange(begin, end)])
        for number in range(count):
            columns = {"interval_start": times, stream.target: series(number, times, step)}
            if INTERVAL_SECONDS in stream.schema.names:
                columns[INTERVAL_SECONDS] = np.full(len(times), float(step))
            message = write_columns(columns)
            headers = (("content-type", ARROW.encode()),)
            producer.publish([Outgoing(stream.readings.name, message, f"series-{number:06}".encode(), headers)])
    producer.close()


def used(role: str, service: Service, url: str, count: int, days: int, folder: Path) -> int:
    """Return the memory [bytes] of a process that has read all there is."""
    port = free_port()
    environ = {
        "KAPPAWATT_BUS": url,
        "KAPPAWATT_PORT": str(port),
        "KAPPAWATT_PROBE_PORT": str(port),
        "KAPPAWATT_LOG_FORMAT": "text",
    }
    command = [sys.executable, "-m", "kappawatt.cli", role, service.name]
    bus = connect(url)
    stream = service.streamed()
    with running(command, folder / f"{role}-{count}.log", environ) as process:
        until_answers(f"http://127.0.0.1:{port}/readyz", SECONDS, process)
        if role == "consume":

            def all_read() -> bool:
                committed = bus.committed(service.name, stream.readings.name)
                ends = bus.offsets(stream.readings.name)
                return all(committed.get(p, 0) == known.end for p, known in ends.items())

            until(all_read, SECONDS, "all readings answered", process)
            forecasts = sum(known.end for known in bus.offsets(stream.answers.name).values())
            say(f"  {forecasts} forecasts of {count} series in {days} days")
            if forecasts < count:
                raise BenchError(f"consume: got {forecasts} forecasts, allowed one a series or more")
        time.sleep(PAUSE_SECONDS + 2.0)  # until what is free was given back
        found = memory(process.pid).pss
    bus.close()
    say(f"  {role} with {count} series: {found / 1e6:.1f} MB")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", default="smart-meter", choices=("smart-meter", "hourly-load"))
    parser.add_argument("--step", type=int, default=1800, help="seconds of an interval")
    parser.add_argument("--few", type=int, default=300, help="series")
    parser.add_argument("--many", type=int, default=800, help="series")
    parser.add_argument("--days", type=int, default=3, help="that come one by one after the history")
    parser.add_argument("--roles", nargs="+", choices=ROLES, default=ROLES)
    options = parser.parse_args(arguments)
    service = find_service(options.service)
    with tempfile.TemporaryDirectory(prefix="kappawatt-series-") as name:
        folder = Path(name)
        urls = {}
        for count in (options.few, options.many):
            urls[count] = f"embedded:{folder}/{count}.sqlite"
            bus = connect(urls[count])
            bus.ensure(TOPICS)
            say(f"publishing {count} series")
            publish(bus, service, count, options.step, options.days)
            bus.close()
        for role in options.roles:
            few, many = (used(role, service, url, count, options.days, folder) for count, url in urls.items())
            more = options.many - options.few
            figure = {
                "service": service.name,
                "role": role,
                "step": options.step,
                "series": [options.few, options.many],
                "megabytes": [round(few / 1e6, 1), round(many / 1e6, 1)],
                "kilobytes_a_series": round((many - few) / more / 1e3, 1),
            }
            print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
