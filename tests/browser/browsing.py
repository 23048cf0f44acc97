"""A gateway process, and what a test asks a browser about the page it shows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
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


def points(browser: Any, chart: str = "power") -> int:
    return int(
        browser.execute_script("return Number(document.getElementById(arguments[0]).dataset.points || 0)", chart)
    )


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def colors_drawn(browser: Any, chart: str = "power") -> int:
    """How many different colors the chart has: a chart that was drawn has a few, an empty one has one."""
    script = """
        const canvas = document.getElementById(arguments[0]);
        const copy = document.createElement('canvas');
        Object.assign(copy, { width: canvas.width || 1, height: canvas.height || 1 });
        const pen = copy.getContext('2d', { willReadFrequently: true }); // Chromium complains about others
        if (canvas.width && canvas.height) pen.drawImage(canvas, 0, 0);
        const pixels = pen.getImageData(0, 0, copy.width, copy.height).data;
        const seen = new Set();
        for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3]) seen.add(pixels.slice(i, i + 4).join());
        return seen.size;
    """
    return int(browser.execute_script(script, chart))
