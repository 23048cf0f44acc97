"""The stack of docker/compose.yaml, really up: readings in at the gateway, answers out, and what happens to crashes.

One stack serves all of these, and the last ones change it and take it down.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from kappawatt.datasets.named import synthetic_plant
from kappawatt.datasets.synthetic import synthetic_load
from kappawatt.deploy.aws.pack import pack_artifact
from kappawatt.deploy.aws.sample import answer_here, same_answer
from kappawatt.ingest import Summary, send_columns, send_series, series_rows
from kappawatt.models.artifact import find_artifact
from kappawatt.models.s3 import S3Model
from kappawatt.serving.service import find_service, service_names
from kappawatt.settings import Settings
from kappawatt.streams.load import STREAM as LOAD
from kappawatt.streams.plant import STREAM as PLANT
from tests.compose.stack import ROOT, Stack, free_port
from tests.conftest import wait_until
from tests.docker import docker

pytestmark = pytest.mark.timeout(600)

MODELS = [name for name in service_names() if find_service(name).model is not None]
SENT = 400  # readings while something is killed
LANDED = "SELECT count(*) FROM predictions WHERE key = '{}'"


def test_every_container_runs_without_rights_it_does_not_need(stack: Stack) -> None:
    containers = stack.containers()
    assert {*service_names(), "kafka", "postgres"} <= containers.keys()
    for name, found in containers.items():
        host = found["HostConfig"]
        assert found["Config"]["User"] not in ("", "0", "root"), name
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert 0 < host["Memory"] <= 1 << 30, name
        assert 0 < host["PidsLimit"] <= 256, name
        assert host["RestartPolicy"]["Name"] == "unless-stopped", name
        assert host["LogConfig"]["Config"]["max-size"], name


def test_only_the_gateway_is_published_and_only_to_this_machine(stack: Stack) -> None:
    published = {
        (name, binding["HostIp"], binding["HostPort"])
        for name, found in stack.containers().items()
        for bindings in found["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    }
    assert published == {("gateway", "127.0.0.1", str(stack.port))}


@pytest.mark.parametrize(
    ("service", "address", "reached"),
    [
        ("sink", "postgres:5432", True),
        ("plant-power-consume", "kafka:9092", True),
        ("plant-power-consume", "postgres:5432", False),
        ("gateway", "postgres:5432", False),
    ],
)
def test_a_service_reaches_only_what_it_talks_to(stack: Stack, service: str, address: str, reached: bool) -> None:
    host, port = address.split(":")
    script = f"import socket; socket.create_connection(('{host}', {port}), 3).close(); print('reached')"
    found = stack.containers()[service]["Id"]
    said = docker("exec", found, "python3", "-c", script, check=False)
    assert (said == "reached") is reached


def test_only_the_gateway_is_on_a_network_that_leads_out(stack: Stack) -> None:
    for name, found in stack.containers().items():
        networks = json.loads(docker("network", "inspect", *found["NetworkSettings"]["Networks"]))
        assert all(network["Internal"] for network in networks) is (name != "gateway"), name


@pytest.mark.parametrize("name", MODELS)
def test_a_model_answers_behind_the_gateway_as_it_does_here(stack: Stack, name: str) -> None:
    service, settings = find_service(name), Settings.read({})
    sample = service.modelled().sample(find_artifact(service.artifacts(settings)).manifest)
    status, answer = stack.post(f"/api/{name}/invocations", sample, "text/csv", Accept="text/csv")
    assert status == 200, answer
    assert same_answer(str(answer), answer_here(service, settings, sample))


def test_readings_come_back_as_predictions_and_land_in_postgresql(stack: Stack) -> None:
    status, answer = stack.post(
        "/api/sensor-ingestor/readings/turbine", b"14.96,41.76,1024.07,73.17,463.26\n20,50,1010,60,450\n", "text/csv"
    )
    assert (status, answer["accepted"]) == (202, 2), answer

    wait_until(lambda: stack.get("/api/latest/turbine")[0] == 200, 30, "a prediction at the gateway")
    wait_until(lambda: stack.number(LANDED.format("turbine")) == 2, 30, "both predictions in PostgreSQL")
    assert stack.ask(
        "SELECT r.net_power, round(p.net_power) FROM readings r"
        " JOIN predictions p USING (source_topic, source_partition, source_offset, source_row)"
        " WHERE r.key = 'turbine' AND r.ambient_temperature = 14.96"
    ) == [["463.26", "463"]]


def test_a_zones_load_is_forecast_from_what_was_posted(stack: Stack) -> None:
    whole = series_rows(synthetic_load("zone-of-a-test", 7))
    days = 62 * 7
    first = whole.live.columns["interval_start"][0]
    turn, until = (f"{np.datetime_as_string(first + np.timedelta64(d, 'D'), unit='s')}+00:00" for d in (days, days + 2))
    sent = send_series([whole.between(turn, until, backfill=float(days))], send=stack.sender("", LOAD), rate=1000.0)
    assert sent.refused == 0

    def forecast() -> Any:
        status, answer = stack.get("/api/forecasts/hourly-load/zone-of-a-test")
        return answer if status == 200 else None

    wait_until(forecast, 60, "a published forecast")
    status, answer = stack.post("/api/hourly-load/forecast", orjson.dumps({"load_zone": "zone-of-a-test"}))
    assert status == 200, answer
    assert len(answer["target_time"]) in (23, 24, 25)
    assert not answer["fallback"]
    low, high = (np.array(answer["quantiles"][level]) for level in ("0.05", "0.95"))
    assert (low < high).all()
    landed = "SELECT count(*) FROM forecasts WHERE key = 'zone-of-a-test'"
    wait_until(lambda: stack.number(landed) >= 24, 30, "forecasts in PostgreSQL")


@pytest.mark.parametrize("service", ["plant-power-consume", "sink", "kafka"])
def test_what_is_killed_under_load_comes_back_with_nothing_lost_or_doubled(stack: Stack, service: str) -> None:
    stream_while_it_is_killed(stack, service)
    assert found_of(stack, f"killed-{service}") == {"readings": SENT, "rows": SENT, "predictions": SENT, "ids": SENT}


def stream_while_it_is_killed(stack: Stack, service: str) -> None:
    """Post readings at the gateway at a steady rate, and kill a service meanwhile."""
    plant, before = f"killed-{service}", stack.restarts(service)
    rows = synthetic_plant(SENT, 1)
    send, done = stack.sender(plant), list[Summary]()
    thread = threading.Thread(target=lambda: done.append(send_columns(PLANT, rows, send=send, rate=50.0)))
    thread.start()
    try:
        wait_until(lambda: stack.number(LANDED.format(plant)) > 0, 60, "a first prediction")
        stack.kill(service)
        wait_until(lambda: stack.restarts(service) > before, 60, f"{service} is started again")
    finally:
        thread.join(240)
    assert [(summary.accepted, summary.refused) for summary in done] == [(SENT, 0)]
    stack.await_health()

    def all_landed() -> bool:
        found = found_of(stack, plant)
        return found["rows"] == SENT and found["readings"] == found["predictions"]

    wait_until(all_landed, 120, f"{SENT} readings and their predictions")


def found_of(stack: Stack, plant: str) -> dict[str, int]:
    """Return how many readings of a plant landed, how many different ones, their predictions, and ids of those."""
    values = "(ambient_temperature, exhaust_vacuum, ambient_pressure, relative_humidity, net_power)"
    place = "(source_topic, source_partition, source_offset, source_row)"
    ((readings, rows),) = stack.ask(f"SELECT count(*), count(DISTINCT {values}) FROM readings WHERE key = '{plant}'")
    ((predictions, ids),) = stack.ask(
        f"SELECT count(*), count(DISTINCT {place}) FROM predictions WHERE key = '{plant}'"
    )
    return {"readings": int(readings), "rows": int(rows), "predictions": int(predictions), "ids": int(ids)}


def test_the_demo_streams_until_it_is_stopped(stack: Stack) -> None:
    stack.up("demo", profile="demo")
    wait_until(lambda: stack.number(LANDED.format("synthetic-plant-1")) > 20, 60, "predictions of the demo's plant")
    series = "SELECT count(DISTINCT key) FROM forecasts WHERE key LIKE 'synthetic-%'"
    wait_until(lambda: stack.number(series) == 3, 120, "forecasts of a zone and two meters")
    stack.compose("--profile", "demo", "stop", "demo")
    state = stack.containers()["demo"]["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)
    stack.compose("--profile", "demo", "rm", "-f", "demo")


def test_the_s3_server_keeps_a_model_that_can_be_loaded_from_it(stack: Stack, s3_image: str, tmp_path: Path) -> None:
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (extra aws)")
    port = free_port()
    with_s3 = stack.with_files(
        S3_IMAGE=s3_image, S3_PORT=str(port), S3_ACCESS_KEY="of-a-test", S3_SECRET_KEY="secret-of-a-test"
    )
    with_s3.up("s3", profile="s3")
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="of-a-test",
        aws_secret_access_key="secret-of-a-test",
        region_name="us-east-1",
    )
    artifact = find_artifact(find_service("plant-power").artifacts(Settings.read({})))
    client.create_bucket(Bucket="models")
    client.put_object(Bucket="models", Key="plant-power.tar.gz", Body=pack_artifact(artifact).content)
    with_s3.compose("--profile", "s3", "rm", "-fs", "s3")
    with_s3.up("s3", profile="s3")
    found = S3Model("s3://models/plant-power.tar.gz", tmp_path, client).look()
    assert found is not None
    assert find_artifact(found.folder).manifest == artifact.manifest
    client.close()
    with_s3.compose("--profile", "s3", "rm", "-fs", "s3")


def test_with_keys_nobody_gets_in_without_one(stack: Stack, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"writer:{hashlib.sha256(b'of-a-test').hexdigest()}:test\n")
    keys.chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    override = ROOT / "docker" / "compose" / "keys.yaml"
    guarded = stack.with_files(override, KAPPAWATT_API_KEYS_FILE=str(keys), KAPPAWATT_PUBLIC_PORT=str(free_port()))
    guarded.up("gateway")
    reading = b"14.96,41.76,1024.07,73.17,463.26"
    door = "/api/sensor-ingestor/readings/guarded"
    assert guarded.get("/api/latest")[0] == 401
    assert guarded.post(door, reading, "text/csv")[0] == 401
    assert guarded.post(door, reading, "text/csv", X_API_Key="of-a-test")[0] == 202
    assert guarded.get("/api/latest", Authorization="Bearer of-a-test")[0] == 200


def test_what_landed_is_still_there_after_down_and_up(stack: Stack) -> None:
    landed = stack.number(LANDED.format("turbine"))
    stack.compose("down")
    assert not stack.containers()
    stack.up()
    assert stack.number(LANDED.format("turbine")) == landed == 2
    status, answer = stack.post("/api/sensor-ingestor/readings/turbine", b"20,50,1010,60", "text/csv")
    assert status == 202, answer
    wait_until(lambda: stack.number(LANDED.format("turbine")) == 3, 60, "a prediction after the restart")


def test_down_with_volumes_leaves_nothing(stack: Stack) -> None:
    assert stack.leftovers()
    begun = time.monotonic()
    stack.down()
    assert stack.leftovers() == []
    assert time.monotonic() - begun < 40  # nobody had to be killed
