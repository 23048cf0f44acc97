"""Who forecasts a meter's next day better: the default, a model that never saw the meter, the tutorial's LSTM?

`KAPPAWATT_DATA=FOLDER python -m bench.smart_meters` rolls through the test spans of the five meters, each method fitted
once on what lies before, and writes docs/results/smart-meter/methods.json. Same days and intervals for all; rMAE is
over the seasonal naive on them. Some ten minutes; the LSTM needs `kappawatt[smart-meter-train]`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kappawatt.datasets import named as datasets
from kappawatt.forecasting.calendar import Times, day_intervals, day_start
from kappawatt.forecasting.fan import LEVELS, MEDIAN, Fan, naive_values
from kappawatt.forecasting.gaps import fill_inside
from kappawatt.forecasting.history import History, Past
from kappawatt.models.onnx import OnnxModel
from kappawatt.models.scores import coverage, crps, mae
from kappawatt.services.smart_meter.inference import Fitted
from kappawatt.services.smart_meter.lstm import forecast as forecast_lstm
from kappawatt.services.smart_meter.lstm import one_step_scores, to_onnx, train_lstm
from kappawatt.services.smart_meter.model import fit

SPANS = {900: ("2022-10-01", "2022-11-30"), 1800: ("2013-10-01", "2013-12-31")}  # by interval: Texas, London
OUT = Path(__file__).parents[1] / "docs" / "results" / "smart-meter" / "methods.json"
EPOCHS = {1: 15, 0: 10}  # of the LSTM: look-back 1, and a day

Method = Callable[[Past, Times], Fan]


def span(history: History) -> tuple[np.datetime64, np.datetime64]:
    """First and last day of the test."""
    first, last = SPANS[history.step]
    return np.datetime64(first), np.datetime64(last)


def before(history: History) -> Past:
    """What was known when the test began."""
    start = day_start(np.array([span(history)[0]]), history.time_zone)[0]
    return fill_inside(history.until(start))


def days(history: History) -> Iterator[tuple[Past, Times, np.ndarray[Any, Any]]]:
    """Each day of the test: what was known as it began, its intervals, and what was measured."""
    first, last = span(history)
    for date in np.arange(first, last + 1):
        targets = day_intervals(date, history.time_zone, history.step)
        truth = history.measured(targets)
        yield history.until(targets[0]), targets, np.array([truth.get(t, np.nan) for t in targets])


def score(history: History, method: Method) -> dict[str, float]:
    """Roll through the test."""
    measured, quantiles, naive = [], [], []
    for past, targets, truth in days(history):
        measured.append(truth)
        quantiles.append(method(fill_inside(past), targets).quantiles)
        naive.append(naive_values(past, targets))
    y, q, n = np.concatenate(measured), np.concatenate(quantiles), np.concatenate(naive)
    known = np.isfinite(y) & np.isfinite(n)
    y, q, n = y[known], q[known], n[known]
    own = mae(y, q[:, MEDIAN])
    return {
        "n": len(y),
        "mae": own,
        "rmae": own / mae(y, n),
        "crps": crps(y, q, LEVELS),
        "coverage_90": coverage(y, q[:, 0], q[:, -1]),
    }


def short(days_known: int, fitted: Fitted) -> Method:
    """A method that is shown only the newest days."""

    def forecast(past: Past, targets: Times) -> Fan:
        return fitted.forecast(past.last(days_known * 86_400 // past.step), targets)

    return forecast


def main() -> None:
    """Measure all methods on all meters and write the table."""
    folder = os.environ.get("KAPPAWATT_DATA")
    histories = {}
    for one in datasets.meters(Path(folder) if folder else None).series:
        histories[one.key] = History(one.key, one.time_zone, one.step)
        histories[one.key].add(one.starts, one.values)
    pasts = {key: before(history) for key, history in histories.items()}
    together = fit(list(pasts.values()))
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    one_step = {}

    def note(name: str, key: str, scores: Mapping[str, float]) -> None:
        found.setdefault(name, {})[key] = scores
        print(f"{key:20} {name:36} rMAE {scores['rmae']:.3f}  coverage {scores['coverage_90']:.3f}", flush=True)

    for key, history in histories.items():
        others = fit([past for other, past in pasts.items() if other != key])
        note("default, all meters before the span", key, score(history, together.forecast))
        note("meter left out of the training", key, score(history, others.forecast))
        note("left out, seven days known", key, score(history, short(7, others)))
        note("trained on the meter alone", key, score(history, fit([pasts[key]]).forecast))
        note("weighted quantiles, no network", key, score(history, Fitted().forecast))
        values = pasts[key].values[np.isfinite(pasts[key].values)]
        for look_back, name in ((1, "LSTM, look-back 1"), (86_400 // history.step, "LSTM, look-back one day")):
            lstm, _ = train_lstm(values, look_back=look_back, epochs=EPOCHS[int(look_back == 1)], batch=32)
            model = OnnxModel(to_onnx(lstm))
            note(name, key, score(history, lambda past, t, m=model, b=look_back: forecast_lstm(m, past, t, b)))
        if history.step == 900:
            one_step = _tutorial(history)
    means = {
        name: {s: float(np.mean([row[s] for row in rows.values()])) for s in ("rmae", "coverage_90")}
        for name, rows in found.items()
    }
    document = {"spans": SPANS, "methods": found, "means": means, "tutorial_one_step": one_step}
    OUT.write_text(json.dumps(document, indent=1) + "\n")
    for name, scores in means.items():
        print(f"{'mean':20} {name:36} rMAE {scores['rmae']:.3f}  coverage {scores['coverage_90']:.3f}")
    print("tutorial, one step ahead", one_step)


def _tutorial(history: History) -> dict[str, float]:
    """The tutorial's own protocol on the whole series: 67/33, one step ahead."""
    values = fill_inside(history.until(history.known_until())).values
    lstm, _ = train_lstm(values)
    return one_step_scores(OnnxModel(to_onnx(lstm)), values)


if __name__ == "__main__":
    main()
