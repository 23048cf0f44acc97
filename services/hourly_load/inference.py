"""The fitted models as they serve: regression, trees and spread, from a past to quantiles of a day's hours."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import ArtifactInvalid, HistoryInsufficient
from kappawatt.forecasting.calendar import Times
from kappawatt.forecasting.fan import Fan, Warned
from kappawatt.forecasting.history import Past
from kappawatt.models.arrays import read_arrays

from .calibration import calibrate
from .features import CALENDAR_NAMES, DEPTH, FEATURE_NAMES, calendar_features, rows_of_cells
from .lifting import lift_of, lifted
from .linear import HourlyRegression, linear_terms
from .own_weeks import TERMS, refitted
from .skill import lean_on_naive
from .wall_clock import HOURS, Cells, WallClock, wall_clock

if TYPE_CHECKING:
    from xgboost import Booster

__all__ = [
    "CALIBRATION_DAYS",
    "CLASSIC_FILES",
    "HISTORY",
    "TREE_WEIGHT",
    "Classic",
    "Fitted",
    "Member",
    "pack",
    "pack_classic",
    "unpack",
    "unpack_classic",
]

Matrix = NDArray[np.float64]

CALIBRATION_DAYS = 112  # that are forecast again for calibration: sixteen weeks
LONGEST_LEAD = 36  # h from an issue time to its target day
HISTORY = DEPTH + CALIBRATION_DAYS * HOURS + 2 * LONGEST_LEAD  # hours before the issue time that a forecast reads
TREE_WEIGHT = 0.35  # of the trees in the blend with the regression
SMALLEST_SPREAD = 1e-3  # of the logarithm of load
MANIFEST = "members.json"
CLASSIC_FILES = ("classic_trees.ubj", "classic.npz")


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """The model of one lead.

    Parameters
    ----------
    lead : int
        Hours from the issue time to the start of the target day, by the wall clock.
    regression : HourlyRegression
    trees, spread : xgboost.Booster
        Logarithm of load over level; and mean absolute error of it.
    reference : ndarray of shape (n,)
        Quantiles of the scaled residuals of days kept out of the fit, evenly spaced in probability.
    """

    lead: int
    regression: HourlyRegression
    trees: Booster
    spread: Booster
    reference: Matrix

    def expected(self, matrix: NDArray[np.float32]) -> tuple[Matrix, Matrix]:
        """Return logarithm of load over level and its predicted spread, each of shape (n,)."""
        from xgboost import DMatrix

        rows = DMatrix(matrix, nthread=1)
        centre = (1 - TREE_WEIGHT) * self.regression.predict(matrix)
        centre += TREE_WEIGHT * self.trees.predict(rows).astype(np.float64)
        spread = np.maximum(self.spread.predict(rows).astype(np.float64), SMALLEST_SPREAD)
        return centre, spread


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The default model.

    Parameters
    ----------
    members : tuple of Member
        In order of lead.
    held_from : datetime64[D]
        First local day that the fit has not seen.
    """

    members: tuple[Member, ...]
    held_from: np.datetime64

    def forecast(self, past: Past, targets: Times) -> Fan:
        """Forecast hours of local days from what was known at `past.issue_time`; pure.

        Parameters
        ----------
        past : Past
            Hourly, gaps filled.
        targets : ndarray of datetime64[ms], shape (n,)
            Starts of the hours, UTC.

        Raises
        ------
        HistoryInsufficient
            The last week is not known.
        PayloadInvalid
            The series is not hourly.
        """
        return self.forecast_many(past, [past.issue_time], [targets])[0]

    def forecast_many(self, history: Past, issue_times: Sequence[np.datetime64], targets: Sequence[Times]) -> list[Fan]:
        """Forecast at many issue times; the same as `forecast` for each, with the days they share computed once.

        Parameters
        ----------
        history : Past
            May go on after the issue times; nothing of that is read.
        issue_times : sequence of datetime64[ms]
        targets : sequence of ndarray of datetime64[ms]
            Of each issue time.
        """
        if (history.values <= 0).any():
            return [self._forecast_lifted(history, *asked) for asked in zip(issue_times, targets, strict=True)]
        return self._forecast_positive(history, issue_times, targets)

    def _forecast_lifted(self, history: Past, issue_time: np.datetime64, targets: Times) -> Fan:
        """Forecast a series with values at or below zero: the lift is of what was known at the issue time."""
        known = max(0, int((issue_time - history.start) // history.interval))
        past = replace(history, values=history.values[:known], issue_time=issue_time)
        lift = lift_of(past)
        (fan,) = self._forecast_positive(lifted(past), [issue_time], [targets], is_lifted=lift > 0)
        return replace(fan, quantiles=fan.quantiles - lift) if lift else fan

    def _forecast_positive(
        self,
        history: Past,
        issue_times: Sequence[np.datetime64],
        targets: Sequence[Times],
        is_lifted: bool = False,
    ) -> list[Fan]:
        clock = wall_clock(history)
        origins = clock.origins(np.array(issue_times, dtype="datetime64[ms]"))
        days = _Days(self, clock, is_lifted)
        fans = []
        for origin, own in zip(origins.tolist(), targets, strict=True):
            cells = clock.cells(own)
            quantiles = np.empty((len(own), 19))
            warnings: list[Warned] = []
            for day in np.unique(cells // HOURS).tolist():
                rows = cells // HOURS == day
                of_day, warning = days.forecast(day, origin)
                quantiles[rows] = of_day[cells[rows] % HOURS]
                warnings += [warning] if warning and warning not in warnings else []
            fans.append(Fan(quantiles, warnings=tuple(warnings)))
        return fans

    def member(self, lead: int) -> Member:
        """Return the model for a lead [h]: the one made for it, else for the next longer one, else for the longest."""
        return next((m for m in self.members if m.lead >= lead), self.members[-1])


class _Days:
    """Days of one series as the model forecasts them at a lead, each computed once."""

    def __init__(self, fitted: Fitted, clock: WallClock, is_lifted: bool) -> None:
        self._fitted = fitted
        self._clock = clock
        self._is_lifted = is_lifted
        self._found: dict[tuple[int, int], tuple[Matrix, ...]] = {}

    def forecast(self, day: int, origin: int) -> tuple[Matrix, Warned | None]:
        """Return quantiles [MW] of a day's hours, shape (24, 19), issued when cells before `origin` were known.

        Beside them stands a warning, if the seasonal naive was closer lately.
        """
        actual = day * HOURS - origin
        member = self._fitted.member(actual)
        lead = max(member.lead, actual)
        days = np.arange(max(day - CALIBRATION_DAYS, 0), day + 1)
        self._compute(member, lead, days)
        centre, spread = (np.array([self._found[lead, d][i] for d in days.tolist()]) for i in (0, 1))
        if np.isnan(centre[-1]).any():
            raise HistoryInsufficient.of("load", "no value in the last week", "a history of weeks")
        cells = days[:-1, None] * HOURS + np.arange(HOURS)
        known = cells < min(day * HOURS - lead, len(self._clock.log_load))
        measured = np.where(known, self._clock.log_load[np.where(known, cells, 0)], np.nan)
        if self._is_lifted:
            level, terms = (np.array([self._found[lead, d][i] for d in days.tolist()]) for i in (2, 3))
            centre, spread = refitted(centre - level, terms, measured - level[:-1])
            centre = centre + level
        leaning = lean_on_naive(self._clock, days, centre, measured, lead, may_lean=not self._is_lifted)
        centre = leaning.centre
        residuals = self._held_out((measured - centre[:-1]) / spread[:-1], days[:-1])
        calibration = calibrate(residuals, lead, member.reference, member.lead)
        steps = calibration.scale * spread[-1][:, None] * calibration.quantiles
        return np.exp(centre[-1][:, None] + steps), leaning.warning

    def _held_out(self, residuals: Matrix, days: Cells) -> Matrix:
        """Leave out days the fit has seen, where enough others are known."""
        seen = days < int((self._fitted.held_from - self._clock.first).astype(int))
        others = (~np.isnan(residuals[~seen])).any(axis=1).sum()
        if others >= CALIBRATION_DAYS // 4:
            residuals = np.where(seen[:, None], np.nan, residuals)
        return residuals

    def _compute(self, member: Member, lead: int, days: Cells) -> None:
        new = np.array([d for d in days.tolist() if (lead, d) not in self._found], dtype=np.int64)
        if not len(new):
            return
        cells = (new[:, None] * HOURS + np.arange(HOURS)).ravel()
        rows = rows_of_cells(self._clock, new * HOURS - lead, cells, np.repeat(np.arange(len(new)), HOURS))
        centre, spread = member.expected(rows.matrix)
        centre = (centre + rows.level).reshape(-1, HOURS)
        for i, day in enumerate(new.tolist()):
            self._found[lead, day] = centre[i], spread.reshape(-1, HOURS)[i]
            if self._is_lifted:
                own = slice(HOURS * i, HOURS * (i + 1))
                self._found[lead, day] += rows.level[own], rows.matrix[own][:, TERMS].astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Classic:
    """The baseline as published: trees on the calendar alone.

    Parameters
    ----------
    trees : xgboost.Booster
        Load [MW] from the features `CALENDAR_NAMES`.
    reference : ndarray of shape (19,)
        Quantiles of its errors [MW] at `LEVELS` on the end of its training span.
    """

    trees: Booster
    reference: Matrix

    def predict(self, matrix: NDArray[np.float32]) -> Matrix:
        """Return load [MW], shape (n,), for calendar features of shape (n, 8)."""
        from xgboost import DMatrix

        result: Matrix = self.trees.predict(DMatrix(matrix, nthread=1)).astype(np.float64)
        return result

    def forecast(self, past: Past, targets: Times) -> Fan:
        """Forecast hours from the calendar; of the past only time zone and interval are used."""
        from kappawatt.forecasting.calendar import to_local

        labels = to_local(targets, past.time_zone) + past.interval
        return Fan(self.predict(calendar_features(labels))[:, None] + self.reference)


def pack(fitted: Fitted) -> dict[str, bytes]:
    """Return the files of a fitted model: arrays as .npz, trees in XGBoost's own UBJSON."""
    about: dict[str, Any] = {"held_from": str(fitted.held_from), "leads": [m.lead for m in fitted.members]}
    files = {MANIFEST: json.dumps(about, indent=2).encode()}
    for member in fitted.members:
        name = f"lead_{member.lead:02d}"
        regression = member.regression
        files[f"{name}.npz"] = _arrays(
            centre=regression.centre,
            scale=regression.scale,
            coefficients=regression.coefficients,
            reference=member.reference,
        )
        files[f"{name}_trees.ubj"] = bytes(member.trees.save_raw("ubj"))
        files[f"{name}_spread.ubj"] = bytes(member.spread.save_raw("ubj"))
    return files


def unpack(files: Mapping[str, bytes]) -> Fitted:
    """Return the model whose files `pack` made; ArtifactInvalid if they are none."""
    try:
        about = json.loads(files[MANIFEST])
        members = []
        for lead in about["leads"]:
            name = f"lead_{int(lead):02d}"
            arrays = _read_arrays(files[f"{name}.npz"])
            regression = HourlyRegression(arrays["centre"], arrays["scale"], arrays["coefficients"])
            terms = linear_terms(np.zeros((1, len(FEATURE_NAMES)), dtype=np.float32)).shape[1]
            shapes = [array.shape for array in (regression.centre, regression.scale, regression.coefficients)]
            if shapes != [(HOURS, terms), (HOURS, terms), (HOURS, 1 + terms)]:
                raise ValueError(f"{name}: coefficients of shape {regression.coefficients.shape}")
            trees, spread = (_booster(files[f"{name}_{part}.ubj"], FEATURE_NAMES) for part in ("trees", "spread"))
            members.append(Member(int(lead), regression, trees, spread, arrays["reference"]))
        if not members:
            raise ValueError("no member")
        return Fitted(tuple(members), np.datetime64(about["held_from"], "D"))
    except ModuleNotFoundError:
        raise  # no fault of the files
    except Exception as error:  # json, zipfile, NumPy and XGBoost share no base but Exception
        raise ArtifactInvalid(f"hourly-load: {str(error)[:200]}, allowed the files that training writes") from error


def pack_classic(classic: Classic) -> dict[str, bytes]:
    """Return the files of the baseline."""
    contents = bytes(classic.trees.save_raw("ubj")), _arrays(reference=classic.reference)
    return dict(zip(CLASSIC_FILES, contents, strict=True))


def unpack_classic(files: Mapping[str, bytes]) -> Classic:
    """Return the baseline whose files `pack_classic` made; ArtifactInvalid if they are none."""
    try:
        trees, arrays = (files[name] for name in CLASSIC_FILES)
        return Classic(_booster(trees, CALENDAR_NAMES), _read_arrays(arrays)["reference"])
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise ArtifactInvalid(f"hourly-load: {str(error)[:200]}, allowed the files that training writes") from error


def _arrays(**arrays: Matrix) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _read_arrays(content: bytes) -> dict[str, Matrix]:
    arrays = {name: np.asarray(array, dtype=np.float64) for name, array in read_arrays(content).items()}
    for name, array in arrays.items():
        if np.isnan(array).any():
            raise ValueError(f"{name}: NaN")
    return arrays


def _booster(content: bytes, names: Sequence[str]) -> Booster:
    from xgboost import Booster

    booster = Booster({"nthread": 1})
    booster.load_model(bytearray(content))
    if booster.num_features() != len(names):
        raise ValueError(f"trees on {booster.num_features()} features, the code computes {len(names)}")
    return booster
