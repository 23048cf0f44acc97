"""docker/compose.yaml under a project name and a port of its own, as a person brings it up."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import urllib3

from kappawatt.ingest import Send, http_sender
from kappawatt.streams.plant import STREAM as PLANT
from kappawatt.streams.stream import Stream
from tests.docker import docker, why_no_docker

__all__ = [
    "DEFAULT",
    "FILE",
    "ROOT",
    "Stack",
    "compose_command",
    "defaults",
    "free_port",
    "has_image",
    "why_not",
]

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker" / "compose.yaml"
DEFAULT = re.compile(r"\$\{(\w+):-([^}]*)\}")
UP_SECONDS = 240.0


def defaults() -> dict[str, str]:
    """Return what docker/compose.yaml takes where its surroundings say nothing, by variable."""
    return dict(DEFAULT.findall(FILE.read_text()))


def has_image(name: str) -> bool:
    return bool(docker("image", "ls", "-q", name))


def compose_command() -> list[str] | None:
    """Return the command there is: docker's plugin, or the older program that Debian has."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, timeout=30, check=False)
            if done.returncode == 0:
                return command
    return None


def why_not() -> str | None:
    """Return why this machine cannot run containers; None if it can."""
    reason = why_no_docker()
    if reason is not None:
        return reason
    return None if compose_command() else "neither `docker compose` nor `docker-compose` is installed"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """The services of docker/compose.yaml.

    Parameters
    ----------
    project : str
        Prefix of everything that is made.
    files : sequence of Path
        Compose files, the first of them docker/compose.yaml.
    environment : str
        What the files take from their surroundings.
    """

    def __init__(self, project: str, files: Sequence[Path] = (FILE,), **environment: str) -> None:
        command = compose_command()
        assert command is not None
        self.project = project
        self.port = free_port()
        self._command = [*command, "-p", project]
        self._files = [word for file in files for word in ("-f", str(file))]
        self._environment = {"KAPPAWATT_GATEWAY_PORT": str(self.port), **environment}
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(5.0, read=30.0))

    def compose(self, *arguments: str, timeout: float = UP_SECONDS, check: bool = True, **environment: str) -> str:
        """Run compose and return what it printed on standard output."""
        done = subprocess.run(
            [*self._command, *self._files, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **self._environment, **environment},
        )
        if check and done.returncode:
            pytest.fail(f"compose {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def with_files(self, *files: Path, **environment: str) -> Stack:
        """Return the same project described by more files."""
        other = Stack(self.project, (FILE, *files), **{**self._environment, **environment})
        other.port = self.port
        return other

    def up(self, *services: str, profile: str | None = None) -> None:
        """Start services (all, if none is named) and wait until every container is healthy."""
        self.compose(*(["--profile", profile] if profile else []), "up", "-d", *services)
        self.await_health()

    def await_health(self, seconds: float = UP_SECONDS) -> None:
        """Wait until every container that has a health check is healthy."""
        deadline = time.monotonic() + seconds
        while True:
            states = {name: state_of(found) for name, found in self.containers().items()}
            if states and all(state in ("running", "healthy") for state in states.values()):
                return
            if time.monotonic() > deadline:
                logs = self.compose("logs", "--tail=20", check=False)
                pytest.fail(f"not healthy within {seconds} s: {states}\n{logs}")
            time.sleep(0.3)

    def down(self) -> None:
        """Remove everything, volumes too."""
        self.compose("--profile", "demo", "--profile", "s3", "down", "-v", "--remove-orphans", "-t", "20")

    def containers(self) -> dict[str, Any]:
        """Return docker's description of each container, by the service's name."""
        ids = docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}").split()
        found = json.loads(docker("inspect", *ids)) if ids else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}

    def leftovers(self) -> list[str]:
        """Return what docker has of the project: containers, networks, volumes."""
        label = f"label=com.docker.compose.project={self.project}"
        return [
            line
            for what in (("ps", "-a"), ("network", "ls"), ("volume", "ls"))
            for line in docker(*what, "-q", "--filter", label).split()
        ]

    def kill(self, service: str) -> None:
        """End a container's main process as the kernel would; `docker kill` would count as a wish of the user."""
        found = self.containers()[service]
        pid, image = str(found["State"]["Pid"]), self.containers()["gateway"]["Image"]
        end = f"import os; os.kill({pid}, 9)"
        docker("run", "--rm", "--pid=host", "--user=0", "--entrypoint=python3", image, "-c", end)

    def restarts(self, service: str) -> int:
        return int(self.containers()[service]["RestartCount"])

    def ask(self, sql: str) -> list[list[str]]:
        """Return what PostgreSQL answers, as text."""
        answer = self.compose("exec", "-T", "postgres", "psql", "-U", "kappawatt", "-At", "-c", sql)
        return [line.split("|") for line in answer.splitlines()]

    def number(self, sql: str) -> int:
        """Return the one number that PostgreSQL answers; 0 while a table is not there."""
        done = self.compose("exec", "-T", "postgres", "psql", "-U", "kappawatt", "-At", "-c", sql, check=False)
        return int(done.strip() or 0)

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Return the status and the JSON document of a GET at the gateway."""
        return self._asked("GET", path, None, headers)

    def post(self, path: str, body: bytes, content_type: str = "application/json", **headers: str) -> tuple[int, Any]:
        """Return the status and the JSON document (else the text) of a POST at the gateway."""
        return self._asked("POST", path, body, {"Content-Type": content_type, **headers})

    def sender(self, key: str, stream: Stream = PLANT) -> Send:
        """Return what posts readings at the gateway."""
        return http_sender(stream, f"{self.gateway}/api/sensor-ingestor", key, patience=120.0)

    def _asked(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self._http.request(method, f"{self.gateway}{path}", body=body, headers=named)
        try:
            return answer.status, json.loads(answer.data)
        except json.JSONDecodeError:
            return answer.status, answer.data.decode()


def state_of(container: dict[str, Any]) -> str:
    """Return the health of a container that has a check, else whether it runs."""
    state = container["State"]
    health = state.get("Health") or {}
    if state["Status"] != "running" or health.get("Status", "none") == "none":
        return str(state["Status"])
    return str(health["Status"])
