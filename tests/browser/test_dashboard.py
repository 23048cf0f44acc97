"""The dashboard in a real headless Chromium, against a gateway process over a real embedded bus."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kappawatt.bus import Bus
from kappawatt.bus.interface import Producer, Records
from kappawatt.bus.topic import PLANT_PREDICTIONS, PLANT_READINGS
from kappawatt.columns.batch import Rejection
from kappawatt.messages.dead_letters import dead_letter_message
from kappawatt.messages.predictions import Prediction, prediction_event
from tests.browser.browsing import HOSTILE, LOOKS, colors_drawn, complaints, look, points, running, text, wait


class Plant:
    """Writes predictions and rejections as workers do."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._offset = 0

    def predict(self, n: int, key: str, power: float = 450.0, version: str = "v1") -> None:
        now = time.time_ns() // 1_000_000
        expected = power + 8 * np.sin(np.arange(n) / 9)
        columns = {
            "event_time": (now - 1000 * np.arange(n)[::-1]).astype("datetime64[ms]"),
            "net_power": expected,
            "net_power_lower": expected - 5,
            "net_power_upper": expected + 5,
            "extrapolated": np.zeros(n, dtype=bool),
            "measured_net_power": expected + 7 * np.sin(np.arange(n)),
        }
        offsets = np.arange(self._offset, self._offset + n)
        self._offset += n
        rows = np.zeros(n, np.int32)
        prediction = Prediction(
            PLANT_PREDICTIONS.name,
            key.encode(),
            columns,
            offsets,
            rows,
            PLANT_READINGS.name,
            0,
            "fake",
            version,
        )
        self._producer.publish(prediction_event(prediction))

    def reject(self, key: str, got: object) -> None:
        self._offset += 1
        at = [time.time_ns() // 1_000_000]
        records = Records(PLANT_READINGS.name, 0, [self._offset], at, [key.encode()], [b"{}"], [()])
        rejection = Rejection(0, "out_of_range", "exhaust_vacuum", got, "a number from 0 to 100 cm Hg")
        letter = dead_letter_message(f"{PLANT_READINGS.name}.dead", records, 0, [rejection], "fake", "v1")
        self._producer.publish([letter])


@pytest.fixture
def plant(bus: Bus) -> Plant:
    return Plant(bus.producer())


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_page_shows_the_stream(gateway: str, plant: Plant, browser: Any, scheme: str, width: int) -> None:
    plant.predict(300, "plant-1")
    plant.reject("plant-1", 812.0)
    look(browser, scheme, width)

    browser.get(gateway)

    wait(lambda: points(browser) == 200)
    wait(lambda: text(browser, "#connection") == "live")
    wait(lambda: text(browser, "#tile-version") == "v1")
    wait(lambda: colors_drawn(browser) > 3)
    row = wait(lambda: text(browser, "#rejected tbody"))
    assert all(part in row for part in ("out of range", "exhaust_vacuum", "812", "a number from 0 to 100 cm Hg"))
    assert text(browser, "#tile-mae").endswith(" MW")
    plant.predict(1, "plant-1", power=444.44)
    wait(lambda: "444.44 MW" in text(browser, "#readout"))
    wide, visible = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= visible
    page = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, page[4:-1].split(","))) < 200) == (scheme == "dark")
    # a service behind that is not there answers 404, which the browser notes and the page explains
    assert [c for c in complaints(browser) if "/api/plant-power/params" not in c] == []


def test_hostile_text_stays_text(gateway: str, plant: Plant, browser: Any) -> None:
    plant.predict(20, HOSTILE, version=HOSTILE)
    plant.reject(HOSTILE, HOSTILE)

    browser.get(gateway)

    wait(lambda: points(browser) == 20)
    wait(lambda: HOSTILE in text(browser, "#plant"))
    wait(lambda: HOSTILE in text(browser, "#rejected tbody"))
    wait(lambda: HOSTILE in text(browser, "#tile-version"))
    assert browser.execute_script("return window.harmed") is None
    assert browser.execute_script("return document.querySelectorAll('img[src=x], body script').length") == 0


def test_another_plant_and_another_window_can_be_chosen(gateway: str, plant: Plant, browser: Any) -> None:
    plant.predict(100, "plant-2")
    plant.predict(700, "plant-1")
    browser.get(gateway)
    wait(lambda: points(browser) == 200)

    browser.execute_script("document.querySelector('input[value=\"600\"]').click()")
    wait(lambda: points(browser) == 600)
    browser.execute_script(
        "const s = document.getElementById('plant'); s.value = 'plant-2';s.dispatchEvent(new Event('change'))"
    )

    wait(lambda: points(browser) == 100)
    plant.predict(5, "plant-1")
    plant.predict(1, "plant-2")
    wait(lambda: points(browser) == 101)


def test_chart_is_read_with_the_keyboard(gateway: str, plant: Plant, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    plant.predict(50, "plant-1")
    browser.get(gateway)
    wait(lambda: points(browser) == 50)
    newest = wait(lambda: text(browser, "#readout"))

    browser.find_element(By.ID, "power").send_keys(Keys.HOME)

    first = text(browser, "#readout")
    assert first != newest
    assert "predicted 450.00 MW" in first
    assert "predicted 450.00 MW" in browser.find_element(By.ID, "power").get_attribute("aria-label")


def test_empty_page_says_what_to_do_and_fills_by_itself(gateway: str, plant: Plant, browser: Any) -> None:
    browser.get(gateway)
    wait(lambda: text(browser, "#connection") == "live")
    assert browser.execute_script("return !document.getElementById('empty').hidden")
    assert "kappawatt ingest" in text(browser, "#empty")

    plant.predict(3, "plant-1")

    wait(lambda: points(browser) >= 1)
    assert browser.execute_script("return document.getElementById('empty').hidden")


def test_page_reconnects_after_the_gateway_restarts_and_misses_nothing(
    bus_url: str, bus: Bus, plant: Plant, browser: Any
) -> None:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = int(opened.getsockname()[1])
    plant.predict(10, "plant-1")
    with running(bus_url, port) as url:
        browser.get(url)
        wait(lambda: points(browser) == 10)
        wait(lambda: text(browser, "#connection") == "live")
    wait(lambda: text(browser, "#connection") == "reconnecting")
    plant.predict(1, "plant-1")

    with running(bus_url, port):
        wait(lambda: points(browser) == 11)
        wait(lambda: text(browser, "#connection") == "live")
        browser.get("about:blank")


def test_key_is_asked_for_and_remembered(bus_url: str, bus: Bus, plant: Plant, browser: Any, tmp_path: Path) -> None:
    import hashlib

    from selenium.webdriver.common.by import By

    keys = tmp_path / "keys"
    keys.write_text(f"reader:{hashlib.sha256(b'open-sesame').hexdigest()}:me\n")
    plant.predict(10, "plant-1")
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = int(opened.getsockname()[1])
    with running(bus_url, port, KAPPAWATT_API_KEYS=str(keys)) as url:
        browser.get(url)
        field = browser.find_element(By.ID, "key")
        wait(field.is_displayed)
        field.send_keys("wrong\n")
        wait(lambda: "not known" in text(browser, "#sign-in-error"))
        field.send_keys("open-sesame\n")

        wait(lambda: points(browser) == 10)
        assert "open-sesame" not in browser.execute_script("return document.cookie")
        browser.get("about:blank")
