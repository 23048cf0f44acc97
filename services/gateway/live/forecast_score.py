"""The live score: how far forecasts were from what was measured, as sums that can be added up over series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ERROR", "Errors", "Sums", "add_up", "last_known", "score", "sums"]

# One interval of one forecast whose truth is known. Times are seconds since the epoch, UTC.
ERROR = np.dtype(
    [
        ("issue_time", "i8"),
        ("target_time", "i8"),
        ("measured", "f4"),
        ("forecast", "f4"),
        ("error", "f4"),
        ("naive_error", "f4"),
        ("lower", "f4"),
        ("upper", "f4"),
        ("crps", "f4"),
        ("version", "i2"),
        ("fallback", "?"),
    ]
)
Errors = NDArray[np.void]
Sums = Mapping[str, float]


def last_known(errors: Errors) -> Errors:
    """Return for each interval the error of the forecast that was issued last before it began."""
    if (np.diff(errors["target_time"]) > 0).all():
        return errors  # one forecast of each interval, in order of time: the usual case
    ordered = errors[np.lexsort((errors["issue_time"], errors["target_time"]))]
    target = ordered["target_time"]
    is_last = np.ones(len(ordered), np.bool_)
    is_last[:-1] = target[1:] != target[:-1]
    return ordered[is_last]


def sums(errors: Errors) -> Sums:
    """Return what scores are made of."""
    error, naive, crps, measured, lower, upper = (
        errors[name].astype(np.float64) for name in ("error", "naive_error", "crps", "measured", "lower", "upper")
    )
    size = np.abs(error)
    compared = ~np.isnan(naive)
    nonzero = measured != 0
    total = np.abs(measured) + np.abs(measured + error)
    some = total > 0
    found = {
        "n": len(errors),
        "fallback": errors["fallback"].sum(),
        "absolute": size.sum(),
        "squared": (error**2).sum(),
        "bias": error.sum(),
        "relative": (size[nonzero] / np.abs(measured[nonzero])).sum(),
        "nonzero": nonzero.sum(),
        "symmetric": (2 * size[some] / total[some]).sum(),
        "naive": np.abs(naive[compared]).sum(),
        "compared": size[compared].sum(),
        "compared_crps": crps[compared].sum(),
        "crps": crps.sum(),
        "covered": ((measured >= lower) & (measured <= upper)).sum(),
        "width": (upper - lower).sum(),
    }
    return {name: float(value) for name, value in found.items()}


def add_up(parts: Iterable[Sums]) -> Sums:
    """Return the sums over several series."""
    found: Counter[str] = Counter()
    for part in parts:
        for name, value in part.items():
            found[name] += value  # type: ignore[assignment]  # a Counter adds floats as well
    return found


def score(found: Sums, *, percent: bool) -> dict[str, Any] | None:
    """Return the scores; None if nothing was measured yet.

    Parameters
    ----------
    found : mapping of str to float
        What `sums` or `add_up` returned.
    percent : bool
        Whether the mean absolute percentage error is among them; intervals with a measured value of zero are
        left out of it.

    Returns
    -------
    dict
        `n` intervals, `fallback` of them by the seasonal naive; `mae`, `rmse`, `bias` (forecast less
        measured), `crps`, `width_90` in the unit of the quantity; `mape`, `smape` (0 where both are 0),
        `coverage_90` as shares; `rmae` and `rcrps` relative to the seasonal naive over the intervals where that is
        known.

    References
    ----------
    R. J. Hyndman, A. B. Koehler, Another look at measures of forecast accuracy, International Journal of
    Forecasting 22 (2006). T. Gneiting, A. E. Raftery, Strictly proper scoring rules, Journal of the American
    Statistical Association 102 (2007): the CRPS of a point forecast, here the naive, is its absolute error.
    """
    n = found["n"] if found else 0
    if n == 0:
        return None
    naive = found["naive"]
    return {
        "n": int(n),
        "fallback": int(found["fallback"]),
        "mae": found["absolute"] / n,
        "rmse": (found["squared"] / n) ** 0.5,
        "bias": found["bias"] / n,
        "mape": found["relative"] / found["nonzero"] if percent and found["nonzero"] else None,
        "smape": found["symmetric"] / n,
        "rmae": found["compared"] / naive if naive > 0 else None,
        "crps": found["crps"] / n,
        "rcrps": found["compared_crps"] / naive if naive > 0 else None,
        "coverage_90": found["covered"] / n,
        "width_90": found["width"] / n,
    }
