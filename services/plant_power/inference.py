"""The fitted regressions as arrays: what training returns, a file keeps and serving evaluates. Plain numpy.

A row's answer has the same bits alone or among a hundred thousand. So nothing here goes through BLAS, whose
sums change order with the shape of a batch: distances and correlations are elementwise, and each sum runs over
one row's own terms (`einsum` does, as long as it is not asked to optimize).
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import ArtifactInvalid
from kappawatt.models.arrays import read_arrays

__all__ = ["OUTPUT_NAMES", "Fitted", "FittedBaseline", "FittedModel", "pack", "unpack"]

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Single = NDArray[np.float32]

OUTPUT_NAMES = ("net_power", "net_power_lower", "net_power_upper")
STEPS = 1000.0  # a MW; answers are rounded to 1 kW, a tenth of what the data resolves
PARTS = 4  # sums over lines and centres: of two on known days, and what new days add to them
LINEAR_FEATURES = 4  # the conditions; dew point follows from them
VACUUM = 1  # position of exhaust vacuum among the features
ONE = np.float32(1.0)
FIRST = np.zeros(1, dtype=np.intp)
CHUNK = 1024  # rows at a time, so that what is in flight stays in cache
PAIRS = 2**17  # of a row and a training row in reach at a time, about 70 bytes each


@dataclass(frozen=True, eq=False)
class FittedBaseline:
    """Linear regression with an interval of constant width.

    Parameters
    ----------
    linear : ndarray of shape (1 + LINEAR_FEATURES,)
        Intercept [MW] and slopes.
    half_width : float
        Of the interval [MW].
    """

    linear: Vector
    half_width: float

    def predict(self, features: Single) -> dict[str, Vector]:
        """Return `OUTPUT_NAMES`, each [MW] of shape (n,), for features of shape (n, n_features)."""
        return _rounded(_line(self.linear, _as_single(features)), self.half_width)


@dataclass(frozen=True, eq=False)
class FittedModel:
    """Power and its interval: lines, sums over a few centres, and sums over the hours of the same exhaust vacuum.

    The sum of the correlations with these hours says how familiar a reading's day is. What hours of the day know
    counts by that, and what is known of new days by the rest.

    Parameters
    ----------
    lines : ndarray of shape (4, 1 + LINEAR_FEATURES)
        Intercepts and slopes: of power [MW] and the logarithm of half the width of its interval [MW] on
        known days, and what is added to each on new ones.
    trend_scales, day_scales : ndarray of shape (n_features,)
        Length scales; infinite where a feature takes no part.
    centres : ndarray of shape (n_centres, n_features)
    centre_weights : ndarray of shape (4, n_centres)
        In the same four.
    rows : ndarray of shape (n_rows, n_features)
        Training features in order of exhaust vacuum.
    row_weights : ndarray of shape (2, n_rows)
        In power [MW] and in the logarithm of half the width on known days.
    reach : float
        Of what counts as the same exhaust vacuum [cm Hg].
    half_familiar : float
        Density of similar hours at which a day is half known.
    edge : float
        Correlation with the nearest centre that every training row has at least.
    doubt : float
        Square of the half width [MW^2] that is added on new days as that correlation falls from `edge` to none.
    """

    lines: Matrix
    trend_scales: Vector
    day_scales: Vector
    centres: Single
    centre_weights: Matrix
    rows: Single
    row_weights: Matrix
    reach: float
    half_familiar: float
    edge: float
    doubt: float

    def predict(self, features: Single) -> dict[str, Vector]:
        """Return `OUTPUT_NAMES`, each [MW] of shape (n,), for features of shape (n, n_features)."""
        features = _as_single(features)
        n = len(features)
        sums = np.empty((2, n))
        for start in range(0, n, self._chunk):
            own = slice(start, start + self._chunk)
            sums[:, own] = self._evaluate(features[own])
        return _rounded(sums[0], sums[1])

    def _evaluate(self, features: Single) -> Matrix:
        """Return power and half the width of its interval [MW], of shape (2, n)."""
        day = self._day(features)
        parts, nearest = self._trend(features)
        parts += self._lines(features)
        density = day[2]
        density += self.half_familiar
        new = self.half_familiar / density
        sums, added = parts[:2], parts[2:]
        added *= new
        sums += added
        day[1] *= 1.0 - new
        sums += day[:2]
        half_width = np.exp(sums[1], out=sums[1])
        outside = nearest < self.edge
        if outside.any():
            ratio = nearest[outside] / self.edge
            half_width[outside] = np.sqrt(half_width[outside] ** 2 + self.doubt * new[outside] * (1.0 - ratio * ratio))
        return sums

    def _lines(self, features: Single) -> Matrix:
        """Return intercepts and slopes applied to the conditions, of shape (PARTS, n)."""
        conditions = features[:, :LINEAR_FEATURES].astype(np.float64)
        sums: Matrix = np.einsum("ij,kj->ki", conditions, self.lines[:, 1:])
        sums += self.lines[:, :1]
        return sums

    def _trend(self, features: Single) -> tuple[Matrix, Single]:
        """Return the sums of Matern 3/2 kernels, (1 + d) exp(-d), over the centres, and the largest kernel."""
        columns, inverse, centres = self._scaled_centres
        here = _scaled(features, columns, inverse)
        distance = here[:, :1] - centres[0]
        distance *= distance
        part = np.empty_like(distance)
        for position in range(1, len(columns)):
            np.subtract(here[:, position : position + 1], centres[position], out=part)
            part *= part
            distance += part
        np.sqrt(distance, out=distance)
        np.negative(distance, out=part)
        np.exp(part, out=part)
        distance += ONE
        distance *= part
        sums: Matrix = np.einsum("ij,kj->ki", distance.astype(np.float64), self.centre_weights)
        return sums, np.maximum.reduce(distance, axis=1)

    def _day(self, features: Single) -> Matrix:
        """Return the sums of Matern 1/2 kernels, exp(-d), over the hours of the same vacuum, and that of no weights."""
        columns, inverse, rows, vacuum_of_rows, weights = self._scaled_rows
        vacuum = features[:, VACUUM].astype(np.float64)
        here = _scaled(features, columns, inverse)
        first = vacuum_of_rows.searchsorted(vacuum - self.reach)
        last = vacuum_of_rows.searchsorted(vacuum + self.reach)
        if len(features) == 1:  # the same numbers without a list of pairs, in two thirds of the time
            begin = min(int(first[0]), len(rows) - 1)
            own = slice(begin, max(int(last[0]), begin + 1))
            difference = rows[own] - here
            terms, start = weights[:, own], FIRST
        else:
            # At least one row each, so that no sum is empty: one of another vacuum adds nothing.
            first = np.minimum(first, len(rows) - 1)
            count = np.maximum(last - first, 1)
            end = count.cumsum()
            start = end - count
            pairs = np.arange(end[-1])
            pairs += (first - start).repeat(count)
            difference = rows.take(pairs, axis=0)
            difference -= here.repeat(count, axis=0)
            terms = weights.take(pairs, axis=1)
        difference *= difference
        distance = difference[:, 0] + difference[:, 1]
        for position in range(2, len(columns)):
            distance += difference[:, position]
        np.sqrt(distance, out=distance)
        np.negative(distance, out=distance)
        np.exp(distance, out=distance)
        sums: Matrix = np.add.reduceat(terms * distance, start, axis=1)
        return sums

    @cached_property
    def _scaled_centres(self) -> tuple[NDArray[np.intp], Single, Single]:
        columns, inverse = _taking_part(self.trend_scales / np.sqrt(3.0))
        centres = _scaled(self.centres, columns, inverse)
        return columns, inverse, np.ascontiguousarray(centres.T)

    @cached_property
    def _scaled_rows(self) -> tuple[NDArray[np.intp], Single, Single, Vector, Matrix]:
        columns, inverse = _taking_part(self.day_scales)
        vacuum = self.rows[:, VACUUM].astype(np.float64)
        weights = np.concatenate([self.row_weights, np.ones((1, len(vacuum)))])
        return columns, inverse, _scaled(self.rows, columns, inverse), vacuum, weights

    @cached_property
    def _chunk(self) -> int:
        """Rows at a time; fewer where so many training rows have one vacuum that memory would not stay bounded."""
        vacuum = self.rows[:, VACUUM].astype(np.float64)
        most = int((vacuum.searchsorted(vacuum + 2 * self.reach, side="right") - np.arange(len(vacuum))).max())
        return max(1, min(CHUNK, PAIRS // most))


Fitted = FittedBaseline | FittedModel


def pack(fitted: Fitted) -> bytes:
    """Return a fitted regression as the bytes of an .npz file, the same for the same numbers."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {field.name: getattr(fitted, field.name) for field in fields(fitted)}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack(content: bytes) -> Fitted:
    """Return the fitted regression that `pack` made into bytes; ArtifactInvalid if it is none.

    Nothing is unpickled.
    """
    arrays = read_arrays(content)
    for kind in (FittedBaseline, FittedModel):
        if set(arrays) == {field.name for field in fields(kind)}:
            _check(arrays)
            values: dict[str, Any] = {name: a if a.ndim else float(a) for name, a in arrays.items()}
            return kind(**values)
    raise ArtifactInvalid(f"model.npz: got arrays {sorted(arrays)}, allowed those of plant-power")


def _check(arrays: dict[str, NDArray[Any]]) -> None:
    """Raise ArtifactInvalid for an array of another type or shape than its class says, or with a NaN."""
    n_features, n_centres, n_rows = (
        max(1, arrays[name].shape[0] if name in arrays and arrays[name].ndim else 0)
        for name in ("trend_scales", "centres", "rows")
    )
    shapes: dict[str, tuple[int, ...]] = {
        "linear": (1 + LINEAR_FEATURES,),
        "lines": (PARTS, 1 + LINEAR_FEATURES),
        "trend_scales": (n_features,),
        "day_scales": (n_features,),
        "centres": (n_centres, n_features),
        "centre_weights": (PARTS, n_centres),
        "rows": (n_rows, n_features),
        "row_weights": (2, n_rows),
    }
    for name, array in arrays.items():
        dtype, shape = np.dtype(np.float32 if name in ("rows", "centres") else np.float64), shapes.get(name, ())
        if array.dtype != dtype or array.shape != shape or np.isnan(array).any():
            raise ArtifactInvalid(
                f"model.npz: {name}: got {array.dtype} of shape {array.shape}, allowed {dtype} of shape {shape}, no NaN"
            )


def _as_single(features: NDArray[Any]) -> Single:
    """Return float32 in rows: another layout would be summed in another order."""
    return np.ascontiguousarray(features, dtype=np.float32)


def _line(linear: Vector, features: Single) -> Vector:
    """Return intercept and slopes applied to the conditions, summed feature by feature."""
    terms = features[:, :LINEAR_FEATURES] * linear[1:]
    power: Vector = np.add.reduce(terms, axis=1)
    power += linear[0]
    return power


def _taking_part(scales: Vector) -> tuple[NDArray[np.intp], Single]:
    """Return the features of finite length scale, and the inverse of those scales."""
    columns = np.flatnonzero(np.isfinite(scales))
    return columns, (1.0 / scales[columns]).astype(np.float32)


def _scaled(features: Single, columns: NDArray[np.intp], inverse: Single) -> Single:
    """Return features in units of length scales. Equal values stay equal: training and serving scale here."""
    return features.take(columns, axis=1) * inverse


def _rounded(power: Vector, half_width: Vector | float) -> dict[str, Vector]:
    """Return `OUTPUT_NAMES` [MW] in whole steps."""
    outputs = np.empty((len(OUTPUT_NAMES), len(power)))
    outputs[0] = power
    np.subtract(power, half_width, out=outputs[1])
    np.add(power, half_width, out=outputs[2])
    outputs *= STEPS
    np.rint(outputs, out=outputs)
    outputs /= STEPS
    return dict(zip(OUTPUT_NAMES, outputs, strict=True))
