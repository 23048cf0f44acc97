"""Single CSV events through a consumer over real Kafka: kappawatt against Quix Streams and a bare loop.

The readings lie in the topic before a side starts. Each side is a process of its own: spawned, watched until
its consumer group has committed the last reading, stopped, and its answers read back and counted. Answers are
timed by the broker's clock (the output topic stamps messages as it appends them), so that neither the harness
nor the length of a side's commit interval stands in the rate.
"""

from __future__ import annotations

import gzip
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pyarrow.ipc
from confluent_kafka import Message

from bench import models
from bench.environments import commit, environment, kappawatt, kappawatt_version, versions
from bench.measure import Figure, alternate, say
from bench.processes import BenchError, cpu_seconds, free_port, running, until
from bench.topics import Broker

__all__ = ["DEFAULT_SIDES", "SIDES", "Run", "StreamOptions", "drained", "rows_of", "run", "worker_command"]

SIDES = ("confluent", "kafka-python", "confluent-events", "quix", "loop", "quix-window")
DEFAULT_SIDES = SIDES[:-1]  # windows were slower than single messages whenever they were tried
ENVIRONMENT = {"quix": "quix", "quix-window": "quix", "loop": "floor"}
SOURCE = "plant.readings"  # kappawatt's own names, for all sides
OUTPUT = "plant.predictions"
DEAD = "plant.readings.dead"
GROUP = "plant-power"
PARTITIONS = 4
PLANTS = 8
TARGETS = {"confluent": ">= 10", "kafka-python": ">= 4"}  # against Quix Streams
BEFORE = "-before"  # ends the name of a side that is another checkout's
DRAIN_SECONDS = 300.0
WINDOW = 100


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What the command line said."""

    cache: Path
    bootstrap: str
    rows: int = 300_000
    rounds: int = 3
    sides: tuple[str, ...] = DEFAULT_SIDES
    artifact: Path | None = None
    kind: str = "linear"
    before: Path | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One side's pass over the topic.

    Parameters
    ----------
    rate : float
        Rows a second between the first answer and the last, by the broker's clock.
    whole : float
        Rows a second from the start of the process to the last commit.
    cpu_us : float
        Processor time of the process a row [us], its start included.
    """

    rate: float
    whole: float
    cpu_us: float
    messages: int


def run(options: StreamOptions) -> list[Figure]:
    """Measure all sides asked for, alternately, with the same model."""
    broker = Broker(options.bootstrap)
    broker.claim((SOURCE, OUTPUT, DEAD))
    model = models.trained(options.kind, options.cache)
    say(f"filling {SOURCE} with {options.rows} readings")
    broker.create(SOURCE, PARTITIONS)
    broker.fill(SOURCE, readings(options.rows))
    for name in {ENVIRONMENT[side] for side in options.sides if side in ENVIRONMENT}:
        environment(name, options.cache)
    sides = {side: _side(side, options, broker, model) for side in _alternating(options)}
    found = alternate(sides, options.rounds)
    return _figures(found, options)


def _alternating(options: StreamOptions) -> Iterator[str]:
    """Yield the sides asked for, ours followed by the same of the other checkout."""
    for side in options.sides:
        yield side
        if options.before and _is_ours(side):
            yield side + BEFORE


def _is_ours(side: str) -> bool:
    return side.startswith(("confluent", "kafka-python"))


def readings(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield (plant, CSV reading) pairs; measured conditions where KAPPAWATT_DATA is set."""
    lines = _measured() or _made_up()
    for number in range(count):
        yield b"plant-%d" % (number % PLANTS), lines[number % len(lines)]


def _measured() -> list[bytes]:
    data = os.environ.get("KAPPAWATT_DATA")
    if not data:
        return []
    with gzip.open(Path(data) / "ccpp" / "ccpp_shared.csv.gz", "rb") as file:
        return [b",".join(line.split(b",")[:4]) for line in file.read().splitlines()[1:]]


def _made_up(count: int = 7_000) -> list[bytes]:
    draw = random.Random(7)
    uniform = draw.uniform
    return [
        b"%.2f,%.2f,%.2f,%.2f" % (uniform(2, 37), uniform(26, 81), uniform(993, 1033), uniform(26, 100))
        for _ in range(count)
    ]


def _side(side: str, options: StreamOptions, broker: Broker, model: models.Trained) -> Callable[[], Run]:
    log = options.cache / "logs" / f"stream-{side}.log"

    def once() -> Run:
        group, command = _command(side, options, model)
        return drained(broker, group, command, options.rows, log)

    return once


def _command(side: str, options: StreamOptions, model: models.Trained) -> tuple[str, list[str]]:
    """Return the consumer group and the command of a side."""
    if _is_ours(side):
        artifact = options.artifact or models.kappawatt_artifact(model)
        checkout = options.before if side.endswith(BEFORE) else None
        side = side.removesuffix(BEFORE)
        command = worker_command(options.bootstrap, side.removesuffix("-events"), artifact, checkout)
        return GROUP, command + (["--block-rows", "0"] if side.endswith("-events") else [])
    script = "confluent_loop.py" if side == "loop" else "quix_app.py"
    group = f"bench-{side}-{time.time_ns()}"
    python = environment(ENVIRONMENT[side], options.cache) / "python"
    given = [options.bootstrap, SOURCE, OUTPUT, group, str(model.onnx)]
    more = [str(WINDOW)] if side == "quix-window" else []
    return group, [str(python), str(Path(__file__).parent / "peers" / script), *given, *more]


def worker_command(bootstrap: str, client: str, artifact: Path, checkout: Path | None = None) -> list[str]:
    """Return the command of kappawatt's worker, of another checkout if one is named."""
    command = [
        kappawatt(checkout),
        "consume",
        "plant-power",
        "--bus",
        f"kafka://{bootstrap}",
        "--kafka-client",
        client,
    ]
    return [*command, "--artifact", str(artifact.resolve()), "--probe-port", str(free_port())]


def drained(broker: Broker, group: str, command: list[str], rows: int, log: Path, messages: int | None = None) -> Run:
    """Let a side answer all of the source topic into a new output topic; return how fast it was.

    Raises
    ------
    BenchError
        It ended, was not through in time, or its answers are not as many as the readings.
    """
    messages = messages or rows
    broker.create(OUTPUT, PARTITIONS, **{"message.timestamp.type": "LogAppendTime"})
    if group == GROUP:
        broker.forget(group)
    committed = broker.committed(group, SOURCE)
    begun = time.monotonic()
    with running(command, log, {"KAPPAWATT_LOG_LEVEL": "WARNING"}) as process:
        until(lambda: committed() >= messages, DRAIN_SECONDS, f"{group} through {messages} messages", process)
        seconds = time.monotonic() - begun
        used = cpu_seconds(process.pid)
    seen = broker.appended(OUTPUT, [0] * PARTITIONS, rows_of)
    if seen.rows < rows:
        raise BenchError(f"{group}: got {seen.rows} answers to {rows} readings")
    found = Run(seen.rate, rows / seconds, used / rows * 1e6, seen.messages)
    say(
        f"  {found.rate:,.0f} rows/s ({found.whole:,.0f} with start), {found.cpu_us:.1f} us CPU a row, "
        f"{found.messages} messages"
    )
    return found


def rows_of(message: Message) -> int:
    """Return how many answers a message holds: one, or the rows of a block."""
    value = message.value() or b""
    if not value.startswith(b"\xff\xff\xff\xff"):
        return 1
    with pyarrow.ipc.open_stream(value) as reader:
        return sum(int(batch.num_rows) for batch in reader)


def _figures(found: Mapping[str, list[Run]], options: StreamOptions) -> list[Figure]:
    protocol = (
        f"{options.rows} CSV readings waiting in {PARTITIONS} partitions, one process, {options.kind} model, "
        f"{options.rounds} alternating rounds, medians"
    )
    known = _versions(options)
    figures = []
    ours = [side for side in found if _is_ours(side) and not side.endswith(BEFORE)]
    peers = {
        "quix": "Quix Streams",
        "quix-window": f"Quix Streams, windows of {WINDOW}",
        "loop": "bare confluent-kafka loop",
    }
    if options.before:
        peers |= {side + BEFORE: f"kappawatt {commit(options.before)}" for side in ours}
    for side in ours or [""]:
        for peer in (peer for peer in peers if peer in found):
            if peer.endswith(BEFORE) and peer != side + BEFORE:
                continue
            for value, unit in (
                ("rate", "rows/s"),
                ("whole", "rows/s, start included"),
                ("cpu_us", "us CPU a row"),
            ):
                rounds = {s: [float(getattr(r, value)) for r in found[s]] for s in (side, peer) if s}
                middle = {s: median(values) for s, values in rounds.items()}
                name = f"stream {side or 'kappawatt'}: {value}"
                target = TARGETS.get(side, "") if (peer, value) == ("quix", "rate") else ""
                figures.append(
                    Figure(name, unit, middle.get(side), middle[peer], peers[peer], target, protocol, known, rounds)
                )
    return figures


def _versions(options: StreamOptions) -> dict[str, str]:
    known = {"kappawatt": kappawatt_version()}
    if any(side.startswith("quix") for side in options.sides):
        known |= versions(environment("quix", options.cache) / "python", "quixstreams")
    return known
