"""What one message may do to the histories that a process keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kappawatt.columns.batch import Rejection
from kappawatt.columns.codec import decode
from kappawatt.columns.content import CSV
from kappawatt.forecasting.calendar import DAY, HOUR, as_instant
from kappawatt.forecasting.forecaster import UNNAMED
from kappawatt.services.hourly_load.forecaster import FORECASTER
from kappawatt.worker.histories import CORRECTABLE, ROOM, Histories, Step
from tests.forecast_fakes import FORECASTER as FAKE

ARRIVED = 1_782_864_000_000  # 2026-07-01
EACH = 2_500 + 16 * (1_095 * 24 + 1)  # bytes: a load and a temperature in each hour of three years


def steps(histories: Histories, rows: list[str]) -> tuple[list[Step], list[Rejection]]:
    """Have histories take one message."""
    batch = decode("\n".join(["load_zone,interval_start,load", *rows]).encode(), CSV, FORECASTER.request).batch
    found = list(histories.steps(None, batch, np.arange(len(batch)), ARRIVED))
    return [s for s in found if isinstance(s, Step)], [r for r in found if isinstance(r, Rejection)]


def far_apart(first: int, last: int) -> list[str]:
    hours = ("2023-07-01T00:00Z", "2026-06-30T00:00Z")
    return [f"{zone},{hour},1" for zone in range(first, last) for hour in hours]


def test_one_message_has_histories_grow_by_so_much_and_says_which_rows_are_beyond() -> None:
    histories = Histories(FORECASTER)

    taken, refused = steps(histories, far_apart(0, 500))

    assert len(histories) == len(taken) == ROOM // EACH
    assert len(refused) == 2 * (500 - len(taken))
    assert {(r.code, r.field) for r in refused} == {("out_of_range", "interval_start")}
    assert "got '500 series with gaps', allowed series that one message has grow by 32 MB in all" in refused[0].message
    assert not steps(histories, far_apart(499, 500))[1]  # alone it is taken


def test_series_without_gaps_are_all_taken() -> None:
    rows = [f"{zone},2026-06-{day:02}T00:00Z,1" for zone in range(10_000) for day in (29, 30)]
    histories = Histories(FORECASTER)

    assert not steps(histories, rows)[1]
    assert not steps(histories, [row.replace("T00", "T01") for row in rows[-2_000:]])[1]  # those there are, too
    assert len(histories) == 10_000


NOW = as_instant("2016-07-01")
NOTHING = float("nan")


def take(
    histories: Histories,
    *rows: tuple[Any, float] | tuple[Any, float, float] | tuple[Any, float, float, Any],
    keys: list[str | None] | None = None,
    message_key: bytes | None = b"PJME",
    arrived: np.datetime64 = NOW,
) -> list[Step | Rejection]:
    """Have histories take one message of (start, load, temperature, available_at); what is not given is absent."""
    n = len(rows)
    full = [(*row, *(NOTHING, np.datetime64("NaT"))[len(row) - 2 :]) for row in rows]
    starts, values, temperatures, available = zip(*full, strict=True)
    columns = {
        "load_zone": np.array(keys or [None] * n, dtype=object),
        "interval_start": np.array(starts, "datetime64[ms]"),
        "load": np.array(values, float),
        "temperature": np.array(temperatures, float),
        "available_at": np.array(available, "datetime64[us]"),
    }
    batch = FAKE.request.check(columns, n)
    assert batch.valid.all(), batch.rejections
    return list(histories.steps(message_key, batch, np.arange(n), int(arrived.astype(np.int64))))


def step_of(found: list[Step | Rejection]) -> Step:
    [step] = found
    assert isinstance(step, Step), step
    return step


def messages(found: list[Step | Rejection]) -> list[tuple[int, str]]:
    return [(r.row, r.message) for r in found if isinstance(r, Rejection)]


def test_a_row_says_the_key_of_its_message_or_nothing_and_stands_alone_without_both() -> None:
    histories = Histories(FAKE)

    refused = messages(take(histories, *[(NOW, 1.0)] * 3, keys=[None, "PJME", "AEP"]))
    take(histories, (NOW, 1.0), message_key=None)
    take(histories, (NOW, 1.0), (NOW, 2.0), keys=["AEP", "DOM"], message_key=None)

    assert refused == [(2, "load_zone: got 'AEP', allowed 'PJME', which is the message's key")]
    assert histories.keys() == ["AEP", "DOM", "PJME", UNNAMED]
    assert len(histories) == 4
    assert histories.history("DOM").measured([NOW]) == {NOW: 2.0}  # type: ignore[union-attr]
    assert histories.history("nobody") is None


@pytest.mark.parametrize(("value", "most"), [(1.0, DAY), (NOTHING, 15 * DAY)])
def test_an_interval_begins_at_most_a_day_after_its_message_or_15_days_if_it_is_of_weather(
    value: float, most: np.timedelta64
) -> None:
    histories = Histories(FAKE)

    found = take(histories, (NOW, 1.0, 20.0), (NOW + most, value, 20.0), (NOW + most + HOUR, value, 20.0))

    [(row, message)] = messages(found)
    assert row == 2
    assert message == (
        f"interval_start: got '{NOW + most + HOUR}Z', allowed an interval that begins at most 24 hours after "
        "its message arrives (15 days if it has no measurement)"
    )
    assert len(found) == 2


def test_a_row_is_refused_once_whatever_is_wrong_with_it_and_none_is_taken_of_only_such() -> None:
    histories, off = Histories(FAKE), HOUR / 2
    take(histories, *((NOW - 30 * HOUR + i * HOUR, 1.0) for i in range(31)))

    both = take(histories, (NOW + 2 * DAY + off, 1.0), (NOW + off, 1.0))

    assert [row for row, _ in messages(both)] == [0, 1]
    assert messages(both)[1][1].endswith("allowed whole multiples of 3600 s by the local clock (America/New_York)")
    assert len(both) == 2  # and no step


def test_a_step_says_where_the_clock_was_and_is_and_what_has_changed() -> None:
    histories = Histories(FAKE)

    first = step_of(take(histories, (NOW, 1.0), (NOW + HOUR, 2.0)))
    second = step_of(take(histories, (NOW, 1.0), (NOW + HOUR, 3.0), (NOW + 2 * HOUR, 4.0)))

    assert (first.key, first.before, first.after, first.available_at) == ("PJME", None, NOW + 2 * HOUR, NOW)
    assert (second.before, second.after) == (NOW + 2 * HOUR, NOW + 3 * HOUR)
    assert second.available_at == NOW + 2 * HOUR + np.timedelta64(1, "ms")
    assert second.changed.tolist() == [(NOW + n * HOUR).tolist() for n in (1, 2)]
    assert second.entry is first.entry


def known_from(histories: Histories, start: np.datetime64, name: str = "") -> np.datetime64:
    """When, by the event clock, an interval's newest value became known [ms]."""
    history = histories.history("PJME")
    assert history is not None

    def value(at: np.datetime64) -> float:
        past = history.until(at)
        return float((past.covariate(name, np.array([start])) if name else past.at(np.array([start])))[0])

    newest = value(NOW + 40 * DAY)
    low, high = start - 40 * DAY, start + 40 * DAY
    while high - low > np.timedelta64(1, "ms"):
        middle = low + (high - low) // 2
        low, high = (low, middle) if value(middle) == newest else (middle, high)
    return high


def test_a_value_is_known_when_it_says_so_unless_the_clock_has_passed_it() -> None:
    histories, late = Histories(FAKE), NOW - 10 * HOUR
    take(histories, *[(NOW - n * HOUR, 1.0) for n in range(48, 0, -1)])
    moment = NOW + np.timedelta64(1, "ms")  # the clock is at NOW

    take(histories, (late, 2.0, NOTHING, late + HOUR), (NOW, 3.0), (NOW + HOUR, 4.0, NOTHING, NOW + 5 * HOUR))
    assert known_from(histories, late) == moment  # whatever it says
    assert known_from(histories, NOW) == NOW + HOUR
    assert known_from(histories, NOW + HOUR) == NOW + 5 * HOUR

    take(histories, (NOW, 5.0, NOTHING, NOW + 9 * HOUR))
    assert known_from(histories, NOW) == NOW + 9 * HOUR


def test_the_newest_value_is_revised_after_the_clock_has_come_to_its_end() -> None:
    histories = Histories(FAKE)
    take(histories, *[(NOW - n * HOUR, 1.0) for n in range(48, 0, -1)])

    take(histories, (NOW - HOUR, 2.0))

    assert known_from(histories, NOW - HOUR) == NOW + np.timedelta64(1, "ms")


def test_weather_of_hours_to_come_is_known_from_the_clock_on_or_later_if_it_says_so() -> None:
    histories = Histories(FAKE)
    take(histories, *[(NOW - n * HOUR, 1.0) for n in range(48, 0, -1)])
    moment = NOW + np.timedelta64(1, "ms")
    ahead, later = NOW + 20 * HOUR, NOW + 21 * HOUR

    take(histories, (ahead, NOTHING, 20.0, NOW - DAY), (later, NOTHING, 21.0, NOW + 3 * HOUR))

    assert known_from(histories, ahead, "temperature") == moment
    assert known_from(histories, later, "temperature") == NOW + 3 * HOUR


def test_weather_measured_with_its_load_is_known_at_the_end_of_its_interval() -> None:
    histories = Histories(FAKE)
    take(histories, *[(NOW - n * HOUR, 1.0) for n in range(48, 0, -1)])

    take(histories, (NOW, 1.0, 20.0))

    assert known_from(histories, NOW, "temperature") == NOW + HOUR


def test_weather_before_any_load_is_known_from_its_own_beginning() -> None:
    histories = Histories(FAKE)

    first = step_of(take(histories, (NOW + 5 * HOUR, NOTHING, 20.0), (NOW + 4 * HOUR, NOTHING, 21.0)))

    assert (first.before, first.after, first.available_at) == (None, None, NOW + 4 * HOUR)


def test_as_much_is_kept_as_a_forecast_looks_back_and_is_corrected() -> None:
    histories, kept = Histories(FAKE), FAKE.depth + CORRECTABLE
    n = int(kept / HOUR)

    take(histories, *[(NOW - i * HOUR, 1.0) for i in range(n + 9, -1, -1)])

    history = histories.history("PJME")
    assert history is not None
    assert len(history.until(NOW + HOUR)) == n
    assert kept == 64 * DAY


def test_the_room_of_a_message_is_for_all_its_series_and_of_what_they_grow_by() -> None:
    """Three years of hours take 16 bytes each: a load and a temperature."""
    histories = Histories(FORECASTER)
    assert len(steps(histories, far_apart(0, ROOM // EACH))[0]) == ROOM // EACH

    again, refused = steps(histories, [row.replace("T00", "T01") for row in far_apart(0, ROOM // EACH)])

    assert not refused  # they grow by an hour
    assert len(again) == ROOM // EACH
