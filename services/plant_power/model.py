"""The regressions and why they are built so.

Exhaust vacuum takes only a few hundred distinct values, and hours of equal vacuum err alike, as if it marked the
operating day (the data has no timestamps to prove it). The default is the mean of a Gaussian process of three kernels:
a wide trend over the conditions, what days of similar vacuum and weather share, and what hours of exactly equal vacuum
and similar air share. On days of which it knows no hour it is blended with a ridge regression
(`kappawatt.services.plant_power.blend`), and its interval is that of new days
(`kappawatt.services.plant_power.interval`). What is served is not the sum over all rows: the smooth parts are put
through a few centres, and the day's part is summed over its hours (`kappawatt.services.plant_power.inference`). The
baseline is linear regression.

Trend, noise and the day's scales in air were chosen inside the first half of sheet 1 of the 5x2 protocol; that a
neighbouring vacuum is another day, and the local kernel, by whole vacuums left out under another seed than that of the
published figures. Penalty and share of the ridge regression and all widths are chosen in each fit, inside its own rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .blend import RidgeOnCentres, choose_blend
from .inference import LINEAR_FEATURES, VACUUM, Fitted, FittedBaseline, FittedModel
from .interval import DayResiduals, conformal_quantile, familiarity, fit_interval
from .kernels import Kernel, inverse_of, left_out, solve, spread_out, through_centres

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "Kernel",
    "Parameters",
    "Regression",
    "build_baseline",
    "build_model",
    "conformal_quantile",
    "split_folds",
    "split_groups",
]

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Rows = NDArray[np.intp]
Progress = Callable[[str], None]

FOLDS = 5
VACUUM_FOLDS = 4
UNIMPORTANT = np.inf  # a length scale that takes a feature out of a kernel

REWEIGHTED = 2  # times that readings are weighed by their residuals; a third changes nothing that shows

# What is served.
CENTRES = 256
NEARBY_SPREAD = 0.15  # of made-up rows from the training rows, in length scales of the centres over sqrt(3)
SAME_VACUUM = 0.004  # cm Hg; values are recorded to 0.01
NORMAL_90 = 1.645  # standard deviations to either side that hold 90 % of a normal distribution


TREND = Kernel(30.0, (14.0, 28.0, 30.0, 100.0, UNIMPORTANT), smooth=True)
LOCAL = Kernel(8.0, (12.0, 4.0, 4.0, 40.0, 6.0), smooth=False)
CARRIER = Kernel(1.0, (14.0, 12.0, 12.0, 60.0, 14.0), smooth=True)
DAY = Kernel(17.0, (20.0, 0.0005, 6.5, UNIMPORTANT, 15.0), smooth=False)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Hyper-parameters of the default model, each with its reason.

    Parameters
    ----------
    trend : Kernel
        How power bends with the conditions; wide, since the plant's physics are smooth.
    local : Kernel
        What days of similar vacuum and weather share beyond the trend; rough, for days differ.
    carrier : Kernel
        By which the centres carry all smooth parts; its variance is not used.
    day : Kernel
        What hours of equal vacuum share. Values are recorded to 0.01 cm Hg, and neighbouring ones tell nothing of
        each other: in effect "the same value". Pressure and dew point tell apart days that happen to have the same one.
    noise : float
        Variance of a reading's noise [MW^2].
    freedom, spread : float
        Degrees of freedom, and squared scale [MW^2] of leave-one-out residuals, of the Student t by which
        readings that disagree with all others lose weight: hours of part load, starts and faulty sensors are
        in the data. Worth 0.1 MW of RMSE.
    least_noise : float
        No reading's noise falls below this share of `noise`.
    """

    trend: Kernel = TREND
    local: Kernel = LOCAL
    carrier: Kernel = CARRIER
    day: Kernel = DAY
    noise: float = 2.4
    freedom: float = 4.0
    spread: float = 8.0
    least_noise: float = 0.3


class Regression(Protocol):
    """A regression that is yet to be fitted."""

    def fit(
        self,
        features: NDArray[np.float32],
        net_power: Vector,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Fitted:
        """Fit to distinct rows; repeated ones are dropped first."""
        ...


def build_model(parameters: Parameters | None = None) -> KernelRegression:
    """Return the default regression, not yet fitted."""
    return KernelRegression(parameters or Parameters())


def build_baseline() -> LinearRegression:
    """Return the baseline: ordinary least squares on the four conditions; its interval has one width."""
    return LinearRegression()


def split_folds(n: int, folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield (rows to fit, rows to leave out) for each fold; every row is left out once."""
    order = np.random.default_rng(seed).permutation(n)
    for out in np.array_split(order, folds):
        yield np.setdiff1d(order, out), np.sort(out)


def split_groups(values: NDArray[Any], folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield (rows to fit, rows to leave out) so that rows of equal `values` are left out together."""
    distinct, number = np.unique(values, return_inverse=True)
    for _, out in split_folds(len(distinct), folds, seed):
        is_out = np.isin(number.reshape(-1), out)
        yield np.flatnonzero(~is_out), np.flatnonzero(is_out)


@dataclass(frozen=True, slots=True)
class LinearRegression:
    """Ordinary least squares; the interval comes from residuals of rows left out."""

    def fit(
        self,
        features: NDArray[np.float32],
        net_power: Vector,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> FittedBaseline:
        """Fit to distinct rows; repeated ones are dropped first."""
        features, net_power = _distinct(features, net_power)
        residuals = np.empty(len(net_power))
        for fit, out in split_folds(len(net_power), FOLDS, seed):
            slopes = _least_squares(features[fit], net_power[fit])
            residuals[out] = net_power[out] - _linear_part(features[out]) @ slopes
        half_width = conformal_quantile(np.abs(residuals))
        return FittedBaseline(_least_squares(features, net_power), half_width)


@dataclass(frozen=True, slots=True)
class KernelRegression:
    """Mean of a Gaussian process, blended on new days with a ridge regression.

    Readings are weighted by how far they stand out. The process knows which hours belong to one day, and so what is
    the day's and what the plant's; but on days of which it knows no hour, its smooth part alone is no better than a
    regression on the same centres that takes every reading for itself, and a mean of both is better than either.
    How much of which, and the ridge, is chosen by residuals with whole vacuums left out, inside the rows that are
    fitted to.

    The interval: `kappawatt.services.plant_power.interval`.
    """

    parameters: Parameters

    def fit(
        self,
        features: NDArray[np.float32],
        net_power: Vector,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> FittedModel:
        """Fit to distinct rows; repeated ones are dropped first.

        Parameters
        ----------
        features : ndarray of shape (n, n_features)
        net_power : ndarray of shape (n,)
            Measured power [MW].
        seed : int
            Of the folds behind blend and interval, and of the made-up rows that centres are fitted to.
        progress : callable, optional
            Told each step, for a person to read.
        """
        say = progress or (lambda _: None)
        features, net_power = _distinct(features, net_power)
        p, n = self.parameters, len(net_power)
        say(f"solving for {n} distinct rows")
        covariance = p.trend.variance * p.trend.correlation(features, features)
        covariance += p.local.variance * p.local.correlation(features, features)

        def day_correlation(left: Rows, right: Rows) -> Matrix:
            return p.day.correlation(features[left], features[right])

        days = [np.flatnonzero(features[:, VACUUM] == vacuum) for vacuum in np.unique(features[:, VACUUM])]
        blocks = [day_correlation(own, own) for own in days]
        for own, block in zip(days, blocks, strict=True):
            covariance[np.ix_(own, own)] += p.day.variance * block
        linear = _least_squares(features, net_power)
        rest = net_power - _linear_part(features) @ linear
        noise, inverse = self._weigh(covariance, rest)
        weights = inverse @ rest

        centres = features[spread_out(p.carrier.scaled(features), CENTRES)]
        basis, among = (p.carrier.correlation(some, centres) for some in (features, centres))
        say("residuals of vacuums left out")
        by_vacuum = list(split_groups(features[:, VACUUM], VACUUM_FOLDS, seed))
        ridge = RidgeOnCentres(_linear_part(features), basis, among, rest, p.noise / noise)
        blend = choose_blend(ridge, rest - _residuals(inverse, weights, by_vacuum), by_vacuum)
        say(f"new days: penalty {blend.penalty:g}, share of the ridge regression {blend.share:g}")

        # Where centres are to agree with the sum over all rows: not at the rows, at each of which it has a spike.
        nearby = _near(features, p.carrier, seed)
        smooth = sum(k.variance * (k.correlation(nearby, features) @ weights) for k in (p.trend, p.local))
        smooth_weights = through_centres(p.carrier.correlation(nearby, centres), np.stack([smooth], axis=1))[0]
        added_line, added_weights = ridge.fit(np.arange(n), blend.penalty)
        added_line *= blend.share
        added_weights = blend.share * (added_weights - smooth_weights)

        say("residuals of rows left out")
        added = _linear_part(features) @ added_line + basis @ added_weights
        folds = list(split_folds(n, FOLDS, seed))
        number = np.empty(n, dtype=np.intp)
        for fold, (_, out) in enumerate(folds):
            number[out] = fold
        many, few = folds[0]
        known_density, sparse_density = np.empty(n), np.empty(n)
        for own, block in zip(days, blocks, strict=True):
            known_density[own] = (block * (number[own, None] != number[own])).sum(axis=1)
            sparse_density[own] = (block * (number[own] == 0)).sum(axis=1)
        by_few = covariance[np.ix_(many, few)] @ solve(covariance[np.ix_(few, few)], noise[few], rest[few])
        every = np.arange(n)
        interval = fit_interval(
            DayResiduals(every, _residuals(inverse, weights, folds), known_density, added),
            DayResiduals(many, rest[many] - by_few, sparse_density[many], added[many]),
            DayResiduals(every, rest - blend.power, np.zeros(n), np.zeros(n)),
            features[:, VACUUM],
            basis=basis,
            prior=among,
            day_correlation=day_correlation,
            seed=seed,
        )
        # The hours of a day are weighed against what is served, and so make up for what the centres do not carry.
        by_hour = np.empty(n)
        for own, block in zip(days, blocks, strict=True):
            share = familiarity(block.sum(axis=1) - 1.0, interval.half_familiar)  # an hour is not its own neighbour
            missed = rest[own] - basis[own] @ smooth_weights - (1 - share) * added[own]
            by_hour[own] = p.day.variance * solve(p.day.variance * block, noise[own], missed)
        known_level, new_level = interval.levels
        known_scale, new_scale = interval.smooth_weights
        order = np.argsort(features[:, VACUUM], kind="stable")
        return FittedModel(
            lines=np.stack([linear, _level(known_level), added_line, _level(new_level - known_level)]),
            trend_scales=np.array(p.carrier.length_scales),
            day_scales=np.array(p.day.length_scales),
            centres=centres,
            centre_weights=np.stack([smooth_weights, known_scale, added_weights, new_scale - known_scale]),
            rows=features[order],
            row_weights=np.stack([by_hour, interval.day_weights])[:, order],
            reach=SAME_VACUUM,
            half_familiar=interval.half_familiar,
            edge=float(basis.max(axis=1).min()),
            doubt=NORMAL_90**2 * (p.trend.variance + p.local.variance),
        )

    def _weigh(self, covariance: Matrix, rest: Vector) -> tuple[Vector, Matrix]:
        """Return each reading's noise variance, and the inverse of the covariance with it."""
        p = self.parameters
        noise = np.full(len(rest), p.noise)
        inverse = inverse_of(covariance, noise)
        for _ in range(REWEIGHTED):
            residual = (inverse @ rest) / inverse.diagonal()
            student = (p.freedom + residual**2 / p.spread) / (p.freedom + 1)
            noise = p.noise * np.maximum(p.least_noise, student)
            inverse = inverse_of(covariance, noise)
        return noise, inverse


def _level(level: float) -> Vector:
    """Return a line without slopes."""
    return np.concatenate([[level], np.zeros(LINEAR_FEATURES)])


def _residuals(inverse: Matrix, solved: Vector, folds: Sequence[tuple[Rows, Rows]]) -> Vector:
    """Return measured minus predicted of each row, had its fold not been fitted to."""
    residuals = np.empty(len(solved))
    for _, out in folds:
        residuals[out] = left_out(inverse, solved, out)
    return residuals


def _near(rows: NDArray[np.float32], kernel: Kernel, seed: int) -> NDArray[np.float32]:
    """Return made-up rows around some of `rows`, so that sums over centres hold between rows too."""
    generator = np.random.default_rng(seed)
    nearby = rows.copy()
    own = kernel.takes_part
    steps = generator.normal(size=(len(nearby), int(own.sum())))
    nearby[:, own] += (NEARBY_SPREAD / np.sqrt(kernel.weights[own]) * steps).astype(np.float32)
    return nearby


def _linear_part(features: NDArray[np.float32]) -> Matrix:
    conditions = features[:, :LINEAR_FEATURES].astype(np.float64)
    return np.column_stack([np.ones(len(features)), conditions])


def _least_squares(features: NDArray[np.float32], net_power: Vector) -> Vector:
    return np.asarray(np.linalg.lstsq(_linear_part(features), net_power, rcond=None)[0], dtype=np.float64)


def _distinct(features: NDArray[np.float32], net_power: Vector) -> tuple[NDArray[np.float32], Vector]:
    """Drop exact repeats, which would be their own best neighbour, and fix the order of rows."""
    _, first = np.unique(np.column_stack([features, net_power]), axis=0, return_index=True)
    return features[first], net_power[first]
