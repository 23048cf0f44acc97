"""Requests with an Idempotency-Key come to the same instance again; real HTTP servers are the instances."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from urllib3.util import parse_url

from kappawatt.bus import Bus
from kappawatt.services.gateway.proxy.breaker import Breaker
from kappawatt.services.gateway.proxy.forward import Address, Proxy, Target
from kappawatt.services.gateway.wiring import EXTENSION
from kappawatt.services.sensor_ingestor.service import SERVICE as INGESTOR
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams.plant import PLANT_READINGS

KEYS = [f"run-7-{number}" for number in range(300)]
READING = {
    "ambient_temperature": 14.96,
    "exhaust_vacuum": 41.76,
    "ambient_pressure": 1024.07,
    "relative_humidity": 73.17,
}


def address(url: str) -> Address:
    parsed = parse_url(url)
    assert parsed.host is not None
    assert parsed.port is not None
    return parsed.host, parsed.port


def target(own: Address, *instances: Address) -> Target:
    return Target("sensor-ingestor", "http", *own, Breaker("sensor-ingestor"), tuple(sorted(instances)))


def named(name: str) -> Flask:
    """An instance that answers its name and the host it was asked as."""
    app = Flask(name)
    app.add_url_rule("/load/<key>", "load", lambda key: {"name": name, "host": request.host}, methods=["POST", "GET"])
    return app


@pytest.fixture
def nobody() -> Callable[[], Address]:
    """Return a function that returns an address where nobody listens."""

    def find() -> Address:
        with socket.create_server(("127.0.0.1", 0)) as opened:
            return "127.0.0.1", opened.getsockname()[1]

    return find


@pytest.fixture
def names(serve: Any) -> dict[Address, str]:
    """Three instances that run, by address."""
    return {address(serve(named(name))): name for name in "abc"}


@pytest.fixture
def anyone(serve: Any) -> Address:
    """The Service's address."""
    return address(serve(named("anyone")))


@pytest.fixture
def gateway(open_gateway: Callable[..., Flask]) -> Callable[[Target], FlaskClient]:
    """Return a function that makes a client of a gateway in front of a target."""
    app = open_gateway()

    def front(found: Target) -> FlaskClient:
        app.extensions[EXTENSION].proxy.found([found])
        return app.test_client()

    return front


def who(client: FlaskClient, key: str | None) -> str:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = client.post("/api/sensor-ingestor/load/PJME", data=b"{}", headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.get_json()["name"])


def test_a_repeat_comes_to_the_same_instance_and_keys_spread_over_all(
    gateway: Any, names: dict[Address, str], anyone: Address
) -> None:
    client = gateway(target(anyone, *names))

    first = [who(client, key) for key in KEYS[:60]]
    again = [who(client, key) for key in KEYS[:60]]

    assert first == again
    assert set(first) == set(names.values())


def test_requests_without_a_key_go_to_the_services_address(
    gateway: Any, names: dict[Address, str], anyone: Address
) -> None:
    client = gateway(target(anyone, *names))

    assert {who(client, None) for _ in range(5)} == {"anyone"}


def test_where_no_instance_is_known_every_request_goes_to_the_services_address(gateway: Any, anyone: Address) -> None:
    client = gateway(target(anyone))

    assert {who(client, key) for key in KEYS[:5]} == {"anyone"}


def test_an_instance_is_asked_by_the_services_name(gateway: Any, names: dict[Address, str], anyone: Address) -> None:
    answer = gateway(target(anyone, *names)).post(
        "/api/sensor-ingestor/load/PJME", data=b"{}", headers={"Idempotency-Key": "1"}
    )

    assert answer.get_json()["host"] == f"{anyone[0]}:{anyone[1]}"


def test_keys_of_an_instance_that_has_gone_come_to_the_next_and_no_other_key_moves(
    gateway: Any, names: dict[Address, str], anyone: Address, nobody: Callable[[], Address]
) -> None:
    gone = nobody()
    with_gone, without = target(anyone, *names, gone), target(anyone, *names)
    client = gateway(with_gone)

    seen = [who(client, key) for key in KEYS[:40]]

    assert any(with_gone.addresses(key)[0] == gone for key in KEYS[:40])
    assert seen == [names[without.addresses(key)[0]] for key in KEYS[:40]]


def test_when_all_instances_have_gone_the_services_address_is_asked(
    gateway: Any, anyone: Address, nobody: Callable[[], Address]
) -> None:
    client = gateway(target(anyone, *(nobody() for _ in range(5))))

    assert who(client, "1") == "anyone"


def test_a_request_that_was_sent_goes_to_no_other_instance(
    gateway: Any, names: dict[Address, str], anyone: Address
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as breaking:
        broken: Address = ("127.0.0.1", breaking.getsockname()[1])
        all_of_them = target(anyone, *names, broken)
        key = next(key for key in KEYS if all_of_them.addresses(key)[0] == broken)
        breaking.listen()
        client = gateway(all_of_them)

        def break_off() -> None:
            connection, _ = breaking.accept()
            connection.recv(65536)
            connection.close()

        Thread(target=break_off, daemon=True).start()
        answer = client.post("/api/sensor-ingestor/load/PJME", data=b"{}", headers={"Idempotency-Key": key})

    assert answer.status_code == 502


def test_one_more_instance_takes_its_share_of_keys_and_no_other_key_moves() -> None:
    three = [(f"10.0.0.{n}", 8080) for n in (1, 2, 3)]
    fourth = ("10.0.0.4", 8080)
    before, after = target(("a.svc", 80), *three), target(("a.svc", 80), *three, fourth)

    share = Counter(before.addresses(key)[0] for key in KEYS)
    moved = [key for key in KEYS if before.addresses(key)[0] != after.addresses(key)[0]]

    assert all(70 < share[each] < 130 for each in three)
    assert {after.addresses(key)[0] for key in moved} == {fourth}
    assert 50 < len(moved) < 100


def test_of_many_instances_three_are_tried_before_the_services_address() -> None:
    found = target(("a.svc", 80), *((f"10.0.0.{n}", 8080) for n in range(5))).addresses("a key")

    assert (len(set(found)), found[3]) == (4, ("a.svc", 80))


def test_every_gateway_chooses_alike() -> None:
    """The choice is part of no process: a literal that another release must choose too."""
    found = target(("a.svc", 80), ("10.0.0.1", 8080), ("10.0.0.2", 8080), ("fd00::3", 8080))

    assert [found.addresses(f"key {n}")[0][0][-1] for n in range(12)] == list("323322231133")


def test_instances_that_change_keep_the_breaker_of_the_service() -> None:
    proxy = Proxy({})
    proxy.found([target(("a.svc", 80), ("10.0.0.1", 8080))])
    before = proxy.targets["sensor-ingestor"]

    proxy.found([target(("a.svc", 80), ("10.0.0.2", 8080))])

    after = proxy.targets["sensor-ingestor"]
    assert after.instances == (("10.0.0.2", 8080),)
    assert after.breaker is before.breaker


def test_connections_to_an_instance_that_has_gone_are_closed(open_gateway: Callable[..., Flask]) -> None:
    app = open_gateway()
    proxy, client = app.extensions[EXTENSION].proxy, app.test_client()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here: Address = ("127.0.0.1", listening.getsockname()[1])
        proxy.found([target(here)])
        connections: list[socket.socket] = []

        def answer() -> None:
            connection, _ = listening.accept()
            connections.append(connection)
            while b"{}" not in connection.recv(65536):
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        Thread(target=answer, daemon=True).start()
        assert client.post("/api/sensor-ingestor/load/a", data=b"{}").status_code == 200

        connections[0].settimeout(5)
        proxy.found([])

        assert connections[0].recv(1) == b""
        connections[0].close()


def test_a_reading_that_is_sent_twice_behind_three_ingestors_is_stored_once(
    gateway: Any, serve: Any, bus: Bus, bus_url: str, tmp_path: Path, anyone: Address
) -> None:
    ingestors = [
        address(serve(create_app(INGESTOR, Settings(bus=bus_url, state=tmp_path / name)))) for name in ("a", "b", "c")
    ]
    client = gateway(target(anyone, *ingestors))

    def send(key: str) -> Any:
        return client.post("/api/sensor-ingestor/readings/plant-1", json=READING, headers={"Idempotency-Key": key})

    first, again = ([send(key) for key in KEYS[:12]] for _ in range(2))

    assert {answer.status_code for answer in [*first, *again]} == {202}
    assert not any("Idempotent-Replay" in answer.headers for answer in first)
    assert all(answer.headers["Idempotent-Replay"] == "true" for answer in again)
    assert sum(offset.end for offset in bus.offsets(PLANT_READINGS.name).values()) == 12


def test_an_instance_that_does_not_take_connections_is_passed_by_within_its_time_out(
    gateway: Any, names: dict[Address, str], anyone: Address
) -> None:
    """A node that has gone refuses nothing: its address is silent."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        silent: Address = ("127.0.0.1", full.getsockname()[1])
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(silent)
        all_of_them = target(anyone, *names, silent)
        key = next(key for key in KEYS if all_of_them.addresses(key)[0] == silent)
        client, began = gateway(all_of_them), time.monotonic()

        assert who(client, key) == names[all_of_them.addresses(key)[1]]
        assert 0.9 < time.monotonic() - began < 3.0
        for filler in fillers:
            filler.close()
