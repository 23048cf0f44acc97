"""Kill ingestor, workers, sink and broker at random under load, and account for every reading.

    python -m bench.kill                       100 kills of each bus and Kafka client, about 25 minutes
    python -m bench.kill --bus embedded --kills 20 --seed 3

Readings go in over HTTP, each request under an Idempotency-Key of its own that is repeated until it is answered. In the
end every reading that was accepted has to stand on the bus once, be answered under one id, and be in the store once. A
request whose ingestor was killed while it published is leased to the dead for 150 s, so its repeats get 409: whoever is
not answered within that is counted as undecided, and its readings may be there or not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import orjson
import urllib3

from bench.measure import say
from bench.processes import BenchError, free_port, stop, until, until_answers
from kappawatt.broker import Broker
from kappawatt.bus import Bus, connect
from kappawatt.bus.interface import BusOptions
from kappawatt.bus.reading import read_span
from kappawatt.messages.predictions import read_predictions
from kappawatt.messages.readings import decoded_messages
from kappawatt.streams.plant import READING, STREAM
from kappawatt.streams.table import TOPICS

BUSES = ("embedded", "kafka-python", "confluent")
SENDERS = 4
MOST_ROWS = 20  # of a request
PAUSE_SECONDS = 0.02  # between two requests of a sender
PATIENCE_SECONDS = 30.0  # a request is repeated for so long
BETWEEN_SECONDS = (0.2, 1.5)  # two kills
START_SECONDS = 90.0
SETTLE_SECONDS = 180.0
SESSION_SECONDS = 6  # a dead member's partitions move after it
BEGIN = 1_760_000_000_000  # ms; each reading has a time of its own, which is how it is told from all others
SETTINGS = {
    "KAPPAWATT_SESSION_TIMEOUT": str(SESSION_SECONDS),
    "KAPPAWATT_LOG_FORMAT": "text",
    "KAPPAWATT_DRAIN_SECONDS": "0",
}


@dataclass(slots=True)
class Account:
    """What became of the readings; all but the kills are counts of readings."""

    bus: str
    seed: int
    kills: dict[str, int] = field(default_factory=dict)
    accepted: int = 0
    undecided: int = 0
    on_the_bus: int = 0
    missing: int = 0
    doubled: int = 0
    answered: int = 0
    unanswered: int = 0
    two_ids: int = 0
    in_the_store: int = 0
    not_landed: int = 0
    landed_twice: int = 0
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is missing and nothing is doubled."""
        return not (
            self.missing or self.doubled or self.unanswered or self.two_ids or self.not_landed or self.landed_twice
        )


class Victim:
    """One process of the command line, killed and started again."""

    def __init__(self, name: str, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.port = free_port()
        self._arguments = arguments
        self._log = folder / f"{name}.log"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("KAPPAWATT_")}
        ports = {"KAPPAWATT_PORT": str(self.port), "KAPPAWATT_PROBE_PORT": str(self.port)}
        self._environment = clean | ports | environment
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "kappawatt.cli", *self._arguments],
                env=self._environment,
                cwd=self._log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill the process and all it started, and start it again."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)
        self.process = self._start()

    def await_ready(self) -> None:
        """Wait until it says that it is ready."""
        until_answers(f"http://127.0.0.1:{self.port}/readyz", START_SECONDS, self.process)


class Load:
    """Senders that post readings until they are told to end."""

    def __init__(self, port: int, seed: int) -> None:
        self._url = f"http://127.0.0.1:{port}/readings/plant-"
        self._seed = seed
        self._lock = threading.Lock()
        self._next = BEGIN
        self._ended = threading.Event()
        self.accepted: set[int] = set()
        self.undecided: set[int] = set()
        self._threads = [threading.Thread(target=self._send, args=(n,), daemon=True) for n in range(SENDERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        chance = random.Random(f"{self._seed} {number}")
        pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=2.0, read=15.0))
        sent = 0
        while not self._ended.wait(PAUSE_SECONDS):
            sent += 1
            times = self._take(chance.randint(1, MOST_ROWS))
            body = orjson.dumps([reading(time_, chance) for time_ in times])
            headers = {"Content-Type": "application/json", "Idempotency-Key": f"{self._seed}-{number}-{sent}"}
            is_accepted = self._post(pool, f"{self._url}{chance.randint(1, 12)}", body, headers)
            with self._lock:
                (self.accepted if is_accepted else self.undecided).update(times)

    def _take(self, n: int) -> range:
        with self._lock:
            first, self._next = self._next, self._next + n
            return range(first, first + n)

    def _post(self, pool: urllib3.PoolManager, url: str, body: bytes, headers: dict[str, str]) -> bool:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                answer = pool.request("POST", url, body=body, headers=headers)
                if answer.status == 202:
                    return True
                if answer.status not in (409, 429) and answer.status < 500:
                    raise BenchError(f"{url}: got {answer.status} {answer.data[:300]!r}, allowed 202")
            time.sleep(0.1)
        return False


def reading(moment: int, chance: random.Random) -> dict[str, Any]:
    """Return a reading of one moment [ms since the epoch]."""
    return {
        "ambient_temperature": round(chance.uniform(2, 35), 2),
        "exhaust_vacuum": round(chance.uniform(30, 80), 2),
        "ambient_pressure": 1013.25,
        "relative_humidity": 60.0,
        "net_power": 450.0,
        "event_time": moment,
    }


def run(name: str, kills: int, seed: int, folder: Path) -> Account:
    """Kill on one bus, and account for what came of it."""
    began = time.monotonic()
    chance = random.Random(seed)
    account = Account(name, seed)
    with contextlib.ExitStack() as held:
        broker: Broker | None = None
        if name == "embedded":
            url, options = f"embedded:{folder}/bus.sqlite", BusOptions()
        else:
            broker = held.enter_context(Broker(folder / "kafka"))
            url, options = f"kafka://{broker.bootstrap}", BusOptions(kafka_client=name)
        bus = held.enter_context(contextlib.closing(connect(url, options)))
        bus.ensure(TOPICS)
        environment = SETTINGS | {
            "KAPPAWATT_BUS": url,
            "KAPPAWATT_KAFKA_CLIENT": options.kafka_client,
            "KAPPAWATT_DATABASE": f"duckdb:{folder}/store.duckdb",
            "KAPPAWATT_STATE": str(folder / "state"),
        }
        victims = [
            held.enter_context(ended(Victim(victim, arguments, folder, environment)))
            for victim, arguments in (
                ("ingestor", ["serve", "sensor-ingestor"]),
                ("worker-1", ["consume", "plant-power"]),
                ("worker-2", ["consume", "plant-power"]),
                ("sink", ["consume", "sink"]),
            )
        ]
        for victim in victims:
            victim.await_ready()
        with Load(victims[0].port, seed) as load:
            account.kills = kill(kills, victims, broker, chance)
            say(f"{name}: {kills} kills done, {len(load.accepted)} readings accepted so far")
            for victim in victims:
                victim.await_ready()
        settle(bus, victims)
        stop(victims[-1].process)  # the store may be open in one process only
        judge(account, bus, load, folder / "store.duckdb")
    account.seconds = round(time.monotonic() - began, 1)
    return account


@contextlib.contextmanager
def ended(victim: Victim) -> Iterator[Victim]:
    """Stop a process in the end."""
    try:
        yield victim
    finally:
        stop(victim.process)


def kill(kills: int, victims: list[Victim], broker: Broker | None, chance: random.Random) -> dict[str, int]:
    """Kill one at a time, at random moments; return how often each was."""
    names = [*victims, *([broker] if broker is not None else [])]
    counted: Counter[str] = Counter()
    for n in range(kills):
        time.sleep(chance.uniform(*BETWEEN_SECONDS))
        chosen = chance.choice(names)
        if isinstance(chosen, Broker):
            chosen.kill()
            chosen.start()
            counted["broker"] += 1
        else:
            chosen.kill()
            counted[chosen.name] += 1
        if (n + 1) % 20 == 0:
            say(f"{n + 1} kills: {', '.join(f'{name} {times}' for name, times in sorted(counted.items()))}")
    return dict(sorted(counted.items()))


def settle(bus: Bus, victims: list[Victim]) -> None:
    """Wait until workers and sink have committed all there is."""
    topics = {"plant-power": [STREAM.readings.name], "sink": [STREAM.readings.name, STREAM.answers.name]}

    def is_done() -> bool:
        time.sleep(0.5)
        return all(
            bus.committed(group, topic).get(partition, 0) >= known.end
            for group, names in topics.items()
            for topic in names
            for partition, known in bus.offsets(topic).items()
            if known.end > known.begin
        )

    until(is_done, SETTLE_SECONDS, "workers and sink at the end of their topics")
    for victim in victims:
        if victim.process.poll() is not None:
            raise BenchError(f"{victim.name}: ended with {victim.process.returncode}")


def judge(account: Account, bus: Bus, load: Load, store: Path) -> None:
    """Fill in what is on the bus and in the store."""
    stored, moments = read_readings(bus)
    answers = read_answers(bus)
    account.accepted, account.undecided = len(load.accepted), len(load.undecided)
    account.on_the_bus = len(stored)
    account.missing = len(load.accepted - moments.keys())
    account.doubled = sum(n - 1 for n in moments.values())
    account.answered = len(answers)
    account.unanswered = len(stored - answers.keys())
    account.two_ids = sum(len(ids) > 1 for ids in answers.values())
    with contextlib.closing(duckdb.connect(str(store), read_only=True)) as connection:
        for table in ("readings", "predictions"):
            rows = connection.execute(f"SELECT source_partition, source_offset, source_row FROM {table}")
            landed = Counter(rows.fetchall())
            account.in_the_store += len(landed)
            account.not_landed += len(stored - landed.keys())
            account.landed_twice += sum(n - 1 for n in landed.values())


def read_readings(bus: Bus) -> tuple[set[tuple[int, int, int]], Counter[int]]:
    """Return the coordinates of all readings, and how often each moment came."""
    stored: set[tuple[int, int, int]] = set()
    moments: Counter[int] = Counter()
    for polled in read_span(bus, [STREAM.readings.name], {}):
        for records in polled:
            for message, batch, rows in decoded_messages(records, READING):
                moments.update(batch.columns["event_time"][rows].astype("datetime64[ms]").astype(int).tolist())
                stored |= {(records.partition, records.offsets[message], row) for row in range(len(rows))}
    return stored, moments


def read_answers(bus: Bus) -> dict[tuple[int, int, int], set[str]]:
    """Return the ids under which each reading was answered."""
    answers: dict[tuple[int, int, int], set[str]] = {}
    for polled in read_span(bus, [STREAM.answers.name], {}):
        for row in read_predictions(polled):
            place = row["source_partition"], row["source_offset"], row["source_row"]
            answers.setdefault(place, set()).add(row["id"])
    return answers


def table(accounts: list[Account]) -> str:
    """Return the accounts as Markdown."""
    columns = (
        ("bus", "bus"),
        ("kills", "kills"),
        ("accepted", "accepted"),
        ("undecided", "undecided"),
        ("missing", "missing on the bus"),
        ("doubled", "doubled on the bus"),
        ("unanswered", "unanswered"),
        ("two_ids", "answered under two ids"),
        ("not_landed", "not in the store"),
        ("landed_twice", "twice in the store"),
    )
    lines = [f"| {' | '.join(title for _, title in columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    for account in accounts:
        values = asdict(account) | {"kills": sum(account.kills.values())}
        lines.append(f"| {' | '.join(str(values[name]) for name, _ in columns)} |")
    return "\n".join(lines)


def main() -> int:
    """Run what is asked for; 1 if anything is missing or doubled."""
    parser = argparse.ArgumentParser(
        "python -m bench.kill",
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--bus", choices=(*BUSES, "all"), default="all", help="embedded, or Kafka by one client")
    parser.add_argument("--kills", type=int, default=100, help="of each bus")
    parser.add_argument("--seed", type=int, default=1, help="of moments, victims and readings")
    parser.add_argument("--json", type=Path, help="write the accounts here")
    parser.add_argument("--keep", type=Path, help="folder for logs, bus and store, left as they are")
    given = parser.parse_args()
    accounts = []
    for name in BUSES if given.bus == "all" else (given.bus,):
        with contextlib.ExitStack() as held:
            folder = given.keep / name if given.keep else Path(held.enter_context(tempfile.TemporaryDirectory()))
            folder.mkdir(parents=True, exist_ok=True)
            say(f"{name}: {given.kills} kills, seed {given.seed}")
            accounts.append(run(name, given.kills, given.seed, folder))
            say(json.dumps(asdict(accounts[-1])))
    print(table(accounts))
    if given.json:
        given.json.write_text(json.dumps([asdict(account) for account in accounts], indent=2) + "\n")
    return 0 if all(account.is_clean for account in accounts) else 1


if __name__ == "__main__":
    sys.exit(main())
