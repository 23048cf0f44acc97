"""The parts of `kappawatt run` that need no process: what is streamed, from where on, and what the watch says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from kappawatt.bus import Bus, Outgoing
from kappawatt.bus.reading import ends_of
from kappawatt.cli.doctor import examine
from kappawatt.cli.main import main
from kappawatt.cli.run import PARTS, Child, ForecastWatch, Stack
from kappawatt.cli.run import demos as demo_module
from kappawatt.cli.run.command import run
from kappawatt.cli.run.demos import Part, newest_on, prepare, usable, what_the_error_means
from kappawatt.datasets.named import SeriesSet, load_zones
from kappawatt.forecasting.calendar import DAY
from kappawatt.settings import Settings
from kappawatt.streams.load import LOAD_ERRORS, LOAD_FORECASTS
from kappawatt.streams.load import STREAM as LOAD
from kappawatt.streams.stream import Demo
from tests.conftest import publish, wait_until
from tests.forecast_fakes import SERVICE, STREAM, load_messages, write_artifact

DEMO = Part(STREAM, Demo("kappawatt.datasets.named:load_zones", 70))


def test_what_is_on_the_bus_is_found_at_its_ends(bus: Bus) -> None:
    publish(bus, load_messages("2016-01-01", 100) + load_messages("2016-01-05T04", 3, block_rows=0))
    publish(bus, load_messages("2015-01-01", 2, "AEP", block_rows=0))
    publish(bus, [Outgoing(LOAD.readings.name, b"no json", b"PJME"), Outgoing(LOAD.readings.name, b"{}", None)])

    assert {key: str(start) for key, start in newest_on(bus, LOAD).items()} == {
        "PJME": "2016-01-05T06:00:00.000",
        "AEP": "2015-01-01T01:00:00.000",
    }


def test_an_empty_bus_has_nothing(bus: Bus) -> None:
    assert newest_on(bus, LOAD) == {}


def test_a_fresh_bus_gets_history_at_once_and_a_used_one_goes_on(bus: Bus) -> None:
    found = load_zones(None)
    [fresh], text = prepare(DEMO, SERVICE, found, bus)
    last = fresh.live.columns["interval_start"][5]
    publish(bus, load_messages(str(last), 1, found.series[0].key))
    [again], more = prepare(DEMO, SERVICE, found, bus)

    assert len(fresh.history) == 70 * 24  # more than the 60 days the fake model looks back on
    assert "10 weeks of history first" in text
    assert "SYNTHETIC" in text
    assert fresh.history.columns["interval_start"][-1] < fresh.live.columns["interval_start"][0]
    assert len(again.history) == 0
    assert again.live.columns["interval_start"][0] > last
    assert "going on where the bus is" in more


def test_a_model_that_looks_back_further_gets_more_history(bus: Bus) -> None:
    deep = replace(SERVICE, model=replace(SERVICE.modelled(), looks_back=100 * DAY))

    [rows], _ = prepare(DEMO, deep, load_zones(None), bus)

    assert len(rows.history) == 100 * 24


def test_a_short_series_leaves_four_weeks_to_stream(bus: Bus) -> None:
    [series] = load_zones(None).series
    short = replace(series, starts=series.starts[: 60 * 24], values=series.values[: 60 * 24])

    [rows], _ = prepare(DEMO, SERVICE, SeriesSet((short,), "SYNTHETIC", ""), bus)

    assert len(rows.live) == 28 * 24 + 1  # both ends
    assert len(rows.history) == 32 * 24 - 1


def test_a_service_without_a_model_is_left_out_and_says_how_to_get_one(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_module, "find_service", lambda name: SERVICE)
    empty = usable(DEMO, settings)
    assert settings.artifacts is not None
    write_artifact(settings.artifacts)

    assert empty == f"{settings.artifacts} holds no trained model; kappawatt train fake-load makes one"
    assert usable(DEMO, settings) is SERVICE


def test_an_error_on_what_the_model_was_trained_on_says_so(settings: Settings) -> None:
    synthetic, real = load_zones(None), SeriesSet((), "real, folder: pjm_load", "0" * 64)
    assert settings.artifacts is not None
    write_artifact(settings.artifacts)

    assert "says nothing" in what_the_error_means(SERVICE, settings, synthetic)
    assert "was trained on these" in what_the_error_means(SERVICE, settings, real)
    assert what_the_error_means(SERVICE, settings, replace(real, sha256="1" * 64)) == ""


def test_a_service_that_is_not_here_is_left_out(settings: Settings) -> None:
    found = usable(Part(replace(LOAD, service="tide-power"), DEMO.demo), settings)

    assert isinstance(found, str)
    assert found.startswith("service: got 'tide-power', allowed")


def test_the_demos_name_their_parts() -> None:
    found = [(part.name, part.stream.service) for part in PARTS]

    assert found == [("plant", "plant-power"), ("load", "hourly-load"), ("meter", "smart-meter")]
    assert next(part.demo.history_days for part in PARTS if part.name == "load") >= 60 * 7


def test_the_command_offers_every_part() -> None:
    [option] = [p for p in run.params if p.name == "only"]

    assert tuple(option.type.choices) == tuple(part.name for part in PARTS)  # type: ignore[attr-defined]


def test_what_is_dropped_is_not_started_again(tmp_path: Path) -> None:
    def child(name: str) -> Child:
        return Child(name, ["--version"], "http://127.0.0.1:9/readyz", {}, tmp_path / f"{name}.log")

    said: list[str] = []
    stack = Stack([child("a"), child("b")])
    for one in stack.children:
        one.start()
    wait_until(lambda: not any(one.is_running() for one in stack.children))

    stack.drop(stack.children[:1])
    stack.revive(said.append)
    stack.stop()

    assert [line.split()[0] for line in said] == ["b"]
    assert stack.children == []


A_FORECAST = {
    "id": "a",
    "key": "PJME",
    "issue_time": "2016-07-01T16:00:00Z",
    "time_zone": "America/New_York",
    "step_seconds": 3600,
    "target_time": ["2016-07-02T04:00:00Z"],
    "quantiles": {"0.50": [1.0]},
    "version": "1",
}


def error(measured: float, forecast: float, naive: float | None) -> dict[str, Any]:
    return {
        "id": "a",
        "key": "PJME",
        "issue_time": "2016-07-01T16:00:00Z",
        "target_time": "2016-07-02T04:00:00Z",
        "measured": measured,
        "forecast": forecast,
        "lower": forecast,
        "upper": forecast,
        "crps": 0.0,
        "error": forecast - measured,
        "naive_error": None if naive is None else naive - measured,
    }


def test_the_watch_counts_forecasts_and_compares_with_the_naive(bus: Bus) -> None:
    watch = ForecastWatch(bus, STREAM, ends_of(bus, [LOAD_FORECASTS.name, LOAD_ERRORS.name]))
    messages = [Outgoing(LOAD_FORECASTS.name, orjson.dumps(A_FORECAST), b"PJME")]
    publish(bus, messages)

    first = watch.look()
    publish(
        bus,
        [
            Outgoing(LOAD_ERRORS.name, orjson.dumps(e), b"PJME")
            for e in (error(100, 98, 104), error(100, 104, 108), error(200, 200, None))
        ],
    )
    second = watch.look()
    watch.close()

    assert first == "load 1 forecasts"
    assert second == "load 1 forecasts, 3 intervals measured, 1.5 % off, rMAE 0.50"


def test_doctor_says_what_it_knows_of_a_forecasting_service_without_a_probe(bus: Bus, settings: Settings) -> None:
    def findings() -> dict[str, tuple[bool, str]]:
        found = examine(settings, [SERVICE], probe_seconds=0.1)
        return {finding.check: (finding.is_well, finding.detail) for finding in found}

    nothing = findings()
    publish(bus, load_messages("2016-07-01T04", 3))
    unread = findings()
    bus.commit_for("fake-load", {("load.readings", p): o.end for p, o in bus.offsets("load.readings").items()})
    publish(bus, [Outgoing(LOAD_FORECASTS.name, orjson.dumps(A_FORECAST), b"PJME")])
    read = findings()

    assert nothing["fake-load group"] == (True, "load.readings is empty: nothing to read, nothing to forecast")
    assert "fake-load forecasts" not in nothing
    assert unread["fake-load group"][0] is False
    assert "start it with `kappawatt consume fake-load`" in unread["fake-load group"][1]
    assert read["fake-load group"] == (True, "fake-load is 0 messages behind on load.readings {0: 0, 1: 0, 2: 0, 3: 0}")
    assert "newest on load.forecasts: PJME as of 2016-07-01T16:00:00Z by version 1" in read["fake-load forecasts"][1]


def test_doctor_looks_at_what_it_is_told_to_alone(bus: Bus, settings: Settings) -> None:
    def checks(*only: str) -> set[str]:
        arguments = ["doctor", "--bus", settings.bus, "--json", "--wait", "0.1", *(f"--only={name}" for name in only)]
        printed = CliRunner().invoke(main, arguments).output
        return {orjson.loads(line)["check"] for line in printed.splitlines()}

    everything, one, sink = checks(), checks("plant-power"), checks("sink")

    assert {"plant-power group", "hourly-load group", "sink group"} <= everything
    assert "plant-power group" in one
    assert not {"hourly-load group", "sink group"} & one
    assert "sink group" in sink
    assert "plant-power group" not in sink
