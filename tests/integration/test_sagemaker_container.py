"""The container contract of SageMaker, kept by the entry point that an image runs."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kappawatt.deploy.aws.pack import pack_artifact
from kappawatt.deploy.aws.sample import answer_here, sample_of
from kappawatt.models.artifact import find_artifact
from kappawatt.serving.models import artifact_root
from kappawatt.serving.service import Service, find_service, service_names
from kappawatt.settings import Settings
from tests.conftest import wait_until
from tests.integration.container import Container, make_read_only, opt_ml
from tests.integration.processes import free_port

MODELS = [n for n in service_names() if (find_service(n).folder / "artifacts" / "CURRENT").exists()]
LARGEST = 6 * 1024 * 1024
ROW = b"14.96,41.76,1024.07,73.17\n"
SHIPPED = Settings.read({})


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def children(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, check=False)
    return [int(word) for word in found.stdout.split()]


def has_handler(process: int, number: signal.Signals) -> bool:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return bool(int(lines["SigCgt"], 16) >> (number - 1) & 1)


def unpack(service: Service, base: Path) -> None:
    """As the platform does before the container starts."""
    archive = base / "model.tar.gz"
    archive.write_bytes(pack_artifact(find_artifact(artifact_root(service, SHIPPED))).content)
    (base / "model").mkdir()
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(base / "model")], check=True)
    make_read_only(base / "model")


@pytest.fixture(scope="module", params=MODELS)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Service, Container]]:
    service = find_service(request.param)
    with opt_ml() as base:
        unpack(service, base)
        with Container(base, "serve", free_port(), KAPPAWATT_SERVICE=service.name) as container:
            yield service, container.wait_ready()


@pytest.fixture(scope="module")
def plant() -> Iterator[Container]:
    service = find_service("plant-power")
    with opt_ml() as base:
        unpack(service, base)
        with Container(base, "serve", free_port(), KAPPAWATT_SERVICE=service.name) as container:
            yield container.wait_ready()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping_is_empty_and_quick(served: tuple[Service, Container], method: str) -> None:
    status, body, seconds = served[1].send("/ping", method=method)

    assert (status, body) == (200, b"")
    assert seconds < 2


def test_the_sample_is_answered_as_the_model_answers_here(served: tuple[Service, Container]) -> None:
    service, container = served
    assert service.predictor is not None
    sample = sample_of(service.predictor, find_artifact(artifact_root(service, SHIPPED)).manifest)

    status, body, _ = container.send("/invocations", sample, Content_Type="text/csv", Accept="text/csv")

    assert status == 200, body
    assert body.decode() == answer_here(service, SHIPPED, sample)


def test_headers_nobody_knows_are_ignored(served: tuple[Service, Container]) -> None:
    service, container = served
    assert service.predictor is not None
    sample = sample_of(service.predictor, find_artifact(artifact_root(service, SHIPPED)).manifest)
    strange = {
        "X_Amzn_SageMaker_Custom_Attributes": "c000b4f9-df62-4c85-a0bf-7c525f9104a4",
        "X_Amzn_SageMaker_Target_Model": "another.tar.gz",
        "X_Amzn_SageMaker_Inference_Id": "7",
        "X_Amz_Security_Token": "t" * 4000,
        "X_Nobody_Knows": "it",
    }

    plain = container.send("/invocations", sample, Content_Type="text/csv")
    decorated = container.send("/invocations", sample, Content_Type="text/csv; charset=utf-8", **strange)

    assert plain[0] == 200
    assert decorated[:2] == plain[:2]


def test_execution_parameters_are_what_batch_transform_reads(served: tuple[Service, Container]) -> None:
    status, body, _ = served[1].send("/execution-parameters")

    assert status == 200
    assert json.loads(body).keys() == {"MaxConcurrentTransforms", "BatchStrategy", "MaxPayloadInMB"}


def test_the_model_folder_is_left_as_it_was(served: tuple[Service, Container]) -> None:
    service, container = served
    artifact = find_artifact(artifact_root(service, SHIPPED))

    found = {path.name for path in (container.base / "model").iterdir()}

    assert found == {"manifest.json", *artifact.manifest.files}


def test_six_megabytes_of_csv_are_answered_in_a_minute(plant: Container) -> None:
    rows = LARGEST // len(ROW)

    status, body, seconds = plant.send("/invocations", ROW * rows, Content_Type="text/csv")

    assert status == 200, body[:500]
    assert len(body.splitlines()) == rows
    assert len(set(body.splitlines())) == 1
    assert seconds < 60


def test_six_megabytes_of_json_are_answered_in_a_minute(plant: Container) -> None:
    row = b'{"features":[14.96,41.76,1024.07,73.17]}'
    rows = (LARGEST - 20) // (len(row) + 1)
    document = b'{"instances":[' + b",".join([row] * rows) + b"]}"

    status, body, seconds = plant.send("/invocations", document, Content_Type="application/json")

    assert status == 200, body[:500]
    assert len(json.loads(body)["predictions"]) == rows
    assert seconds < 60


def test_ping_and_new_connections_are_quick_while_six_megabytes_are_answered(plant: Container) -> None:
    body = ROW * (LARGEST // len(ROW))
    busy = threading.Thread(target=plant.send, args=("/invocations", body), kwargs={"Content_Type": "text/csv"})
    busy.start()

    pings, connects = [], []
    while busy.is_alive() or not pings:
        begun = time.monotonic()
        socket.create_connection(("127.0.0.1", plant.port), timeout=5).close()
        connects.append(time.monotonic() - begun)
        pings.append(plant.send("/ping"))
        time.sleep(0.02)
    busy.join()

    assert {status for status, _, _ in pings} == {200}
    assert max(seconds for _, _, seconds in pings) < 2
    assert max(connects) < 0.25


def test_refused_rows_are_a_client_error_that_names_them(plant: Container) -> None:
    status, body, _ = plant.send("/invocations", b"14.96,812,1024.07,73.17\n", Content_Type="text/csv")

    assert status == 422
    assert b"exhaust_vacuum: got 812" in body


def test_it_listens_on_8080_unless_told_otherwise() -> None:
    if is_taken(8080):
        pytest.skip("port 8080 is taken on this machine")
    service = find_service("plant-power")
    with opt_ml() as base:
        unpack(service, base)
        with Container(base, "serve", None, KAPPAWATT_SERVICE=service.name) as container:
            container.wait_ready(30)

            assert container.port == 8080
            assert container.send("/invocations", ROW, Content_Type="text/csv")[0] == 200


def test_sigterm_finishes_the_request_at_hand_and_ends_in_time() -> None:
    service = find_service("plant-power")
    with opt_ml() as base:
        unpack(service, base)
        with Container(base, "serve", free_port(), KAPPAWATT_SERVICE=service.name) as container:
            container.wait_ready()
            request = container.send_meanwhile("/invocations", ROW * (LARGEST // len(ROW)), Content_Type="text/csv")
            time.sleep(0.1)
            begun = time.monotonic()
            container.process.terminate()
            code = container.process.wait(30)

            assert code == 0
            assert time.monotonic() - begun < 30
            assert request.result()[0] == 200


@pytest.mark.parametrize("after", [0.15, 0.4, 0.8])
def test_sigterm_while_it_starts_ends_it(after: float) -> None:
    service = find_service("plant-power")
    with opt_ml() as base:
        unpack(service, base)
        with Container(base, "serve", free_port(), KAPPAWATT_SERVICE=service.name) as container:
            time.sleep(after)
            container.process.terminate()

            assert container.process.wait(30) in (0, 143, -15), container.log.read_text()  # -15: before our first line


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="a process 1 needs root and unshare")
@pytest.mark.parametrize("after", [0.0, 3.0])
def test_as_process_1_of_a_container_it_hears_sigterm(after: float) -> None:
    service = find_service("plant-power")
    with opt_ml() as base:
        unpack(service, base)
        with Container(base, "serve", free_port(), as_process_1=True, KAPPAWATT_SERVICE=service.name) as container:
            process_1 = wait_until(lambda: children(container.process.pid), what="a process 1")[0]
            # Until it has a handler the kernel keeps the signal from it, and a busy machine takes a while to get there.
            wait_until(lambda: has_handler(process_1, signal.SIGTERM), what="a handler")
            time.sleep(after)
            os.kill(process_1, signal.SIGTERM)

            assert container.process.wait(30) in (0, 143), container.log.read_text()


def test_the_platforms_number_of_workers_is_used() -> None:
    service = find_service("plant-power")
    with opt_ml() as base:
        unpack(service, base)
        environment = {"KAPPAWATT_SERVICE": service.name, "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
        with Container(base, "serve", free_port(), **environment) as container:
            container.wait_ready()

            wait_until(lambda: len(children(container.process.pid)) == 2, 20, "two workers")


def test_a_damaged_model_fails_the_ping_and_the_log_says_why() -> None:
    service = find_service("plant-power")
    with opt_ml() as base:
        unpack(service, base)
        subprocess.run(["chmod", "-R", "u+w", str(base / "model")], check=True)
        (base / "model" / "model.npz").write_bytes(b"damaged")
        with Container(base, "serve", free_port(), KAPPAWATT_SERVICE=service.name) as container:
            deadline = time.monotonic() + 30
            while (status := container.send("/ping")[0]) == 0 and time.monotonic() < deadline:
                time.sleep(0.1)

            assert status == 503
            assert "got sha256" in container.log.read_text()


@pytest.mark.parametrize(
    ("argument", "environment", "said"),
    [
        ("serve", {}, "KAPPAWATT_SERVICE: got nothing"),
        ("serve", {"KAPPAWATT_SERVICE": "nobody"}, "got 'nobody', allowed"),
        ("train", {"KAPPAWATT_SERVICE": "gateway"}, "gateway has no model to train"),
        ("serve", {"KAPPAWATT_SERVICE": "plant-power", "SAGEMAKER_BIND_TO_PORT": "http"}, "SAGEMAKER_BIND_TO_PORT"),
        ("serve", {"KAPPAWATT_SERVICE": "plant-power", "SAGEMAKER_MULTI_MODEL": "true"}, "SAGEMAKER_MULTI_MODEL"),
        ("server", {"KAPPAWATT_SERVICE": "plant-power"}, "got 'server', allowed serve, consume"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_run_ends_at_once_and_is_named(argument: str, environment: dict[str, str], said: str) -> None:
    with opt_ml() as base, Container(base, argument, None, **environment) as container:
        assert container.process.wait(30) != 0
        text = container.log.read_text()
        assert said in text
        assert "Traceback" not in text


def write_input(base: Path, hyperparameters: dict[str, str], *channels: str) -> None:
    config = base / "input" / "config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    described = {name: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"} for name in channels}
    (config / "inputdataconfig.json").write_text(json.dumps(described))
    resources = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
    (config / "resourceconfig.json").write_text(json.dumps(resources))
    for name in channels:
        (base / "input" / "data" / name).mkdir(parents=True)
    (base / "model").mkdir()
    (base / "output").mkdir()


@pytest.mark.parametrize(
    ("hyperparameters", "channels", "said"),
    [
        ({"quick": "perhaps"}, ("training",), "hyperparameter quick: got 'perhaps', allowed true or false"),
        ({"depth": "3"}, ("training",), "hyperparameter depth: allowed quick"),
        ({}, (), "got channels none, allowed one, or one named training"),
        ({}, ("first", "second"), "got channels first, second"),
        ({}, ("training",), "training"),  # an empty folder: no data set is in it
    ],
)
def test_a_failed_training_says_why_in_the_failure_file(
    hyperparameters: dict[str, str], channels: tuple[str, ...], said: str
) -> None:
    with opt_ml() as base:
        write_input(base, hyperparameters, *channels)
        with Container(base, "train", None, KAPPAWATT_SERVICE="plant-power") as container:
            assert container.process.wait(60) == 1, container.log.read_text()

            failure = (base / "output" / "failure").read_text()
            assert said in failure
            assert len(failure) <= 1024
            assert not list((base / "model").iterdir())


def test_a_training_job_leaves_a_model_that_the_same_container_serves() -> None:
    data = os.environ.get("KAPPAWATT_DATA")
    if not data:
        pytest.skip("KAPPAWATT_DATA names no folder of data sets")
    source = Path(data) / "ccpp" / "ccpp_shared.csv.gz"
    with opt_ml() as base:
        write_input(base, {"quick": '"true"', "sagemaker_job_name": '"job-1"'}, "training")
        lines = gzip.decompress(source.read_bytes()).splitlines(keepends=True)
        part = base / "input" / "data" / "training" / source.relative_to(data)
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(gzip.compress(b"".join(lines[:1500])))
        with Container(base, "train", None, KAPPAWATT_SERVICE="plant-power") as training:
            assert training.process.wait(240) == 0, training.log.read_text()
        assert not (base / "output" / "failure").exists()

        subprocess.run(["tar", "-czf", str(base / "model.tar.gz"), "-C", str(base / "model"), "."], check=True)
        shutil.rmtree(base / "model")
        (base / "model").mkdir()
        subprocess.run(["tar", "-xzf", str(base / "model.tar.gz"), "-C", str(base / "model")], check=True)
        make_read_only(base / "model")
        with Container(base, "serve", free_port(), KAPPAWATT_SERVICE="plant-power") as container:
            container.wait_ready()
            status, body, _ = container.send("/invocations", ROW, Content_Type="text/csv")

        assert status == 200
        assert 420 < float(body) < 500
