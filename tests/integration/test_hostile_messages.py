"""Whatever bytes lie on any topic: every consumer goes on, says it is ready, and each message is accounted for.

    make test-integration                                    a minute
    KAPPAWATT_HOSTILE_SECONDS=3600 pytest tests/integration/test_hostile_messages.py -s
    KAPPAWATT_HOSTILE_SEED=123 ...                           the first round again, as it was printed
    KAPPAWATT_TEST_KAFKA=HOST:PORT ...                       on that Kafka too, which nobody else may use

Workers, sink, gateway and a server with histories run on one bus while messages are written to every topic in turn.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from kappawatt.bus import Bus, Outgoing, connect
from kappawatt.bus.interface import Records, header
from kappawatt.columns.arrow import read_columns
from kappawatt.errors import DeliveryFailed, PayloadInvalid
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.predictions import read_predictions
from kappawatt.messages.readings import by_content_type, decode_records
from kappawatt.services.gateway.wiring import EXTENSION as GATEWAY
from kappawatt.serving.app import create_app
from kappawatt.serving.histories import EXTENSION as HISTORIES
from kappawatt.serving.service import Service, find_service
from kappawatt.settings import Settings
from kappawatt.streams.stream import Form
from kappawatt.streams.table import FORMS, STREAMS
from kappawatt.streams.table import TOPICS as ALL_TOPICS
from tests import fakes, forecast_fakes
from tests.conftest import publish, wait_until
from tests.integration import hostile

SECONDS = float(os.environ.get("KAPPAWATT_HOSTILE_SECONDS", "45"))
SEED = os.environ.get("KAPPAWATT_HOSTILE_SEED")
PATIENCE = 60.0  # for consumers to have dealt with what a round wrote
ANSWERED = {"plant": fakes.SERVICE, "load": forecast_fakes.SERVICE}  # by stream, whose workers run here
PATHS = (
    "/api/latest", "/api/recent", "/api/summary", "/api/rejections", "/api/forecasts", "/api/forecasts/score",
    "/api/views", *(f"/api/views/{stream.name}" for stream in STREAMS), "/metrics", "/healthz", "/readyz",
)  # fmt: skip

log = logging.getLogger(__name__)


class World:
    """Every consumer of every topic, in threads of this process, each as its command runs it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.bus = connect(url)
        self.bus.ensure(ALL_TOPICS)
        self.failures: list[str] = []
        self.apps: dict[str, Flask] = {}
        self._loops: list[tuple[Any, threading.Thread]] = []
        given: dict[str, Any] = {"bus": url, "database": f"duckdb:{folder}/store.duckdb", "retry_for": 10.0}
        own = {name: folder / name for name in ("fake-power", "fake-load")}
        fakes.write_artifact(own["fake-power"])
        forecast_fakes.write_artifact(own["fake-load"])
        for service in ANSWERED.values():
            self._work(service, Settings.read({}, artifacts=own[service.name], **given))
        self._work(find_service("sink"), Settings.read({}, **given))
        self.gateway = self.apps["gateway"] = create_app(find_service("gateway"), Settings.read({}, **given))
        serving = Settings.read({}, artifacts=own["fake-load"], **given)
        self.server = self.apps["serve fake-load"] = create_app(forecast_fakes.SERVICE, serving)
        self.sink: Any = self.apps["sink"].extensions["kappawatt.sink"]
        wait_until(lambda: not self.unready(), PATIENCE, "everything ready")

    def _work(self, service: Service, given: Settings) -> None:
        app = self.apps[service.name] = create_app(service, given, serves=service.is_one_process)
        assert service.work is not None
        loop = service.work(app, app.extensions["kappawatt"])
        thread = threading.Thread(target=self._run, args=(service.name, loop), name=service.name, daemon=True)
        thread.start()
        self._loops.append((loop, thread))

    def _run(self, name: str, loop: Any) -> None:
        try:
            loop.run()
        except BaseException as error:
            log.exception("%s has ended", name)
            self.failures.append(f"{name} has ended: {type(error).__name__}: {error}")

    def unready(self) -> dict[str, Any]:
        """Who is not ready, and why."""
        found = {name: app.test_client().get("/readyz") for name, app in self.apps.items()}
        return {name: answer.json for name, answer in found.items() if answer.status_code != 200}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the sink's database answers."""
        rows: list[tuple[Any, ...]] = self.sink.store.query(sql, 10**6).rows
        return rows

    def close(self) -> None:
        """Stop everything."""
        for loop, _ in self._loops:
            loop.stop()
        for _, thread in self._loops:
            thread.join(30)
        self.gateway.extensions[GATEWAY].stop()
        self.server.extensions[HISTORIES].stop()
        self.bus.close()


Place = tuple[str, int, int]


class Account:
    """What became of each message that a round wrote."""

    def __init__(self, world: World, begun: Mapping[tuple[str, int], int]) -> None:
        self.world = world
        ours: list[Records] = []
        self.letters: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.answers: list[dict[str, Any]] = []
        for topic in FORMS:
            for records in _since(world.bus, topic, begun):
                is_ours = [header(headers, "x-case") is not None for headers in records.headers]
                ours.append(records.pick([i for i, own in enumerate(is_ours) if own]))
                theirs = records.pick([i for i, own in enumerate(is_ours) if not own])
                if topic == "plant.predictions":
                    self.answers += read_predictions([theirs])
                if FORMS[topic][1] is Form.DEAD_LETTERS:
                    found = read_dead_letters([theirs])
                    assert len(found) == len(theirs), f"a dead letter that nobody can read: {theirs.values}"
                    self.letters[topic] += found
        self.ours = [records for records in ours if len(records)]

    def wrong(self) -> list[str]:
        """What is missing, or there twice."""
        return [*self._wrong_at_workers(), *self._wrong_at_the_sink()]

    def _wrong_at_workers(self) -> Iterator[str]:
        for stream in STREAMS:
            if stream.name not in ANSWERED:
                continue
            refused = Counter((x["partition"], x["offset"]) for x in self.letters[stream.dead.name])
            rows_refused = {(x["partition"], x["offset"]): x["rejected_rows"] for x in self.letters[stream.dead.name]}
            answered = Counter(
                (a["source_partition"], a["source_offset"], a["source_row"]) for a in self.answers
            )  # of this log: those that were written as hostile are ours, and not in it
            yield from (f"{stream.name}: {place} has {n} dead letters" for place, n in refused.items() if n > 1)
            yield from (f"an error of ours: {x}" for x in self.letters[stream.dead.name] if x["reason"] == "internal")
            for records in self.ours:
                if records.topic != stream.readings.name:
                    continue
                for i, (offset, rows, bad) in enumerate(_rows_of(records, stream)):
                    place = (records.partition, offset)
                    if bad and not refused[place]:
                        yield f"{records.topic}{place}: {bad} bad rows and no dead letter: {records.values[i][:200]!r}"
                    if stream.name == "plant":
                        counts = [answered[*place, row] for row in range(rows)]
                        if max(counts, default=0) > 1:
                            yield f"{records.topic}{place}: a row is answered twice"
                        if sum(counts) + rows_refused.get(place, 0) != rows:
                            yield (
                                f"{records.topic}{place}: {rows} rows, {sum(counts)} answered and "
                                f"{rows_refused.get(place, 0)} refused: {records.values[i][:200]!r}"
                            )

    def _wrong_at_the_sink(self) -> Iterator[str]:
        """Each message is a row or more of its table, or of `rejections`; a refused reading only of the latter."""
        layout = {table.name: table for table in _tables()}
        landed: set[Place] = set()
        ids: set[str] = set()
        for name, table in layout.items():
            if "source_offset" in table.names:
                found = self.world.rows(f"SELECT DISTINCT source_topic, source_partition, source_offset FROM {name}")
                landed |= {(t, int(p), int(o)) for t, p, o in found if t is not None}
            ids |= {row[0] for row in self.world.rows(f"SELECT id FROM {name}")}
            if "forecast_id" in table.names:
                ids |= {row[0] for row in self.world.rows(f"SELECT DISTINCT forecast_id FROM {name}")}
        for records in self.ours:
            form = FORMS[records.topic][1]
            for offset, value in zip(records.offsets, records.values, strict=True):
                if (records.topic, records.partition, offset) in landed:
                    continue
                if form is not Form.READINGS and self._has_landed(value, landed, ids):
                    continue
                if form is Form.READINGS and FORMS[records.topic][0].name not in ANSWERED:
                    continue  # no worker here, so a refused one has no dead letter
                yield f"{records.topic}[{records.partition}]@{offset} is nowhere in the store: {value[:200]!r}"

    def _has_landed(self, value: bytes, landed: set[Place], ids: set[str]) -> bool:
        """Whether a row has a document's id, or the offset of a reading that a block answers (no other has it)."""
        try:
            document = orjson.loads(value)
        except orjson.JSONDecodeError:
            offsets = _offsets_in_block(value)
            return bool(offsets) and offsets <= {offset for _, _, offset in landed}
        return isinstance(document, dict) and str(document.get("id")) in ids


def _offsets_in_block(value: bytes) -> set[int]:
    try:
        return set(read_columns(value)["source_offset"].tolist())
    except (PayloadInvalid, KeyError):
        return set()


def _tables() -> Any:
    from kappawatt.services.sink.tables import LAYOUT

    return LAYOUT.tables


def _rows_of(records: Records, stream: Any) -> Iterator[tuple[int, int, int]]:
    """Offset, rows, and rows that the schema refuses, of each message."""
    for i, offset in enumerate(records.offsets):
        one = records.pick([i])
        ((kind, parts),) = by_content_type([one]).items()
        batch = decode_records(parts, kind, stream.schema).batch
        yield offset, len(batch), int((~batch.valid).sum())


def _since(bus: Bus, topic: str, begun: Mapping[tuple[str, int], int]) -> Iterator[Records]:
    known = bus.offsets(topic)
    ends = {p: o.end for p, o in known.items() if o.end > begun.get((topic, p), 0)}
    if not ends:
        return
    reader = bus.reader([topic], {(topic, p): begun.get((topic, p), 0) for p in known})
    deadline = time.monotonic() + PATIENCE
    try:
        while any(reader.positions().get((topic, p), 0) < end for p, end in ends.items()):
            assert time.monotonic() < deadline, f"{topic} cannot be read up to {ends}"
            yield from reader.poll(0.2)
    finally:
        reader.close()


class Machine(RuleBasedStateMachine):
    """Writes to every topic in turn; in the end everything is accounted for."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.begun = {(t, p): o.end for t in FORMS for p, o in self.world.bus.offsets(t).items()}
        self.case = f"{random.getrandbits(48):x}"
        self.turn = 0

    @initialize(first=st.integers(0, len(hostile.TOPICS) - 1))
    def begin(self, first: int) -> None:
        self.turn = first

    def _write(self, data: st.DataObject, kind: Any) -> None:
        topic = hostile.TOPICS[self.turn % len(hostile.TOPICS)]
        self.turn += 1
        messages = data.draw(st.lists(kind(topic), min_size=1, max_size=8), label=topic)
        for message in messages:
            with contextlib.suppress(DeliveryFailed):  # Kafka takes no record time of the future, and no megabytes
                publish(self.world.bus, [message.to(topic, self.case)])

    @rule(data=st.data())
    def write_valid(self, data: st.DataObject) -> None:
        self._write(data, hostile.valid)

    @rule(data=st.data())
    def write_mutated(self, data: st.DataObject) -> None:
        self._write(data, hostile.mutated)

    @rule(data=st.data())
    def write_mutated_again(self, data: st.DataObject) -> None:
        self._write(data, hostile.mutated)

    @rule(data=st.data())
    def write_hostile(self, data: st.DataObject) -> None:
        self._write(data, hostile.hostile)

    def teardown(self) -> None:
        world = self.world
        sentinels = self._write_sentinels()
        deadline = time.monotonic() + PATIENCE
        while missing := self._missing(sentinels):
            assert not world.failures
            assert time.monotonic() < deadline, missing
            time.sleep(0.1)
        deadline = time.monotonic() + PATIENCE
        while wrong := Account(world, self.begun).wrong():
            assert not world.failures
            assert time.monotonic() < deadline, "\n".join(wrong[:20])
            time.sleep(0.2)
        wait_until(lambda: not world.unready(), PATIENCE, f"ready: {world.unready()}")
        self._ask_the_gateway()
        self._ask_the_server()
        assert not world.failures

    def _write_sentinels(self) -> dict[str, set[str]]:
        """A good reading behind everything in each partition of every stream's readings."""
        messages = []
        names: dict[str, set[str]] = defaultdict(set)
        for stream in STREAMS:
            for partition in self.world.bus.offsets(stream.readings.name):
                name = f"end-{self.case}-{partition}"
                row = hostile._row(stream, partition)
                messages.append(
                    Outgoing(
                        stream.readings.name, orjson.dumps(row | ({stream.key.name: name} if stream.names_key else {})),
                        name.encode(), (("x-case", self.case.encode()),), partition=partition,
                    )
                )  # fmt: skip
                names[stream.service].add(name)
        publish(self.world.bus, messages)
        return names

    def _missing(self, sentinels: Mapping[str, set[str]]) -> dict[str, set[str]]:
        """Which of them a view, or the histories of the server, do not show yet."""
        client = self.world.gateway.test_client()
        shown: dict[str, set[str]] = defaultdict(set)
        shown["plant-power"] = {p["key"] for p in client.get("/api/latest").json["predictions"]}
        for series in client.get("/api/forecasts").json["series"]:
            shown[series["service"]].add(series["key"])
        known = {s["load_zone"] for s in self.world.server.test_client().get("/series").json["series"]}
        missing = {of: names - shown[of] for of, names in sentinels.items()}
        missing["/series"] = sentinels["hourly-load"] - known
        return {of: names for of, names in missing.items() if names}

    def _ask_the_gateway(self) -> None:
        client = self.world.gateway.test_client()
        for path in PATHS:
            answer = client.get(path)
            assert answer.status_code == 200, (path, answer.data[:500])
            if path.startswith("/api"):
                orjson.loads(answer.data)
        for row in client.get("/api/forecasts").json["series"]:
            path = f"/api/forecasts/{row['service']}/{row['key']}"
            if "/" not in row["key"] and row["key"].isprintable() and row["key"].isascii():
                assert client.get(path).status_code in (200, 404), path
        self._catch_up(client)

    def _catch_up(self, client: Any) -> None:
        """A client that was away is sent every event since, each of which can be read."""
        places = defaultdict(list)
        for (topic, partition), offset in sorted(self.begun.items()):
            if topic in ("plant.predictions", "plant.readings.dead"):
                places[topic].append(f"{partition}={offset}")
        position = ";".join(f"{topic}:{','.join(found)}" for topic, found in places.items())
        answer = client.get("/api/stream", query_string={"view": "plant", "last_event_id": position})
        assert answer.status_code == 200
        deadline, seen = time.monotonic() + PATIENCE, Counter[str]()
        ends = {(t, p): o.end for t in places for p, o in self.world.bus.offsets(t).items()}
        try:
            for chunk in answer.iter_encoded():
                lines = dict(line.split(": ", 1) for line in chunk.decode().split("\n") if ": " in line)
                if "data" in lines:
                    orjson.loads(lines["data"])
                    seen[lines["event"]] += 1
                at = dict(_places(lines.get("id", "")))
                if all(at.get(where, 0) >= end for where, end in ends.items()):
                    return
                assert time.monotonic() < deadline, f"{seen} and not at {ends}, but {at}"
        finally:
            answer.close()

    def _ask_the_server(self) -> None:
        client = self.world.server.test_client()
        for path in ("/series", "/healthz", "/readyz", "/metrics"):
            assert client.get(path).status_code == 200, path
        for series in client.get("/series").json["series"][:20]:
            answer = client.post("/forecast", json={"load_zone": series["load_zone"]})
            assert answer.status_code in (200, 400, 422), answer.data[:300]


def _places(text: str) -> Iterator[tuple[tuple[str, int], int]]:
    for part in text.split(";") if text else ():
        topic, _, places = part.partition(":")
        for place in places.split(","):
            partition, _, offset = place.partition("=")
            yield (topic.partition("~")[0], int(partition)), int(offset.partition(".")[0])


BUSES = ["embedded", *(["kafka"] if os.environ.get("KAPPAWATT_TEST_KAFKA") else [])]


# Threads of consumers draw waiting times while a strategy runs, which Hypothesis takes for the strategy's own doing.
@pytest.mark.filterwarnings("ignore:Do not use the .random. module:hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("bus", BUSES)
def test_whatever_lies_on_a_topic_everybody_goes_on(bus: str, tmp_path: Path) -> None:
    url = f"kafka://{os.environ['KAPPAWATT_TEST_KAFKA']}" if bus == "kafka" else f"embedded:{tmp_path}/bus.sqlite"
    world = World(tmp_path, url)
    limits = settings(
        max_examples=5,
        stateful_step_count=20,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    until = time.monotonic() + SECONDS
    try:
        for round_ in range(10**6):
            number = int(SEED) if SEED and round_ == 0 else random.getrandbits(32)
            print(f"KAPPAWATT_HOSTILE_SEED={number}", flush=True)
            machine = seed(number)(type("Machine", (Machine,), {"world": world}))
            run_state_machine_as_test(machine, settings=limits)
            if time.monotonic() > until:
                break
    finally:
        world.close()
