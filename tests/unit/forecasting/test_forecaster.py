"""Rows in, forecasts out: history inline or by name, gaps stated or refused, the naive as fallback."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kappawatt.columns.batch import Answer
from kappawatt.columns.json_rows import decode_objects
from kappawatt.errors import ArtifactInvalid, HistoryInsufficient, PayloadInvalid, PayloadTooLarge, SettingInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, Times, as_instant, day_intervals, issue_time, parse_clock
from kappawatt.forecasting.fan import LEVELS, Fan, level_name, naive_values
from kappawatt.forecasting.history import History, Past
from kappawatt.forecasting.model import MOST_TOGETHER, ForecastModel, open_forecaster
from kappawatt.forecasting.request import example_request, read_forecast_request
from tests import forecast_fakes as fakes
from tests.forecast_fakes import FORECASTER, POISON, ZONE, loads

DATE = np.datetime64("2016-07-20")
TARGETS = day_intervals(DATE, ZONE, 3600)
BEGIN = TARGETS[0]


@pytest.fixture
def model(tmp_path: Path) -> ForecastModel:
    return fakes.model(tmp_path)


def past_hours(days: float = 30.0, end: np.datetime64 = BEGIN) -> Times:
    return np.arange(end - int(days * 24) * HOUR, end, HOUR)


def history_until(moment: np.datetime64) -> Past:
    known = History("PJME", ZONE, 3600)
    times = past_hours(30, moment)
    known.add(times, loads(times))
    return known.until(moment)


def rows_of(times: Times, values: Any, targets: Times = TARGETS, **same: Any) -> list[dict[str, Any]]:
    history = [
        {"load_zone": "PJME", "interval_start": f"{t}Z", "load": float(v)}
        for t, v in zip(times, values, strict=True)
        if not np.isnan(v)
    ]
    return [row | same for row in history + [{"load_zone": "PJME", "interval_start": f"{t}Z"} for t in targets]]


def answer(model: ForecastModel, rows: list[dict[str, Any]]) -> Answer:
    return model.answer(decode_objects(rows, FORECASTER.request))


def test_rows_with_a_load_are_history_and_rows_without_one_are_forecast(model: ForecastModel) -> None:
    times = past_hours()

    found = answer(model, rows_of(times, loads(times)))

    assert not found.rejections
    assert np.isnan(found.columns["load"][: len(times)]).all()
    assert np.isfinite(found.columns["load"][-24:]).all()
    quantiles = np.column_stack([found.columns[level_name(q)] for q in LEVELS])[-24:]
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert np.array_equal(quantiles[:, 9], found.columns["load"][-24:])
    assert not found.columns["fallback"].any()
    assert found.columns["filled"][-24:].tolist() == [0.0] * 24


def test_history_by_name_gives_the_bits_that_history_inline_gives(tmp_path: Path) -> None:
    times = past_hours()
    known = History("PJME", ZONE, 3600)
    known.add(times, loads(times))
    model = fakes.model(tmp_path, lookup={"PJME": known}.get)

    inline = answer(model, rows_of(times, loads(times)))
    by_name = answer(model, rows_of(times[:0], []))

    assert by_name.columns["load"].tolist() == inline.columns["load"][-24:].tolist()


def test_a_request_has_at_most_a_thousand_series_to_forecast(model: ForecastModel) -> None:
    known = [{"load_zone": f"K{i}", "interval_start": f"{BEGIN - DAY}Z", "load": 1.0} for i in range(MOST_TOGETHER)]
    asked = [{"load_zone": f"Z{i}", "interval_start": f"{BEGIN}Z"} for i in range(MOST_TOGETHER)]
    one_more = [{"load_zone": "ONE MORE", "interval_start": f"{BEGIN}Z"}]

    assert {r.code for r in answer(model, known + asked).rejections} == {"history_missing"}
    with pytest.raises(PayloadTooLarge, match="body: got 1,001 series to forecast, allowed 1,000 in a request"):
        answer(model, known + asked + one_more)


def test_a_request_has_at_most_a_thousand_days_of_all_series(model: ForecastModel) -> None:
    days = [{"interval_start": f"{BEGIN + i * DAY}Z"} for i in range(50)]
    rows = [{"load_zone": f"Z{n}", "interval_start": f"{BEGIN - DAY}Z", "load": 1.0} for n in range(21)]
    rows += [{"load_zone": f"Z{n}"} | day for n in range(21) for day in days]

    with pytest.raises(PayloadTooLarge, match="body: got 1,050 days or more to forecast, of all series, allowed 1,000"):
        answer(model, rows)


def test_a_history_younger_than_a_week_costs_no_look_at_the_weeks_before(monkeypatch: pytest.MonkeyPatch) -> None:
    known = History("PJME", ZONE, 3600)
    known.add(past_hours(2), loads(past_hours(2)))
    monkeypatch.setattr("kappawatt.forecasting.fan.same_local_time", None)

    assert np.isnan(naive_values(known.until(BEGIN), TARGETS)).all()


def test_nothing_after_the_issue_time_is_used(model: ForecastModel) -> None:
    noon = issue_time(DATE, parse_clock("12:00"), ZONE)
    times = past_hours(30, BEGIN + 12 * HOUR)
    values = loads(times)
    disturbed = values.copy()
    after = times + HOUR > noon
    disturbed[after] = np.random.default_rng(1).permutation(disturbed[after]) * 3
    later = TARGETS[12:]

    first = answer(model, rows_of(times, values, later, issue_time=f"{noon}Z"))
    second = answer(model, rows_of(times, disturbed, later, issue_time=f"{noon}Z"))

    assert not first.rejections
    assert first.columns["load"][-12:].tolist() == second.columns["load"][-12:].tolist()


def test_several_series_are_told_apart(model: ForecastModel) -> None:
    times = past_hours()
    one = rows_of(times, loads(times))
    other = [row | {"load_zone": "AEP"} | ({"load": row["load"] / 2} if "load" in row else {}) for row in one]
    mixed = [row for pair in zip(one, other, strict=True) for row in pair]

    found = answer(model, mixed).columns["load"]

    assert found[0::2][-24:].tolist() == answer(model, one).columns["load"][-24:].tolist()
    assert found[1::2][-24:].tolist() == answer(model, other).columns["load"][-24:].tolist()


def test_a_short_gap_is_filled_and_said(model: ForecastModel) -> None:
    times = past_hours()
    values = loads(times)
    values[[-30, -29, -100]] = np.nan

    found = answer(model, rows_of(times, values))

    assert found.columns["filled"][-24:].tolist() == [3.0] * 24
    assert not found.columns["fallback"].any()


def test_a_long_gap_is_refused_and_its_hours_are_named(model: ForecastModel) -> None:
    times = past_hours()
    values = loads(times)
    values[-60:-30] = np.nan

    found = answer(model, rows_of(times, values))

    assert {r.code for r in found.rejections} == {"history_gap"}
    assert len(found.rejections) == 24
    begin, end = times[-60], times[-30]
    assert (
        f"{np.datetime_as_string(begin, 'm')}Z to {np.datetime_as_string(end, 'm')}Z (30 h)" in found.rejections[0].got
    )
    assert not found.valid[-24:].any()


@pytest.mark.parametrize(("missing", "is_refused"), [(25, False), (26, True)])
def test_the_longest_local_day_may_be_missing_and_no_hour_more(
    model: ForecastModel, missing: int, is_refused: bool
) -> None:
    times = past_hours()
    values = loads(times)
    values[-60 : -60 + missing] = np.nan

    found = answer(model, rows_of(times, values))

    assert bool(found.rejections) == is_refused


@pytest.mark.parametrize(("hours_", "fallback"), [(14 * 24, False), (14 * 24 - 1, True)])
def test_the_model_answers_from_the_least_history_on(model: ForecastModel, hours_: int, fallback: bool) -> None:
    times = past_hours()[-hours_:]

    found = answer(model, rows_of(times, loads(times)))

    assert found.columns["fallback"][-24:].tolist() == [fallback] * 24


@pytest.mark.parametrize("sees_unknown_end", [False, True])
def test_the_end_is_filled_for_models_that_do_not_see_that_it_is_unknown(sees_unknown_end: bool) -> None:
    seen: list[Past] = []

    def look(offset: float, past: Past, targets: Times) -> Fan:
        seen.append(past)
        return fakes.forecast(offset, past, targets)

    given = {"sees_unknown_end": True} if sees_unknown_end else {}  # False is what is meant where nothing is said
    known = History("PJME", ZONE, 3600)
    times = past_hours(30, BEGIN - 6 * HOUR)
    known.add(times, loads(times))

    issued = replace(FORECASTER, forecast=look, **given).issue(0.0, known.until(BEGIN), TARGETS)

    assert [past.end for past in seen] == [BEGIN - 6 * HOUR if sees_unknown_end else BEGIN]
    assert issued.filled == (0 if sees_unknown_end else 6)
    assert issued.fallback is None


def whole_fan() -> Fan:
    return Fan(np.tile(np.array(LEVELS), (24, 1)), {"peak": np.array(LEVELS), "energy": np.array(LEVELS)})


def with_one_nan(shape: tuple[int, ...]) -> NDArray[np.float64]:
    values = np.ones(shape)
    values.flat[1] = np.nan
    return values


FAULTS = {
    "a target too few": (replace(whole_fan(), quantiles=whole_fan().quantiles[1:]), "quantiles of shape (23, 19)"),
    "other levels": (replace(whole_fan(), levels=(*LEVELS[:-1], 0.99)), "quantiles at other levels than it says"),
    "a figure of another shape": (
        replace(whole_fan(), day=dict(whole_fan().day) | {"peak": np.ones(3)}),
        "quantiles at other levels than it says",
    ),
    "a quantile that is no number": (
        replace(whole_fan(), quantiles=with_one_nan((24, 19))),
        "a value that is no number",
    ),
    "a figure that is no number": (
        replace(whole_fan(), day=dict(whole_fan().day) | {"peak": with_one_nan((19,))}),
        "a value that is no number",
    ),
}


@pytest.mark.parametrize(("fan", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_what_no_forecast_can_be_made_of_is_said_and_the_naive_stands_in(fan: Fan, said: str) -> None:
    past = history_until(BEGIN)

    issued = replace(FORECASTER, forecast=lambda *_: fan).issue(0.0, past, TARGETS)

    assert issued.fallback == f"the model gave {said}"
    assert issued.fan.median.tolist() == naive_values(past, TARGETS).tolist()


def test_a_whole_fan_with_figures_of_the_day_is_the_models() -> None:
    issued = replace(FORECASTER, forecast=lambda *_: whole_fan()).issue(0.0, history_until(BEGIN), TARGETS)

    assert issued.fallback is None


def test_a_forecaster_whose_answer_lacks_its_target_or_a_level_is_refused() -> None:
    with pytest.raises(SettingInvalid, match=r"response of fake-load: allowed a field .* each level: power$"):
        replace(FORECASTER, target="power")
    with pytest.raises(SettingInvalid, match=r"each level: quantile_01$"):
        replace(FORECASTER, levels=(0.01, 0.5))


def test_a_short_history_falls_back_to_the_seasonal_naive_and_says_so(model: ForecastModel) -> None:
    times = past_hours(10)

    found = answer(model, rows_of(times, loads(times)))

    assert found.columns["fallback"][-24:].all()
    assert np.allclose(found.columns["load"][-24:], loads(TARGETS - 7 * DAY))
    assert found.columns["quantile_05"][-1] <= found.columns["load"][-1] <= found.columns["quantile_95"][-1]


def test_a_model_that_fails_falls_back_to_the_seasonal_naive(model: ForecastModel) -> None:
    times = past_hours()
    values = loads(times)
    values[-200] = POISON

    found = answer(model, rows_of(times, values))

    assert found.columns["fallback"][-24:].all()
    assert np.allclose(found.columns["load"][-24:], loads(TARGETS - 7 * DAY))


def test_a_process_without_memory_is_no_model_that_fails() -> None:
    def without_memory(*_: Any) -> Fan:
        raise MemoryError

    with pytest.raises(MemoryError):
        replace(FORECASTER, forecast=without_memory).issue(0.0, history_until(BEGIN), TARGETS)


def test_less_than_a_week_is_refused_with_the_hours_the_naive_needs(model: ForecastModel) -> None:
    times = past_hours(3)

    found = answer(model, rows_of(times, loads(times)))

    assert {r.code for r in found.rejections} == {"history_gap"}
    assert "the same hours of one of the four weeks before" in found.rejections[0].allowed


def test_a_series_nobody_knows_is_refused_by_name(model: ForecastModel) -> None:
    found = answer(model, [{"load_zone": "NOWHERE", "interval_start": f"{BEGIN}Z"}])

    (refused,) = found.rejections
    assert (refused.code, refused.field, refused.got) == ("history_missing", "load_zone", "NOWHERE")


@pytest.mark.parametrize("shift", [3 * DAY, 400 * DAY])
def test_a_day_too_far_ahead_is_refused(model: ForecastModel, shift: np.timedelta64) -> None:
    times = past_hours()

    found = answer(model, rows_of(times, loads(times), TARGETS + shift))

    assert {(r.code, r.field) for r in found.rejections} == {("out_of_range", "interval_start")}


def test_a_target_off_the_grid_is_refused_alone(model: ForecastModel) -> None:
    times = past_hours()
    targets = TARGETS.copy()
    targets[3] += HOUR / 4

    found = answer(model, rows_of(times, loads(times), targets))

    assert [r.row for r in found.rejections] == [len(times) + 3]
    assert np.isfinite(found.columns["load"][-20:]).all()


@pytest.mark.parametrize("year", range(2002, 2031))
def test_days_of_23_and_25_hours_are_forecast_whole(model: ForecastModel, year: int) -> None:
    days = np.arange(np.datetime64(f"{year}-01-01"), np.datetime64(f"{year + 1}-01-01"))
    odd = [day for day in days if len(day_intervals(day, ZONE, 3600)) != 24]
    assert len(odd) == 2
    for change in odd:
        for date in (change, change + 1, change + 7):
            targets = day_intervals(date, ZONE, 3600)
            for clock in ("00:00", "12:00"):
                moment = issue_time(date, parse_clock(clock), ZONE)
                times = past_hours(20, moment)
                found = answer(model, rows_of(times, loads(times), targets))
                assert not found.rejections
                assert np.isfinite(found.columns["load"][-len(targets) :]).all()
                assert not found.columns["fallback"].any()


def test_the_naive_looks_back_further_where_a_week_ago_is_unknown() -> None:
    times = past_hours(30)
    known = History("PJME", ZONE, 3600)
    keep = ~np.isin(times, TARGETS - 7 * DAY)
    known.add(times[keep], loads(times[keep]))

    assert np.array_equal(naive_values(known.until(BEGIN), TARGETS), loads(TARGETS - 14 * DAY))


def test_a_request_in_the_compact_form_gives_the_same_as_rows(model: ForecastModel) -> None:
    request = example_request(FORECASTER, "PJME")
    history, targets, moment = read_forecast_request(request, FORECASTER)
    times = (
        as_instant(request["history"]["start"].removesuffix("Z")) + np.arange(len(request["history"]["values"])) * HOUR
    )

    issued = model.issue(history.until(moment), targets)
    by_rows = answer(model, rows_of(times, request["history"]["values"], targets))

    assert issued.fan.median.tolist() == by_rows.columns["load"][-len(targets) :].tolist()


BAD_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({"zone": 1}, "zone: got an unknown field, allowed load_zone"),
    "a key that is no text": ({"load_zone": 7}, "load_zone: got 7"),
    "no history": ({"history": None}, "load_zone: got 'PJME', allowed a series whose history is known here"),
    "a history that is no object": ({"history": [1]}, "history: got"),
    "no start": ({"history": {"values": [1.0]}}, "history.start: got nothing"),
    "a start without zone": ({"history": {"start": "2016-01-01T00:00:00", "values": [1.0]}}, "history.start: got"),
    "no values": ({"history": {"start": 0, "values": []}}, "history.values: got 0 values"),
    "a value that is text": ({"history": {"start": 0, "values": [1.0, "x"]}}, r"history.values\[1\]: load: got 'x'"),
    "a value out of range": (
        {"history": {"start": 0, "values": [1e9]}},
        r"history.values\[0\]: load: got 1000000000.0",
    ),
    "a step it cannot": ({"history": {"start": 0, "step_seconds": 60, "values": [1.0]}}, "step_seconds: got 60"),
    "a step that is no number": (
        {"history": {"start": 0, "step_seconds": True, "values": [1.0]}},
        "step_seconds: got True",
    ),
    "a zone there is none of": ({"time_zone": "Mars/Phobos"}, "time_zone: got 'Mars/Phobos'"),
    "a date that is none": ({"target_date": "2016-13-01"}, "target_date: got '2016-13-01'"),
    "a day too far ahead": ({"target_date": "2016-07-20"}, "target_date: got 2016-07-20, allowed a day that begins"),
    "a covariate it does not know": ({"covariates": {"wind": {}}}, "covariates: got"),
    "an issue time that is none": ({"issue_time": "now"}, "issue_time: got 'now'"),
}


@pytest.mark.parametrize(("change", "said"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_a_request_that_cannot_be_used_is_refused_by_field(change: dict[str, Any], said: str) -> None:
    from kappawatt.errors import KappawattError

    with pytest.raises(KappawattError, match=said) as caught:
        read_forecast_request(example_request(FORECASTER, "PJME") | change, FORECASTER)

    assert "allowed" in str(caught.value)


def test_a_step_written_as_a_decimal_is_that_many_seconds() -> None:
    request = example_request(FORECASTER, "PJME")
    decimal = request | {"history": request["history"] | {"step_seconds": 3600.0}}

    history, targets, _ = read_forecast_request(decimal, FORECASTER)

    assert (history.step, type(history.step), len(targets)) == (3600, int, 24)


def test_an_artifact_that_lies_about_its_example_does_not_load(tmp_path: Path) -> None:
    lie = {"request": example_request(FORECASTER, "PJME"), "answer": {"load": [1.0] * 24}}

    with pytest.raises(ArtifactInvalid, match="example"):
        open_forecaster(FORECASTER, fakes.write_artifact(tmp_path, example=lie))


def test_errors_of_a_history_are_problems_of_the_caller() -> None:
    assert HistoryInsufficient.status == 422
    assert PayloadInvalid.status == 400
