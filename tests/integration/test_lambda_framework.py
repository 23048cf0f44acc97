"""serverless.yml under the Serverless Framework's own schema, and what it compiles to under cfn-lint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
FRAMEWORK = "3.40.0"
KNOWN_RUNTIME = "python3.11"  # the newest that the schema of version 3 has heard of
VARIANTS = {
    "open": {"access": "open"},
    "jwt, MSK, model in S3": {"access": "jwt", "kafka": "msk", "modelFrom": "s3", "architecture": "arm64"},
    "REST, own Kafka": {"access": "rest", "kafka": "self", "corsOrigins": "https://grid.example.org"},
    "IAM": {"access": "iam", "model": "smart-meter"},
}


@pytest.fixture(scope="module")
def framework() -> Path:
    """The framework's entry point; installed into the cache the first time."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm, which the Serverless Framework needs, are not here")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kappawatt" / f"serverless-{FRAMEWORK}"
    entry = cache / "node_modules" / "serverless" / "bin" / "serverless.js"
    if not entry.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--prefix", str(cache), "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run([*command, f"serverless@{FRAMEWORK}"], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"npm could not install serverless@{FRAMEWORK}: {done.stderr.strip()[-200:]}")
    return entry


def package(
    framework: Path, folder: Path, parameters: dict[str, str], change: tuple[str, str] = ("", ""), strict: bool = False
) -> tuple[int, str, dict[str, Any]]:
    """`serverless package`: exit code, what it said, and the CloudFormation template."""
    text = (ROOT / "serverless" / "serverless.yml").read_text()
    assert change[0] in text
    text = text.replace(*change, 1) + ("\nconfigValidationMode: error\n" if strict else "")
    (folder / "serverless.yml").write_text(text)
    with ZipFile(folder / "package.zip", "w") as archive:
        archive.writestr("handler.py", "")
    given = [f"--param={name}={value}" for name, value in (parameters | {"package": "package.zip"}).items()]
    done = subprocess.run(
        ["node", str(framework), "package", "--package", "out", *given],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CI": "1",
            "SLS_TELEMETRY_DISABLED": "1",
            "SLS_NOTIFICATIONS_MODE": "off",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    template = folder / "out" / "cloudformation-template-update-stack.json"
    return done.returncode, done.stdout + done.stderr, json.loads(template.read_text()) if template.exists() else {}


@dataclass(frozen=True)
class Compiled:
    """What the framework made of one variant, held to its schema."""

    code: int
    said: str
    template: dict[str, Any]
    path: Path


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict[str, str]:
    parameters: dict[str, str] = request.param
    return parameters


@pytest.fixture(scope="module")
def compiled(framework: Path, variant: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("framework")
    found = package(framework, folder, variant | {"runtime": KNOWN_RUNTIME}, strict=True)
    return Compiled(*found, folder / "out" / "cloudformation-template-update-stack.json")


def resources(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {name: r["Properties"] for name, r in template["Resources"].items() if r["Type"] == kind}


def test_the_file_is_valid_under_the_framework_s_schema(compiled: Compiled) -> None:
    assert compiled.code == 0, compiled.said
    assert "Invalid configuration" not in compiled.said
    assert compiled.template["Resources"]


def test_the_template_is_valid_cloudformation(compiled: Compiled) -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    command = [str(linter), "--regions", "eu-central-1", "--format", "json"]
    # W3005: dependencies that references imply already. W2531: the runtime is the newest the framework's schema knows.
    command += ["--ignore-checks", "W3005", "W2531", "--template", str(compiled.path)]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)

    assert (done.returncode, json.loads(done.stdout)) == (0, []), done.stdout + done.stderr


def test_functions_are_bounded_and_logs_end(compiled: Compiled, variant: dict[str, str]) -> None:
    functions = resources(compiled.template, "AWS::Lambda::Function")
    model = variant.get("model", "plant-power")
    predict = functions["PredictLambdaFunction"]

    assert (predict["Handler"], predict["Timeout"], predict["MemorySize"]) == ("handler.handler", 29, 1024)
    assert predict["Architectures"] == [variant.get("architecture", "x86_64")]
    assert predict["FunctionName"] == f"kappawatt-{model}-dev-predict"
    assert predict["Environment"]["Variables"]["KAPPAWATT_SERVICE"] == model
    assert predict["Environment"]["Variables"]["KAPPAWATT_CORS_ORIGINS"] == variant.get("corsOrigins", "")
    logs = resources(compiled.template, "AWS::Logs::LogGroup")
    retention = {group["LogGroupName"]: group["RetentionInDays"] for group in logs.values()}
    assert {f"/aws/lambda/{f['FunctionName']}": 30 for f in functions.values()}.items() <= retention.items()


def test_the_role_may_read_one_object_and_no_more(compiled: Compiled, variant: dict[str, str]) -> None:
    (role,) = resources(compiled.template, "AWS::IAM::Role").values()
    statements = [s for policy in role["Policies"] for s in policy["PolicyDocument"]["Statement"]]
    s3 = [s for s in statements if any(action.startswith("s3:") for action in s["Action"])]

    assert not [action for s in statements for action in s["Action"] if "*" in action]
    # Network interfaces have no names before they are made: the framework asks for all of them where there is a VPC.
    assert all(action.startswith("ec2:") for s in statements if s["Resource"] == "*" for action in s["Action"])
    key = "arn:${AWS::Partition}:s3:::kappawatt-models/plant-power/model.tar.gz"
    expected = [(["s3:GetObject"], {"Fn::Sub": key})] if variant.get("modelFrom") == "s3" else []
    assert [(s["Action"], s["Resource"]) for s in s3] == expected


def test_every_way_of_access_is_what_it_says(compiled: Compiled, variant: dict[str, str]) -> None:
    routes = resources(compiled.template, "AWS::ApiGatewayV2::Route").values()
    methods = resources(compiled.template, "AWS::ApiGateway::Method").values()
    found = [(r["RouteKey"], r.get("AuthorizationType", "NONE")) for r in routes]
    found += [(m["HttpMethod"], "KEY" if m.get("ApiKeyRequired") else "NONE") for m in methods]

    assert (
        sorted(found)
        == {
            "open": [("$default", "NONE")],
            "jwt": [("ANY /{proxy+}", "JWT"), ("OPTIONS /{proxy+}", "NONE")],
            "rest": [("ANY", "KEY"), ("OPTIONS", "NONE")],
            "iam": [("ANY /{proxy+}", "AWS_IAM")],
        }[variant["access"]]
    )


def test_readings_are_polled_as_the_worker_s_group_would(compiled: Compiled, variant: dict[str, str]) -> None:
    mappings = list(resources(compiled.template, "AWS::Lambda::EventSourceMapping").values())
    if "kafka" not in variant:
        assert mappings == []
        return
    (mapping,) = mappings
    source = {"msk": "AmazonManagedKafka", "self": "SelfManagedKafka"}[variant["kafka"]]
    function = resources(compiled.template, "AWS::Lambda::Function")["ConsumeLambdaFunction"]

    assert mapping["Topics"] == ["plant.readings"]
    assert mapping[f"{source}EventSourceConfig"] == {"ConsumerGroupId": "plant-power"}
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert function["Timeout"] == 60
    assert function["Environment"]["Variables"]["KAPPAWATT_BUS"].startswith("kafka://")
    if variant["kafka"] == "self":
        password = function["Environment"]["Variables"]["KAPPAWATT_KAFKA_SASL_PASSWORD"]
        assert password.startswith("{{resolve:secretsmanager:arn:")


def test_the_schema_would_have_said(framework: Path, tmp_path: Path) -> None:
    typo = ("memorySize: 1024", "memorySizes: 1024")

    code, said, _ = package(framework, tmp_path, {"runtime": KNOWN_RUNTIME}, typo, strict=True)

    assert code != 0
    assert "unrecognized property 'memorySizes'" in said


def test_the_runtime_alone_is_newer_than_the_schema(framework: Path, tmp_path: Path) -> None:
    code, said, template = package(framework, tmp_path, {})

    assert code == 0, said
    assert [line.strip().partition(":")[0] for line in said.splitlines() if line.startswith("  at ")] == [
        "at 'provider.runtime'"
    ]
    assert {f["Runtime"] for f in resources(template, "AWS::Lambda::Function").values()} == {"python3.13"}
