"""Measure cold starts: `python -m serverless.measure plant-power`.

Each run is a process of its own, from its start to its first event (what the platform calls init) and on to its first
answer; then a thousand more answers, shared among the runs. With AWS_ENDPOINT_URL_S3 the model comes from there in half
of the runs. Files are in the page cache and the processor is this machine's: what the platform adds (placing the
function, fetching the package) and takes away (a share of a processor) is not in these numbers. Processor time is what
such a share has to pay; where others keep this machine busy, it is the number to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from kappawatt.deploy.aws.pack import ARCHIVE, pack_artifact
from kappawatt.errors import KappawattError
from kappawatt.models.artifact import find_artifact
from kappawatt.serving.service import find_service
from serverless.build import OUT, SERVICES
from serverless.local import FunctionError, LocalFunction, unpacked

__all__ = ["main"]

WARM_CALLS = 1000


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line names, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m serverless.measure", description="Measure cold starts.")
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--package", type=Path, help="[default: dist/lambda/SERVICE.zip]")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print one JSON line a variant")
    given = parser.parse_args(arguments)
    package = given.package or OUT / f"{given.service}.zip"
    if not package.exists():
        print(f"serverless.measure: {package}: got no file, allowed what serverless.build writes", file=sys.stderr)
        return 1
    try:
        with unpacked(package) as task, _model_in_s3(given.service) as s3:
            variants: dict[str, dict[str, str]] = {"model in the package": {}}
            if s3:
                variants["model from S3"] = s3
            for name, environment in variants.items():
                found = _measure(task, given.service, given.runs, environment)
                print(json.dumps({"variant": name} | found) if given.json else _line(name, found), flush=True)
    except (KappawattError, FunctionError) as error:
        print(f"serverless.measure: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(task: Path, service: str, runs: int, environment: dict[str, str]) -> dict[str, Any]:
    event, calls = _event(service), max(1, WARM_CALLS // runs)
    init, first, warm, used, memory = [], [], [], [], []
    for _ in range(runs):
        with LocalFunction(task, KAPPAWATT_SERVICE=service, **environment) as function:
            init.append(function.wait_ready())
            _answer(function, event)
            first.append(time.perf_counter() - function.started_at)
            used.append(function.processor_time())
            started = time.perf_counter()
            for _ in range(calls):
                _answer(function, event)
            warm.append((time.perf_counter() - started) / calls)
            memory.append(function.peak_memory())
    spread = {"init_s": init, "first_answer_s": first, "warm_answer_s": warm, "processor_s": used}
    found = {name: [min(v), statistics.median(v), max(v)] for name, v in spread.items()}
    return {"runs": runs, **found, "peak_memory_bytes": max(memory)}


def _answer(function: LocalFunction, event: dict[str, Any]) -> None:
    answer = function.invoke(event)
    if answer["statusCode"] != 200:
        raise KappawattError(f"got status {answer['statusCode']}: {answer['body'][:200]}")


def _event(service: str) -> dict[str, Any]:
    """The model's own example, as an HTTP API sends it."""
    manifest = find_artifact(find_service(service).folder / "artifacts").manifest
    return {
        "version": "2.0",
        "routeKey": "POST /predict",
        "rawPath": "/predict",
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "abcdef1234.execute-api.us-east-1.amazonaws.com"},
        "requestContext": {
            "http": {"method": "POST", "path": "/predict", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
            "stage": "$default",
            "requestId": "measure",
        },
        "body": json.dumps(manifest.example["request"]),
        "isBase64Encoded": False,
    }


@contextmanager
def _model_in_s3(service: str) -> Iterator[dict[str, str]]:
    """Put the current model into a bucket of its own while the block runs, if there is an S3 server."""
    if not os.environ.get("AWS_ENDPOINT_URL_S3"):
        yield {}
        return
    import botocore.session

    s3 = botocore.session.get_session().create_client("s3")
    place = {"Bucket": f"kappawatt-measure-{uuid4()}", "Key": ARCHIVE}
    s3.create_bucket(Bucket=place["Bucket"])
    try:
        artifact = find_artifact(find_service(service).folder / "artifacts")
        s3.put_object(**place, Body=pack_artifact(artifact).content)
        names = (
            "AWS_ENDPOINT_URL_S3",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_REGION",
            "AWS_DEFAULT_REGION",
        )
        known = {name: os.environ[name] for name in names if name in os.environ}
        yield {"KAPPAWATT_MODEL_URL": f"s3://{place['Bucket']}/{place['Key']}"} | known
    finally:
        s3.delete_object(**place)
        s3.delete_bucket(Bucket=place["Bucket"])


def _line(name: str, found: dict[str, Any]) -> str:
    init, first, warm, used = (
        "/".join(
            f"{seconds * 1000:.0f}" if key != "warm_answer_s" else f"{seconds * 1000:.1f}" for seconds in found[key]
        )
        for key in ("init_s", "first_answer_s", "warm_answer_s", "processor_s")
    )
    return (
        f"{name:22} {found['runs']} runs, least/median/most [ms]: init {init}, first answer {first} "
        f"(of a processor {used}), warm answer {warm}; peak memory {found['peak_memory_bytes'] / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
