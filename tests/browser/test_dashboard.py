"""The dashboard in a real headless Chromium, against a gateway process over a real embedded bus."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kappawatt.batch import Rejection
from kappawatt.bus import Bus, connect
from kappawatt.bus.envelope import Prediction, dead_letter_message, prediction_event
from kappawatt.bus.interface import Producer, Records
from kappawatt.bus.topics import PLANT_PREDICTIONS, PLANT_READINGS, TOPICS

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("chromium or chromedriver is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=window.harmed=1>\"'<script>window.harmed=1</script>"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
LOOKS = [
    pytest.param(scheme, width, id=f"{scheme}-{width}px") for scheme in ("light", "dark") for width in (1440, 390, 360)
]


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
def bus_url(tmp_path: Path) -> str:
    return f"embedded:{tmp_path / 'bus.sqlite'}"


@pytest.fixture
def bus(bus_url: str) -> Iterator[Bus]:
    bus = connect(bus_url)
    bus.ensure(TOPICS)
    yield bus
    bus.close()


@pytest.fixture
def plant(bus: Bus) -> Plant:
    return Plant(bus.producer())


@contextmanager
def running(bus_url: str, port: int, **settings: str) -> Iterator[str]:
    """A gateway process, ready."""
    environment = {**os.environ, "KAPPAWATT_BUS": bus_url, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", **settings}
    arguments = [sys.executable, "-m", "kappawatt.cli", "serve", "gateway", "--port", str(port)]
    process = subprocess.Popen(arguments, env=environment, cwd=ROOT)
    try:
        wait(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        began = time.monotonic()
        process.wait(20)
        assert time.monotonic() - began < 10, "open streams held the gateway back from ending"


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@pytest.fixture
def gateway(bus_url: str, bus: Bus, port: int) -> Iterator[str]:
    with running(bus_url, port) as url:
        yield url


@pytest.fixture
def browser(tmp_path: Path, gateway: str) -> Iterator[Any]:
    """Chromium; it is gone before the gateway is."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def wait(claim: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Return what `claim` returns once it is true; fail when it does not get true in time."""
    deadline = time.monotonic() + seconds
    while not (found := claim()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def look(browser: Any, scheme: str, width: int) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def text(browser: Any, selector: str) -> str:
    return str(browser.execute_script("return document.querySelector(arguments[0]).textContent", selector))


def points(browser: Any) -> int:
    return int(browser.execute_script("return Number(document.getElementById('power').dataset.points || 0)"))


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def colors_drawn(browser: Any) -> int:
    """How many different colors the chart has: a chart that was drawn has a few, an empty one has one."""
    script = """
        const canvas = document.getElementById('power');
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const seen = new Set();
        for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3]) seen.add(pixels.slice(i, i + 4).join());
        return seen.size;
    """
    return int(browser.execute_script(script))


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
