"""Container images: which there are, their locks, how they are built, what is in them.

`python -m tools.images names | lock | build | sizes | sbom | audit`; `make help` has the same as targets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import click

from kappawatt.serving.service import find_service, service_names

ROOT = Path(__file__).parents[1]
DOCKERFILE = "docker/service.Dockerfile"
REQUIREMENTS = ROOT / "docker" / "requirements"
PYTHON = "3.13"
PYTHON_IMAGE = f"python:{PYTHON}-slim"
ZIP_EPOCH = 315532800
PREFIX = os.environ.get("IMAGE_PREFIX", "kappawatt/")  # registry.example/energy/ for one of your own
LABEL = "org.opencontainers.image."
OPTIONAL = ("fast-kafka", "train")  # extras that EXTRAS may name, beside the image's own
TRAINING = "train"
TRAINED_OUTSIDE = ("smart-meter-train",)  # TensorFlow is in no image
FUNCTION, FUNCTION_LOCK = "lambda", ROOT / "serverless" / "requirements.txt"
COPIED = ("src", "services", "docker", "pyproject.toml", "README.md", "LICENSE", "NOTICE", ".dockerignore")
COMPILED = ("setuptools>=77", "wheel")  # gunicorn_h1c's build backend: it has no wheel for Linux


@cache
def project() -> dict[str, Any]:
    """Return the table `project` of pyproject.toml, and `build-system` in it."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    table: dict[str, Any] = document["project"]
    return table | {"build-system": document["build-system"]}


def image_names() -> list[str]:
    """Return the names of all images: the services there are."""
    return service_names()


def extras_of(name: str) -> list[str]:
    """Return the extras of pyproject.toml that an image, or an optional part of one, has."""
    known = project()["optional-dependencies"]
    wanted = {
        TRAINING: [TRAINING, *(extra for extra in known if extra.endswith("-train") and extra not in TRAINED_OUTSIDE)],
    }.get(name, [name])
    return [extra for extra in wanted if extra in known]


def locks() -> dict[str, list[str]]:
    """Return each lock that is not the core's by name, with the extras it is of."""
    return {name: extras_of(name) for name in [*image_names(), *OPTIONAL]}


def tag_of(name: str, extras: Sequence[str] = ()) -> str:
    """Return the image's name and tag; optional parts show in the tag, `0.1.0-train`."""
    return f"{PREFIX}{name}:{'-'.join([project()['version'], *extras])}"


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout; a failure ends this one with its exit code."""
    done = subprocess.run(command, cwd=ROOT, text=True, check=False, **options)  # noqa: S603
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} ended with {done.returncode}")
    return done


def epoch() -> int:
    """Return SOURCE_DATE_EPOCH, else the time of the last commit, else 1980."""
    given = os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct")
    if given and not given.isdecimal():
        sys.exit(f"SOURCE_DATE_EPOCH: got {given!r}, allowed seconds since 1970")
    return int(given or ZIP_EPOCH)


def revision() -> str:
    """Return the commit that is built, `-dirty` if the checkout has changes; empty outside of a checkout."""
    commit = _git("rev-parse", "HEAD")
    return commit + ("-dirty" if commit and _git("status", "--porcelain", "--", *COPIED) else "")


def build_arguments(name: str, extras: Sequence[str] = ()) -> dict[str, str]:
    """Return the build arguments of an image."""
    seconds = epoch()
    arguments = {
        "SERVICE": name,
        "EXTRAS": " ".join(extras),
        "PYTHON_IMAGE": os.environ.get("PYTHON_IMAGE") or PYTHON_IMAGE,
        "EPOCH": str(seconds),
        "VERSION": project()["version"],
        "REVISION": revision(),
        "SOURCE": os.environ.get("IMAGE_SOURCE") or project().get("urls", {}).get("Source", ""),
        "CREATED": datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    # SageMaker mounts what a training writes to as root's.
    return arguments | ({"USER": "0:0"} if TRAINING in extras else {})


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else ""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Container images of this checkout."""


@main.command()
def names() -> None:
    """Print the images' names and tags."""
    for name in image_names():
        click.echo(tag_of(name))


@main.command()
@click.option("--upgrade", is_flag=True, help="Take the newest versions allowed, not those locked.")
def lock(upgrade: bool) -> None:
    """Write docker/requirements and the function's: exact versions and hashes of what is installed."""
    REQUIREMENTS.mkdir(exist_ok=True)
    every = sorted({extra for extras in locks().values() for extra in extras})
    agreed = REQUIREMENTS / "all.txt"
    options = ["--upgrade"] if upgrade else []
    _compile("pyproject.toml", agreed, *options, *_each("--extra", [*every, FUNCTION]))
    hashes = ["--generate-hashes", "--constraint", str(agreed.relative_to(ROOT))]
    core = REQUIREMENTS / "core.txt"
    _compile("pyproject.toml", core, *hashes)
    in_core = _each("--no-emit-package", locked(core))
    for name, extras in locks().items():
        if extras:
            _compile("pyproject.toml", REQUIREMENTS / f"{name}.txt", *hashes, *_each("--extra", extras), *in_core)
    left_out = ["--no-emit-package", "gunicorn-h1c"]  # a function has no server, and there is no wheel of it
    _compile("pyproject.toml", FUNCTION_LOCK, *hashes, "--extra", FUNCTION, *left_out)
    with tempfile.NamedTemporaryFile("w", suffix=".in") as backend:
        backend.write("\n".join([*project()["build-system"]["requires"], *COMPILED]))
        backend.flush()
        _compile(backend.name, REQUIREMENTS / "build.txt", *options, "--generate-hashes")
    for path in REQUIREMENTS.glob("*.txt"):  # what has no packages of its own needs no file
        if not locked(path):
            path.unlink()


def locked(path: Path) -> dict[str, str]:
    """Return the versions in a lock by name."""
    lines = [line.split() for line in path.read_text().splitlines() if "==" in line and not line.startswith(("#", " "))]
    return dict(line[0].split("==", 1) for line in lines)


def _each(option: str, values: Sequence[str] | dict[str, str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _compile(source: str, target: Path, *options: str) -> None:
    run(
        *(
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            source,
            "--universal",
            "--python-version",
            PYTHON,
            "--quiet",
            "--no-annotate",
        ),
        *("--custom-compile-command", "make lock", "--output-file", str(target.relative_to(ROOT)), *options),
    )


@main.command()
@click.argument("wanted", nargs=-1)
@click.option("--extra", "extras", multiple=True, type=click.Choice(OPTIONAL), help="An optional part to put in.")
@click.option("--no-cache", is_flag=True, help="Build every step again.")
def build(wanted: tuple[str, ...], extras: tuple[str, ...], no_cache: bool) -> None:
    """Build images: those named, or all."""
    for name in wanted or image_names():
        tag = tag_of(name, extras)
        target = "consume" if find_service(name).is_one_process else "service"
        arguments = [f"{key}={value}" for key, value in build_arguments(name, extras).items()]
        run(
            *(engine(), "build", "--file", DOCKERFILE, "--target", target, "--tag", tag),
            *(["--no-cache"] if no_cache else []),
            *_each("--build-arg", arguments),
            ".",
        )
        click.echo(tag)


@main.command()
@click.argument("wanted", nargs=-1)
def sbom(wanted: tuple[str, ...]) -> None:
    """Write what is in images to dist/sbom/NAME.cdx.json: those named, or all."""
    from tools.sbom import write_bill

    for name in wanted or image_names():
        path = ROOT / "dist" / "sbom" / f"{name}.cdx.json"
        click.echo(f"{path.relative_to(ROOT)}  {write_bill(tag_of(name), engine(), path)} components")


@main.command()
@click.argument("wanted", nargs=-1, type=click.Choice(image_names()))
def sizes(wanted: tuple[str, ...]) -> None:
    """Print a Markdown table of what images, all if none is named, add to their base [MB], layer by layer."""
    click.echo(
        "| image | over its base [MB] | every service's packages | its own packages | kappawatt, service, model |"
    )
    click.echo("| --- | --- | --- | --- | --- |")
    for name in wanted or image_names():
        shown = _ask("history", "--human=false", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}", tag_of(name))
        layers = [int(line.split(" ", 1)[0]) for line in shown.splitlines() if "COPY" in line]  # the newest first
        base = _ask("inspect", "--format", f'{{{{index .Config.Labels "{LABEL}base.name"}}}}', tag_of(name))
        size, under = (int(_ask("inspect", "--format", "{{.Size}}", image)) for image in (tag_of(name), base))
        parts = [size - under, *reversed(layers[:3])]
        click.echo(f"| {name} | " + " | ".join(f"{part / 1e6:.1f}" for part in parts) + " |")


@main.command()
def audit() -> None:
    """Ask for known vulnerabilities of what is locked.

    Ends with 0 if none is known, 1 if one is, 3 if the advisory service could not be asked: nobody knows then.
    """
    sys.exit(audit_locks(click.echo))


def audit_locks(say: Callable[[str], None], service: Sequence[str] = ()) -> int:
    """Run pip-audit on all locks and tell its three outcomes apart; `service` are options that choose whom it asks."""
    files = [path for path in sorted(REQUIREMENTS.glob("*.txt")) if path.name != "all.txt"]
    paths = [str(path.relative_to(ROOT)) for path in (*files, FUNCTION_LOCK)]
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    command += ["--format", "json", "--desc", "off", *service, *_each("--requirement", paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        answer = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        say(f"COULD NOT ASK: the advisory service did not answer, so nothing is known of what is locked: {why}")
        return 3
    skipped = sorted(
        {package["name"]: package["skip_reason"] for package in answer if "skip_reason" in package}.items()
    )
    asked = {package["name"]: package for package in answer if "skip_reason" not in package}
    found = [(package, weakness) for package in asked.values() for weakness in package["vulns"]]
    for package, weakness in found:
        fixed = ", ".join(weakness["fix_versions"]) or "no version"
        say(f"{package['name']} {package['version']}: {weakness['id']}, fixed in {fixed}")
    if skipped:
        reason = skipped[0][1]
        say(f"COULD NOT ASK for {len(skipped)} of {len(skipped) + len(asked)} packages; the first of them: {reason}")
    if asked:
        say(f"{len(asked)} packages asked for, {len(found)} known vulnerabilities")
    return 1 if found else 3 if skipped else 0


def engine() -> str:
    """Return the container engine's command: `docker`, or what the variable DOCKER names."""
    return os.environ.get("DOCKER") or "docker"


def _ask(*arguments: str) -> str:
    return run(engine(), *arguments, stdout=subprocess.PIPE).stdout.strip()


if __name__ == "__main__":
    main()
