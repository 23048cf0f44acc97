"""Replay: the same code over the same log gives the same bits, and a promotion leaves no gap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kappawatt.bus import Bus
from kappawatt.errors import BusError, LogRenewed, SettingInvalid
from kappawatt.messages.predictions import read_predictions
from kappawatt.models.artifact import find_artifact
from kappawatt.settings import Settings
from kappawatt.streams.table import TOPICS
from kappawatt.worker.predicting import Answering
from kappawatt.worker.replay import Report, compare, promote_replay, replay, span_start
from tests import fakes
from tests.conftest import everything, wait_until
from tests.fakes import PREDICTOR, STREAM
from tests.unit.worker.test_worker import DEAD, PREDICTIONS, READINGS, done, make_worker, publish, running


@pytest.fixture
def published(bus: Bus, settings: Settings) -> Bus:
    """Thirty readings, answered by version 1; version 2 answers 1 MW more."""
    fakes.write_artifact(settings.artifacts, "2", 1.0)
    fakes.write_artifact(settings.artifacts, "1", 0.0)
    publish(bus, fakes.json_rows(range(30)))
    with running(make_worker(bus, settings)):
        wait_until(lambda: done(bus, "fake-power") == 30)
    return bus


def replayed(bus: Bus, settings: Settings, version: str, to: str, start: str = "beginning", **how: Any) -> Report:
    model = PREDICTOR.open(find_artifact(settings.artifacts, version))
    begin = span_start(bus, READINGS, start)
    report = replay(bus, STREAM, Answering(model, to, DEAD, 0), version, start=begin, to=to, **how)
    compare(bus, report, PREDICTIONS, "net_power")
    return report


@pytest.mark.parametrize("max_records", [1, 7, 5000])
def test_the_same_version_is_bit_identical_however_the_log_is_cut(
    published: Bus, settings: Settings, max_records: int
) -> None:
    report = replayed(published, settings, "1", "side", max_records=max_records)

    assert (report.messages, report.compared, report.identical) == (30, 30, 30)
    assert report.max_difference == 0.0
    first, again = (
        {p["id"]: p["net_power"] for p in read_predictions(everything(published, topic))}
        for topic in (PREDICTIONS, "side")
    )
    assert first == again


def test_another_version_is_compared_with_what_is_published(published: Bus, settings: Settings) -> None:
    report = replayed(published, settings, "2", "side")

    assert (report.compared, report.identical) == (30, 0)
    assert report.max_difference == report.mean_difference == 1.0


def test_a_replay_may_start_at_an_offset_or_a_time(published: Bus, settings: Settings) -> None:
    assert replayed(published, settings, "1", "side-a", "20").messages == 10
    assert replayed(published, settings, "1", "side-b", "2000-01-01T00:00:00Z").messages == 30
    assert replayed(published, settings, "1", "side-c", "2100-01-01T00:00:00+00:00").messages == 0


@pytest.mark.parametrize("start", ["yesterday", "2026-01-01T00:00:00", "-5", ""])
def test_an_unreadable_start_is_named(published: Bus, start: str) -> None:
    with pytest.raises(SettingInvalid, match="--from: got"):
        span_start(published, READINGS, start)


@pytest.mark.parametrize("to", [PREDICTIONS, READINGS, "plant.readings.dead"])
def test_a_live_topic_is_no_side_topic(published: Bus, settings: Settings, to: str) -> None:
    with pytest.raises(SettingInvalid, match="--to: got"):
        replayed(published, settings, "2", to)


def test_a_promotion_leaves_no_gap_even_if_the_worker_was_ahead(published: Bus, settings: Settings) -> None:
    """Ten readings are answered by the old version after the replay has ended and before the promotion."""
    report = replayed(published, settings, "2", "side")
    with running(make_worker(published, settings)):
        publish(published, fakes.json_rows(range(30, 40)))
        wait_until(lambda: done(published, "fake-power") == 40)

        promote_replay(published, report, "fake-power", READINGS, "a better model")
        wait_until(lambda: done(published, "fake-power.side") == 40)
        publish(published, fakes.json_rows(range(40, 45)))
        wait_until(lambda: done(published, "fake-power.side") == 45)

    side = read_predictions(everything(published, "side"))
    assert [p["source_offset"] for p in side] == list(range(45))
    assert {p["version"] for p in side} == {"2"}


def test_a_worker_that_starts_after_a_promotion_follows_it(published: Bus, settings: Settings) -> None:
    report = replayed(published, settings, "2", "side")
    promote_replay(published, report, "fake-power", READINGS, "")
    publish(published, fakes.json_rows([1.0]))

    with running(make_worker(published, settings)):
        wait_until(lambda: done(published, "fake-power.side") == 31)

    assert len(read_predictions(everything(published, PREDICTIONS))) == 30


def test_a_promotion_that_would_leave_readings_unanswered_is_refused(bus: Bus, settings: Settings) -> None:
    fakes.write_artifact(settings.artifacts, "1", 0.0)
    publish(bus, fakes.json_rows(range(3)))
    model = PREDICTOR.open(find_artifact(settings.artifacts, "1"))
    start = span_start(bus, READINGS, "2100-01-01T00:00:00Z")
    report = replay(bus, STREAM, Answering(model, "late", DEAD, 0), "1", start=start, to="late")

    with pytest.raises(SettingInvalid, match="never answered"):
        promote_replay(bus, report, "fake-power", READINGS, "")


def test_a_replay_of_a_log_that_is_gone_is_not_promoted(published: Bus, settings: Settings) -> None:
    report = replayed(published, settings, "2", "side")
    for file in Path(settings.bus.removeprefix("embedded:")).parent.glob("bus.sqlite*"):
        file.unlink()
    published.ensure(TOPICS)
    publish(published, fakes.json_rows(range(20)))

    with pytest.raises(LogRenewed, match=f"got log {published.log_id(READINGS)}, allowed {report.log}"):
        promote_replay(published, report, "fake-power", READINGS, "")

    assert not report.promoted
    assert published.committed("fake-power.side", READINGS) == {}


@pytest.mark.parametrize("to", ["kappawatt.streams", "bad topic/!"])
def test_a_side_topic_has_a_name_of_its_own(published: Bus, settings: Settings, to: str) -> None:
    with pytest.raises((SettingInvalid, BusError), match="allowed"):
        replayed(published, settings, "1", to)
