"""How many meters one core forecasts in an hour, all included: gap policy, features, networks, quantiles.

`python -m bench.meters [--meters 300] [--step 900]` makes up that many meters of 58 days, forecasts the next day of
each on one thread, one after another, and prints one JSON line. The bar is 100,000 meters an hour, which is 36 ms each.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, before NumPy starts its threads

import argparse
import json
from time import perf_counter, process_time

import numpy as np

from kappawatt.forecasting.calendar import day_intervals, day_start
from kappawatt.forecasting.gaps import fill_gaps
from kappawatt.forecasting.history import Past
from kappawatt.services.smart_meter.features import DEPTH
from kappawatt.services.smart_meter.inference import Fitted
from kappawatt.services.smart_meter.model import fit

ZONE = "America/Chicago"
DAYS = DEPTH + 2
BAR = 36.0  # ms


def meter(number: int, step: int, date: np.datetime64) -> Past:
    """Return a made-up household whose history ends where `date` begins; every tenth has a gap."""
    generator = np.random.default_rng(number)
    end = day_start(np.array([date]), ZONE)[0]
    n = DAYS * 86_400 // step
    start = end - n * np.timedelta64(step, "s")
    hour = np.arange(n) * step / 3600 % 24
    energy = (0.1 + 0.5 * np.exp(-(((hour - 1) / 2) ** 2))) * generator.lognormal(0.0, 0.4, n) * step / 1800
    if number % 10 == 0:
        energy[-40:-36] = np.nan
    return Past(str(number), ZONE, step, start.astype("datetime64[ms]"), energy, end)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meters", type=int, default=300)
    parser.add_argument("--step", type=int, default=900, choices=(900, 1800))
    parser.add_argument(
        "--date", default="2022-11-20", help="local day; two weeks after the clocks changed is the worst"
    )
    options = parser.parse_args()
    date = np.datetime64(options.date, "D")
    fitted: Fitted = fit([meter(number, 1800, date) for number in (-1 % 997, -2 % 997)])
    pasts = [meter(number, options.step, date) for number in range(options.meters)]
    targets = day_intervals(date, ZONE, options.step)
    fitted.forecast(fill_gaps(pasts[0]), targets)
    each = []
    busy = process_time()
    for past in pasts:
        begin = perf_counter()
        fitted.forecast(fill_gaps(past), targets)
        each.append((perf_counter() - begin) * 1e3)
    busy = (process_time() - busy) / len(pasts) * 1e3
    print(
        json.dumps(
            {
                "meters": len(pasts),
                "step": options.step,
                "date": str(date),
                "networks": len(fitted.intervals),
                "mean_ms": round(float(np.mean(each)), 2),
                "median_ms": round(float(np.median(each)), 2),
                "p99_ms": round(float(np.quantile(each, 0.99)), 2),
                "cpu_ms": round(busy, 2),
                "meters_an_hour": round(3_600_000 / float(np.mean(each))),
                "bar_ms": BAR,
            }
        )
    )


if __name__ == "__main__":
    main()
