"""The package as it is uploaded: run by AWS's own runtime client on the runtime's Python, with nothing else to import.

Where the model comes from S3, AWS_ENDPOINT_URL_S3 names the server, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY its
keys.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest

from kappawatt.deploy.aws.pack import ARCHIVE, pack_artifact
from kappawatt.models.artifact import find_artifact
from kappawatt.serving.app import create_app
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from serverless.build import MOST_UNZIPPED, MOST_ZIPPED, Package, build
from serverless.local import FunctionError, LocalFunction
from tests.conftest import wait_until
from tests.integration.lambda_sandbox import Gate, Way, built, gate, needs_runtime, task
from tests.unit.deploy.aws.fixtures import READING, header, http_api, load, rest_api

__all__ = ["built", "task"]

needs_s3 = pytest.mark.skipif(
    not os.environ.get("AWS_ENDPOINT_URL_S3"), reason="AWS_ENDPOINT_URL_S3 names no S3 server"
)


def archive_of(version: str | None = None) -> bytes:
    return pack_artifact(find_artifact(find_service("plant-power").folder / "artifacts", version)).content


def versions() -> tuple[str, str]:
    """The current version, and another."""
    root = find_service("plant-power").folder / "artifacts"
    current = find_artifact(root).manifest.version
    return current, next(p.name for p in sorted(root.iterdir()) if p.is_dir() and p.name != current)


@dataclass
class Stored:
    """A model in a bucket of the test's own, behind a gate."""

    s3: Any
    bucket: str
    gate: Gate

    def put(self, content: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key="models/" + ARCHIVE, Body=content)

    def environment(self, **more: str) -> dict[str, str]:
        """What a function is told."""
        return {
            "KAPPAWATT_SERVICE": "plant-power",
            "KAPPAWATT_MODEL_URL": f"s3://{self.bucket}/models/{ARCHIVE}",
            "KAPPAWATT_MODEL_CHECK_SECONDS": "1",
            "AWS_ENDPOINT_URL_S3": self.gate.address,
            "AWS_ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": os.environ["AWS_SECRET_ACCESS_KEY"],
            "AWS_REGION": os.environ.get("AWS_REGION", "us-east-1"),
            "AWS_DEFAULT_REGION": os.environ.get("AWS_REGION", "us-east-1"),
        } | more


@pytest.fixture
def stored() -> Iterator[Stored]:
    s3 = boto3.client("s3")
    bucket = f"kappawatt-{uuid4()}"
    s3.create_bucket(Bucket=bucket)
    with gate() as found:
        yield Stored(s3, bucket, found)
    for item in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
        s3.delete_object(Bucket=bucket, Key=item["Key"])
    s3.delete_bucket(Bucket=bucket)
    s3.close()


def predict(function: LocalFunction) -> tuple[int, dict[str, Any]]:
    answer = function.invoke(http_api(body=json.dumps(READING)))
    return answer["statusCode"], json.loads(answer["body"])


def version(function: LocalFunction) -> str:
    status, document = predict(function)
    assert status == 200, document
    return str(document["version"])


def test_the_package_is_small_and_holds_no_tests(built: Package) -> None:
    with zipfile.ZipFile(built.path) as archive:
        names = archive.namelist()

    assert Path(built.path).stat().st_size == built.zipped < MOST_ZIPPED
    assert built.unzipped < MOST_UNZIPPED
    assert "handler.py" in names
    assert f"kappawatt/services/plant_power/artifacts/{built.version}/model.npz" in names
    assert not [
        n for n in names if "/tests/" in n or n.startswith(("tensorflow", "matplotlib")) or "/hourly_load/" in n
    ]
    assert {n.split("/")[2] for n in names if n.startswith("botocore/data/") and n.count("/") > 2} == {"s3"}
    assert built.precompiled is any(n.endswith(".pyc") for n in names)


def test_the_same_inputs_give_the_same_bytes(built: Package, tmp_path: Path) -> None:
    again = build(find_service("plant-power"), tmp_path)

    assert again.sha256 == built.sha256
    assert Path(again.model).read_bytes() == Path(built.model).read_bytes() == archive_of()


@needs_runtime
def test_a_package_answers_as_the_app_does_and_needs_nothing_else(task: Path) -> None:
    app = create_app(find_service("plant-power"), Settings.read({})).test_client()
    rows = [READING, READING | {"ambient_temperature": 20.5}, READING | {"exhaust_vacuum": 812.0}]

    with LocalFunction(task, KAPPAWATT_SERVICE="plant-power") as function:
        function.wait_ready()
        pairs = [
            (
                function.invoke(event(path, body, method=method)),
                app.open(path, method=method, data=body, content_type="application/json"),
            )
            for event in (http_api, rest_api)
            for path, method, body in (
                ("/predict", "POST", json.dumps(READING)),
                ("/predict", "POST", json.dumps(rows)),
                ("/params", "GET", None),
                ("/v2/models/plant-power", "GET", None),
            )
        ]
        direct = function.invoke({"rows": rows[:2]})
        openapi = json.loads(function.invoke(http_api("/openapi.json", method="GET"))["body"])
        kept = function.temporary_files()

    for got, expected in pairs:
        one, other = json.loads(got["body"]), json.loads(expected.data)
        for own in ("request_id", "versions"):  # a package holds one version
            one.pop(own, None)
            other.pop(own, None)
        assert (got["statusCode"], one) == (expected.status_code, other)
    assert direct["predictions"] == json.loads(pairs[1][0]["body"])["predictions"][:2]
    assert openapi["info"]["version"] == app.get("/openapi.json").json["info"]["version"]
    assert kept == []


@needs_runtime
def test_answers_that_the_platform_would_drop_are_problem_documents(task: Path) -> None:
    rows = "14.96,41.76,1024.07,73.17\n" * 80_000

    with LocalFunction(task, KAPPAWATT_SERVICE="plant-power") as function:
        large = function.invoke(http_api(body=rows, content_type="text/csv"))
        with pytest.raises(FunctionError, match="PayloadInvalid: event: got "):
            function.invoke({"source": "aws.events"})
        after = function.invoke(load("rest_api"))

    assert (large["statusCode"], header(large, "content-type")) == (413, "application/problem+json")
    assert after["statusCode"] == 200


@needs_runtime
@pytest.mark.parametrize(
    "environment",
    [{}, {"KAPPAWATT_SERVICE": "gateway"}, {"KAPPAWATT_SERVICE": "plant-power", "KAPPAWATT_LOG_LEVEL": "LOUD"}],
)
def test_a_setting_that_cannot_be_used_ends_the_start_and_is_named(task: Path, environment: dict[str, str]) -> None:
    with LocalFunction(task, **environment) as function, pytest.raises(FunctionError) as failure:
        function.wait_ready()

    assert failure.value.document["errorType"] == "SettingInvalid"
    assert failure.value.document["errorMessage"].startswith("KAPPAWATT_")


@needs_runtime
@needs_s3
def test_another_model_in_s3_takes_over_without_a_failed_request(task: Path, stored: Stored) -> None:
    current, other = versions()
    stored.put(archive_of(other))

    with LocalFunction(task, **stored.environment()) as function:
        function.wait_ready()
        assert version(function) == other
        stored.put(archive_of(current))
        seen: list[str] = []
        wait_until(lambda: seen.append(version(function)) or seen[-1] == current, 20, "the new version")
        kept = function.temporary_files()

    assert set(seen) == {other, current} or seen == [current]
    assert {Path(name).name for name in kept} == {"manifest.json", "model.npz"}
    assert len(kept) == 2  # the old one is gone


@needs_runtime
@needs_s3
def test_s3_is_asked_no_more_often_than_told_and_sends_nothing_twice(task: Path, stored: Stored) -> None:
    stored.put(archive_of())
    size = len(archive_of())

    with LocalFunction(task, **stored.environment(KAPPAWATT_MODEL_CHECK_SECONDS="3600")) as function:
        for _ in range(5):
            version(function)
    seldom, stored.gate.bytes_back = stored.gate.bytes_back, 0
    with LocalFunction(task, **stored.environment(KAPPAWATT_MODEL_CHECK_SECONDS="1")) as function:
        version(function)
        first = stored.gate.bytes_back
        until = time.monotonic() + 20
        while stored.gate.bytes_back == first and time.monotonic() < until:
            version(function)
            time.sleep(0.1)
        more = stored.gate.bytes_back - first

    assert size < seldom < size + 2_000
    assert size < first < size + 2_000
    assert 0 < more < 2_000  # headers that say 304


@needs_runtime
@needs_s3
@pytest.mark.parametrize(
    "damaged", [b"no archive", b"half", b"another model"], ids=["no archive", "half", "another model"]
)
def test_a_damaged_model_in_s3_is_left_there(task: Path, stored: Stored, damaged: bytes, tmp_path: Path) -> None:
    current, other = versions()
    content = {
        b"half": archive_of()[: len(archive_of()) // 2],
        b"another model": pack_artifact(find_artifact(find_service("smart-meter").folder / "artifacts")).content,
    }
    stored.put(archive_of(other))

    with LocalFunction(task, **stored.environment()) as function:
        assert version(function) == other
        stored.put(content.get(damaged, damaged))
        wait_until(lambda: version(function) and "no other model from S3" in function.said(), 20, "the refusal")
        assert version(function) == other
        time.sleep(1.1)
        version(function)
        refusals = function.said().count("no other model from S3")
        stored.put(archive_of(current))
        wait_until(lambda: version(function) == current, 20, "the good one")
        said = function.said()

    assert refusals == 1  # the same object is not downloaded again
    assert "the model fetched before" in said


@needs_runtime
@needs_s3
@pytest.mark.parametrize("way", [Way.REFUSED, Way.SILENT])
def test_a_warm_model_serves_on_while_s3_is_away(task: Path, stored: Stored, way: Way) -> None:
    stored.put(archive_of())

    with LocalFunction(task, **stored.environment()) as function:
        assert version(function) == versions()[0]
        stored.gate.shut(way)
        time.sleep(1.1)
        started = time.monotonic()
        assert version(function) == versions()[0]
        took = time.monotonic() - started
        said = function.said()

    assert took < 20
    assert "no other model from S3" in said
    assert "the model fetched before" in said


@needs_runtime
@needs_s3
@pytest.mark.parametrize("way", [Way.REFUSED, Way.SILENT])
def test_a_cold_start_without_s3_says_503_until_it_is_back(task: Path, stored: Stored, way: Way) -> None:
    stored.put(archive_of())
    stored.gate.shut(way)

    with LocalFunction(task, **stored.environment()) as function:
        init = function.wait_ready()
        status, document = predict(function)
        alive = function.invoke(http_api("/healthz", method="GET"))
        ready = function.invoke(http_api("/readyz", method="GET"))
        with pytest.raises(FunctionError, match="NotReady: model: it could not be fetched: "):
            function.invoke({"rows": [READING]})
        stored.gate.shut(Way.OPEN)
        wait_until(lambda: predict(function)[0] == 200, 30, "an answer")

    assert init < 15  # of the 10 s that the platform gives, on a machine that shares its processor
    assert (status, document["status"], document["title"]) == (503, 503, "Not ready")
    assert document["detail"].startswith("model: it could not be fetched: ")
    assert stored.bucket not in document["detail"]
    assert (alive["statusCode"], ready["statusCode"]) == (200, 503)


@needs_runtime
@needs_s3
def test_a_model_that_is_not_in_s3_is_named(task: Path, stored: Stored) -> None:
    with LocalFunction(task, **stored.environment()) as function:
        status, document = predict(function)

    assert status == 503
    assert document["detail"] == "model: it could not be fetched: NoSuchKey"
