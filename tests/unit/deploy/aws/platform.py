"""A SageMaker account of our own: moto over real HTTP, with real boto3 in front of it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.response import StreamingBody
from botocore.stub import Stubber
from moto.moto_api._internal.models import moto_api_backend
from moto.server import ThreadedMotoServer

from kappawatt.deploy.aws.calls import Aws
from kappawatt.deploy.aws.sagemaker import Target

REGION = "eu-central-1"
SECRET = "only-the-test-knows-this-secret"
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
CREDENTIALS: dict[str, Any] = {
    "region_name": REGION,
    "aws_access_key_id": "testing",
    "aws_secret_access_key": SECRET,
    "config": Config(retries={"total_max_attempts": 1}),
}
BUCKET = "kappawatt-models"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/kappawatt/plant-power:1"
ROLE = "arn:aws:iam::123456789012:role/kappawatt-sagemaker"


def target(**changes: Any) -> Target:
    given = {"service": "plant-power", "endpoint": "plant-power", "image": IMAGE, "role": ROLE, "bucket": BUCKET}
    return Target(**given | changes)


@contextmanager
def account() -> Iterator[str]:
    """The address of a moto server that has the bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=address, **CREDENTIALS).create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        yield address
    finally:
        server.stop()
        moto_api_backend.reset()


def client_of(address: str) -> Callable[[str], Any]:
    return lambda service: boto3.client(service, endpoint_url=address, **CREDENTIALS)


def answers_next(address: str, body: str) -> None:
    """What moto's endpoint answers the next sample it has not seen."""
    import json
    import urllib.request

    result = {"Body": body, "ContentType": "text/csv", "InvokedProductionVariant": "AllTraffic", "CustomAttributes": ""}
    document = {"region": REGION, "results": [result]}
    request = urllib.request.Request(
        f"{address}/moto-api/static/sagemaker/endpoint-results",
        json.dumps(document).encode(),
        {"content-type": "application/json"},
    )
    urllib.request.urlopen(request).close()


class Scripted:
    """botocore's own Stubber: answers by list, each request and answer checked against the service model."""

    def __init__(self) -> None:
        self._clients = {name: boto3.client(name, **CREDENTIALS) for name in ("s3", "sagemaker", "sagemaker-runtime")}
        self._stubs = {name: Stubber(client) for name, client in self._clients.items()}
        for stub in self._stubs.values():
            stub.activate()
        self.aws = Aws(make_client=self._clients.__getitem__)

    def answer(self, service: str, method: str, answer: Mapping[str, Any], **expected: Any) -> None:
        self._stubs[service].add_response(method, dict(answer), expected or None)

    def refuse(self, service: str, method: str, code: str, said: str, status: int = 400) -> None:
        self._stubs[service].add_client_error(method, code, said, status)

    def assert_all_was_asked(self) -> None:
        for stub in self._stubs.values():
            stub.assert_no_pending_responses()


def body(text: str) -> StreamingBody:
    return StreamingBody(io.BytesIO(text.encode()), len(text))
