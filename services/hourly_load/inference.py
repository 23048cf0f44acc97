"""The fitted models as they serve: regression, trees and spread, from a past to quantiles of a day's hours."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import ArtifactInvalid
from kappawatt.forecasting.calendar import Times
from kappawatt.forecasting.fan import Fan, Warned
from kappawatt.forecasting.history import Past
from kappawatt.models.arrays import read_arrays

from .boosting import predicted
from .calibration import CALIBRATION_DAYS
from .correction import Correction, correction_terms
from .features import CALENDAR_NAMES, DEPTH, FEATURE_NAMES, calendar_features
from .lifting import lift_of, lifted
from .linear import HourlyRegression, linear_terms
from .member import TREE_WEIGHT, Member
from .newest_hours import NewestHours
from .response import Response, response_terms
from .series_days import SeriesDays
from .wall_clock import HOURS, wall_clock
from .weather_member import TREE_TERMS, WeatherMember

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

LONGEST_LEAD = 36  # h from an issue time to its target day, of the forecasts that calibration makes again
HISTORY = DEPTH + CALIBRATION_DAYS * HOURS + 2 * LONGEST_LEAD  # hours before the issue time that a forecast reads
MANIFEST = "members.json"
PARTS = ("trees", "spread")
FAR_SPREAD = "far_spread.ubj"
NEWEST_HOURS = "newest_hours.npz"
CLASSIC_FILES = ("classic_trees.ubj", "classic.npz")


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The default model.

    Parameters
    ----------
    members : tuple of Member
        In order of lead.
    held_from : datetime64[D]
        First local day that the fit has not seen.
    weather : tuple of WeatherMember
        Of series that had temperature in training, in order of lead.
    newest : NewestHours, optional
        What the hours since a forecast was due add to it. Without it the rest of a day is forecast as of its start.
    """

    members: tuple[Member, ...]
    held_from: np.datetime64
    weather: tuple[WeatherMember, ...] = ()
    newest: NewestHours | None = None

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
        days = SeriesDays(self, clock, is_lifted, history.key)
        fans = []
        for origin, own in zip(origins.tolist(), targets, strict=True):
            cells = clock.cells(own)
            quantiles = np.empty((len(own), 19))
            warnings: list[Warned] = []
            for day in np.unique(cells // HOURS).tolist():
                rows = cells // HOURS == day
                of_day, warning = days.forecast(day, origin)
                quantiles[rows] = of_day[cells[rows] % HOURS]
                warnings += [warning] if warning and warning.code not in {w.code for w in warnings} else []
            fans.append(Fan(quantiles, warnings=tuple(warnings)))
        return fans

    def member(self, lead: int) -> Member:
        """Return the model for a lead [h]: the one made for it, else for the next longer one, else for the longest."""
        return next((m for m in self.members if m.lead >= lead), self.members[-1])

    def weather_member(self, key: str, lead: int) -> WeatherMember | None:
        """Return the model of a series with weather for a lead [h], chosen as `member` does; None if it has none."""
        own = [m for m in self.weather if m.key == key]
        return next((m for m in own if m.lead >= lead), own[-1] if own else None)


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
        return predicted(self.trees, matrix)

    def forecast(self, past: Past, targets: Times) -> Fan:
        """Forecast hours from the calendar; of the past only time zone and interval are used."""
        from kappawatt.forecasting.calendar import to_local

        labels = to_local(targets, past.time_zone) + past.interval
        return Fan(self.predict(calendar_features(labels))[:, None] + self.reference)


def pack(fitted: Fitted) -> dict[str, bytes]:
    """Return the files of a fitted model: arrays as .npz, trees in XGBoost's own UBJSON."""
    far = [m for m in fitted.members if m.trees is None]
    about: dict[str, Any] = {
        "held_from": str(fitted.held_from),
        "leads": [m.lead for m in fitted.members if m.trees is not None],
    }
    if far:
        about["far_leads"] = [m.lead for m in far]
    files = {}
    for member in fitted.members:
        name = f"lead_{member.lead:02d}"
        regression = member.regression
        files[f"{name}.npz"] = _arrays(
            centre=regression.centre,
            scale=regression.scale,
            coefficients=regression.coefficients,
            reference=member.reference,
        )
        if member.trees is not None:
            files[f"{name}_trees.ubj"] = bytes(member.trees.save_raw("ubj"))
            files[f"{name}_spread.ubj"] = bytes(member.spread.save_raw("ubj"))
    if far:
        files[FAR_SPREAD] = bytes(far[0].spread.save_raw("ubj"))  # they share one
    if fitted.newest is not None:
        files[NEWEST_HOURS] = _arrays(**fitted.newest.arrays())
    if fitted.weather:
        about["weather"] = [_pack_weather(i, member, files) for i, member in enumerate(fitted.weather)]
    return {MANIFEST: json.dumps(about, indent=2).encode(), **files}


def _pack_weather(number: int, member: WeatherMember, files: dict[str, bytes]) -> dict[str, Any]:
    """Add the files of a series' model with weather, and return what the manifest says of it."""
    name = f"weather_{number:03d}"
    response, correction = member.response, member.correction
    files[f"{name}.npz"] = _arrays(
        weights=member.weights,
        reference=member.reference,
        response_centre=response.centre,
        response_scale=response.scale,
        response_months=response.months.astype(np.float64),
        response_coefficients=response.coefficients,
        correction_centre=correction.centre,
        correction_scale=correction.scale,
        correction_months=correction.months.astype(np.float64),
        correction_coefficients=correction.coefficients,
    )
    files[f"{name}_trees.ubj"] = bytes(member.trees.save_raw("ubj"))
    files[f"{name}_spread.ubj"] = bytes(member.spread.save_raw("ubj"))
    return {
        "key": member.key, "lead": member.lead, "stations": list(member.stations), "special_days": list(response.names)
    }  # fmt: skip


def _unpack_weather(number: int, about: Mapping[str, Any], files: Mapping[str, bytes]) -> WeatherMember:
    name = f"weather_{number:03d}"
    arrays = _read_arrays(files[f"{name}.npz"])
    names = tuple(map(str, about["special_days"]))
    response = Response(
        names,
        arrays["response_centre"],
        arrays["response_scale"],
        arrays["response_months"].astype(np.int64),
        arrays["response_coefficients"],
    )
    correction = Correction(
        arrays["correction_centre"],
        arrays["correction_scale"],
        arrays["correction_months"].astype(np.int64),
        arrays["correction_coefficients"],
    )
    for part, n_terms in ((response, response_terms(len(names))), (correction, correction_terms())):
        expected = (1 + len(part.months), HOURS, 1 + n_terms)
        if part.coefficients.shape != expected:
            raise ValueError(f"{name}: coefficients of shape {part.coefficients.shape}, the code needs {expected}")
    stations, weights = tuple(map(str, about["stations"])), arrays["weights"]
    if weights.shape != (len(stations),):
        raise ValueError(f"{name}: {len(stations)} stations and weights of shape {weights.shape}")
    trees, spread = (_booster(files[f"{name}_{part}.ubj"], TREE_TERMS) for part in ("trees", "spread"))
    return WeatherMember(
        str(about["key"]), int(about["lead"]), stations, weights, response, correction, trees, spread,
        arrays["reference"],
    )  # fmt: skip


def unpack(files: Mapping[str, bytes]) -> Fitted:
    """Return the model whose files `pack` made; ArtifactInvalid if they are none."""
    try:
        about = json.loads(files[MANIFEST])
        members = []
        for lead in about["leads"]:
            trees, spread = (_booster(files[f"lead_{lead:02d}_{part}.ubj"], len(FEATURE_NAMES)) for part in PARTS)
            members.append(_read_member(files, lead, trees, spread))
        if not members:
            raise ValueError("no member")
        far = about.get("far_leads", ())
        if far:
            spread = _booster(files[FAR_SPREAD], len(FEATURE_NAMES))
            members += [_read_member(files, lead, None, spread) for lead in far]
        newest = NewestHours.of(_read_arrays(files[NEWEST_HOURS])) if NEWEST_HOURS in files else None
        weather = tuple(_unpack_weather(i, one, files) for i, one in enumerate(about.get("weather", ())))
        return Fitted(tuple(members), np.datetime64(about["held_from"], "D"), weather, newest)
    except ModuleNotFoundError:
        raise  # no fault of the files
    except Exception as error:  # json, zipfile, NumPy and XGBoost share no base but Exception
        raise ArtifactInvalid(f"hourly-load: {str(error)[:200]}, allowed the files that training writes") from error


def _read_member(files: Mapping[str, bytes], lead: int, trees: Booster | None, spread: Booster) -> Member:
    name = f"lead_{lead:02d}"
    arrays = _read_arrays(files[f"{name}.npz"])
    regression = HourlyRegression(arrays["centre"], arrays["scale"], arrays["coefficients"])
    terms = linear_terms(np.zeros((1, len(FEATURE_NAMES)), dtype=np.float32)).shape[1]
    shapes = [array.shape for array in (regression.centre, regression.scale, regression.coefficients)]
    if shapes != [(HOURS, terms), (HOURS, terms), (HOURS, 1 + terms)]:
        raise ValueError(f"{name}: coefficients of shape {regression.coefficients.shape}")
    return Member(lead, regression, trees, spread, arrays["reference"])


def pack_classic(classic: Classic) -> dict[str, bytes]:
    """Return the files of the baseline."""
    contents = bytes(classic.trees.save_raw("ubj")), _arrays(reference=classic.reference)
    return dict(zip(CLASSIC_FILES, contents, strict=True))


def unpack_classic(files: Mapping[str, bytes]) -> Classic:
    """Return the baseline whose files `pack_classic` made; ArtifactInvalid if they are none."""
    try:
        trees, arrays = (files[name] for name in CLASSIC_FILES)
        return Classic(_booster(trees, len(CALENDAR_NAMES)), _read_arrays(arrays)["reference"])
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


def _booster(content: bytes, n_features: int) -> Booster:
    from xgboost import Booster

    booster = Booster({"nthread": 1})
    booster.load_model(bytearray(content))
    if booster.num_features() != n_features:
        raise ValueError(f"trees on {booster.num_features()} features, the code computes {n_features}")
    return booster
