"""Tabs are the views there are: also that of a stream which another package brings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kappawatt.bus import Bus
from kappawatt.bus.topic import dead_letter
from kappawatt.messages.predictions import Prediction, prediction_event
from kappawatt.streams.plant import PLANT_PREDICTIONS, PLANT_READINGS
from tests.browser.browsing import LOOKS, ROOT, complaints, look, points, running, text, wait
from tests.browser.test_dashboard import Plant
from tests.packages import install_stream

RECORD = """
from dataclasses import replace

from kappawatt.columns.schema import Field, Schema
from kappawatt.streams import plant
from kappawatt.streams.stream import Key, Stream, View

FLOW = Field("water_flow", "m3/s", "flow through the turbine", minimum=0, maximum=10_000, example=8.0)
STREAM = Stream(
    name="turbine", service="turbine-flow", title="readings of a water turbine", target="water_flow", path="turbines",
    key=Key("turbine", "turbine", "kaplan-1"), view=View("Water turbines"), order=100,
    readings=replace(plant.PLANT_READINGS, name="turbine.readings", message=Schema("T", "", (FLOW,))),
    answers=replace(plant.PLANT_PREDICTIONS, name="turbine.predictions", message=Schema("F", "", (FLOW,))),
)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with an installed package that brings a stream."""
    folder = tmp_path / "site"
    install_stream(folder, "turbines", "turbine", RECORD)
    return folder


@pytest.fixture
def gateway(bus_url: str, bus: Bus, port: int, package: Path) -> Iterator[str]:
    """A gateway beside that package."""
    readings = replace(PLANT_READINGS, name="turbine.readings")
    bus.ensure([readings, dead_letter(readings), replace(PLANT_PREDICTIONS, name="turbine.predictions")])
    with running(bus_url, port, PYTHONPATH=f"{package}:{ROOT / 'src'}:{ROOT}") as url:
        yield url


def flows(bus: Bus, *values: float, key: str = "kaplan-1", first: int = 0) -> None:
    """Publish predictions as the turbine's worker does."""
    n = len(values)
    columns = {
        "event_time": np.datetime64("2026-01-01T00:00", "ms") + np.arange(n) * np.timedelta64(1, "m"),
        "water_flow": np.array(values),
        "measured_water_flow": np.array(values) - 0.25,
    }
    offsets, rows = np.arange(first, first + n), np.zeros(n, np.int32)
    found = Prediction("turbine.predictions", key.encode(), columns, offsets, rows, "turbine.readings", 0, "flow", "v7")
    bus.producer().publish(prediction_event(found))


def tabs(browser: Any) -> list[str]:
    return list(browser.execute_script("return [...document.querySelectorAll('#tabs a')].map((a) => a.textContent)"))


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_a_stream_of_another_package_has_a_tab(gateway: str, bus: Bus, browser: Any, scheme: str, width: int) -> None:
    Plant(bus.producer()).predict(30, "plant-1")
    flows(bus, *(7 + np.sin(np.arange(40) / 5)))
    look(browser, scheme, width)

    browser.get(f"{gateway}/#turbine")

    wait(lambda: tabs(browser) == ["Plant", "Load", "Meters", "Water turbines"])
    wait(lambda: points(browser) == 40)
    wait(lambda: text(browser, "#tile-version") == "v7")
    assert text(browser, "#power-title") == "Water flow"
    assert text(browser, "#plant-noun") == "Turbine"
    assert text(browser, "#tile-mae") == "0.25 m3/s"
    assert "m3/s" in text(browser, "#readout")
    flows(bus, 9.5, first=40)
    wait(lambda: "predicted 9.50 m3/s" in text(browser, "#readout"))
    wide, visible = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= visible
    assert complaints(browser) == []


def test_two_streams_of_predictions_are_gone_between(gateway: str, bus: Bus, browser: Any) -> None:
    from selenium.webdriver.common.by import By

    plant = Plant(bus.producer())
    plant.predict(30, "plant-1")
    flows(bus, *[7.0] * 40)
    browser.get(gateway)
    wait(lambda: points(browser) == 30)

    browser.find_element(By.ID, "tab-turbine").click()
    wait(lambda: points(browser) == 40)
    plant.predict(1, "plant-1")
    flows(bus, 8.0, first=40)
    wait(lambda: points(browser) == 41)
    assert text(browser, "#plant") == "kaplan-1"

    browser.find_element(By.ID, "tab-plant").click()

    wait(lambda: points(browser) == 31)
    wait(lambda: text(browser, "#tile-version") == "v1")
    assert text(browser, "#plant") == "plant-1"
    assert text(browser, "#power-title") == "Net power"


def test_a_link_of_former_days_still_leads_to_its_view(gateway: str, browser: Any) -> None:
    browser.get(f"{gateway}/#meters")

    wait(lambda: "smart-meter" in text(browser, "#fan-empty"))
    assert browser.execute_script("return document.querySelector('#tabs [aria-current]').id") == "tab-meter"
