"""A service with a stream of its own, installed outside the repository: no line here knows it, all of it is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.conftest import wait_until
from tests.integration.processes import Process, free_port, get, stopped_at_the_end

ROOT = Path(__file__).parents[2]
ROWS = b"wind_speed,air_density,power\n8.2,1.22,655\n4.1,1.25,80\n"
REFUSED = b"wind_speed,air_density\n90,1.2\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed in a folder of its own and trained there."""
    folder = tmp_path_factory.mktemp("wind")
    shutil.copytree(ROOT / "examples" / "wind_power", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, str(folder / "site"), str(folder / "source")], check=True)
    run([sys.executable, "-m", "kappawatt.cli", "train", "wind-power"], folder / "site")
    return folder / "site"


def run(command: list[str], site: Path, **environment: str) -> str:
    own = os.environ | {"PYTHONPATH": str(site)} | environment
    done = subprocess.run(command, env=own, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Stack:
    """Ingestor, worker, sink and gateway by name."""

    parts: Mapping[str, Process]

    def ask(self, name: str, path: str) -> Any:
        status, body = get(self.parts[name].url(path))
        assert status == 200, body
        return orjson.loads(body)


@pytest.fixture(scope="module")
def stack(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    ports = {name: free_port() for name in ("sensor-ingestor", "wind-power", "sink", "gateway")}
    environment = {
        "PYTHONPATH": str(site),
        "KAPPAWATT_BUS": f"embedded:{folder}/bus.sqlite",
        "KAPPAWATT_DATABASE": f"duckdb:{folder}/kappawatt.duckdb",
        "KAPPAWATT_SERVICES": ",".join(f"{n}=http://127.0.0.1:{ports[n]}" for n in ("sensor-ingestor", "sink")),
    }
    run([sys.executable, "-m", "kappawatt.cli", "topics", "--create"], site, **environment)
    parts = {
        name: Process(folder, "serve" if name in ("sensor-ingestor", "gateway") else "consume", name, port=port,
                      **environment)
        for name, port in ports.items()
    }  # fmt: skip
    with stopped_at_the_end(*parts.values()):
        for part in parts.values():
            part.wait_ready()
        for body, status in ((ROWS, 202), (REFUSED, 422)):
            assert post(parts["gateway"].url("/api/sensor-ingestor/turbines/t-1"), body) == status
        yield Stack(parts)


def post(url: str, body: bytes) -> int:
    request = urllib.request.Request(url, body, {"content-type": "text/csv"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_its_topics_are_created(site: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kappawatt.cli", "topics", "--create", "--bus", f"embedded:{tmp_path}/b.sqlite"]

    found = {line.split()[0] for line in run(command, site).splitlines()}

    assert found >= {"turbine.readings", "turbine.predictions", "turbine.readings.dead", "plant.readings"}


def test_the_gateway_has_a_view_of_it(stack: Stack) -> None:
    def newest() -> Any:
        found = [row for row in stack.ask("gateway", "/api/latest?view=turbine")["predictions"] if row["key"] == "t-1"]
        return found

    views = {view["name"]: view for view in stack.ask("gateway", "/api/views")["views"]}
    [row] = wait_until(newest, 30, "a prediction at the gateway")

    assert views["turbine"]["title"] == "Turbines"
    assert 0 < row["power_lower"] < row["power"] < row["power_upper"]


def test_its_rows_are_in_the_sinks_tables(stack: Stack) -> None:
    def landed() -> Any:
        return stack.ask("sink", "/queries/turbine-worst-hours")["rows"]

    names = {query["name"] for query in stack.ask("sink", "/queries")["queries"]}
    assert any(name.startswith("turbine") for name in names), names
    assert wait_until(landed, 30, "scored rows in the sink")


def test_its_page_is_among_the_docs(site: Path, tmp_path: Path) -> None:
    run([sys.executable, "-m", "tools.render_docs", str(tmp_path)], site)

    page = (tmp_path / "streams" / "turbine.md").read_text()
    assert "turbines/turbine-1" in page
    assert "wind_speed" in page
    assert "`turbine.predictions`" in (tmp_path / "events.md").read_text()


def test_the_doctor_sends_a_probe_through_it(stack: Stack, site: Path) -> None:
    environment = {"KAPPAWATT_BUS": next(iter(stack.parts.values())).environment["KAPPAWATT_BUS"]}

    said = run([sys.executable, "-m", "kappawatt.cli", "doctor", "--only", "wind-power", "--json"], site, **environment)

    checks = {row["check"]: row["ok"] for row in map(orjson.loads, said.splitlines())}
    assert checks["wind-power probe"]
