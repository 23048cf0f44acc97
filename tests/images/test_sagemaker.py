"""The image on SageMaker: the claims of the entry point's own tests, and what only an image can break."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kappawatt.serving.service import Service, find_service
from tests.images.engine import Running
from tests.integration.container import opt_ml
from tests.integration.test_sagemaker_container import (  # noqa: F401 - collected here, with the fixtures below
    LARGEST,
    MODELS,
    ROW,
    test_execution_parameters_are_what_batch_transform_reads,
    test_headers_nobody_knows_are_ignored,
    test_ping_and_new_connections_are_quick_while_six_megabytes_are_answered,
    test_ping_is_empty_and_quick,
    test_refused_rows_are_a_client_error_that_names_them,
    test_six_megabytes_of_csv_are_answered_in_a_minute,
    test_six_megabytes_of_json_are_answered_in_a_minute,
    test_the_model_folder_is_left_as_it_was,
    unpack,
    write_input,
)
from tools.images import tag_of

PLATFORM: tuple[str, ...] = ()  # SageMaker gives no flags: a file system that can be written to


class Hosted(Running):
    """`docker run IMAGE serve`, and the model that was unpacked before."""

    def __init__(self, service: Service, base: Path) -> None:
        self.base = base
        super().__init__(tag_of(service.name), "serve", mounts={base / "model": "/opt/ml/model"}, options=PLATFORM)


@pytest.fixture(scope="module", params=MODELS)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Service, Hosted]]:
    service = find_service(request.param)
    with opt_ml() as base:
        unpack(service, base)
        with Hosted(service, base) as container:
            container.wait_ready(path="/ping")
            yield service, container


@pytest.fixture(scope="module")
def plant() -> Iterator[Hosted]:
    service = find_service("plant-power")
    with opt_ml() as base:
        unpack(service, base)
        with Hosted(service, base) as container:
            container.wait_ready(path="/ping")
            yield container


def test_sigterm_finishes_the_request_at_hand_and_ends_in_time() -> None:
    service = find_service("plant-power")
    with opt_ml() as base:
        unpack(service, base)
        with Hosted(service, base) as container:
            container.wait_ready(path="/ping")
            request = container.send_meanwhile("/invocations", ROW * (LARGEST // len(ROW)), Content_Type="text/csv")
            time.sleep(0.1)
            code, seconds = container.stop()

    assert code == 0
    assert seconds < 30
    assert request.result()[0] == 200


def test_a_damaged_model_fails_the_ping() -> None:
    service = find_service("plant-power")
    with opt_ml() as base:
        unpack(service, base)
        subprocess.run(["chmod", "-R", "u+w", str(base / "model")], check=True)
        (base / "model" / "model.npz").write_bytes(b"damaged")
        with Hosted(service, base) as container:
            deadline = time.monotonic() + 60
            while (status := container.send("/ping")[0]) == 0 and time.monotonic() < deadline:
                time.sleep(0.1)

            assert status == 503
            assert "got sha256" in container.logs()


def test_a_failed_training_says_why_in_the_failure_file(training_image: str) -> None:
    with opt_ml() as base:
        write_input(base, {"depth": "3"}, "training")
        with Running(training_image, "train", mounts={base: "/opt/ml"}, options=PLATFORM) as training:
            assert training.wait_ended() == 1, training.logs()

        assert "hyperparameter depth: allowed quick" in (base / "output" / "failure").read_text()
        assert not list((base / "model").iterdir())


def test_the_serving_image_says_what_training_lacks() -> None:
    data = os.environ.get("KAPPAWATT_DATA")
    if not data:
        pytest.skip("KAPPAWATT_DATA names no folder of data sets")
    with opt_ml() as base:
        prepare(base, Path(data), rows=500)
        base.chmod(0o755)
        (base / "output").mkdir(exist_ok=True)
        (base / "output").chmod(0o777)
        with Running(tag_of("plant-power"), "train", mounts={base: "/opt/ml"}, options=PLATFORM) as training:
            assert training.wait_ended() == 1, training.logs()

        failure = (base / "output" / "failure").read_text()
        assert "got an image without" in failure
        assert "Traceback" not in failure


def test_a_training_job_leaves_a_model_that_the_serving_image_serves(training_image: str) -> None:
    data = os.environ.get("KAPPAWATT_DATA")
    if not data:
        pytest.skip("KAPPAWATT_DATA names no folder of data sets")
    with opt_ml() as base:
        prepare(base, Path(data), rows=1500)
        with Running(training_image, "train", mounts={base: "/opt/ml"}, options=PLATFORM) as training:
            assert training.wait_ended(240) == 0, training.logs()
        assert not (base / "output" / "failure").exists()

        with Hosted(find_service("plant-power"), base) as container:
            container.wait_ready(path="/ping")
            status, body, _ = container.send("/invocations", ROW, Content_Type="text/csv")

        assert status == 200
        assert 420 < float(body) < 500
        shutil.rmtree(base / "model")


def prepare(base: Path, data: Path, *, rows: int) -> None:
    """Write the input of a quick job on the first rows of the plant's data."""
    write_input(base, {"quick": '"true"', "sagemaker_job_name": '"job-1"'}, "training")
    source = data / "ccpp" / "ccpp_shared.csv.gz"
    part = base / "input" / "data" / "training" / source.relative_to(data)
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(gzip.compress(b"".join(gzip.decompress(source.read_bytes()).splitlines(keepends=True)[:rows])))
