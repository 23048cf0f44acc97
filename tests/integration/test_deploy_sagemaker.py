"""Deploying through a real S3 server, and to a container that was started from what lies there.

AWS_ENDPOINT_URL_S3 names the S3 server and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY its keys. The control plane is
moto; behind the runtime's address stands the container's own entry point.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import uuid4

import boto3
import pytest
from click.testing import CliRunner, Result
from moto.server import ThreadedMotoServer

from kappawatt.cli.main import main
from kappawatt.serving.service import find_service, service_names
from tests.integration.container import Container, make_read_only, opt_ml
from tests.integration.processes import free_port

MODELS = [n for n in service_names() if (find_service(n).folder / "artifacts" / "CURRENT").exists()]
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/kappawatt/SERVICE:1"
ROLE = "arn:aws:iam::123456789012:role/kappawatt-sagemaker"

pytestmark = pytest.mark.skipif(
    not os.environ.get("AWS_ENDPOINT_URL_S3"), reason="AWS_ENDPOINT_URL_S3 names no S3 server"
)


@pytest.fixture
def bucket() -> Iterator[str]:
    s3 = boto3.client("s3")
    name = f"kappawatt-{uuid4()}"
    s3.create_bucket(Bucket=name)
    yield name
    for item in s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_object(Bucket=name, Key=item["Key"])
    s3.delete_bucket(Bucket=name)


@pytest.fixture(scope="module")
def control_plane() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@contextmanager
def runtime(container: Container) -> Iterator[str]:
    """The runtime's address: `/endpoints/NAME/invocations` is the container's `/invocations`, as on the platform."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = urllib.request.Request(f"http://127.0.0.1:{container.port}/invocations", body)
            for name, value in self.headers.items():
                if name.lower() not in ("host", "content-length", "connection", "authorization"):
                    request.add_header(name, value)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    status, found, kind = answer.status, answer.read(), answer.headers["Content-Type"]
            except urllib.error.HTTPError as error:
                status, found, kind = error.code, error.read(), error.headers["Content-Type"]
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def call(service: str, control_plane: str, *arguments: str, runtime: str = "") -> Result:
    environment = {
        "AWS_ENDPOINT_URL_SAGEMAKER": control_plane,
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": runtime or control_plane,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    fixed = ["--region", "us-east-1", "--poll", "0.1"]
    return CliRunner().invoke(main, ["deploy", "sagemaker", service, *fixed, *arguments], env=environment)


@pytest.mark.parametrize("service", MODELS)
def test_a_model_goes_through_s3_into_a_container_that_answers_as_it_does_here(
    service: str, bucket: str, control_plane: str
) -> None:
    needed = ("--image", IMAGE.replace("SERVICE", service), "--role", ROLE, "--bucket", bucket, "--json")
    s3 = boto3.client("s3")

    first = call(service, control_plane, *needed, "--no-wait")
    assert first.exit_code == 0, first.output
    document = json.loads(first.stdout)
    _, _, _, key = document["archive"].split("/", 3)
    stored = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    with opt_ml() as base, tarfile.open(fileobj=io.BytesIO(stored["Body"].read())) as tar:
        (base / "model").mkdir()
        tar.extractall(base / "model", filter="data")
        make_read_only(base / "model")
        with (
            Container(base, "serve", free_port(), KAPPAWATT_SERVICE=service) as container,
            runtime(container.wait_ready()) as address,
        ):
            second = call(service, control_plane, *needed, runtime=address)
    deleted = call(service, control_plane, "--delete")

    assert document["sent"] == ["PutObject", "CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    assert stored["ChecksumSHA256"] == document["sha256_base64"]
    assert second.exit_code == 0, second.output
    again = json.loads(second.stdout)
    assert (again["sent"], again["status"]) == ([], "InService")
    assert again["answer"]
    assert deleted.exit_code == 0, deleted.output
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_bucket_that_is_not_there_is_named(control_plane: str) -> None:
    result = call("plant-power", control_plane, "--image", IMAGE, "--role", ROLE, "--bucket", f"none-{uuid4()}")

    assert result.exit_code == 1
    assert "s3.PutObject: NoSuchBucket" in result.output
    assert "Traceback" not in result.output


def test_wrong_keys_are_awss_words_and_no_secret_is_printed(
    bucket: str, control_plane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-for-the-test")

    result = call("plant-power", control_plane, "--image", IMAGE, "--role", ROLE, "--bucket", bucket)
    monkeypatch.undo()

    assert result.exit_code == 1
    assert "s3.HeadObject: 403: " in result.output
    assert "wrong-secret-for-the-test" not in result.output
