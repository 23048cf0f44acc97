"""The fitted model as arrays: what training returns, a file keeps and serving evaluates. Plain NumPy.

It holds nothing of any meter: everything about a meter comes from its past. What it corrects are the weighted
quantiles of the same time of day (`features.py`): a network gives, for each quantile, how many
spreads it should lie elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import ArtifactInvalid
from kappawatt.forecasting.calendar import Times, local_date
from kappawatt.forecasting.fan import LEVELS, Fan
from kappawatt.forecasting.grid import off_clock
from kappawatt.forecasting.history import Past
from kappawatt.models.arrays import read_arrays
from kappawatt.streams.meter import STREAM

from .features import DAY_FEATURE_NAMES, FEATURE_NAMES, FIGURES, expand, inputs

__all__ = ["MODEL_FILE", "Fitted", "Network", "fingerprints", "pack", "unpack"]

Matrix = NDArray[np.float64]
Single = NDArray[np.float32]

MODEL_FILE = "model.npz"
OUTSIDE = 3.0  # standard deviations beyond which a feature says no more: a new meter may be unlike all before


@dataclass(frozen=True, eq=False)
class Network:
    """A small feed-forward network with rectified linear units.

    Parameters
    ----------
    mean, deviation : ndarray of shape (n_features,)
        Of the features in training.
    weights : tuple of ndarray of shape (n_in, n_out)
    biases : tuple of ndarray of shape (n_out,)
    """

    mean: Single
    deviation: Single
    weights: tuple[Single, ...]
    biases: tuple[Single, ...]

    def standardise(self, features: Matrix) -> Single:
        """Return features as the first layer takes them."""
        result: Single = np.clip((features - self.mean) / self.deviation, -OUTSIDE, OUTSIDE).astype(np.float32)
        return result

    def correct(self, features: Matrix) -> Matrix:
        """Return how many spreads each quantile is moved, (n, 19), for features of shape (n, n_features)."""
        layer = self.standardise(features)
        for weights, biases in zip(self.weights[:-1], self.biases[:-1], strict=True):
            layer = np.maximum(layer @ weights + biases, np.float32(0.0))
        return (layer @ self.weights[-1] + self.biases[-1]).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Networks of the intervals and of the day's figures, and fingerprints of what they were trained on.

    Parameters
    ----------
    intervals : tuple of Network
        Their corrections are averaged. None at all leaves the weighted quantiles as they are.
    figures : mapping of str to tuple of Network
        The same for each of `FIGURES`.
    seen : ndarray of uint64, shape (n_days,)
        Hashes of each meter day in training, to know a meter again under whatever name and at whatever length.
    seen_until : ndarray of datetime64[ms], shape (n_days,)
        The end of the training data of the meter that day is of.
    """

    intervals: tuple[Network, ...] = ()
    figures: Mapping[str, tuple[Network, ...]] = field(default_factory=lambda: dict.fromkeys(FIGURES, ()))
    seen: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    seen_until: Times = field(default_factory=lambda: np.empty(0, "datetime64[ms]"))

    def forecast(self, past: Past, targets: Times) -> Fan:
        """Return the forecast of one local day.

        Parameters
        ----------
        past : Past
            Energies [kWh], at least a week.
        targets : ndarray of datetime64[ms], shape (n,)
            Starts of all the day's intervals, UTC.

        Returns
        -------
        Fan
            Quantiles [kWh]; `day` holds `daily_consumption` [kWh] and `daily_peak` [kWh per interval].
        """
        given = inputs(past, targets)
        quantiles = _corrected(self.intervals, given.features, given.base, given.spread) * given.scale
        day = {}
        for row, name in enumerate(FIGURES):
            own = slice(row, row + 1)
            found = _corrected(self.figures[name], given.day_features[own], given.day_base[own], given.day_spread[own])
            day[name] = found[0] * given.scale * (len(targets) if name == "daily_consumption" else 1)
        return Fan(quantiles, day)

    def forecast_many(self, pasts: Sequence[Past], targets: Sequence[Times]) -> list[Fan]:
        """Return the forecasts of many days or meters: the same as one at a time, to the last bit."""
        return [self.forecast(past, own) for past, own in zip(pasts, targets, strict=True)]

    def knows_future_of(self, past: Past) -> bool:
        """Whether it was trained on days of this very meter after the issue time, whatever the meter is called."""
        if not len(self.seen):
            return False
        mine = np.isin(self.seen, fingerprints(past))
        return bool((self.seen_until[mine] > past.issue_time).any())


def fingerprints(past: Past) -> NDArray[np.uint64]:
    """Return hashes of each known local day of a series, of date and energies: as it is, and by longer intervals.

    A meter is known again whether it comes by the quarter hour or was added up to hours. Days on which nothing changes
    (an empty house's zeros) are left out: many meters share them.
    """
    dates = local_date(past.times, past.time_zone)
    edges = np.flatnonzero(dates[1:] != dates[:-1]) + 1
    hashes = []
    for first, last in zip(np.append(0, edges).tolist(), np.append(edges, len(dates)).tolist(), strict=True):
        energies = past.values[first:last]
        for together in _lengths(past, first, last):
            sums = np.round(energies.reshape(-1, together).sum(axis=1) * 1000)  # Wh: what files keep
            if np.isfinite(sums).all() and (sums != sums[0]).any():
                content = f"{dates[first]}".encode() + sums.astype("<i8").tobytes()
                hashes.append(int.from_bytes(hashlib.sha256(content).digest()[:8], "little"))
    return np.array(hashes, dtype=np.uint64)


def _lengths(past: Past, first: int, last: int) -> list[int]:
    """How many intervals are added up to one, for each length that a day's intervals are whole multiples of."""
    begin = np.array([past.start + first * past.interval])
    found = []
    for length in STREAM.steps:
        n, rest = divmod(length, past.step)
        if n and not rest and (last - first) % n == 0 and not off_clock(begin, length, past.time_zone)[0]:
            found.append(n)
    return found


def pack(fitted: Fitted) -> dict[str, bytes]:
    """Return a fitted model as files by name, the same for the same numbers."""
    arrays: dict[str, NDArray[np.generic]] = {
        "seen": fitted.seen,
        "seen_until": fitted.seen_until.astype(np.int64),
    }
    for group, networks in {"intervals": fitted.intervals, **fitted.figures}.items():
        for number, network in enumerate(networks):
            name = f"{group}_{number}"
            arrays |= {f"{name}_mean": network.mean, f"{name}_deviation": network.deviation}
            arrays |= {f"{name}_weights_{layer}": array for layer, array in enumerate(network.weights)}
            arrays |= {f"{name}_biases_{layer}": array for layer, array in enumerate(network.biases)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return {MODEL_FILE: buffer.getvalue()}


def unpack(files: Mapping[str, bytes]) -> Fitted:
    """Return the fitted model that `pack` made into files; ArtifactInvalid if they hold none.

    Nothing is unpickled.
    """
    if MODEL_FILE not in files:
        raise ArtifactInvalid(f"files: got {sorted(files)}, allowed {MODEL_FILE} among them")
    arrays = read_arrays(files[MODEL_FILE], MODEL_FILE)
    seen, until = _take(arrays, "seen", "u8"), _take(arrays, "seen_until", "i8")
    if seen.shape != until.shape or seen.ndim != 1:
        raise ArtifactInvalid(f"{MODEL_FILE}: seen_until: got shape {until.shape}, allowed that of seen {seen.shape}")
    intervals = _networks(arrays, "intervals", len(FEATURE_NAMES))
    figures = {name: _networks(arrays, name, len(DAY_FEATURE_NAMES)) for name in FIGURES}
    if arrays:
        raise ArtifactInvalid(f"{MODEL_FILE}: got arrays {sorted(arrays)[:5]}, allowed those of smart-meter")
    return Fitted(intervals, figures, seen.astype(np.uint64), until.astype("datetime64[ms]"))


def _networks(arrays: dict[str, NDArray[np.generic]], group: str, n_features: int) -> tuple[Network, ...]:
    """Take a group's networks out of `arrays`."""
    networks: list[Network] = []
    while (name := f"{group}_{len(networks)}") + "_mean" in arrays:
        mean, deviation = _take(arrays, f"{name}_mean", "f4"), _take(arrays, f"{name}_deviation", "f4")
        weights: list[Single] = []
        biases: list[Single] = []
        while f"{name}_weights_{len(weights)}" in arrays:
            biases.append(_take(arrays, f"{name}_biases_{len(weights)}", "f4").astype(np.float32))
            weights.append(_take(arrays, f"{name}_weights_{len(weights)}", "f4").astype(np.float32))
        widths = [n_features, *(len(bias) for bias in biases)]
        shapes = [weight.shape for weight in weights]
        allowed = list(itertools.pairwise(widths))
        if mean.shape != (n_features,) or deviation.shape != (n_features,) or widths[-1] != len(LEVELS):
            got = f"{mean.shape}, {deviation.shape}, {widths[-1]}"
            raise ArtifactInvalid(
                f"{MODEL_FILE}: {name}: got {got}, allowed {n_features} features, {len(LEVELS)} levels"
            )
        if shapes != allowed:
            raise ArtifactInvalid(f"{MODEL_FILE}: {name}_weights: got shapes {shapes}, allowed {allowed}")
        networks.append(Network(mean.astype(np.float32), deviation.astype(np.float32), tuple(weights), tuple(biases)))
    return tuple(networks)


def _take(arrays: dict[str, NDArray[np.generic]], name: str, kind: str) -> NDArray[np.generic]:
    """Take an array out of `arrays`; ArtifactInvalid if it is absent, of another type or holds a NaN."""
    array = arrays.pop(name, None)
    if array is None or array.dtype != np.dtype(kind) or not np.isfinite(array.astype(np.float64)).all():
        got = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
        raise ArtifactInvalid(f"{MODEL_FILE}: {name}: got {got}, allowed {np.dtype(kind)} without NaN")
    return array


def _corrected(networks: Sequence[Network], features: Matrix, base: Matrix, spread: NDArray[np.float64]) -> Matrix:
    """Return quantiles as multiples of the meter's mean: base, moved, put in order, never below zero."""
    if networks:
        moved = sum(network.correct(features) for network in networks) / len(networks)
        base = base + spread[:, None] * moved
    return np.sort(expand(base), axis=1)
