"""A real headless Chromium, a gateway process, a real embedded bus."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kappawatt.bus import Bus
from tests.browser.browsing import CHROMIUM, DRIVER, FLAGS, running


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
    pytest.importorskip("selenium", reason="selenium is not installed")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("chromium or chromedriver is not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()
