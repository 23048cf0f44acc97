"""Every image: what is in it, and that it runs as platforms run it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from kappawatt.bus import connect
from kappawatt.serving.service import find_service, service_names
from kappawatt.streams.table import TOPICS
from tests.conftest import wait_until
from tests.images.engine import HARDENED, Running, inspect, run_python
from tools.images import PYTHON_IMAGE, ROOT, image_names, project, tag_of

MEGABYTE = 1_000_000
LARGEST = 120 * MEGABYTE  # of plant-power, over its base
READY_SECONDS = 2
TRIES = 4  # the least of these is what the image takes; the rest is what else this machine does
BUSY = 2  # processes that wait or run, a core
END_SECONDS = 30  # platforms kill then
WORKERS = [name for name in service_names() if find_service(name).stream is not None]
# What a Debian without anything installed has; the rest comes with the wheels.
BASE_LIBRARIES = {
    *(
        "linux-vdso.so.1",
        "libc.so.6",
        "libm.so.6",
        "libpthread.so.0",
        "libdl.so.2",
        "librt.so.1",
        "libutil.so.1",
        "libresolv.so.2",
    ),
    *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1"),
}
LOOK = """
import importlib.util, json, os, pathlib, shutil, sys
packages = pathlib.Path(sys.prefix, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
def compiled(path):
    return pathlib.Path(importlib.util.cache_from_source(path))
def writable(path):
    try:
        probe = pathlib.Path(path, "probe"); probe.write_text(""); probe.unlink()
    except OSError:
        return False
    return True
print(json.dumps({
    "modules": [m for m in %s if importlib.util.find_spec(m)],
    "commands": [c for c in %s if shutil.which(c)],
    "services": sorted(p.parent.name for p in (packages / "kappawatt" / "services").glob("*/__init__.py")),
    "tests": [str(p) for p in packages.rglob("tests")],
    "uncompiled": [str(p) for p in packages.rglob("*.py") if not compiled(str(p)).exists()],
    "user": [os.getuid(), os.getgid()],
    "writable": [p for p in ("/", "/opt", sys.prefix, str(packages), "/usr/local", "/var/tmp", "/tmp") if writable(p)],
    "path": sys.path,
}))
"""
UNWANTED_MODULES = (
    "pip",
    "ensurepip",
    "setuptools",
    "wheel",
    "hatchling",
    "tensorflow",
    "keras",
    "pytest",
    "matplotlib",
)
UNWANTED_COMMANDS = ("pip", "pip3", "gcc", "cc", "g++", "clang", "make", "ld", "git", "curl", "wget")

images = pytest.mark.parametrize("name", image_names())


@pytest.fixture
def bus(tmp_path: Path) -> Path:
    """A folder that containers share as their bus; their user is another than ours."""
    bus = connect(f"embedded:{tmp_path}/bus.sqlite")
    bus.ensure(TOPICS)
    bus.close()
    open_to_all(tmp_path)
    return tmp_path


def open_to_all(folder: Path) -> None:
    folder.chmod(0o777)
    for path in folder.iterdir():
        path.chmod(0o666)


def base_of(name: str) -> str:
    return str(inspect(tag_of(name))["Config"]["Labels"]["org.opencontainers.image.base.name"])


def settings_of(name: str) -> dict[str, str]:
    own = {"gateway": {"KAPPAWATT_OPEN_ACCESS": "true"}, "sink": {"KAPPAWATT_DATABASE": "duckdb:/tmp/store.duckdb"}}
    return own.get(name, {}) | {"KAPPAWATT_BUS": "embedded:/bus/bus.sqlite"}


@images
def test_it_says_what_it_is_and_how_it_is_run(name: str) -> None:
    config = inspect(tag_of(name))["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}

    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["kappawatt-container"]
    assert config["Cmd"] == (["consume"] if name == "sink" else ["serve"])
    assert config["Healthcheck"]["Test"] == ["CMD", "kappawatt-container", "health"]
    assert config["ExposedPorts"] == {"8080/tcp": {}}
    assert config["StopSignal"] == "SIGTERM"
    assert config["WorkingDir"] == "/tmp"
    assert f"KAPPAWATT_SERVICE={name}" in config["Env"]
    assert labels["title"] == f"kappawatt/{name}"
    assert labels["version"] == project()["version"]
    assert labels["licenses"] == project()["license"]
    assert labels["base.name"] == os.environ.get("PYTHON_IMAGE", PYTHON_IMAGE)
    assert time.strptime(labels["created"], "%Y-%m-%dT%H:%M:%SZ")


@images
def test_it_carries_licence_and_credits(name: str) -> None:
    program = """
import json
from importlib.metadata import distribution
own = distribution("kappawatt")
named = [path for path in own.files if path.parts[-2:-1] == ("licenses",)]
print(json.dumps({path.name: own.locate_file(path).read_text() for path in named}))
"""
    assert run_python(tag_of(name), program) == {file: (ROOT / file).read_text() for file in ("LICENSE", "NOTICE")}


@images
def test_it_holds_its_own_service_and_nothing_to_build_with(name: str) -> None:
    found = run_python(tag_of(name), LOOK % (UNWANTED_MODULES, UNWANTED_COMMANDS))

    assert found["modules"] == []
    assert found["commands"] == []
    assert found["services"] == [name.replace("-", "_")]
    assert found["tests"] == []
    assert found["uncompiled"] == []


@images
def test_it_runs_as_nobody_and_writes_only_to_tmp(name: str) -> None:
    found = run_python(tag_of(name), LOOK % (UNWANTED_MODULES, UNWANTED_COMMANDS))

    assert found["user"] == [10001, 10001]
    assert found["writable"] == ["/tmp"]
    assert not any(entry in ("", "/tmp") for entry in found["path"])  # what anyone may write is not imported


@images
def test_its_libraries_need_no_more_than_any_debian_has(name: str) -> None:
    program = """
import json, pathlib, subprocess, sys
needed = {}
for path in pathlib.Path(sys.prefix).rglob("*.so*"):
    said = subprocess.run(["ldd", str(path)], capture_output=True, text=True).stdout
    for line in said.splitlines():
        name, _, where = line.strip().partition(" => ")
        if "/opt/kappawatt/" not in where:
            needed[name.split(" ")[0].rsplit("/", 1)[-1]] = where
print(json.dumps(needed))
"""
    needed = run_python(tag_of(name), program)

    assert not [library for library, where in needed.items() if "not found" in where]
    assert {library for library in needed if not library.startswith("statically")} <= BASE_LIBRARIES


@images
def test_hardened_it_is_ready_in_two_seconds_and_ends_with_0(name: str, bus: Path) -> None:
    taken: list[tuple[float, float]] = []
    for _ in range(TRIES):
        with Running(tag_of(name), mounts={bus: "/bus"}, environment=settings_of(name)) as container:
            taken.append((container.wait_ready(), container.processor_seconds()))
            assert container.send("/healthz")[0] == 200
            assert b"kappawatt_" in container.send("/metrics")[1]
            health = container.run("kappawatt-container", "health")
            assert health.returncode == 0, health.stderr
            code, seconds = container.stop()
            assert code == 0, container.logs()
            assert seconds < END_SECONDS
        open_to_all(bus)
        if min(taken)[0] < READY_SECONDS:
            return

    # A machine with more to do than it has cores says nothing about seconds on a clock; its processor time does.
    assert os.getloadavg()[0] > BUSY * (os.cpu_count() or 1), f"seconds until ready, of processor: {taken}"
    assert min(processor for _, processor in taken) < READY_SECONDS, f"seconds until ready, of processor: {taken}"


def test_the_engine_finds_it_healthy() -> None:
    options = (*HARDENED, "--health-interval", "1s")
    with Running(tag_of("plant-power"), options=options) as container:
        wait_until(lambda: inspect(container.id)["State"]["Health"]["Status"] == "healthy", 60, "healthy")


def test_the_engine_finds_it_unhealthy_where_nothing_answers() -> None:
    quick = ("--health-interval", "1s", "--health-retries", "1", "--health-start-period", "0s")
    options = (*HARDENED, *quick, "--entrypoint", "python")
    with Running(tag_of("plant-power"), "-c", "import time; time.sleep(120)", options=options) as container:
        wait_until(lambda: inspect(container.id)["State"]["Health"]["Status"] == "unhealthy", 60, "unhealthy")
        log = json.dumps(inspect(container.id)["State"]["Health"]["Log"])
        assert "port 8080: " in log


@pytest.mark.parametrize("name", WORKERS)
def test_hardened_its_worker_is_ready_and_ends_with_0(name: str, bus: Path) -> None:
    with Running(tag_of(name), "consume", mounts={bus: "/bus"}, environment=settings_of(name)) as container:
        container.wait_ready()
        assert container.send("/healthz")[0] == 200
        assert container.run("kappawatt-container", "health").returncode == 0
        code, seconds = container.stop()

        assert code == 0, container.logs()
        assert seconds < END_SECONDS


def test_a_reading_given_to_the_ingestors_image_is_answered_by_the_workers(bus: Path) -> None:
    there = connect(f"embedded:{bus}/bus.sqlite")
    own = {"KAPPAWATT_BUS": "embedded:/bus/bus.sqlite"}
    with (
        Running(tag_of("plant-power"), "consume", mounts={bus: "/bus"}, environment=own) as worker,
        Running(tag_of("sensor-ingestor"), mounts={bus: "/bus"}, environment=own) as ingestor,
    ):
        worker.wait_ready()
        ingestor.wait_ready()
        status, body, _ = ingestor.send("/readings/plant-1", b"14.96,41.76,1024.07,73.17\n", Content_Type="text/csv")
        assert status == 202, body

        wait_until(lambda: sum(o.end for o in there.offsets("plant.predictions").values()) == 1, 30, "an answer")
    there.close()


@pytest.mark.parametrize(
    ("name", "arguments", "environment", "code", "said"),
    [
        ("plant-power", ("server",), {}, 2, "got 'server', allowed serve, consume, sink, train or health"),
        ("plant-power", ("sink",), {}, 1, "got 'sink', allowed plant-power"),
        ("plant-power", ("serve",), {"KAPPAWATT_SERVICE": "gateway"}, 1, "got 'gateway', allowed plant-power"),
        ("sink", ("serve",), {}, 1, "sink, which answers while it works"),
        ("gateway", ("consume",), {}, 1, "which reads no topic"),
        ("gateway", ("serve",), {}, 1, "KAPPAWATT_API_KEYS: got nothing"),
        ("sensor-ingestor", ("train",), {}, 1, "sensor-ingestor has no model to train"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_run_ends_at_once_and_is_named(
    name: str, arguments: tuple[str, ...], environment: dict[str, str], code: int, said: str
) -> None:
    with Running(tag_of(name), *arguments, environment=environment) as container:
        assert container.wait_ended() == code
        assert said in container.logs()
        assert "Traceback" not in container.logs()


def test_another_port_is_listened_on_and_asked_for_health() -> None:
    with Running(tag_of("plant-power"), container_port=9090, environment={"KAPPAWATT_PORT": "9090"}) as container:
        container.wait_ready()
        assert container.run("kappawatt-container", "health").returncode == 0


def test_a_mounted_model_stands_above_the_one_in_the_image(tmp_path: Path) -> None:
    artifacts = find_service("plant-power").folder / "artifacts"
    baseline = next(path for path in artifacts.iterdir() if path.name.startswith("baseline"))
    with Running(tag_of("plant-power"), mounts={baseline: "/opt/ml/model:ro"}) as container:
        container.wait_ready()
        assert json.loads(container.send("/params")[1])["version"] == baseline.name
    with Running(
        tag_of("plant-power"), mounts={baseline: "/m:ro"}, environment={"KAPPAWATT_ARTIFACTS": "/m"}
    ) as container:
        container.wait_ready()
        assert json.loads(container.send("/params")[1])["version"] == baseline.name


def test_plant_power_adds_at_most_120_megabytes_to_its_base() -> None:
    added = inspect(tag_of("plant-power"))["Size"] - inspect(base_of("plant-power"))["Size"]

    assert 0 < added < LARGEST


def test_images_share_the_layers_of_base_and_core() -> None:
    layers = [inspect(tag_of(name))["RootFS"]["Layers"] for name in image_names()]
    base = len(
        inspect(inspect(tag_of("sink"))["Config"]["Labels"]["org.opencontainers.image.base.name"])["RootFS"]["Layers"]
    )

    assert len({tuple(each[: base + 2]) for each in layers}) == 1  # bytecode, core packages
