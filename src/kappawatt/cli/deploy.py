"""`kappawatt deploy sagemaker SERVICE`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import orjson

from kappawatt.errors import SettingInvalid
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings

__all__ = ["deploy"]

ACCOUNT = "123456789012"  # AWS's own example account
PLACEHOLDERS = {
    "image": f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/kappawatt/{{service}}:latest",
    "role": f"arn:aws:iam::{ACCOUNT}:role/kappawatt-sagemaker",
    "bucket": f"kappawatt-models-{ACCOUNT}",
}
MEMORY_SIZES = [str(gigabytes * 1024) for gigabytes in range(1, 7)]


@click.group()
def deploy() -> None:
    """Bring a service to a platform."""


@deploy.command()
@click.argument("service", metavar="SERVICE")
@click.option("--image", help="Container image in ECR. A placeholder stands in for it in a dry run.")
@click.option("--role", metavar="ARN", help="Role the endpoint runs as.")
@click.option("--bucket", help="S3 bucket of the model's archive, in the endpoint's region.")
@click.option("--prefix", default="kappawatt", show_default=True, help="Start of the archive's key.")
@click.option("--endpoint-name", help="Name of the endpoint; the service's if absent.")
@click.option("--instance-type", help="[default: ml.m5.large]")
@click.option("--instance-count", type=click.IntRange(1), help="[default: 1]")
@click.option(
    "--serverless", type=click.Choice(MEMORY_SIZES), metavar="MEMORY", help="Serverless, with MEMORY [MB] 1024 to 6144."
)
@click.option("--region", help="AWS region; boto3's own choice if absent. [AWS_REGION, AWS_DEFAULT_REGION, profile]")
@click.option("--artifact", "artifacts", type=click.Path(path_type=Path), help="Folder of model versions, or one.")
@click.option("--model", "model_version", help="Model version, or a kind (baseline); the current one if absent.")
@click.option(
    "--sample",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV to invoke the endpoint with; the model's own example if absent.",
)
@click.option("--update", is_flag=True, help="Switch an endpoint that serves something else.")
@click.option("--delete", is_flag=True, help="Delete the endpoint and all that was made for it.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it is InService, and invoke it.")
@click.option("--timeout", type=click.FloatRange(1), default=1800.0, show_default=True, help="Seconds to wait at most.")
@click.option("--poll", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Seconds between looks.")
@click.option("--dry-run", is_flag=True, help="Print each call, checked, and send none; needs no credentials.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON line.")
def sagemaker(service: str, **options: Any) -> None:
    """Make an Amazon SageMaker endpoint of SERVICE: pack, upload, create, wait, invoke.

    Run again it changes nothing; cut off, it goes on where it ended. Needs `pip install 'kappawatt[aws]'`.
    """
    from kappawatt.deploy.aws import sagemaker as platform
    from kappawatt.deploy.aws.calls import Aws, DeployFailed
    from kappawatt.deploy.aws.pack import pack_artifact
    from kappawatt.deploy.aws.sample import answer_here, read_sample, same_answer

    found = find_service(service)
    if found.model is None:
        raise SettingInvalid(f"{found.name} has no model")
    endpoint = options["endpoint_name"] or found.name
    patience = platform.Patience(options["timeout"], options["poll"])
    if options["delete"] and not options["dry_run"]:
        deleted = platform.tear_down(endpoint, Aws(options["region"]), _say, patience)
        click.echo(_line({"endpoint": endpoint, "deleted": deleted}) if options["as_json"] else _deleted(deleted))
        return

    settings = Settings.read(artifacts=options["artifacts"], model_version=options["model_version"])
    artifact = found.artifact(settings)
    sample = read_sample(options["sample"]) if options["sample"] else found.model.sample(artifact.manifest)
    expected = answer_here(found, settings, sample)
    needed = _needed(found.name, options)
    target = platform.Target(
        service=found.name,
        endpoint=endpoint,
        image=needed["image"],
        role=needed["role"],
        bucket=needed["bucket"],
        prefix=options["prefix"],
        **_size(options),
    )
    plan = platform.make_plan(target, pack_artifact(artifact), sample)
    if options["dry_run"]:
        for call in platform.tear_down_calls(plan) if options["delete"] else plan.calls:
            click.echo(_line(call.to_json()))
        return
    aws = Aws(options["region"])
    outcome = platform.deploy(plan, aws, _say, update=options["update"], wait=options["wait"], patience=patience)
    if options["wait"]:
        outcome.answer = platform.invoke(plan, aws)
        if not same_answer(outcome.answer, expected):
            raise DeployFailed(
                f"endpoint {endpoint} answers the sample with {outcome.answer[:200]!r}, allowed {expected[:200]!r} "
                f"as {plan.version} answers here"
            )
    click.echo(_line(outcome.to_json()) if options["as_json"] else _summary(outcome))


def _needed(service: str, options: dict[str, Any]) -> dict[str, str]:
    """Return image, role and bucket; placeholders in a dry run."""
    names = {name: options[name] for name in PLACEHOLDERS}
    absent = [name for name, value in names.items() if not value]
    if absent and not options["dry_run"]:
        raise SettingInvalid(f"got no {', '.join('--' + name for name in absent)}; --dry-run needs none")
    if absent:
        _say(f"placeholders stand for {', '.join('--' + name for name in absent)}")
    return {name: value or PLACEHOLDERS[name].format(service=service) for name, value in names.items()}


def _size(options: dict[str, Any]) -> dict[str, Any]:
    given = {name: options[name] for name in ("instance_type", "instance_count") if options[name] is not None}
    if options["serverless"] is None:
        return given
    if given:
        shown = ", ".join("--" + name.replace("_", "-") for name in given)
        raise SettingInvalid(f"--serverless: got {shown} too, allowed one or the other")
    return {"serverless": int(options["serverless"])}


def _say(text: str) -> None:
    click.echo(text, err=True)


def _line(document: dict[str, Any]) -> str:
    return orjson.dumps(document).decode()


def _deleted(deleted: list[str]) -> str:
    return "\n".join(re.sub(r"^Delete(\w+)", r"deleted \1", line) for line in deleted) or "nothing was there"


def _summary(outcome: Any) -> str:
    document = outcome.to_json() | {"sent": ", ".join(outcome.sent) or "nothing: all was there"}
    if outcome.answer is None:
        del document["answer"]
    else:
        lines = outcome.answer.split()
        document["answer"] = " ".join(lines[:3]) + (" ..." if len(lines) > 3 else "") + " (as the model answers here)"
    return "\n".join(f"{name:16} {value}" for name, value in document.items())
