"""docs/your-own-file.md, command by command: from a strange CSV to a live forecast."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from kappawatt.datasets.reading.read import layouts

PAGE = (Path(__file__).parents[2] / "docs/your-own-file.md").read_text()
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [text.strip() for kind, text in BLOCKS if kind == "sh"]
LIVE = next(command for command in COMMANDS if "kappawatt run" in command)
START_SECONDS = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own-file")
    (script,) = (text for kind, text in BLOCKS if kind == "python")
    subprocess.run([sys.executable, "-c", script], cwd=place, check=True, timeout=60)
    return place


def environment() -> dict[str, str]:
    names = ("KAPPAWATT_DATA", "KAPPAWATT_BUS", "KAPPAWATT_DATABASE", "KAPPAWATT_ARTIFACTS")
    return {name: value for name, value in os.environ.items() if name not in names} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, shell=True, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )


def test_every_layout_known_by_name_stands_on_the_page() -> None:
    assert [layout.name for layout in layouts() if f"| {layout.name} |" not in PAGE] == []


def test_the_page_goes_from_a_strange_file_to_a_model_of_ones_own(folder: Path) -> None:
    ended = {command: run(command, folder) for command in COMMANDS if "curl" not in command and command != LIVE}

    asked, *others = ended
    assert ended[asked].returncode != 0
    assert "--time-zone" in ended[asked].stderr + ended[asked].stdout
    for command in others:
        assert ended[command].returncode == 0, (command, ended[command].stderr[-2_000:])
    backtest = next(ended[command].stdout for command in others if "backtest" in command)
    mape = float(re.search(r"^mape +([0-9.]+)", backtest, re.MULTILINE)[1])  # type: ignore[index]
    assert mape < 1.0  # noise of 1 % is 0.8 % of mean absolute error
    assert (folder / "town.html").stat().st_size > 10_000


@pytest.fixture
def stack(folder: Path) -> Iterator[str]:
    if not (folder / "models").is_dir():
        pytest.skip("the page's model was not trained: the test before this one failed or did not run")
    process = subprocess.Popen(
        ["bash", "-c", f"exec env {LIVE}"], cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    address = ""
    for line in process.stdout:
        if found := re.search(r"dashboard +(http://\S+?)/ ", line):
            address = found[1]
            break
    try:
        yield address
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.stdout.read()
        process.wait(60)


def test_the_page_goes_on_to_a_live_forecast(stack: str) -> None:
    (asked,) = (command for command in COMMANDS if "curl" in command)
    path = re.search(r"http://127.0.0.1:8000(\S+)", asked)
    assert path is not None
    deadline = time.monotonic() + START_SECONDS
    series: list[dict[str, object]] = []
    while not series and time.monotonic() < deadline:
        with urllib.request.urlopen(stack + path[1], timeout=10) as answer:
            series = orjson.loads(answer.read())["series"]
        time.sleep(0.5)

    assert [(one["key"], one["step_seconds"], one["time_zone"]) for one in series] == [("TOWN", 900, "Europe/Berlin")]
