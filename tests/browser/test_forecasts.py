"""The views of load zones and smart meters in a real headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from kappawatt.bus import Bus
from kappawatt.forecasting.calendar import as_instant
from tests.browser.browsing import HOSTILE, LOOKS, colors_drawn, complaints, look, points, text, wait
from tests.forecast_fakes import hours, loads
from tests.unit.services.gateway.forecast_publisher import ForecastPublisher

BEGIN = "2016-05-02T04:00"  # midnight in New York
KEPT = 28 * 24


@pytest.fixture
def load(bus: Bus) -> Iterator[ForecastPublisher]:
    publisher = ForecastPublisher(bus)
    yield publisher
    publisher.close()


@pytest.fixture
def meters(bus: Bus) -> Iterator[ForecastPublisher]:
    publisher = ForecastPublisher(bus, "smart-meter")
    yield publisher
    publisher.close()


def five_weeks(load: ForecastPublisher, key: str = "PJME", level: float = 30_000.0) -> None:
    """Four weeks at once, then half days up to 14:00 of the day after a week."""
    times = hours(BEGIN, KEPT + 7 * 24 + 14)
    values = loads(times, level)
    load.measure(key, times[:KEPT], values[:KEPT])
    for i in range(KEPT, len(times), 12):
        load.measure(key, times[i : i + 12], values[i : i + 12])


def three_weeks(meters: ForecastPublisher, key: str = "10443720000000001") -> None:
    """Three weeks of quarter hours at once, then quarter days."""
    times = as_instant("2022-05-02T05:00") + np.arange(26 * 96) * np.timedelta64(15, "m")
    values = np.round(0.3 + 0.25 * np.sin(np.arange(len(times)) / 15.3) ** 3, 3)
    meters.measure(key, times[: 21 * 96], values[: 21 * 96], step=900)
    for i in range(21 * 96, len(times), 24):
        meters.measure(key, times[i : i + 24], values[i : i + 24], step=900)


def tile(browser: Any, name: str) -> str:
    """What a tile of the score shows."""
    script = """
        const found = [...document.querySelectorAll('#forecast-tiles > div')]
            .find((each) => each.querySelector('dt').textContent === arguments[0]);
        return found ? found.textContent : '';
    """
    return str(browser.execute_script(script, name))


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_load_is_shown_as_a_fan_with_its_live_score(
    gateway: str, load: ForecastPublisher, browser: Any, scheme: str, width: int
) -> None:
    five_weeks(load)
    look(browser, scheme, width)

    browser.get(f"{gateway}/#load")

    wait(lambda: points(browser, "fan") == 4 * 24)
    wait(lambda: colors_drawn(browser, "fan") > 5)
    assert text(browser, "#fan-title") == "Load of PJME"
    assert " MW" in tile(browser, "Error (MAE)")
    assert "%" in tile(browser, "MAPE")
    assert "naive" in tile(browser, "rMAE")
    assert "of 90 % promised" in tile(browser, "Interval coverage")
    assert "of the naive's" in tile(browser, "CRPS")
    assert "America/New_York" in tile(browser, "Newest issue")
    assert "EDT" in text(browser, "#fan-readout")
    assert text(browser, "#day-table tbody").count("Jun") >= 2
    wide, visible = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= visible
    assert complaints(browser) == []


@pytest.mark.parametrize(("scheme", "width"), LOOKS[:2])
def test_meters_are_shown_with_the_days_total_and_peak(
    gateway: str, meters: ForecastPublisher, browser: Any, scheme: str, width: int
) -> None:
    three_weeks(meters)
    look(browser, scheme, width)

    browser.get(f"{gateway}/#meters")

    wait(lambda: points(browser, "fan") == 4 * 96)
    assert "10443720000000001" in text(browser, "#fan-title")
    assert " kWh" in tile(browser, "Day total")
    assert " to " in tile(browser, "Day peak")
    assert "Total [kWh]" in text(browser, "#day-table thead")
    wide, visible = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= visible
    assert complaints(browser) == []


def test_what_is_measured_and_forecast_comes_by_itself(gateway: str, load: ForecastPublisher, browser: Any) -> None:
    five_weeks(load)
    browser.get(f"{gateway}/#load")
    wait(lambda: points(browser, "fan") == 4 * 24)
    wait(lambda: "13:00 to 14:00" in text(browser, "#fan-readout"))
    scored = tile(browser, "Scored")

    times = hours(BEGIN, KEPT + 8 * 24 + 13)[KEPT + 7 * 24 + 14 :]
    load.measure("PJME", times, np.full(len(times), 23_456.0))

    wait(lambda: "measured 23,456 MW" in text(browser, "#fan-readout"))
    wait(lambda: tile(browser, "Scored") != scored)
    wait(lambda: "Thu" in text(browser, "#issue option") or "Wed" in text(browser, "#issue option"))


def test_an_earlier_forecast_another_series_and_more_days_can_be_chosen(
    gateway: str, load: ForecastPublisher, browser: Any
) -> None:
    five_weeks(load, "AEP", 12_000.0)
    five_weeks(load, "PJME")
    browser.get(f"{gateway}/#load")
    wait(lambda: text(browser, "#fan-title") == "Load of PJME")
    wait(lambda: points(browser, "fan") == 4 * 24)

    browser.execute_script("document.querySelector('#days input[value=\"8\"]').click()")
    wait(lambda: points(browser, "fan") == 8 * 24)
    browser.execute_script(
        "const s = document.getElementById('issue'); s.selectedIndex = 2; s.dispatchEvent(new Event('change'))"
    )
    wait(lambda: "measured" in text(browser, "#fan-readout") and "12:00" not in text(browser, "#fan-readout"))
    browser.execute_script(
        "[...document.querySelectorAll('#series-table button')].find((b) => b.textContent === 'AEP').click()"
    )

    wait(lambda: text(browser, "#fan-title") == "Load of AEP")


def test_fan_is_read_and_views_are_changed_with_the_keyboard(
    gateway: str, load: ForecastPublisher, browser: Any
) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    five_weeks(load)
    browser.get(gateway)
    wait(lambda: browser.find_elements(By.ID, "tab-load"))  # tabs come with the list of views
    browser.find_element(By.ID, "tab-load").send_keys(Keys.ENTER)
    wait(lambda: points(browser, "fan") == 4 * 24)
    assert browser.find_element(By.ID, "tab-load").get_attribute("aria-current") == "page"

    browser.find_element(By.ID, "fan").send_keys(Keys.END)

    assert "23:00 to 00:00" in text(browser, "#fan-readout")
    assert "not measured yet" in browser.find_element(By.ID, "fan").get_attribute("aria-label")


def test_filled_corrected_and_naive_forecasts_have_badges(gateway: str, load: ForecastPublisher, browser: Any) -> None:
    times = hours(BEGIN, 10 * 24 + 13)
    gap = np.ones(len(times), bool)
    gap[100:104] = False
    load.measure("young", times[gap], loads(times)[gap])
    load.measure("young", times[100:101], np.array([31_000.0]))

    browser.get(f"{gateway}/#load")

    wait(lambda: "seasonal naive" in text(browser, "#badges"))
    wait(lambda: "3 filled" in text(browser, "#badges"))
    wait(lambda: "corrected" in text(browser, "#badges"))


def test_empty_views_say_what_to_do_and_fill_by_themselves(
    gateway: str, load: ForecastPublisher, meters: ForecastPublisher, browser: Any
) -> None:
    browser.get(f"{gateway}/#load")
    wait(lambda: "kappawatt ingest" in text(browser, "#fan-empty"))
    wait(lambda: browser.execute_script("return !document.getElementById('fan-empty').hidden"))

    load.measure("PJME", hours(BEGIN, 30), loads(hours(BEGIN, 30)))

    wait(lambda: points(browser, "fan") > 0)
    wait(lambda: "no forecast yet" in text(browser, "#badges"))
    browser.get("about:blank")
    browser.get(f"{gateway}/#meters")
    wait(lambda: "smart-meter" in text(browser, "#fan-empty"))


def test_hostile_names_stay_text(gateway: str, load: ForecastPublisher, browser: Any) -> None:
    five_weeks(load, HOSTILE)

    browser.get(f"{gateway}/#load")

    wait(lambda: HOSTILE in text(browser, "#fan-title"))
    wait(lambda: HOSTILE in text(browser, "#series-table"))
    wait(lambda: points(browser, "fan") == 4 * 24)
    assert browser.execute_script("return window.harmed") is None


def test_probes_of_the_doctor_are_no_plant(gateway: str, bus: Bus, browser: Any) -> None:
    from tests.browser.test_dashboard import Plant

    plant = Plant(bus.producer())
    plant.predict(5, "plant-1")
    plant.predict(3, "kappawatt-doctor")

    browser.get(gateway)

    wait(lambda: points(browser) == 5)
    assert text(browser, "#plant") == "plant-1"
