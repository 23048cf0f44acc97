"""The forecasting worker: forecasts on the event clock, corrections, realised errors; the same for the same log."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from kappawatt.bus import Bus, Outgoing, Records
from kappawatt.columns.arrow import write_columns
from kappawatt.columns.budget import LISTED_TOGETHER
from kappawatt.columns.content import ARROW
from kappawatt.forecasting.calendar import DAY, HOUR, Times, as_instant, day_intervals, issue_time, parse_clock
from kappawatt.forecasting.fan import LEVELS, Fan
from kappawatt.forecasting.history import History
from kappawatt.forecasting.window import NextIntervals
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.forecasts import read_documents
from kappawatt.settings import Settings
from kappawatt.telemetry import Telemetry
from kappawatt.worker.forecasting import Forecasting
from kappawatt.worker.histories import Histories
from kappawatt.worker.loop import Worker
from kappawatt.worker.replay import Report, compare
from tests import forecast_fakes as fakes
from tests.conftest import everything, wait_until
from tests.forecast_fakes import POISON, STREAM, ZONE, as_before, loads

READINGS, FORECASTS, ERRORS, DEAD = "load.readings", "load.forecasts", "load.forecast-errors", "load.readings.dead"
DATE = np.datetime64("2016-07-20")
TARGETS = day_intervals(DATE, ZONE, 3600)
NOON = issue_time(DATE, parse_clock("12:00"), ZONE)
ARRIVED = int(as_instant("2016-12-31").astype(np.int64))


def event(time: np.datetime64, value: float, **more: Any) -> bytes:
    return orjson.dumps({"interval_start": f"{time}Z", "load": value, **more})


def events(times: Times, **more: Any) -> list[bytes]:
    return [event(t, float(v), **more) for t, v in zip(times, loads(times), strict=True)]


def block(times: Times) -> bytes:
    return write_columns({"interval_start": times, "load": loads(times)})


def publish(bus: Bus, values: list[bytes], key: str = "PJME", headers: Any = ()) -> None:
    producer = bus.producer()
    producer.publish([Outgoing(READINGS, v, key.encode(), headers, timestamp=ARRIVED) for v in values])
    producer.close()


def cut(records: list[Records], size: int) -> list[Records]:
    """The same messages in polls of at most `size`."""
    return [
        Records(
            r.topic,
            r.partition,
            *(column[i : i + size] for column in (r.offsets, r.timestamps, r.keys, r.values, r.headers)),
            r.log,
        )
        for r in records
        for i in range(0, len(r), size)
    ]


def forecasting(bus: Bus, tmp_path: Path, **how: Any) -> Forecasting:
    return Forecasting(bus, fakes.model(tmp_path / "artifacts", **how), STREAM, output=FORECASTS)


def run(answering: Forecasting, records: list[Records]) -> dict[str, list[dict[str, Any]]]:
    """Answer all records; documents by topic."""
    messages = [m for part in records for m in answering.answer([part]).outgoing]
    found: dict[str, list[dict[str, Any]]] = {FORECASTS: [], ERRORS: [], DEAD: []}
    for m in messages:
        found[m.topic].append(orjson.loads(m.value))
    return found


def month_and_day(until: np.datetime64) -> Times:
    return np.arange(NOON - 30 * DAY, until, HOUR)


def test_a_forecast_is_issued_when_the_clock_reaches_the_issue_time_and_not_before(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(NOON)
    publish(bus, [block(times[:-1])], headers=(("content-type", ARROW.encode()),))
    publish(bus, events(times[-1:]))
    history, last = cut(everything(bus, READINGS), 1)
    answering = forecasting(bus, tmp_path)

    before = run(answering, [history])[FORECASTS]
    (document,) = run(answering, [last])[FORECASTS]

    assert [d["issue_time"] for d in before] == ["2016-07-18T16:00:00Z"]  # of the day that was still going on
    assert document["key"] == "PJME"
    assert document["issue_time"] == "2016-07-19T16:00:00Z"
    assert document["available_at"] == document["issue_time"]
    assert document["target_time"][0] == "2016-07-20T04:00:00Z"
    assert len(document["target_time"]) == 24
    assert list(document["quantiles"]) == [f"{q:.2f}" for q in LEVELS]
    assert (document["fallback"], document["filled"], document["corrected"]) == (False, 0, False)
    assert document["id"] == f"fake-load:{bus.log_id(READINGS)}/PJME/2016-07-19T16:00:00Z/2016-07-19T16:00:00Z@1"
    assert document["source_log"] == bus.log_id(READINGS)


def test_the_bus_gives_the_numbers_that_a_request_with_its_history_gets(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(NOON)
    publish(bus, events(times))
    answering = forecasting(bus, tmp_path)

    document = run(answering, everything(bus, READINGS))[FORECASTS][-1]

    known = History("PJME", ZONE, 3600)
    known.add(times, loads(times))
    issued = answering.model.issue(known.until(NOON), TARGETS)
    assert document["quantiles"]["0.50"] == [float(f"{v:.7g}") for v in issued.fan.median]


LATE = NOON - 29 * HOUR


def story() -> list[bytes]:
    """A month, a gap, noon, the gap's hour late, the next day's truth, and one of its hours revised."""
    times = month_and_day(TARGETS[-1] + HOUR)
    values = events(times)
    place = int(np.flatnonzero(times == LATE)[0])
    arrives = int(np.flatnonzero(times == NOON + 3 * HOUR)[0])
    late = values.pop(place)
    values.insert(arrives, late)
    return [*values, event(TARGETS[4], 12_345.0)]


def test_late_data_is_corrected_as_if_it_had_been_in_time(bus: Bus, tmp_path: Path) -> None:
    publish(bus, story())

    found = [
        d
        for d in run(forecasting(bus, tmp_path), everything(bus, READINGS))[FORECASTS]
        if d["issue_time"] == "2016-07-19T16:00:00Z"
    ]

    first, corrected = found
    assert (first["filled"], first["corrected"]) == (1, False)
    assert (corrected["filled"], corrected["corrected"]) == (0, True)
    assert corrected["available_at"] == "2016-07-19T20:00:00.001Z"
    times = month_and_day(NOON)
    known = History("PJME", ZONE, 3600)
    known.add(times, loads(times))
    in_time = fakes.forecast(0.0, known.until(NOON), TARGETS).median
    assert corrected["quantiles"]["0.50"] == [float(f"{v:.7g}") for v in in_time]
    assert first["quantiles"]["0.50"] != corrected["quantiles"]["0.50"]


def test_two_late_hours_that_come_at_once_are_corrected_together_and_one_by_one(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(NOON + 3 * HOUR)
    late = np.array([LATE, LATE - HOUR])
    before, after = (times[(times < NOON) == is_before] for is_before in (True, False))
    publish(bus, [block(before[~np.isin(before, late)])], headers=(("content-type", ARROW.encode()),))
    publish(bus, [*events(after), *events(late)])

    found = run(forecasting(bus, tmp_path), everything(bus, READINGS))[FORECASTS]

    own = [d for d in found if d["issue_time"] == "2016-07-19T16:00:00Z"]
    assert [(d["filled"], d["corrected"]) for d in own] == [(2, False), (1, True), (0, True)]
    known = History("PJME", ZONE, 3600)
    known.add(times, loads(times))
    in_time = fakes.forecast(0.0, known.until(NOON), TARGETS).median
    assert own[-1]["quantiles"]["0.50"] == [float(f"{v:.7g}") for v in in_time]


@pytest.mark.parametrize(("first", "last"), [(0, 24), (-2, 3), (20, 30), (0, 30), (-2, 30)])
def test_a_block_brings_the_truth_of_those_intervals_it_shares_with_a_forecast(
    bus: Bus, tmp_path: Path, first: int, last: int
) -> None:
    times = TARGETS[0] + np.arange(first, last) * HOUR
    publish(bus, [block(month_and_day(NOON)), block(times)], headers=(("content-type", ARROW.encode()),))

    own = run(forecasting(bus, tmp_path), everything(bus, READINGS))[ERRORS]

    scored = [e["target_time"] for e in own if e["issue_time"] == "2016-07-19T16:00:00Z"]
    assert scored == [f"{t}Z".replace(".000", "") for t in times if t in TARGETS]


@pytest.mark.parametrize(("ahead", "is_issued"), [(0, True), (1, True), (2, True), (3, False)])
def test_a_forecast_of_which_nothing_is_to_come_is_not_issued(
    bus: Bus, tmp_path: Path, ahead: int, is_issued: bool
) -> None:
    """It is of three hours; the clock jumps behind some of them at once."""
    blocks = [block(month_and_day(NOON - HOUR)), block(NOON + np.arange(-1, ahead) * HOUR)]
    publish(bus, blocks, headers=(("content-type", ARROW.encode()),))
    answering = forecasting(bus, tmp_path)
    short = replace(
        answering.model.predictor, window=NextIntervals(3), forecast=lambda _, past, targets: naive(targets)
    )
    answering.model = replace(answering.model, predictor=short)

    found = run(answering, everything(bus, READINGS))[FORECASTS]

    assert ("2016-07-19T16:00:00Z" in [d["issue_time"] for d in found]) == is_issued


def naive(targets: Times) -> Fan:
    return Fan(loads(targets)[:, None] + np.arange(len(LEVELS)))


def test_the_realised_error_is_published_when_the_truth_comes_in(bus: Bus, tmp_path: Path) -> None:
    publish(bus, story())

    found = run(forecasting(bus, tmp_path), everything(bus, READINGS))

    (corrected,) = (d for d in found[FORECASTS] if d["corrected"])
    own = [e for e in found[ERRORS] if e["issue_time"] == "2016-07-19T16:00:00Z"]
    assert [e["target_time"] for e in own[:24]] == corrected["target_time"]
    for i, e in enumerate(own[:24]):
        measured = float(loads(TARGETS[i : i + 1])[0])
        assert e["measured"] == measured
        assert e["forecast"] == pytest.approx(corrected["quantiles"]["0.50"][i], rel=1e-6)
        assert e["error"] == pytest.approx(e["forecast"] - measured)
        assert e["naive"] == float(loads(TARGETS[i : i + 1] - 7 * DAY)[0])
        assert e["covered"] == (e["lower"] <= measured <= e["upper"])
        assert e["available_at"] == corrected["available_at"]


def test_a_revised_truth_is_scored_again_under_the_same_id(bus: Bus, tmp_path: Path) -> None:
    publish(bus, story())

    own = run(forecasting(bus, tmp_path), everything(bus, READINGS))[ERRORS]

    first, again = (e for e in own if e["target_time"] == "2016-07-20T08:00:00Z")
    assert first["id"] == again["id"]
    assert again["measured"] == 12_345.0


@pytest.mark.parametrize("size", [1, 7, 100])
def test_however_the_log_is_cut_into_polls_the_same_is_published(bus: Bus, tmp_path: Path, size: int) -> None:
    publish(bus, story())
    records = everything(bus, READINGS)

    whole = run(forecasting(bus, tmp_path), records)
    parts = run(forecasting(bus, tmp_path), cut(records, size))

    assert parts == whole


@pytest.mark.parametrize("at", [1, 719, 720, 721, 724, 730, 740])
def test_a_restart_anywhere_goes_on_with_the_same_documents(bus: Bus, tmp_path: Path, at: int) -> None:
    publish(bus, story())
    single = cut(everything(bus, READINGS), 1)

    whole = run(forecasting(bus, tmp_path), single[at:])
    through = forecasting(bus, tmp_path)
    run(through, single[:at])
    on = run(through, single[at:])

    assert whole == on


def test_a_rewind_gives_the_same_ids_and_values_again(bus: Bus, tmp_path: Path) -> None:
    publish(bus, story())
    records = everything(bus, READINGS)
    answering = forecasting(bus, tmp_path)

    assert run(answering, records) == run(answering, records)


def test_a_rewind_into_a_poll_gives_what_a_restart_there_gives(bus: Bus, tmp_path: Path) -> None:
    publish(bus, story())
    (records,) = everything(bus, READINGS)
    answering = forecasting(bus, tmp_path)
    run(answering, [records.pick(range(730))])

    again = [records.pick(range(700, len(records)))]

    assert run(answering, again) == run(forecasting(bus, tmp_path), again)


def test_what_was_taken_of_a_poll_that_failed_is_taken_anew(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(bus, story())
    (records,) = everything(bus, READINGS)
    answering = forecasting(bus, tmp_path)
    polled = [records.pick(range(600)), records.pick(range(600, len(records)))]

    def without_memory(*_: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(type(answering.model), "issue", without_memory)
        with pytest.raises(MemoryError):
            answering.answer(polled)
    assert answering.series == 0

    outcome = answering.answer(polled)
    assert outcome.outgoing == forecasting(bus, tmp_path).answer(polled).outgoing


def test_two_versions_give_different_ids(bus: Bus, tmp_path: Path) -> None:
    publish(bus, story())
    records = everything(bus, READINGS)

    one = run(forecasting(bus, tmp_path), records)
    two = run(forecasting(bus, tmp_path, version="2", offset=5.0), records)

    for topic in (FORECASTS, ERRORS):
        assert not {d["id"] for d in one[topic]} & {d["id"] for d in two[topic]}


def test_a_history_with_a_hole_is_refused_as_a_dead_letter_that_names_the_hours(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(NOON)
    hole = (times >= NOON - 50 * HOUR) & (times < NOON - 20 * HOUR)
    publish(bus, events(times[~hole]))

    found = run(forecasting(bus, tmp_path), everything(bus, READINGS))

    assert "2016-07-19T16:00:00Z" not in [d["issue_time"] for d in found[FORECASTS]]
    letter = found[DEAD][-1]
    assert letter["reason"] == "history_gap"
    assert "(30 h)" in letter["message"]
    assert letter["original"] == events(times[-1:])[0].decode()


def test_a_forecast_that_was_refused_for_a_hole_is_published_when_the_hole_is_filled(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(NOON + HOUR)
    hole = (times >= NOON - 50 * HOUR) & (times < NOON - 24 * HOUR)
    publish(bus, [*events(times[~hole]), *events(times[hole][:4])])

    found = run(forecasting(bus, tmp_path), everything(bus, READINGS))

    own = [d for d in found[FORECASTS] if d["issue_time"] == "2016-07-19T16:00:00Z"]
    assert found[DEAD][-1]["reason"] == "history_gap"  # at noon, with 26 hours missing
    assert [(d["filled"], d["corrected"]) for d in own] == [(n, True) for n in (25, 24, 23, 22)]


def test_all_refused_rows_of_a_message_are_counted_whoever_refused_them(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(NOON)[:12]
    rows = [orjson.loads(value) for value in events(times)]
    rows[1]["load"] = rows[2]["load"] = 2e9  # by the schema
    rows[4]["interval_start"] = f"{times[4] + HOUR / 4}Z"  # by the series' grid, which the other rows show
    publish(bus, [orjson.dumps(rows)])

    outcome = forecasting(bus, tmp_path).answer(everything(bus, READINGS))

    [letter] = (orjson.loads(m.value) for m in outcome.outgoing if m.topic == DEAD)
    assert (outcome.rows, outcome.refused_rows, letter["rejected_rows"]) == (12, 3, 3)
    assert sorted(error["row"] for error in letter["errors"]) == [1, 2, 4]


def test_a_message_that_nobody_thought_of_is_refused_and_the_series_goes_on(
    bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = month_and_day(NOON)
    publish(bus, events(times))
    note = Histories._note

    def fragile(self: Histories, name: str, entry: Any, columns: Any) -> Any:
        if columns["interval_start"][0] == times[100]:
            raise ZeroDivisionError("nobody thought of it " + "x" * 500)
        return note(self, name, entry, columns)

    monkeypatch.setattr(Histories, "_note", fragile)
    found = run(forecasting(bus, tmp_path), everything(bus, READINGS))

    [letter] = found[DEAD]
    assert (letter["reason"], letter["offset"]) == ("internal", 100)
    reason = "could not be answered: ZeroDivisionError: nobody thought of it " + "x" * 500
    assert letter["allowed"] == f"a message that can be answered ({reason[:400]})"
    assert found[FORECASTS][-1]["issue_time"] == "2016-07-19T16:00:00Z"


def test_a_model_that_fails_publishes_the_seasonal_naive_marked_so(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(NOON)
    values = events(times)
    values[-100] = event(times[-100], POISON)
    publish(bus, values)

    document = run(forecasting(bus, tmp_path), everything(bus, READINGS))[FORECASTS][-1]

    assert document["fallback"] is True
    assert "poison" in document["fallback_reason"]
    assert document["quantiles"]["0.50"] == loads(TARGETS - 7 * DAY).tolist()


def test_of_very_many_bad_rows_the_first_reasons_are_kept_and_the_others_counted(bus: Bus, tmp_path: Path) -> None:
    early = [event(DATE + np.timedelta64(365, "D") + i * HOUR, 1.0) for i in range(150)]
    publish(bus, [b"[" + b",".join(early) + b"]"] * 150)

    outcome = forecasting(bus, tmp_path).answer(everything(bus, READINGS))

    assert outcome.refused_rows == 150 * 150
    assert len(outcome.outgoing) == 150
    assert len(outcome.refused) == LISTED_TOGETHER + 50  # a hundred of each message, then one
    assert len(outcome.refused) + outcome.unlisted["out_of_range"] == 150 * 150


def test_bad_rows_are_dead_letters_and_the_series_goes_on(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(NOON)
    ahead = as_instant("2017-01-05")
    publish(
        bus, [*events(times[:-1]), b"junk", event(ahead, 1.0), event(times[-1] - HOUR / 4, 2.0), *events(times[-1:])]
    )
    answering = forecasting(bus, tmp_path)

    records = everything(bus, READINGS)
    found = run(answering, records)

    assert found[FORECASTS][-1]["issue_time"] == "2016-07-19T16:00:00Z"
    letters = read_dead_letters([_as_records(found[DEAD])])
    assert [(x["reason"], x["field"]) for x in letters] == [
        ("malformed", None),
        ("out_of_range", "interval_start"),
        ("out_of_range", "interval_start"),
    ]
    assert found[FORECASTS][-1]["filled"] == 0


def _as_records(documents: list[dict[str, Any]]) -> Records:
    n = len(documents)
    return Records(DEAD, 0, range(n), [0] * n, [None] * n, [orjson.dumps(d) for d in documents], [()] * n)


def test_weather_known_ahead_is_kept_and_makes_no_forecast_due(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(NOON - HOUR)
    weather = [orjson.dumps({"interval_start": f"{t}Z", "temperature": 20.0}) for t in TARGETS]
    publish(bus, [*events(times), *weather])

    found = run(forecasting(bus, tmp_path), everything(bus, READINGS))

    assert "2016-07-19T16:00:00Z" not in [d["issue_time"] for d in found[FORECASTS]]
    assert not found[DEAD]


def test_after_a_jump_over_many_issue_times_only_the_day_to_come_is_forecast(bus: Bus, tmp_path: Path) -> None:
    times = np.arange(NOON - 60 * DAY, NOON, HOUR)
    publish(bus, [block(times)], headers=(("content-type", ARROW.encode()),))

    found = run(forecasting(bus, tmp_path), everything(bus, READINGS))

    assert [d["issue_time"] for d in found[FORECASTS]] == ["2016-07-19T16:00:00Z"]


def test_a_replay_is_compared_with_what_a_release_before_wrote(bus: Bus, tmp_path: Path) -> None:
    publish(bus, story())
    bus.ensure([replace(STREAM.answers, name="side")])
    producer = bus.producer()
    for message in forecasting(bus, tmp_path).answer(everything(bus, READINGS)).outgoing:
        if message.topic == FORECASTS:
            producer.publish([replace(message, topic="side"), as_before(message)])
    producer.close()
    report = Report(FORECASTS, "1", "side", bus.log_id(READINGS))

    compare(bus, report, FORECASTS, "load")

    ids = [{d["id"] for d in read_documents(everything(bus, topic))} for topic in (FORECASTS, "side")]
    assert report.compared == report.identical == len(ids[0]) > 1
    assert ids[0] == ids[1]
    assert all("available_at" in d and "known_at" not in d for d in read_documents(everything(bus, FORECASTS)))


def test_histories_of_a_log_are_not_taken_for_those_of_another(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(NOON)
    publish(bus, events(times))
    (whole,) = everything(bus, READINGS)
    *most, last = cut([whole], len(times) - 1)
    answering = forecasting(bus, tmp_path)
    run(answering, [replace(r, log="former", values=[event(t, 1.0) for t in times[:-1]]) for r in most])

    found = run(answering, [last])

    assert found[FORECASTS] == run(forecasting(bus, tmp_path), [*most, last])[FORECASTS][-1:]


def test_many_series_of_one_partition_keep_their_own_clocks(bus: Bus, tmp_path: Path) -> None:
    times = month_and_day(NOON)
    for key in ("PJME", "AEP", "DAYTON"):
        publish(bus, events(times[: None if key != "AEP" else -1]), key=key)

    found = run(forecasting(bus, tmp_path), everything(bus, READINGS))[FORECASTS]

    newest = {d["key"]: d["issue_time"] for d in found}
    assert newest == {"PJME": "2016-07-19T16:00:00Z", "DAYTON": "2016-07-19T16:00:00Z", "AEP": "2016-07-18T16:00:00Z"}


def test_the_worker_commits_what_it_has_answered_and_goes_on_after_a_restart(
    bus: Bus, settings: Settings, tmp_path: Path
) -> None:
    publish(bus, story())

    def open_answers(version: str | None, output: str) -> Any:
        model = fakes.model(tmp_path / "artifacts")
        return Forecasting(bus, model, STREAM, output=output), model.name, model.version

    def work(until: int) -> None:
        own: dict[str, Any] = {"settings": settings, "telemetry": Telemetry("fake-load")}
        worker = Worker(bus, open_answers, stream=STREAM, service="fake-load", **own)
        thread = threading.Thread(target=worker.run)
        thread.start()
        wait_until(lambda: sum(bus.committed("fake-load", READINGS).values()) >= until, what="committed")
        worker.stop()
        thread.join(20)

    work(len(story()))
    publish(bus, events(np.arange(TARGETS[-1] + HOUR, NOON + 2 * DAY, HOUR)))
    work(len(story()) + 12)

    documents = read_documents(everything(bus, FORECASTS))
    assert documents[-1]["issue_time"] == "2016-07-21T16:00:00Z"
    ids = [d["id"] for d in documents]
    assert len(set(ids)) == len(ids)


def test_the_place_of_the_first_refused_message_is_known(bus: Bus, tmp_path: Path) -> None:
    publish(bus, [*events(month_and_day(NOON)[:3]), b"junk", b"{}"])
    (records,) = everything(bus, READINGS)

    outcome = forecasting(bus, tmp_path).answer([records])

    assert outcome.first_refused == f"{READINGS}[{records.partition}]@3"
    assert outcome.refused[0].code == "malformed"
