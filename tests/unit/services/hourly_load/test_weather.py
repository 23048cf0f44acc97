"""The model with weather: what it knows when, what it brings, how wide it is, its files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kappawatt.errors import ArtifactInvalid
from kappawatt.forecasting.calendar import HOUR, Times, day_intervals, issue_time, parse_clock, to_local
from kappawatt.forecasting.fan import Fan
from kappawatt.forecasting.history import History, Past
from kappawatt.services.hourly_load.inference import Fitted, pack, unpack
from kappawatt.services.hourly_load.model import fit
from tests.unit.services.hourly_load.series import ZONE

NOON = parse_clock("12:00")
START = np.datetime64("2013-01-01T05:00", "ms")
N_DAYS = 560
FIT_UNTIL = "2014-05-01"
ALWAYS, NEVER = "always", "never"


def stations(seed: int = 3) -> dict[str, np.ndarray]:
    """Temperature of three stations [degC]: one that the load follows, one near it, and one elsewhere."""
    times = START + np.arange(24 * N_DAYS) * HOUR
    local = to_local(times, ZONE)
    hour = (local - local.astype("datetime64[D]").astype("datetime64[ms]")) / HOUR
    year = 2 * np.pi * (times - START) / np.timedelta64(8766, "h")
    random = np.random.default_rng(seed)
    found = {}
    near = np.zeros(len(times))
    for name, share in (("temperature_1", 1.0), ("temperature_2", 0.5), ("temperature_3", 0.0)):
        own = np.zeros(len(times))
        for i, shock in enumerate(random.normal(0, 0.7, len(times))):
            own[i] = 0.985 * own[i - 1] + shock if i else shock
        near = own if share == 1.0 else near
        weather = share * near + (1 - share) * own
        found[name] = 12 - 12 * np.cos(year) + 4 * np.sin(2 * np.pi * (hour - 9) / 24) + weather
    return found


def load_of(temperature: np.ndarray) -> np.ndarray:
    """Load [MW] of a zone that heats and cools, with days, weeks and some noise."""
    times = START + np.arange(len(temperature)) * HOUR
    local = to_local(times, ZONE)
    date = local.astype("datetime64[D]")
    hour = (local - date.astype("datetime64[ms]")) / HOUR
    weekend = (date.astype(np.int64) + 3) % 7 >= 5
    slow = np.convolve(temperature, np.ones(12) / 12)[: len(temperature)]
    bent = 0.02 * np.maximum(13 - slow, 0) + 0.03 * np.maximum(slow - 19, 0)
    shape = 1 + 0.15 * np.sin(2 * np.pi * (hour - 9) / 24) - 0.08 * weekend + bent
    noise = np.random.default_rng(11).normal(0, 0.01, len(temperature))
    return np.asarray(1_000 * shape * np.exp(noise))


WEATHER = stations()
LOAD = load_of(WEATHER["temperature_1"])
TIMES = START + np.arange(24 * N_DAYS) * HOUR


def forecast_of(temperature: np.ndarray, seed: int, size: float = 2.0) -> np.ndarray:
    """The same as it was forecast the day before: each day off as a whole."""
    days = np.random.default_rng(seed).normal(0, size, N_DAYS)
    return np.asarray(temperature + np.repeat(days, 24))


def history(known: str, weather: dict[str, np.ndarray] | None = None) -> History:
    """A history whose temperature was always known, never, or as a forecast first, from the given month on."""
    measured = WEATHER if weather is None else weather
    found = History("zone", ZONE, 3600)
    found.add(TIMES, LOAD)
    nothing = np.full(len(TIMES), np.nan)
    if known == ALWAYS:
        found.add(TIMES, nothing, None, measured)
    elif known != NEVER:
        since = np.datetime64(known)
        local = to_local(TIMES, ZONE)
        before = local.astype("datetime64[D]").astype("datetime64[ms]") - 12 * HOUR - (local - TIMES)
        told = {name: np.where(local >= since, forecast_of(one, 5), np.nan) for name, one in WEATHER.items()}
        found.add(TIMES, nothing, before, told)
        found.add(TIMES, nothing, TIMES + HOUR, measured)
    return found


def question(known: History, date: str) -> tuple[Past, Times]:
    day = np.datetime64(date)
    return known.until(issue_time(day, NOON, ZONE)), day_intervals(day, ZONE, 3600)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit([history("2013-12-01").until(issue_time(np.datetime64(FIT_UNTIL), NOON, ZONE))], leads=(12,))


@pytest.fixture(scope="module")
def told() -> History:
    return history("2013-12-01")


def error(fitted: Fitted, known: History, dates: Times) -> tuple[float, float, float]:
    """Mean absolute percentage error, coverage and mean width of the 90 % interval [MW]."""
    errors, inside, widths = [], [], []
    for date in dates.astype(str).tolist():
        past, targets = question(known, date)
        fan: Fan = fitted.forecast(past, targets)
        measured = LOAD[((targets - START) / HOUR).astype(int)]
        errors.append(np.abs(fan.median / measured - 1).mean())
        inside.append(((measured >= fan.quantiles[:, 0]) & (measured <= fan.quantiles[:, -1])).mean())
        widths.append((fan.quantiles[:, -1] - fan.quantiles[:, 0]).mean())
    return 100 * float(np.mean(errors)), float(np.mean(inside)), float(np.mean(widths))


DATES = np.arange(FIT_UNTIL, "2014-06-20", dtype="datetime64[D]")


def test_weather_halves_the_error_and_its_forecast_error_is_in_the_width(fitted: Fitted, told: History) -> None:
    without = error(fitted, history(NEVER), DATES)
    forecast = error(fitted, told, DATES)
    perfect = error(fitted, history(ALWAYS), DATES)

    assert perfect[0] < 0.6 * without[0]
    assert perfect[0] < forecast[0] < without[0]
    assert perfect[2] < forecast[2]
    assert 0.84 < forecast[1] < 0.96


def test_the_station_that_the_load_follows_is_chosen(fitted: Fitted) -> None:
    (member,) = fitted.weather

    assert member.stations[0] == "temperature_1"
    assert member.weights[0] >= 0.5
    assert "temperature_3" not in member.stations


def test_weather_measured_after_the_issue_time_changes_no_forecast(fitted: Fitted, told: History) -> None:
    past, targets = question(told, "2014-05-20")
    later = past.issue_time < TIMES + HOUR
    other = history("2013-12-01", {name: np.where(later, one + 9, one) for name, one in WEATHER.items()})

    fan = fitted.forecast(*question(other, "2014-05-20"))

    np.testing.assert_array_equal(fan.quantiles, fitted.forecast(past, targets).quantiles)


def test_another_forecast_of_the_weather_changes_the_forecast(fitted: Fitted, told: History) -> None:
    past, targets = question(told, "2014-05-20")
    hotter = {name: one + np.where(TIMES[: len(one)] >= past.issue_time, 10.0, 0.0)[: len(one)]
              for name, one in past.covariates.items()}  # fmt: skip

    fan = fitted.forecast(replace(past, covariates=hotter), targets)

    assert not np.array_equal(fan.median, fitted.forecast(past, targets).median)


def test_many_days_at_once_give_the_same_bits_as_each_alone(fitted: Fitted, told: History) -> None:
    asked = [question(told, date) for date in ("2014-05-03", "2014-05-04", "2014-06-10")]
    whole = told.until(TIMES[-1] + HOUR)

    together = fitted.forecast_many(whole, [past.issue_time for past, _ in asked], [targets for _, targets in asked])

    for fan, (past, targets) in zip(together, asked, strict=True):
        np.testing.assert_array_equal(fan.quantiles, fitted.forecast(past, targets).quantiles)


def test_a_day_whose_weather_is_not_known_is_forecast_without_and_says_so(fitted: Fitted, told: History) -> None:
    past, targets = question(told, "2014-05-20")
    ended = {name: one[: len(past)] for name, one in past.covariates.items()}

    fan = fitted.forecast(replace(past, covariates=ended), targets)

    np.testing.assert_array_equal(
        fan.quantiles, replace(fitted, weather=()).forecast(replace(past, covariates={}), targets).quantiles
    )
    assert [warned.code for warned in fan.warnings] == ["no_weather"]
    assert fitted.forecast(past, targets).warnings == ()


def test_files_give_the_same_bits(fitted: Fitted, told: History) -> None:
    past, targets = question(told, "2014-05-20")

    again = unpack(pack(fitted))

    np.testing.assert_array_equal(again.forecast(past, targets).quantiles, fitted.forecast(past, targets).quantiles)


def test_files_of_other_terms_are_refused(fitted: Fitted) -> None:
    files = pack(fitted)
    files["members.json"] = files["members.json"].replace(b'"January 1",', b"")
    files["members.json"] = files["members.json"].replace(b'"December 26",', b"")

    with pytest.raises(ArtifactInvalid, match="coefficients of shape"):
        unpack(files)


def test_weather_measured_between_a_leads_hour_and_the_issue_time_is_read(fitted: Fitted, told: History) -> None:
    day = np.datetime64("2014-05-20")
    past, targets = told.until(issue_time(day, NOON, ZONE) + 6 * HOUR), day_intervals(day, ZONE, 3600)
    warmer = {name: one.copy() for name, one in past.covariates.items()}
    for one in warmer.values():
        one[len(past) - 3 : len(past)] += 8.0

    fan = fitted.forecast(replace(past, covariates=warmer), targets)

    assert not np.array_equal(fan.median, fitted.forecast(past, targets).median)
