"""Stream a plant, a load zone and two meters that never were through the gateway, until SIGTERM.

DEMO_URL is the ingestor behind the gateway, DEMO_RATE plant readings a second, DEMO_PACE hours of the series a second.
"""

from __future__ import annotations

import os
import threading

import numpy as np

from kappawatt import logs
from kappawatt.bus import connect_as
from kappawatt.cli.run.demos import PARTS, newest_on, streaming
from kappawatt.datasets import named as datasets
from kappawatt.ingest import http_sender, send_columns, series_rows
from kappawatt.settings import Settings
from kappawatt.signals import stop_on_signals
from kappawatt.streams.plant import STREAM as PLANT

LIVE_DAYS = 365  # of each series' three years; what is before is history that is sent at once


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    settings = Settings.read()
    logs.set_up(settings)
    url = os.environ["DEMO_URL"]
    rate, pace = float(os.environ["DEMO_RATE"]), float(os.environ["DEMO_PACE"])
    stopped = threading.Event()
    stop_on_signals(stopped.set)
    bus = connect_as(settings)
    rows = []
    for part in [part for part in PARTS if part.stream.steps]:
        known = newest_on(bus, part.stream)
        for series in part.data(None).series:
            whole = series_rows(series)
            times = whole.live.columns["interval_start"]
            first = known.get(series.key, times[-1] - np.timedelta64(LIVE_DAYS, "D"))
            turn = f"{np.datetime_as_string(first, unit='s')}+00:00"
            rows.append(whole.between(turn, backfill=0.0 if series.key in known else float(part.demo.history_days)))
    bus.close()
    say(
        f"SYNTHETIC DATA, nobody ever measured it: {rate:g} plant readings and {pace:g} hours of {len(rows)} series"
        " a second"
    )
    with streaming(rows, url, pace, stopped, say):
        send = http_sender(PLANT, url, "synthetic-plant-1")
        plant = datasets.synthetic_plant(datasets.SYNTHETIC_ROWS, datasets.SEED)
        say(str(send_columns(PLANT, plant, send=send, rate=rate, loop=True, stopped=stopped)))


if __name__ == "__main__":
    main()
