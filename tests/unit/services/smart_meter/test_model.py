"""Training and inference of the smart meter model."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import ArtifactInvalid
from kappawatt.forecasting.calendar import DAY, day_intervals, day_start, same_local_time
from kappawatt.forecasting.fan import LEVELS, MEDIAN
from kappawatt.forecasting.history import History
from kappawatt.services.smart_meter.features import FIGURES
from kappawatt.services.smart_meter.inference import MODEL_FILE, Fitted, fingerprints, pack, unpack
from kappawatt.services.smart_meter.model import fit, samples
from tests.unit.services.smart_meter.meters import household, next_day


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit([household(45, seed=seed) for seed in (1, 2)])


def test_quantiles_are_in_order_and_never_below_zero(fitted: Fitted) -> None:
    past = household(seed=3)

    fan = fitted.forecast(past, next_day(past))

    assert fan.quantiles.shape == (48, len(LEVELS))
    assert (np.diff(fan.quantiles, axis=1) >= 0).all()
    assert (fan.quantiles >= 0).all()
    assert set(fan.day) == set(FIGURES)
    assert all((np.diff(figure) >= 0).all() for figure in fan.day.values())


def test_the_day_total_and_peak_are_of_the_days_size(fitted: Fitted) -> None:
    past = household(seed=3)
    days = past.values[-28 * 48 :].reshape(28, 48)

    fan = fitted.forecast(past, next_day(past))

    total, peak = fan.day["daily_consumption"], fan.day["daily_peak"]
    assert days.sum(axis=1).min() < total[MEDIAN] < days.sum(axis=1).max()
    assert days.max(axis=1).min() < peak[MEDIAN] < days.max(axis=1).max()


def test_many_at_once_are_the_same_as_one_at_a_time(fitted: Fitted) -> None:
    pasts = [household(days, seed=days) for days in (9, 40, 70)]
    targets = [next_day(past) for past in pasts]

    many = fitted.forecast_many(pasts, targets)

    for past, own, fan in zip(pasts, targets, many, strict=True):
        alone = fitted.forecast(past, own)
        assert (alone.quantiles == fan.quantiles).all()
        assert all((alone.day[name] == fan.day[name]).all() for name in FIGURES)


def test_a_fitted_model_survives_its_file_and_the_file_is_the_same_each_time(fitted: Fitted) -> None:
    past = household(seed=3)
    files = pack(fitted)

    again = unpack(files)

    assert (again.forecast(past, next_day(past)).quantiles == fitted.forecast(past, next_day(past)).quantiles).all()
    assert (again.seen == fitted.seen).all()
    assert (again.seen_until == fitted.seen_until).all()
    assert pack(again) == files


def test_training_twice_gives_the_same_bytes(fitted: Fitted) -> None:
    again = fit([household(45, seed=seed) for seed in (1, 2)])

    assert pack(again) == pack(fitted)


@pytest.mark.parametrize("damage", ["no file", "no zip", "an array too many", "a NaN", "another shape"])
def test_a_damaged_file_is_refused(fitted: Fitted, damage: str, tmp_path: Path) -> None:
    files = pack(fitted)
    (tmp_path / "good.npz").write_bytes(files[MODEL_FILE])
    with np.load(tmp_path / "good.npz") as good:
        arrays = dict(good)
    if damage == "an array too many":
        arrays["more"] = np.zeros(1)
    elif damage == "a NaN":
        arrays["intervals_0_mean"][0] = np.nan
    elif damage == "another shape":
        arrays["intervals_0_weights_0"] = arrays["intervals_0_weights_0"][:, :-1]
    np.savez(tmp_path / "bad.npz", **arrays)
    content = {"no file": {}, "no zip": {MODEL_FILE: b"PK"}}.get(
        damage, {MODEL_FILE: (tmp_path / "bad.npz").read_bytes()}
    )

    with pytest.raises(ArtifactInvalid):
        unpack(content)


def test_untrained_it_forecasts_the_weighted_quantiles_of_the_same_time() -> None:
    past = household(seed=3)
    steady = replace(past, values=np.tile(np.arange(48) / 10, len(past) // 48))

    fan = Fitted().forecast(steady, next_day(past))

    assert fan.quantiles == pytest.approx(np.repeat(np.arange(48)[:, None] / 10, len(LEVELS), axis=1))
    assert fan.day["daily_consumption"] == pytest.approx(np.full(len(LEVELS), 112.8))
    assert fan.day["daily_peak"] == pytest.approx(np.full(len(LEVELS), 4.7))


def test_what_is_learned_of_a_day_is_what_was_known_before_it() -> None:
    past = household(40)
    later = replace(past, values=np.where(np.arange(len(past)) >= 30 * 48, 9.0, past.values))

    rows, changed = samples(past), samples(later)

    assert len(rows[0]) == 33 * 48
    for group, per_day in ((0, 48), (1, 1), (2, 1)):
        before = 23 * per_day  # days 7 to 29
        assert (rows[group].features[:before] == changed[group].features[:before]).all()
        assert (rows[group].base[:before] == changed[group].base[:before]).all()
    assert (rows[0].features[23 * 48 : 24 * 48] == changed[0].features[23 * 48 : 24 * 48]).all()
    assert (rows[0].features[-48:] != changed[0].features[-48:]).any()


def test_training_beats_the_weighted_quantiles_it_starts_from(fitted: Fitted) -> None:
    whole = household(150, seed=9)
    trained, untrained = [], []
    for date in np.datetime64("2022-08-01") + np.arange(40):
        targets = day_intervals(date, whole.time_zone, whole.step)
        n = int((targets[0] - whole.start) // whole.interval)
        past = replace(whole, values=whole.values[:n], issue_time=targets[0])
        measured = whole.at(targets)
        trained.append(_pinball(measured, fitted.forecast(past, targets).quantiles))
        untrained.append(_pinball(measured, Fitted().forecast(past, targets).quantiles))

    assert np.mean(trained) < np.mean(untrained)


def test_a_short_history_is_not_learned_from_but_answered() -> None:
    past = household(8)

    alone, started = fit([past]), Fitted(seen=np.array([1], np.uint64), seen_until=np.array([past.end]))

    assert alone.intervals == ()
    assert fit([past], start=started) is started
    assert np.isfinite(alone.forecast(past, next_day(past)).quantiles).all()


def test_a_model_is_not_started_from_one_that_knows_the_meters_future(fitted: Fitted) -> None:
    past = household(45, seed=1)
    earlier = replace(past, key="another name", values=past.values[: 25 * 48], issue_time=past.start + 25 * DAY)
    told: list[str] = []

    from_nothing = fit([earlier], start=fitted, progress=told.append)

    assert fitted.knows_future_of(earlier)
    assert not fitted.knows_future_of(past)
    assert not fitted.knows_future_of(household(30, seed=5))
    assert pack(from_nothing) == pack(fit([earlier]))
    assert any("later days" in line for line in told)


@pytest.mark.parametrize(("step", "longer"), [(900, 1800), (900, 3600), (1800, 3600)])
def test_a_meter_added_up_to_longer_intervals_is_known_again(step: int, longer: int) -> None:
    past = household(30, step=step)
    trained = Fitted(seen=fingerprints(past), seen_until=np.full(len(fingerprints(past)), past.end))
    sums = past.values.reshape(-1, longer // step).sum(axis=1)
    added_up = replace(past, step=longer, values=sums, issue_time=past.end - DAY)

    assert trained.knows_future_of(added_up)
    assert trained.knows_future_of(added_up.last(20 * 86_400 // longer + 1))
    assert not trained.knows_future_of(replace(added_up, issue_time=past.end))
    assert not trained.knows_future_of(replace(added_up, values=sums * 1.01))


@pytest.mark.parametrize("zone", ["America/Chicago", "Asia/Kolkata", "Europe/London"])
def test_a_meter_of_hours_is_forecast_in_the_size_of_hours(fitted: Fitted, zone: str) -> None:
    halves = household(70, seed=3, zone=zone)
    hours = replace(halves, step=3600, values=halves.values.reshape(-1, 2).sum(axis=1))

    fan, other = (fitted.forecast(past, next_day(past)) for past in (hours, halves))

    assert fan.quantiles.shape == (24, len(LEVELS))
    assert fan.day["daily_consumption"][MEDIAN] == pytest.approx(other.day["daily_consumption"][MEDIAN], rel=0.15)
    assert fan.median.sum() == pytest.approx(other.median.sum(), rel=0.25)
    assert other.day["daily_peak"][MEDIAN] < fan.day["daily_peak"][MEDIAN] < 2 * other.day["daily_peak"][MEDIAN]


def test_going_on_from_another_model_keeps_what_it_has_seen(fitted: Fitted) -> None:
    past = household(30, seed=5)

    tuned = fit([past], start=fitted)

    assert len(tuned.seen) == len(fitted.seen) + len(fingerprints(past))
    assert tuned.knows_future_of(replace(past, values=past.values[: 10 * 48], issue_time=past.start + 10 * DAY))


@pytest.mark.accuracy
@pytest.mark.parametrize("name", ["MAC000002"])
def test_a_meter_it_never_saw_is_forecast_better_than_by_last_week(name: str) -> None:
    """The bar of the service is an rMAE of 0.85; two months before the test span, trained on one other meter."""
    folder = os.environ.get("KAPPAWATT_DATA")
    if not folder:
        pytest.skip("KAPPAWATT_DATA names no folder with smart_meter")
    meters = {}
    for other in ("MAC000005", name):
        content = (Path(folder) / "smart_meter" / f"lcl_{other}_2013.csv.gz").read_bytes()
        (series,) = read_bytes(content).series
        history = History(series.key, series.time_zone, series.step)
        history.add(series.starts, series.values)
        meters[other] = history
    fitted = fit([meters["MAC000005"].until(np.datetime64("2013-08-01", "ms"))])
    errors, naive = [], []
    whole = meters[name].until(np.datetime64("2013-10-01", "ms"))
    for date in np.arange(np.datetime64("2013-08-01"), np.datetime64("2013-10-01")):
        targets = day_intervals(date, "UTC", 1800)
        fan = fitted.forecast(meters[name].until(day_start(np.array([date]), "UTC")[0]), targets)
        errors.append(np.abs(whole.at(targets) - fan.median))
        naive.append(np.abs(whole.at(targets) - whole.at(same_local_time(targets, "UTC", 7))))

    assert np.mean(errors) / np.mean(naive) < 0.75


def _pinball(measured: np.ndarray, quantiles: np.ndarray) -> float:
    difference = measured[:, None] - quantiles
    levels = np.array(LEVELS)
    return float(np.maximum(levels * difference, (levels - 1) * difference).mean())
