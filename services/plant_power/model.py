"""The regressions and why they are built so.

Exhaust vacuum takes only a few hundred distinct values, and hours of equal vacuum err alike, as if
it marked the operating day (the data has no timestamps to prove it). The default is therefore the mean of a
Gaussian process with two kernels: power is a smooth function of the conditions, plus a part shared by hours
of equal vacuum and similar air. Fitting is two linear solves. What is served is not the sum over all rows:
the trend is put through a few centres, and the shared part is summed over rows in reach
(`kappawatt.services.plant_power.inference`). The baseline is linear regression.

Kernels and noise were chosen by leave-one-out and cross-validated error inside the first half of sheet 1 of
the 5x2 protocol, rounded and frozen; no other row took part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .inference import DENSITY_FLOOR, LINEAR_FEATURES, VACUUM, Fitted, FittedBaseline, FittedModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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

COVERAGE = 0.90
FOLDS = 5
VACUUM_FOLDS = 3
UNIMPORTANT = np.inf  # a length scale that takes a feature out of a kernel

# Scale model: log of the absolute residual, smoothed by the same two kernels.
RESIDUAL_FLOOR = 0.3  # MW; keeps the logarithm of a lucky residual from dominating
LOG_RESIDUAL_VARIANCE = 1.2  # of log|z| for a normal z it is pi^2/8 = 1.23
SCALE_VARIANCE = 0.3

# What is served. 192 centres and a reach of 8 length scales change 70/30 predictions by 0.09 MW (root mean
# square), hence RMSE by less than 0.005 MW; half the centres would cost 0.013 MW and save 0.4 us a row.
CENTRES = 192
REACH = 0.1  # cm Hg
NEARBY = 2000  # made-up rows that the centres are fitted to besides the training rows
NEARBY_SPREAD = 0.15  # of their distance from a training row, in length scales over sqrt(3)
RIDGE = 1e-8  # of the centres' mean square


@dataclass(frozen=True, slots=True)
class Kernel:
    """One covariance function with a length scale for each feature.

    Parameters
    ----------
    variance : float
        Variance of the part of power it explains [MW^2].
    length_scales : tuple of float, of length n_features
        Distance over which that part changes, in each feature's own unit and in the order of `FEATURE_NAMES`.
    smooth : bool
        True: Matern 3/2, (1 + sqrt(3) d) exp(-sqrt(3) d). False: Matern 1/2, exp(-d).

    References
    ----------
    C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press 2006, eq. 4.17.
    """

    variance: float
    length_scales: tuple[float, ...]
    smooth: bool

    @property
    def weights(self) -> NDArray[np.float32]:
        """Weight of each feature's squared difference in the squared distance, sqrt(3) included."""
        weights = 1.0 / np.square(np.array(self.length_scales))
        result: NDArray[np.float32] = (3.0 * weights if self.smooth else weights).astype(np.float32)
        return result

    def correlation(self, left: NDArray[np.float32], right: NDArray[np.float32]) -> Matrix:
        """Return correlations, 0 to 1, of shape (len(left), len(right))."""
        squared = np.zeros((len(left), len(right)))
        for position, weight in enumerate(self.weights):
            if weight > 0:
                squared += weight * np.square(np.subtract.outer(left[:, position], right[:, position]))
        distance = np.sqrt(squared)
        decay = np.exp(-distance)
        return (1.0 + distance) * decay if self.smooth else decay


@dataclass(frozen=True, slots=True)
class Parameters:
    """Hyper-parameters of the default model, each with its reason.

    Parameters
    ----------
    trend : Kernel
        How power bends with the conditions; wide, since the plant's physics are smooth.
    regime : Kernel
        What hours of equal vacuum share. 0.012 cm Hg in vacuum is about one step of the recorded value:
        in effect "the same vacuum". Pressure and dew point tell apart days that happen to have the same one.
    noise : float
        Variance of a reading's noise [MW^2].
    freedom, spread : float
        Degrees of freedom, and squared scale [MW^2] of leave-one-out residuals, of the Student t by which
        readings that disagree with all others lose weight: hours of part load, starts and faulty sensors are
        in the data. Worth 0.1 MW of RMSE.
    least_noise : float
        No reading's noise falls below this share of `noise`.
    """

    trend: Kernel = Kernel(30.0, (14.0, 28.0, 30.0, 100.0, UNIMPORTANT), smooth=True)
    regime: Kernel = Kernel(17.0, (20.0, 0.012, 6.5, UNIMPORTANT, 15.0), smooth=False)
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


def conformal_quantile(scores: Vector, coverage: float = COVERAGE) -> float:
    """Return the smallest score that `coverage` of new scores stay within.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Scores of rows the model was not fitted to, exchangeable with those to come.

    References
    ----------
    J. Lei et al., Distribution-free predictive inference for regression, JASA 113 (2018), algorithm 2.

    Examples
    --------
    >>> conformal_quantile(np.arange(1.0, 20.0))
    18.0
    """
    n = len(scores)
    rank = min(n, int(np.ceil(coverage * (n + 1))))
    return float(np.sort(scores)[rank - 1])


def split_folds(n: int, folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield (rows to fit, rows to leave out) for each fold; every row is left out once."""
    order = np.random.default_rng(seed).permutation(n)
    for left_out in np.array_split(order, folds):
        yield np.setdiff1d(order, left_out), np.sort(left_out)


def split_groups(values: NDArray[Any], folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield (rows to fit, rows to leave out) so that rows of equal `values` are left out together."""
    distinct, number = np.unique(values, return_inverse=True)
    for _, left_out in split_folds(len(distinct), folds, seed):
        is_out = np.isin(number.reshape(-1), left_out)
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
        for fit, left_out in split_folds(len(net_power), FOLDS, seed):
            slopes = _least_squares(features[fit], net_power[fit])
            residuals[left_out] = net_power[left_out] - _linear_part(features[left_out]) @ slopes
        half_width = conformal_quantile(np.abs(residuals))
        return FittedBaseline(_least_squares(features, net_power), half_width)


@dataclass(frozen=True, slots=True)
class KernelRegression:
    """Mean of a Gaussian process with two kernels, readings weighted by how far they stand out.

    The interval is a cross-conformal one: residuals of rows left out, divided by a smooth estimate of their
    size, give one quantile for all conditions. How that size grows where no similar hour is known comes from
    residuals with whole values of exhaust vacuum left out, else days the model has not seen would get the
    narrow interval of those it has.
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
            Of the folds behind the interval, and of the made-up rows that centres are fitted to, which moves
            the mean by 0.02 MW (root mean square).
        progress : callable, optional
            Told each step, for a person to read.
        """
        say = progress or (lambda _: None)
        features, net_power = _distinct(features, net_power)
        p = self.parameters
        trend, regime = (kernel.correlation(features, features) for kernel in (p.trend, p.regime))
        covariance = p.trend.variance * trend + p.regime.variance * regime
        say(f"solving for {len(net_power)} distinct rows")
        linear, weights = self._solve(features, net_power, covariance)

        def residuals(name: str, folds: Iterable[tuple[Rows, Rows]]) -> Vector:
            left_out = np.empty(len(net_power))
            for number, (fit, out) in enumerate(folds, start=1):
                say(f"residuals of {name} left out: fold {number}")
                slopes, fold_weights = self._solve(features[fit], net_power[fit], covariance[np.ix_(fit, fit)])
                power = _linear_part(features[out]) @ slopes + covariance[np.ix_(out, fit)] @ fold_weights
                left_out[out] = np.abs(net_power[out] - power)
            return left_out

        on_known_days = residuals("rows", split_folds(len(net_power), FOLDS, seed))
        by_vacuum = list(split_groups(features[:, VACUUM], VACUUM_FOLDS, seed))
        on_new_days = residuals("vacuums", by_vacuum)
        density_on_new_days = np.empty(len(net_power))
        for fit, out in by_vacuum:
            density_on_new_days[out] = regime[np.ix_(out, fit)].sum(axis=1)
        scale_line, scale_weights, quantile = _fit_scale(on_known_days, on_new_days, density_on_new_days, trend, regime)
        trend_weights = np.stack([p.trend.variance * weights, SCALE_VARIANCE * scale_weights])
        regime_weights = np.stack([p.regime.variance * weights, SCALE_VARIANCE * scale_weights])
        say(f"putting the trend through {CENTRES} centres")
        centres, centre_weights = _through_centres(p.trend, features, trend, trend_weights, seed)
        order = np.argsort(features[:, VACUUM], kind="stable")
        return FittedModel(
            linear=linear,
            trend_scales=np.array(p.trend.length_scales),
            regime_scales=np.array(p.regime.length_scales),
            centres=centres,
            centre_weights=centre_weights,
            rows=features[order],
            row_weights=regime_weights[:, order],
            reach=REACH,
            scale_line=scale_line,
            quantile=quantile,
        )

    def _solve(self, features: NDArray[np.float32], net_power: Vector, covariance: Matrix) -> tuple[Vector, Vector]:
        """Return the linear part and each row's weight."""
        p = self.parameters
        linear = _least_squares(features, net_power)
        rest = net_power - _linear_part(features) @ linear
        noise = np.full(len(rest), p.noise)
        # Leave-one-out residuals in closed form: Rasmussen and Williams 2006, eq. 5.12.
        solved, diagonal = _solve_with_diagonal(covariance, noise, rest)
        residual = solved / diagonal
        student = (p.freedom + residual**2 / p.spread) / (p.freedom + 1)
        noise *= np.maximum(p.least_noise, student)
        return linear, _solve(covariance, noise, rest)


def _fit_scale(
    on_known_days: Vector, on_new_days: Vector, density_on_new_days: Vector, trend: Matrix, regime: Matrix
) -> tuple[Vector, Vector, float]:
    """Return line, row weights and quantile of the interval's scale, from absolute residuals [MW]."""
    target = np.log(on_known_days + RESIDUAL_FLOOR)
    design = _scale_line(regime.sum(axis=1) - 1.0)  # a row is not its own neighbour
    design_on_new_days = _scale_line(density_on_new_days)
    line: Any = np.linalg.lstsq(
        np.concatenate([design, design_on_new_days]),
        np.concatenate([target, np.log(on_new_days + RESIDUAL_FLOOR)]),
        rcond=None,
    )[0]
    # A mean logarithm fits the middle of the residuals; tilt the line until it fits their 90 % on all days.
    known, new = design[:, 1].mean(), design_on_new_days[:, 1].mean()
    excess = conformal_quantile(on_new_days / np.exp(design_on_new_days @ line)) / conformal_quantile(
        on_known_days / np.exp(design @ line)
    )
    line += np.log(excess) / (known - new) * np.array([known, -1.0])
    noise = np.full(len(target), LOG_RESIDUAL_VARIANCE)
    weights, diagonal = _solve_with_diagonal(SCALE_VARIANCE * (trend + regime), noise, target - design @ line)
    scale_without_itself = np.exp(target - weights / diagonal)
    return line, weights, conformal_quantile(on_known_days / scale_without_itself)


def _through_centres(
    kernel: Kernel, rows: NDArray[np.float32], correlation: Matrix, weights: Matrix, seed: int
) -> tuple[NDArray[np.float32], Matrix]:
    """Return a few centres, and their weights, whose sums are those of all `rows` at and around the rows.

    Least squares on the rows and on made-up ones nearby, so that it holds between the rows too.
    """
    from scipy.linalg import solve  # type: ignore[import-untyped,unused-ignore]

    lengths = np.sqrt(1.0 / np.maximum(kernel.weights, np.finfo(np.float32).tiny))
    takes_part = kernel.weights > 0
    generator = np.random.default_rng(seed)
    nearby = rows[generator.choice(len(rows), min(NEARBY, len(rows)), replace=False)].copy()
    steps = generator.normal(size=(len(nearby), int(takes_part.sum())))
    nearby[:, takes_part] += (NEARBY_SPREAD * lengths[takes_part] * steps).astype(np.float32)
    targets = np.concatenate([correlation @ weights.T, kernel.correlation(nearby, rows) @ weights.T])
    centres = rows[_spread_out(rows[:, takes_part] / lengths[takes_part], CENTRES)]
    basis = kernel.correlation(np.concatenate([rows, nearby]), centres)
    gram = basis.T @ basis
    gram[np.diag_indices(len(centres))] += RIDGE * np.trace(gram) / len(centres)
    found: Any = solve(gram, basis.T @ targets, assume_a="pos")
    return centres, np.ascontiguousarray(found.T)


def _spread_out(points: Matrix, count: int) -> Rows:
    """Return positions of `count` points, each the farthest from all before it; the first is the middle one."""
    chosen = [int(np.argmin(np.square(points - points.mean(axis=0)).sum(axis=1)))]
    nearest = np.full(len(points), np.inf)
    for _ in range(min(count, len(points)) - 1):
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(axis=1))
        chosen.append(int(np.argmax(nearest)))
    return np.array(chosen)


def _scale_line(density: Vector) -> Matrix:
    return np.column_stack([np.ones(len(density)), np.log(density + DENSITY_FLOOR)])


def _linear_part(features: NDArray[np.float32]) -> Matrix:
    conditions = features[:, :LINEAR_FEATURES].astype(np.float64)
    return np.column_stack([np.ones(len(features)), conditions])


def _least_squares(features: NDArray[np.float32], net_power: Vector) -> Vector:
    return np.asarray(np.linalg.lstsq(_linear_part(features), net_power, rcond=None)[0], dtype=np.float64)


def _distinct(features: NDArray[np.float32], net_power: Vector) -> tuple[NDArray[np.float32], Vector]:
    """Drop exact repeats, which would be their own best neighbour, and fix the order of rows."""
    _, first = np.unique(np.column_stack([features, net_power]), axis=0, return_index=True)
    return features[first], net_power[first]


def _with_noise(covariance: Matrix, noise: Vector) -> Matrix:
    noisy = covariance.copy()
    noisy[np.diag_indices(len(noise))] += noise
    return noisy


def _solve_with_diagonal(covariance: Matrix, noise: Vector, target: Vector) -> tuple[Vector, Vector]:
    """Return the solution, and the diagonal of the inverse that leave-one-out needs."""
    from scipy.linalg import cho_solve, cholesky, lapack  # type: ignore[import-untyped,unused-ignore]

    factor: Any = cholesky(_with_noise(covariance, noise), lower=True, overwrite_a=True, check_finite=False)
    solution: Vector = cho_solve((factor, True), target, check_finite=False)
    inverse_factor: Any = lapack.dtrtri(factor, lower=1)[0]
    diagonal: Vector = np.einsum("ij,ij->j", inverse_factor, inverse_factor)
    return solution, diagonal


def _solve(covariance: Matrix, noise: Vector, target: Vector) -> Vector:
    from scipy.linalg import cho_factor, cho_solve

    factor = cho_factor(_with_noise(covariance, noise), lower=True, overwrite_a=True, check_finite=False)
    solution: Vector = cho_solve(factor, target, check_finite=False)
    return solution
