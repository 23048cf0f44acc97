"""An endpoint on Amazon SageMaker from a packed model: what is called, in which order, and when it is done.

Every name is made of what it stands for (endpoint, model version, hash of all parameters), so a deployment that is
run twice finds what it made and changes nothing, and one that was cut off is finished by running it again. All that
is made carries the tag `kappawatt:endpoint`; tearing down touches nothing without it.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from kappawatt.columns.content import CSV
from kappawatt.deploy.aws.calls import Aws, Call, CallFailed, DeployFailed, check, missing
from kappawatt.deploy.aws.pack import ARCHIVE, Archive
from kappawatt.errors import SettingInvalid

__all__ = ["Outcome", "Patience", "Plan", "Target", "deploy", "invoke", "make_plan", "tear_down", "tear_down_calls"]

TAG = "kappawatt:endpoint"
VARIANT = "AllTraffic"
SERVERLESS_CONCURRENCY = 5  # invocations at once; a new account may have 10 in a region
LONGEST_NAME = 63
MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
BEGIN_SECONDS = 60  # after UpdateEndpoint the status may still be the old one for a moment
ARCHIVE_URL = re.compile(rf"s3://([^/]+)/(.+/{re.escape(ARCHIVE)})")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Target:
    """What to make, and where.

    Parameters
    ----------
    service : str
        The container learns it from KAPPAWATT_SERVICE.
    endpoint : str
        Name of the endpoint.
    image, role : str
        Container image in a registry AWS can read, and the role the endpoint runs as (ARN).
    bucket, prefix : str
        Where the archive goes.
    instance_type, instance_count : str, int
        Of an endpoint on instances.
    serverless : int or None
        Memory [MB] of a serverless endpoint instead.
    """

    service: str
    endpoint: str
    image: str
    role: str
    bucket: str
    prefix: str = "kappawatt"
    instance_type: str = "ml.m5.large"
    instance_count: int = 1
    serverless: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Every call of a deployment; `calls` has them in order."""

    target: Target
    version: str
    archive_url: str
    checksum: str
    model: str
    endpoint_config: str
    describe_endpoint: Call
    head_object: Call
    put_object: Call
    describe_model: Call
    create_model: Call
    describe_endpoint_config: Call
    create_endpoint_config: Call
    create_endpoint: Call
    update_endpoint: Call
    invoke_endpoint: Call

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls in the order in which they are sent."""
        return tuple(value for name in self.__slots__ if isinstance(value := getattr(self, name), Call))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for an endpoint, and how often to ask [s]."""

    seconds: float = 1800.0
    every: float = 10.0


@dataclass(slots=True)
class Outcome:
    """What a deployment did.

    Parameters
    ----------
    sent : list of str
        Calls that changed something, in order; empty if all was there.
    """

    plan: Plan
    status: str = ""
    arn: str = ""
    seconds: float = 0.0
    sent: list[str] = field(default_factory=list)
    answer: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        plan = self.plan
        return {
            "service": plan.target.service,
            "version": plan.version,
            "endpoint": plan.target.endpoint,
            "endpoint_arn": self.arn,
            "status": self.status,
            "model": plan.model,
            "endpoint_config": plan.endpoint_config,
            "archive": plan.archive_url,
            "sha256_base64": plan.checksum,
            "sent": self.sent,
            "seconds": round(self.seconds, 1),
            "answer": self.answer,
        }


def make_plan(target: Target, archive: Archive, sample: bytes) -> Plan:
    """Return the calls that bring `archive` to `target`, each checked against botocore's service model.

    Parameters
    ----------
    sample : bytes
        CSV to invoke the endpoint with.

    Raises
    ------
    SettingInvalid
        A name, ARN, instance type or size is none that AWS takes; the message names the call and the parameter.
    """
    key = "/".join([*target.prefix.strip("/").split("/"), target.endpoint, archive.version, archive.sha256, ARCHIVE])
    place = {"Bucket": target.bucket, "Key": key.lstrip("/")}
    url = f"s3://{place['Bucket']}/{place['Key']}"
    words = {TAG: target.endpoint, "kappawatt:service": target.service, "kappawatt:version": archive.version}
    tags = [{"Key": name, "Value": value} for name, value in words.items()]
    container = {"Image": target.image, "ModelDataUrl": url, "Environment": {"KAPPAWATT_SERVICE": target.service}}
    of_model = {"PrimaryContainer": container, "ExecutionRoleArn": target.role, "Tags": tags}
    model = _name(target.endpoint, archive.version, of_model)
    variant: dict[str, Any] = {"VariantName": VARIANT, "ModelName": model}
    if target.serverless is None:
        variant |= {"InitialInstanceCount": target.instance_count, "InstanceType": target.instance_type}
    else:
        variant["ServerlessConfig"] = {"MemorySizeInMB": target.serverless, "MaxConcurrency": SERVERLESS_CONCURRENCY}
    of_config = {"ProductionVariants": [variant], "Tags": tags}
    config = _name(target.endpoint, archive.version, of_config)
    endpoint = {"EndpointName": target.endpoint}
    served = endpoint | {"EndpointConfigName": config}
    checksum = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": archive.checksum}
    put = place | {"Body": archive.content, "ContentType": "application/gzip"} | checksum
    ask = endpoint | {"Body": sample, "ContentType": CSV, "Accept": CSV}
    plan = Plan(
        target=target,
        version=archive.version,
        archive_url=url,
        checksum=archive.checksum,
        model=model,
        endpoint_config=config,
        describe_endpoint=Call("sagemaker", "DescribeEndpoint", endpoint),
        head_object=Call("s3", "HeadObject", place | {"ChecksumMode": "ENABLED"}),
        put_object=Call("s3", "PutObject", put, "the object is not there with this checksum"),
        describe_model=Call("sagemaker", "DescribeModel", {"ModelName": model}),
        create_model=Call("sagemaker", "CreateModel", {"ModelName": model} | of_model, "there is no such model"),
        describe_endpoint_config=Call("sagemaker", "DescribeEndpointConfig", {"EndpointConfigName": config}),
        create_endpoint_config=Call(
            "sagemaker", "CreateEndpointConfig", {"EndpointConfigName": config} | of_config, "there is no such config"
        ),
        create_endpoint=Call("sagemaker", "CreateEndpoint", served | {"Tags": tags}, "there is no such endpoint"),
        update_endpoint=Call("sagemaker", "UpdateEndpoint", served, "it serves another config, and with --update"),
        invoke_endpoint=Call("sagemaker-runtime", "InvokeEndpoint", ask, "the endpoint is InService"),
    )
    for call in plan.calls:
        check(call)
    return plan


def deploy(
    plan: Plan,
    aws: Aws,
    say: Say,
    *,
    update: bool = False,
    wait: bool = True,
    patience: Patience | None = None,
) -> Outcome:
    """Make what is missing of the plan, and wait until the endpoint serves it.

    Parameters
    ----------
    say : callable
        Told each step, and status and seconds while waiting.
    update : bool
        An endpoint that serves something else is switched; without it that is an error.

    Raises
    ------
    CallFailed
        AWS refused a call.
    DeployFailed
        The endpoint serves something else, failed, was rolled back or was not ready in time.
    """
    outcome = Outcome(plan)
    started = time.monotonic()

    def send(call: Call) -> dict[str, Any]:
        say(f"{call.name} ...")
        answer = aws.send(call)
        outcome.sent.append(call.operation)
        return answer

    before = _describe(aws, plan.describe_endpoint)
    _refuse(plan, before, update)
    there = _describe(aws, plan.head_object)
    if there is None or there.get("ChecksumSHA256") != plan.checksum:
        send(plan.put_object)
    else:
        say(f"{plan.archive_url} is there with the same checksum")
    for describe, create in (
        (plan.describe_model, plan.create_model),
        (plan.describe_endpoint_config, plan.create_endpoint_config),
    ):
        if _describe(aws, describe) is None:
            send(create)
    changed = True
    if before is None:
        send(plan.create_endpoint)
    elif before["EndpointConfigName"] != plan.endpoint_config:
        send(plan.update_endpoint)
    else:
        changed = False
        say(f"endpoint {plan.target.endpoint} has config {plan.endpoint_config} already")
    patience = patience or Patience()
    described = _wait(plan, aws, say, patience, changed=changed) if wait else aws.send(plan.describe_endpoint)
    outcome.status = described["EndpointStatus"]
    outcome.arn = described.get("EndpointArn", "")
    outcome.seconds = time.monotonic() - started
    return outcome


def invoke(plan: Plan, aws: Aws) -> str:
    """Send the sample and return the endpoint's answer; CallFailed if it has none."""
    answer = aws.send(plan.invoke_endpoint)
    return str(answer["Body"].read().decode())


def tear_down_calls(plan: Plan) -> tuple[Call, ...]:
    """Return the calls of `tear_down` with the names this version would have; it finds those of others itself."""
    endpoint = plan.target.endpoint
    place = plan.head_object.parameters
    tagged = f"its tag {TAG} is {endpoint}"
    found = f"listed, and {tagged}"
    calls = (
        plan.describe_endpoint,
        Call("sagemaker", "ListTags", {"ResourceArn": _example_arn("endpoint", endpoint)}, "the endpoint is there"),
        Call("sagemaker", "DeleteEndpoint", {"EndpointName": endpoint}, tagged),
        Call("sagemaker", "ListEndpointConfigs", {"NameContains": _stem(endpoint)}),
        Call("sagemaker", "DeleteEndpointConfig", {"EndpointConfigName": plan.endpoint_config}, found),
        Call("sagemaker", "ListModels", {"NameContains": _stem(endpoint)}),
        Call("sagemaker", "DescribeModel", {"ModelName": plan.model}, found),
        Call("s3", "DeleteObject", {"Bucket": place["Bucket"], "Key": place["Key"]}, "the model's archive"),
        Call("sagemaker", "DeleteModel", {"ModelName": plan.model}, found),
    )
    for call in calls:
        check(call)
    return calls


def tear_down(endpoint: str, aws: Aws, say: Say, patience: Patience | None = None) -> list[str]:
    """Delete the endpoint and every config, model and archive that was made for it, of all versions.

    Returns
    -------
    list of str
        What was deleted, `DeleteModel NAME`; empty if nothing was there.

    Raises
    ------
    CallFailed
        AWS refused a call; running it again goes on where it ended.
    DeployFailed
        The endpoint was not made by kappawatt, or was not gone in time.
    """
    describe = Call("sagemaker", "DescribeEndpoint", {"EndpointName": endpoint})
    check(describe)
    deleted: list[str] = []

    def delete(service: str, operation: str, name: str, parameters: Mapping[str, Any]) -> None:
        say(f"{service}.{operation} {name}")
        aws.send(Call(service, operation, parameters))
        deleted.append(f"{operation} {name}")

    there = _describe(aws, describe)
    if there is not None:
        if not _is_ours(aws, there["EndpointArn"], endpoint):
            raise DeployFailed(f"endpoint {endpoint}: got no tag {TAG}, allowed one that kappawatt made")
        if there["EndpointStatus"] != "Deleting":
            delete("sagemaker", "DeleteEndpoint", endpoint, {"EndpointName": endpoint})
        _wait_until_gone(describe, aws, say, patience or Patience())
    for name in _ours(aws, "EndpointConfig", endpoint):
        delete("sagemaker", "DeleteEndpointConfig", name, {"EndpointConfigName": name})
    for name in _ours(aws, "Model", endpoint):
        model = aws.send(Call("sagemaker", "DescribeModel", {"ModelName": name}))
        archive = ARCHIVE_URL.fullmatch(model.get("PrimaryContainer", {}).get("ModelDataUrl", ""))
        if archive is not None:  # before the model, whose description is all that knows of it
            delete("s3", "DeleteObject", archive[0], {"Bucket": archive[1], "Key": archive[2]})
        delete("sagemaker", "DeleteModel", name, {"ModelName": name})
    return deleted


def _name(endpoint: str, version: str, parameters: Mapping[str, Any]) -> str:
    """Return a name of at most 63 letters, digits and hyphens that tells other parameters apart."""
    digest = hashlib.sha256(orjson.dumps(parameters, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
    readable = f"{_stem(endpoint)}-{re.sub('[^A-Za-z0-9]+', '-', version)}"
    return f"{readable[: LONGEST_NAME - len(digest) - 1].rstrip('-')}-{digest}"


def _stem(endpoint: str) -> str:
    return endpoint[:36]


def _example_arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:{kind}/{name.lower()}"


def _describe(aws: Aws, call: Call) -> dict[str, Any] | None:
    """Return what is there, None if nothing is."""
    try:
        return aws.send(call)
    except CallFailed as error:
        if missing(error):
            return None
        raise


def _refuse(plan: Plan, before: Mapping[str, Any] | None, update: bool) -> None:
    """Raise before anything is made if the endpoint that is there stands in the way."""
    if before is None:
        return
    name, status, config = plan.target.endpoint, before["EndpointStatus"], before["EndpointConfigName"]
    if status in ("Failed", "OutOfService", "UpdateRollbackFailed"):
        reason = before.get("FailureReason") or "AWS gave no reason"
        raise DeployFailed(f"endpoint {name} is {status}: {reason}; remove it with --delete and deploy again")
    if status == "Deleting":
        raise DeployFailed(f"endpoint {name} is being deleted; deploy again when it is gone")
    if config == plan.endpoint_config:
        return
    if not update:
        raise SettingInvalid(
            f"--endpoint-name: {name} serves {config}, this would be {plan.endpoint_config}; "
            "--update switches it, another --endpoint-name makes one beside it"
        )
    if status in MOVING:
        raise DeployFailed(f"endpoint {name} is {status} with {config}; deploy again when it is InService")


def _wait(plan: Plan, aws: Aws, say: Say, patience: Patience, *, changed: bool) -> dict[str, Any]:
    """Return the endpoint's description once it serves the plan's config."""
    name = plan.target.endpoint
    moved = False
    for seconds in _ticks(patience, f"endpoint {name} InService"):
        described = _ask(aws, plan.describe_endpoint, say)
        if described is None:
            continue
        status, config = described["EndpointStatus"], described["EndpointConfigName"]
        say(f"endpoint {name}: {status}, {seconds:.0f} s")
        moved |= status in MOVING
        reason = described.get("FailureReason") or "AWS gave no reason"
        if status in ("Failed", "OutOfService", "UpdateRollbackFailed"):
            raise DeployFailed(f"endpoint {name} is {status}: {reason}")
        if status == "InService" and config == plan.endpoint_config:
            return described
        # A failed update rolls back and is InService again, with the config it had: not what was asked for.
        if status == "InService" and (moved or not changed or seconds > BEGIN_SECONDS):
            raise DeployFailed(f"endpoint {name} was not updated and serves {config} as before: {reason}")
    raise AssertionError("unreachable: _ticks raises")


def _wait_until_gone(describe: Call, aws: Aws, say: Say, patience: Patience) -> None:
    name = describe.parameters["EndpointName"]
    for seconds in _ticks(patience, f"endpoint {name} deleted"):
        try:
            described = _ask(aws, describe, say)
        except CallFailed as error:
            if missing(error):
                return
            raise
        if described is not None:
            say(f"endpoint {name}: {described['EndpointStatus']}, {seconds:.0f} s")
            if described["EndpointStatus"] == "Failed":
                reason = described.get("FailureReason") or "AWS gave no reason"
                raise DeployFailed(f"endpoint {name} could not be deleted: {reason}")


def _ticks(patience: Patience, what: str) -> Iterator[float]:
    """Yield the seconds waited so far, now and then, until patience ends."""
    started = time.monotonic()
    while (seconds := time.monotonic() - started) <= patience.seconds:
        yield seconds
        time.sleep(patience.every)
    raise DeployFailed(f"not within {patience.seconds:g} s: {what}; AWS goes on, run the same command to wait again")


def _ask(aws: Aws, call: Call, say: Say) -> dict[str, Any] | None:
    """Return the answer; None, and a word on it, where the question may be asked again."""
    try:
        return aws.send(call)
    except CallFailed as error:
        if not error.is_passing:
            raise
        say(f"{error}; asking again")
        return None


def _ours(aws: Aws, kind: str, endpoint: str) -> list[str]:
    """Return the names of all configs or models that were made for the endpoint."""
    found: list[str] = []
    more: dict[str, Any] = {}
    while True:
        page = aws.send(Call("sagemaker", f"List{kind}s", {"NameContains": _stem(endpoint)} | more))
        for item in page[f"{kind}s"]:
            if _is_ours(aws, item[f"{kind}Arn"], endpoint):
                found.append(item[f"{kind}Name"])
        if not page.get("NextToken"):
            return found
        more = {"NextToken": page["NextToken"]}


def _is_ours(aws: Aws, arn: str, endpoint: str) -> bool:
    tags = aws.send(Call("sagemaker", "ListTags", {"ResourceArn": arn})).get("Tags", [])
    return {"Key": TAG, "Value": endpoint} in tags
