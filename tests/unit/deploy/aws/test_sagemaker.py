"""Deploying: what is called, what is left alone, and whose words an error has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.session import Session

from kappawatt.deploy.aws.calls import Aws, Call, CallFailed, DeployFailed, check
from kappawatt.deploy.aws.pack import Archive
from kappawatt.deploy.aws.sagemaker import Patience, deploy, invoke, make_plan, tear_down, tear_down_calls
from kappawatt.errors import SettingInvalid
from tests.unit.deploy.aws.platform import BUCKET, CREDENTIALS, Scripted, account, answers_next, body, client_of, target

ARCHIVE = Archive("default-1", b"an archive")
NEXT = Archive("default-2", b"a better archive")
SAMPLE = b"14.96,41.76,1024.07,73.17\n"
SOON = Patience(seconds=5, every=0.01)
PLAN = make_plan(target(), ARCHIVE, SAMPLE)
WHEN = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with account() as address:
        yield address


@pytest.fixture
def aws(address: str) -> Iterator[Aws]:
    """An account with the bucket and nothing else in it."""
    aws = Aws(make_client=client_of(address))
    yield aws
    for name in ("plant-power", "plant-power-test"):
        tear_down(name, aws, str, SOON)


def quiet(_: str) -> None:
    pass


def described(status: str, config: str = PLAN.endpoint_config, **more: Any) -> dict[str, Any]:
    arn = "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/plant-power"
    times = {"CreationTime": WHEN, "LastModifiedTime": WHEN}
    return {
        "EndpointName": "plant-power",
        "EndpointArn": arn,
        "EndpointConfigName": config,
        "EndpointStatus": status,
        **times,
        **more,
    }


def all_there(script: Scripted, first: dict[str, Any]) -> None:
    """Archive, model and config exist; the endpoint is as `first` says."""
    script.answer("sagemaker", "describe_endpoint", first, EndpointName="plant-power")
    script.answer("s3", "head_object", {"ChecksumSHA256": PLAN.checksum})
    script.answer("sagemaker", "describe_model", {"ModelName": PLAN.model, "CreationTime": WHEN, "ModelArn": "a" * 20})
    script.answer(
        "sagemaker",
        "describe_endpoint_config",
        {
            "EndpointConfigName": PLAN.endpoint_config,
            "EndpointConfigArn": "a" * 20,
            "CreationTime": WHEN,
            "ProductionVariants": PLAN.create_endpoint_config.parameters["ProductionVariants"],
        },
    )


def test_every_planned_call_passes_botocores_own_model() -> None:
    plan = make_plan(target(serverless=2048), ARCHIVE, SAMPLE)

    for call in (*PLAN.calls, *plan.calls, *tear_down_calls(plan)):
        check(call)
        Session().get_service_model(call.service).operation_model(call.operation)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (Call("sagemaker", "DescribeModel", {}), 'Missing required parameter in input: "ModelName"'),
        (Call("sagemaker", "DescribeModel", {"Name": "x"}), 'Unknown parameter in input: "Name"'),
        (Call("sagemaker", "DescribeModel", {"ModelName": 7}), "Invalid type for parameter ModelName"),
        (Call("sagemaker", "DescribeModel", {"ModelName": "a_b"}), "ModelName: got 'a_b', allowed what matches"),
        (Call("sagemaker", "DescribeModel", {"ModelName": "a" * 64}), "63 characters at most, not 64"),
        (Call("s3", "HeadObject", {"Bucket": "b", "Key": ""}), "Invalid length for parameter Key"),
        (
            Call("sagemaker-runtime", "InvokeEndpoint", {"EndpointName": "e", "Body": b" " * 6_291_457}),
            "6291456 bytes at most, not 6291457",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else value.operation,
)
def test_a_call_that_aws_would_refuse_is_refused_here(call: Call, said: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        check(call)

    assert said in str(refused.value)
    assert str(refused.value).startswith(call.name)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"role": "arn:aws:iam::12:role/kappawatt"}, "ExecutionRoleArn: got 'arn:aws:iam::12:role/kappawatt', allowed"),
        ({"endpoint": "plant_power"}, "EndpointName: got 'plant_power', allowed"),
        ({"image": "no image"}, "PrimaryContainer.Image: got 'no image'"),
        ({"instance_type": "ml.m5.larg"}, "ml.m5.large"),
        ({"serverless": 512}, "MemorySizeInMB"),
        ({"serverless": 8192}, "6144 at most"),
        ({"instance_count": 0}, "InitialInstanceCount"),
    ],
)
def test_a_wrong_target_is_named_before_anything_is_sent(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        make_plan(target(**changes), ARCHIVE, SAMPLE)

    assert said in str(refused.value)


def test_names_say_the_version_and_change_with_every_parameter() -> None:
    plans = [
        make_plan(target(**changes), archive, SAMPLE)
        for archive in (ARCHIVE, NEXT)
        for changes in ({}, {"image": "other:1"}, {"instance_count": 2}, {"serverless": 1024})
    ]

    assert "default-1" in plans[0].model
    assert len({plan.endpoint_config for plan in plans}) == 8
    assert len({plan.model for plan in plans}) == 4  # an image or an archive makes a model, a size does not
    assert make_plan(target(), ARCHIVE, SAMPLE) == plans[0]


def test_a_long_endpoint_name_leaves_names_that_aws_takes() -> None:
    endpoint = "a" * 30 + "-----" + "-b" * 14

    plan = make_plan(target(endpoint=endpoint), Archive("default_1.0+linux." * 4, b"x"), SAMPLE)

    assert len(plan.model) <= 63


def test_a_first_deployment_makes_everything_and_a_second_changes_nothing(aws: Aws, address: str) -> None:
    first = deploy(PLAN, aws, quiet, patience=SOON)
    second = deploy(PLAN, aws, quiet, patience=SOON)
    answers_next(address, "463.496\n")

    assert first.sent == ["PutObject", "CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    assert first.status == "InService"
    assert second.sent == []
    assert second.to_json()["endpoint_arn"] == first.arn
    assert invoke(PLAN, aws) == "463.496\n"


def test_what_aws_holds_is_what_was_asked_for(aws: Aws, address: str) -> None:
    deploy(PLAN, aws, quiet, patience=SOON)

    s3, sagemaker = client_of(address)("s3"), client_of(address)("sagemaker")
    key = PLAN.head_object.parameters["Key"]
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == ARCHIVE.content
    assert f"s3://{BUCKET}/{key}" == sagemaker.describe_model(ModelName=PLAN.model)["PrimaryContainer"]["ModelDataUrl"]
    config = sagemaker.describe_endpoint_config(EndpointConfigName=PLAN.endpoint_config)
    assert config["ProductionVariants"][0]["InstanceType"] == "ml.m5.large"


def test_a_deployment_that_was_cut_off_is_finished_by_the_next(aws: Aws) -> None:
    for call in (PLAN.put_object, PLAN.create_model):
        aws.send(call)

    outcome = deploy(PLAN, aws, quiet, patience=SOON)

    assert outcome.sent == ["CreateEndpointConfig", "CreateEndpoint"]


def test_an_archive_of_other_content_under_its_key_is_replaced(aws: Aws, address: str) -> None:
    place = {name: PLAN.put_object.parameters[name] for name in ("Bucket", "Key")}
    aws.send(Call("s3", "PutObject", place | {"Body": b"damaged"}))

    outcome = deploy(PLAN, aws, quiet, patience=SOON)

    assert outcome.sent[0] == "PutObject"
    assert client_of(address)("s3").get_object(**place)["Body"].read() == ARCHIVE.content


def test_an_endpoint_that_serves_something_else_is_left_alone_without_update(aws: Aws, address: str) -> None:
    deploy(PLAN, aws, quiet, patience=SOON)
    better = make_plan(target(), NEXT, SAMPLE)

    with pytest.raises(SettingInvalid, match="--update switches it"):
        deploy(better, aws, quiet, patience=SOON)

    assert [m["ModelName"] for m in client_of(address)("sagemaker").list_models()["Models"]] == [PLAN.model]


def test_tearing_down_takes_all_versions_and_nothing_of_a_neighbour(aws: Aws, address: str) -> None:
    deploy(PLAN, aws, quiet, patience=SOON)
    better = make_plan(target(), NEXT, SAMPLE)
    for call in (better.put_object, better.create_model, better.create_endpoint_config):
        aws.send(call)
    neighbour = make_plan(target(endpoint="plant-power-test"), ARCHIVE, SAMPLE)
    deploy(neighbour, aws, quiet, patience=SOON)

    deleted = tear_down("plant-power", aws, quiet, SOON)

    sagemaker, s3 = client_of(address)("sagemaker"), client_of(address)("s3")
    assert deleted[0] == "DeleteEndpoint plant-power"
    assert len(deleted) == 1 + 2 + 2 + 2
    assert [e["EndpointName"] for e in sagemaker.list_endpoints()["Endpoints"]] == ["plant-power-test"]
    assert [m["ModelName"] for m in sagemaker.list_models()["Models"]] == [neighbour.model]
    configs = sagemaker.list_endpoint_configs()["EndpointConfigs"]
    assert [c["EndpointConfigName"] for c in configs] == [neighbour.endpoint_config]
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert keys == [neighbour.head_object.parameters["Key"]]
    assert tear_down("plant-power", aws, quiet, SOON) == []


def test_an_endpoint_that_someone_else_made_is_not_deleted(aws: Aws, address: str) -> None:
    sagemaker = client_of(address)("sagemaker")
    deploy(PLAN, aws, quiet, patience=SOON)
    sagemaker.create_endpoint(EndpointName="theirs", EndpointConfigName=PLAN.endpoint_config)

    with pytest.raises(DeployFailed, match="theirs: got no tag"):
        tear_down("theirs", aws, quiet, SOON)

    assert sagemaker.describe_endpoint(EndpointName="theirs")["EndpointStatus"] == "InService"
    sagemaker.delete_endpoint(EndpointName="theirs")


def test_waiting_tells_status_and_seconds_until_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    script, said = Scripted(), []
    all_there(script, described("Creating"))
    for status in ("Creating", "Creating", "InService"):
        script.answer("sagemaker", "describe_endpoint", described(status))

    outcome = deploy(PLAN, script.aws, said.append, patience=SOON)

    script.assert_all_was_asked()
    assert outcome.status == "InService"
    assert [line.split(",")[0] for line in said if line.startswith("endpoint plant-power:")] == [
        "endpoint plant-power: Creating",
        "endpoint plant-power: Creating",
        "endpoint plant-power: InService",
    ]
    assert said[-1].endswith(" s")


def test_a_failed_endpoint_gives_awss_reason() -> None:
    script = Scripted()
    all_there(script, described("Creating"))
    reason = "The primary container did not pass the ping health check."
    script.answer("sagemaker", "describe_endpoint", described("Failed", FailureReason=reason))

    with pytest.raises(DeployFailed, match="endpoint plant-power is Failed: The primary container did not pass"):
        deploy(PLAN, script.aws, quiet, patience=SOON)


def test_an_endpoint_that_failed_before_is_not_touched() -> None:
    script = Scripted()
    script.answer("sagemaker", "describe_endpoint", described("Failed", FailureReason="no such image"))

    with pytest.raises(DeployFailed, match="is Failed: no such image; remove it with --delete"):
        deploy(PLAN, script.aws, quiet, update=True, patience=SOON)

    script.assert_all_was_asked()


def test_update_switches_the_endpoint_and_waits_for_the_new_config() -> None:
    script = Scripted()
    all_there(script, described("InService", "old-config"))
    script.answer(
        "sagemaker",
        "update_endpoint",
        {"EndpointArn": "a" * 20},
        EndpointName="plant-power",
        EndpointConfigName=PLAN.endpoint_config,
    )
    # For a moment AWS may still say what was: that is neither success nor failure.
    for status, config in (("InService", "old-config"), ("Updating", "old-config"), ("InService", None)):
        script.answer("sagemaker", "describe_endpoint", described(status, config or PLAN.endpoint_config))

    outcome = deploy(PLAN, script.aws, quiet, update=True, patience=SOON)

    script.assert_all_was_asked()
    assert outcome.sent == ["UpdateEndpoint"]
    assert outcome.status == "InService"


def test_an_update_that_was_rolled_back_is_a_failure_though_the_endpoint_serves() -> None:
    script = Scripted()
    all_there(script, described("InService", "old-config"))
    script.answer("sagemaker", "update_endpoint", {"EndpointArn": "a" * 20})
    for status in ("Updating", "RollingBack"):
        script.answer("sagemaker", "describe_endpoint", described(status, "old-config"))
    script.answer("sagemaker", "describe_endpoint", described("InService", "old-config", FailureReason="no ping"))

    with pytest.raises(DeployFailed, match="was not updated and serves old-config as before: no ping"):
        deploy(PLAN, script.aws, quiet, update=True, patience=SOON)


def test_an_endpoint_on_the_move_is_not_switched() -> None:
    script = Scripted()
    script.answer("sagemaker", "describe_endpoint", described("Updating", "old-config"))

    with pytest.raises(DeployFailed, match="is Updating with old-config"):
        deploy(PLAN, script.aws, quiet, update=True, patience=SOON)


def test_waiting_ends_and_says_how_to_go_on() -> None:
    script = Scripted()
    all_there(script, described("Creating"))
    for _ in range(20):
        script.answer("sagemaker", "describe_endpoint", described("Creating"))

    with pytest.raises(DeployFailed, match=r"not within 0\.05 s: endpoint plant-power InService"):
        deploy(PLAN, script.aws, quiet, patience=Patience(0.05, 0.02))


def test_without_waiting_the_status_is_what_it_is() -> None:
    script = Scripted()
    all_there(script, described("Creating"))
    script.answer("sagemaker", "describe_endpoint", described("Creating"))

    assert deploy(PLAN, script.aws, quiet, wait=False).status == "Creating"


def test_a_throttled_look_is_told_and_asked_again() -> None:
    script, said = Scripted(), []
    all_there(script, described("Creating"))
    script.refuse("sagemaker", "describe_endpoint", "ThrottlingException", "Rate exceeded")
    script.answer("sagemaker", "describe_endpoint", described("InService"))

    deploy(PLAN, script.aws, said.append, patience=SOON)

    assert "sagemaker.DescribeEndpoint: ThrottlingException: Rate exceeded; asking again" in said


@pytest.mark.parametrize(
    ("service", "method", "operation"),
    [
        ("s3", "put_object", "s3.PutObject"),
        ("sagemaker", "create_model", "sagemaker.CreateModel"),
        ("sagemaker", "create_endpoint_config", "sagemaker.CreateEndpointConfig"),
        ("sagemaker", "create_endpoint", "sagemaker.CreateEndpoint"),
    ],
)
def test_a_refusal_names_the_call_and_says_what_aws_said_once(service: str, method: str, operation: str) -> None:
    script = Scripted()
    steps: list[tuple[str, str, dict[str, Any] | None]] = [
        ("sagemaker", "describe_endpoint", None),
        ("s3", "head_object", None),
        ("s3", "put_object", {}),
        ("sagemaker", "describe_model", None),
        ("sagemaker", "create_model", {"ModelArn": "a" * 20}),
        ("sagemaker", "describe_endpoint_config", None),
        ("sagemaker", "create_endpoint_config", {"EndpointConfigArn": "a" * 20}),
        ("sagemaker", "create_endpoint", {"EndpointArn": "a" * 20}),
    ]
    for of, name, answer in steps:
        if name == method:
            script.refuse(service, method, "AccessDeniedException", "not authorized to perform it")
            break
        if answer is None:
            script.refuse(of, name, "404" if of == "s3" else "ValidationException", "Could not find it.")
        else:
            script.answer(of, name, answer)

    with pytest.raises(CallFailed) as refused:
        deploy(PLAN, script.aws, quiet, patience=SOON)

    assert str(refused.value) == f"{operation}: AccessDeniedException: not authorized to perform it"
    script.assert_all_was_asked()  # a retry would have found no answer left, and failed with other words


def test_a_describe_that_is_forbidden_is_not_taken_for_nothing_there() -> None:
    script = Scripted()
    script.refuse("sagemaker", "describe_endpoint", "AccessDeniedException", "not authorized", 403)

    with pytest.raises(CallFailed, match=r"sagemaker\.DescribeEndpoint: AccessDeniedException: not authorized"):
        deploy(PLAN, script.aws, quiet)


def test_an_invocation_that_fails_gives_the_containers_words() -> None:
    script = Scripted()
    script.refuse("sagemaker-runtime", "invoke_endpoint", "ModelError", 'Received client error (422) "Rows rejected"')

    with pytest.raises(CallFailed, match=r"sagemaker-runtime\.InvokeEndpoint: ModelError: Received client error"):
        invoke(PLAN, script.aws)


def test_the_invocation_sends_csv_and_wants_csv() -> None:
    script = Scripted()
    script.answer(
        "sagemaker-runtime",
        "invoke_endpoint",
        {"Body": body("463.496\n")},
        EndpointName="plant-power",
        Body=SAMPLE,
        ContentType="text/csv",
        Accept="text/csv",
    )

    assert invoke(PLAN, script.aws) == "463.496\n"


def test_an_address_where_nobody_answers_is_tried_once() -> None:
    aws = Aws(make_client=lambda service: boto3.client(service, endpoint_url="http://127.0.0.1:9", **CREDENTIALS))

    with pytest.raises(CallFailed, match=r"sagemaker\.DescribeEndpoint: EndpointConnectionError: Could not connect"):
        deploy(PLAN, aws, quiet)
