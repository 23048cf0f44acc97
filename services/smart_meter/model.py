"""How the networks are trained and why so. NumPy alone: a meter's own history is learned in seconds, anywhere.

What is learned is small on purpose: corrections to the weighted quantiles of the same time of day, in units of
their own spread. A network that forecast energies themselves was tried first and did worse than no network on a
meter with night storage heating, which no meter in training had; this one carries over, and untrained it is
the weighted quantiles.

Errors are pinball losses in multiples of the meter's mean, each meter weighted by its seasonal naive error, so
that rMAE and CRPS relative to naive, averaged over meters, are what is minimised.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import Instant, day_intervals, local_date, same_local_time
from kappawatt.forecasting.fan import LEVELS
from kappawatt.forecasting.history import Past

from .features import CURVATURE, FIGURES, expand, inputs
from .inference import Fitted, Network, fingerprints

__all__ = ["Samples", "fit", "samples"]

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Single = NDArray[np.float32]
Progress = Callable[[str], None]

HIDDEN = (32, 32)  # twice as wide is no better on meters left out
NETWORKS = 3  # averaged; more gain nothing that shows in the third digit
EPOCHS = 5
BATCH = 512
RATE = 2e-3
TUNING_RATE = 1e-3  # when it starts from another model: half, so that a short history does not undo it
DROPPED = 0.1  # share of inputs left out at each step
DECAY = 1e-3
FEWEST_STEPS = 80  # of a short history
LEAST_DAYS = 14  # of samples below which nothing is trained
WEEK = 7
EARLIER = (np.timedelta64(12, "h"), np.timedelta64(24, "h"))  # noon of the day before; published a day late
DAY_HIDDEN = (8,)
DAY_BATCH = 64
DAY_EPOCHS = 20
DAY_NETWORKS = 5  # with so few samples each is a little different


@dataclass(frozen=True, eq=False)
class Samples:
    """What a network is trained on.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
    base : ndarray of shape (n, 19)
    spread : ndarray of shape (n,)
    measured : ndarray of shape (n,)
        As multiple of the meter's mean.
    weight : ndarray of shape (n,)
    """

    features: Matrix
    base: Matrix
    spread: Vector
    measured: Vector
    weight: Vector

    def __len__(self) -> int:
        return len(self.measured)


def fit(pasts: Sequence[Past], *, start: Fitted | None = None, progress: Progress | None = None) -> Fitted:
    """Train on all days of some meters up to their issue times.

    Parameters
    ----------
    pasts : sequence of Past
        One for each meter; nothing after its issue time is used.
    start : Fitted, optional
        A model of other meters to go on from. It is not used if it was trained on days of one of these meters
        after the issue time: a backtest would then know what it has to forecast.
    progress : callable, optional
        Told each step.

    Returns
    -------
    Fitted
        With too few days to learn from it is `start`, or the weighted quantiles.
    """
    tell = progress or (lambda _: None)
    if start is not None and any(start.knows_future_of(past) for past in pasts):
        tell("the model to start from was trained on later days of a meter here: starting from nothing")
        start = None
    begin = start or Fitted()
    gathered = []
    for past in pasts:
        tell(f"features of {past.key}")
        gathered.append(samples(past))
    whole = [_together([one[group] for one in gathered]) for group in range(1 + len(FIGURES))]
    if len(whole[1]) < LEAST_DAYS:
        return begin
    tell(f"training on {len(whole[0])} intervals of {len(pasts)} meters")
    intervals = tuple(
        _train(whole[0], begin.intervals[seed] if seed < len(begin.intervals) else None, HIDDEN, BATCH, EPOCHS, seed)
        for seed in range(NETWORKS)
    )
    figures = {}
    for position, name in enumerate(FIGURES, start=1):
        known = begin.figures[name]
        figures[name] = tuple(
            _train(whole[position], known[seed] if seed < len(known) else None, DAY_HIDDEN, DAY_BATCH, DAY_EPOCHS, seed)
            for seed in range(DAY_NETWORKS)
        )
    hashes = [fingerprints(past) for past in pasts]
    until = [np.full(len(own), past.issue_time) for own, past in zip(hashes, pasts, strict=True)]
    return Fitted(
        intervals,
        figures,
        np.concatenate([begin.seen, *hashes]),
        np.concatenate([begin.seen_until, *until]).astype("datetime64[ms]"),
    )


def samples(past: Past) -> tuple[Samples, ...]:
    """Return what is learned from one meter: of its intervals, and of each of `FIGURES`.

    Of six days, three are seen as at their start, one as half a day or a day earlier, and two with only the newest 7
    to 21 days known, as of a new meter.
    """
    if not len(past.values):
        return tuple(_nothing() for _ in range(1 + len(FIGURES)))
    dates = local_date(np.array([past.start, past.end - past.interval]), past.time_zone)
    rows: list[list[tuple[Matrix, Matrix, Vector, Vector, Vector]]] = [[] for _ in range(1 + len(FIGURES))]
    per_day = 86_400 // past.step
    for date in np.arange(dates[0] + WEEK, dates[1] + 1):
        targets = day_intervals(date, past.time_zone, past.step)
        measured = past.at(targets)
        turn, variant = divmod(int(date.astype(np.int64)), 6)
        issue = targets[0] - EARLIER[turn % 2] if variant == 4 else targets[0]
        known = _cut(past, issue)
        if variant in (2, 5):
            known = known.last((WEEK + turn % 15) * per_day)
        if len(known) < WEEK * per_day or not np.isfinite(measured).any():
            continue
        given = inputs(known, targets)
        naive = np.abs(measured - past.at(same_local_time(targets, past.time_zone, WEEK)))
        has = np.isfinite(measured)
        rows[0].append(
            (
                given.features[has],
                given.base[has],
                given.spread[has],
                measured[has] / given.scale,
                naive[has] / given.scale,
            )
        )
        if has.all() and targets[-1] + past.interval <= past.issue_time:
            figures = (measured.mean() / given.scale, measured.max() / given.scale)
            for row, figure in enumerate(figures):
                own = slice(row, row + 1)
                one = np.array([figure])
                rows[row + 1].append(
                    (given.day_features[own], given.day_base[own], given.day_spread[own], one, np.ones(1))
                )
    return tuple(_stacked(group) for group in rows)


def _cut(past: Past, issue_time: Instant) -> Past:
    """Return a series as it was known earlier, but for what was revised since."""
    n = max(0, int((issue_time - past.start) // past.interval))
    return replace(past, values=past.values[:n], issue_time=issue_time)


def _nothing() -> Samples:
    return Samples(np.empty((0, 0)), np.empty((0, len(LEVELS))), np.empty(0), np.empty(0), np.empty(0))


def _stacked(rows: Sequence[tuple[Matrix, Matrix, Vector, Vector, Vector]]) -> Samples:
    """Return one meter's samples, weighted so that its seasonal naive error is 1 in all of them together."""
    if not rows:
        return _nothing()
    features, base, spread, measured, naive = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    error = float(np.nanmean(naive)) if np.isfinite(naive).any() else 1.0
    return Samples(features, base, spread, measured, np.full(len(measured), 1.0 / max(error, 1e-3)))


def _together(parts: Sequence[Samples]) -> Samples:
    """Return the samples of several meters, each meter weighing the same."""
    some = [part for part in parts if len(part)]
    if not some:
        return _nothing()
    weights = np.concatenate([part.weight / len(part) for part in some])
    return Samples(
        np.concatenate([part.features for part in some]),
        np.concatenate([part.base for part in some]),
        np.concatenate([part.spread for part in some]),
        np.concatenate([part.measured for part in some]),
        weights / weights.mean(),
    )


def _train(
    given: Samples, start: Network | None, hidden: tuple[int, ...], batch: int, epochs: int, seed: int
) -> Network:
    """Train one network by Adam with a cosine schedule, from another or from nothing; the same for the same seed.

    References
    ----------
    D. P. Kingma, J. Ba, Adam: a method for stochastic optimization, ICLR 2015; weight decay apart from it as of
    I. Loshchilov, F. Hutter, ICLR 2019.
    """
    generator = np.random.default_rng(seed)
    n = len(given)
    batch = max(8, min(batch, n // 8))
    steps = max(epochs * (n // batch), FEWEST_STEPS)
    if start is None:
        mean = given.features.mean(axis=0).astype(np.float32)
        deviation = (given.features.std(axis=0) + 1e-3).astype(np.float32)
        widths = (len(mean), *hidden, len(LEVELS))
        # The last layer begins at zero: the untrained network moves nothing.
        weights = [
            generator.normal(0.0, np.sqrt(2.0 / before) if layer < len(hidden) else 0.0, (before, after))
            for layer, (before, after) in enumerate(itertools.pairwise(widths))
        ]
        biases = [np.zeros(after) for after in widths[1:]]
        rate = RATE
    else:
        mean, deviation, rate = start.mean, start.deviation, TUNING_RATE
        weights, biases = [w.astype(np.float64) for w in start.weights], [b.astype(np.float64) for b in start.biases]
    own = Network(mean, deviation, (), ())
    standardised = own.standardise(given.features)
    base, spread, measured, weight = (
        part.astype(np.float32) for part in (given.base, given.spread, given.measured, given.weight)
    )
    parameters: list[Single] = [array.astype(np.float32) for array in (*weights, *biases)]
    layers = len(parameters) // 2
    slope, square = [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters]
    order = np.empty(0, np.intp)
    for step in range(1, steps + 1):
        if len(order) < batch:
            order = generator.permutation(n)
        rows, order = order[:batch], order[batch:]
        kept = generator.random((batch, len(mean)), dtype=np.float32) >= DROPPED
        activations: list[Single] = [(standardised[rows] * kept / (1 - DROPPED)).astype(np.float32)]
        for layer in range(layers - 1):
            sums: Single = activations[-1] @ parameters[layer] + parameters[layers + layer]
            activations.append(np.maximum(sums, np.float32(0)))
        output: Single = (activations[-1] @ parameters[layers - 1] + parameters[-1]).astype(np.float32)
        error = _pinball_slope(output, base[rows], spread[rows], measured[rows], weight[rows])
        gradients: list[Single] = [error] * len(parameters)
        for layer in reversed(range(layers)):
            gradients[layer] = activations[layer].T @ error
            gradients[layers + layer] = error.sum(axis=0)
            if layer:
                error = ((error @ parameters[layer].T) * (activations[layer] > 0)).astype(np.float32)
        pace = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        for parameter, gradient, m, v in zip(parameters, gradients, slope, square, strict=True):
            m += 0.1 * (gradient - m)
            v += 0.001 * (gradient * gradient - v)
            change = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
            parameter -= (pace * (change + DECAY * parameter)).astype(np.float32)
    return Network(mean, deviation, tuple(parameters[:layers]), tuple(parameters[layers:]))


def _pinball_slope(output: Single, base: Single, spread: Single, measured: Single, weight: Single) -> Single:
    """Return the derivative of the mean weighted pinball loss by the network's output, (n, 19)."""
    levels = np.array(LEVELS, dtype=np.float32)
    moved = base + spread[:, None] * output
    quantiles = expand(moved.astype(np.float64))
    by_quantile = np.where(measured[:, None] > quantiles, -levels, 1 - levels)
    # Below zero `expand` is flat; a small slope there lets a quantile come back.
    by_moved = np.where(moved > 0, np.exp(np.minimum(moved, 6.0)) / CURVATURE, 1.0 / CURVATURE)
    slope = by_quantile * by_moved * spread[:, None] * weight[:, None] / (len(levels) * len(output))
    return slope.astype(np.float32)
