"""`kappawatt deploy sagemaker`, as typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kappawatt.cli.main import main
from kappawatt.deploy.aws.calls import Call, check
from kappawatt.serving.service import find_service, service_names
from tests.unit.deploy.aws.platform import ACCOUNT, BUCKET, IMAGE, ROLE, SECRET, account, answers_next

MODELS = [n for n in service_names() if (find_service(n).folder / "artifacts" / "CURRENT").exists()]
NEEDED = ("--image", IMAGE, "--role", ROLE, "--bucket", BUCKET, "--poll", "0.1")


def call(*arguments: str, **environment: str | None) -> Result:
    nothing = dict.fromkeys((*ACCOUNT, "AWS_PROFILE", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"))
    return CliRunner().invoke(main, ["deploy", "sagemaker", *arguments], env=nothing | environment)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with account() as address:
        yield address


@pytest.mark.parametrize("service", MODELS)
@pytest.mark.parametrize(
    "more", [(), ("--serverless", "2048"), ("--delete",)], ids=["instances", "serverless", "delete"]
)
def test_a_dry_run_prints_valid_calls_and_needs_no_account(service: str, more: tuple[str, ...]) -> None:
    result = call(service, "--dry-run", *more)

    assert result.exit_code == 0, result.output
    assert "placeholders stand for --image, --role, --bucket" in result.stderr
    calls = [json.loads(line) for line in result.stdout.splitlines()]
    for document in calls:
        assert document.keys() - {"when"} == {"service", "operation", "parameters"}
        if document["operation"] not in ("PutObject", "InvokeEndpoint"):  # their bodies are shown by size
            check(Call(document["service"], document["operation"], document["parameters"]))
    wanted = "DeleteEndpoint" if "--delete" in more else "CreateEndpoint"
    assert [c["operation"] for c in calls].count(wanted) == 1


def test_a_dry_run_is_the_same_each_time() -> None:
    assert call("plant-power", "--dry-run").stdout == call("plant-power", "--dry-run").stdout


def test_deploying_checking_and_deleting_as_typed(address: str) -> None:
    environment = ACCOUNT | {"AWS_ENDPOINT_URL": address}
    answers_next(address, "463.496\n")

    first = call("plant-power", *NEEDED, "--json", **environment)
    again = call("plant-power", *NEEDED, **environment)
    other = call("plant-power", *NEEDED, "--instance-count", "2", **environment)
    deleted = call("plant-power", "--delete", "--poll", "0.1", **environment)
    nothing = call("plant-power", "--delete", "--json", **environment)

    assert first.exit_code == 0, first.output
    document = json.loads(first.stdout)
    assert (document["status"], document["answer"]) == ("InService", "463.496\n")
    assert "endpoint plant-power: InService, 0 s" in first.stderr
    assert again.exit_code == 0, again.output
    assert "nothing: all was there" in again.stdout
    assert other.exit_code == 1
    assert "--update switches it" in other.output
    assert "deleted Endpoint plant-power" in deleted.stdout
    assert json.loads(nothing.stdout) == {"endpoint": "plant-power", "deleted": []}
    for result in (first, again, other, deleted, nothing):
        assert SECRET not in result.output


def test_an_endpoint_that_answers_otherwise_than_the_model_here_is_an_error(address: str, tmp_path: Path) -> None:
    environment = ACCOUNT | {"AWS_ENDPOINT_URL": address}
    sample = tmp_path / "rows.csv"  # moto gives equal samples equal answers, whatever the endpoint
    sample.write_text("14.96,41.76,1024.07,73.17\n25.18,62.96,1020.04,59.08\n")
    answers_next(address, "463.496\n400.0\n")

    result = call("plant-power", *NEEDED, "--endpoint-name", "wrong", "--sample", str(sample), **environment)
    call("plant-power", "--delete", "--endpoint-name", "wrong", **environment)

    assert result.exit_code == 1
    assert r"endpoint wrong answers the sample with '463.496\n400.0\n', allowed '463.496" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gateway", "--dry-run"), "gateway has no model"),
        (("plant-powr", "--dry-run"), "service: got 'plant-powr', allowed"),
        (("plant-power",), "got no --image, --role, --bucket; --dry-run needs none"),
        (("plant-power", "--dry-run", "--serverless", "2048", "--instance-count", "2"), "got --instance-count too"),
        (("plant-power", "--dry-run", "--serverless", "1000"), "'1000' is not one of"),
        (("plant-power", "--dry-run", "--role", "me"), "ExecutionRoleArn"),
        (("plant-power", "--dry-run", "--model", "9"), "version: got '9', allowed"),
        (("plant-power", "--dry-run", "--sample", __file__), "plant-power refuses it here with 4"),
        (("plant-power", *NEEDED), "You must specify a region"),
        (("plant-power", *NEEDED, "--region", "eu-central-1"), "sagemaker.DescribeEndpoint: NoCredentialsError"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else "",
)
def test_wrong_use_is_named_and_is_no_traceback(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    off = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere}

    result = call(*arguments, **off)

    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output


def test_without_boto3_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "botocore", None)

    result = call("plant-power", "--dry-run")

    assert result.exit_code == 1
    assert "pip install 'kappawatt[aws]'" in result.output
