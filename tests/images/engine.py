"""Containers of real images, run as platforms run them: read-only, without rights, and gone afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.conftest import wait_until
from tests.docker import run_docker
from tests.integration.container import Endpoint

ROOT = Path(__file__).parents[2]
BUILD_SECONDS = 1200
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


def inspect(thing: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_docker("inspect", thing).stdout)[0]
    return found


def build(name: str, *options: str, root: Path = ROOT, environment: Mapping[str, str] | None = None) -> None:
    """Build as `make images` does, from another checkout if need be."""
    command = [sys.executable, "-m", "tools.images", "build", name, *options]
    env = {**os.environ, "PYTHONPATH": str(root), **(environment or {})}
    done = subprocess.run(
        command, env=env, cwd=root, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def run_python(image: str, program: str) -> Any:
    """Return what a program prints as JSON in a hardened container of the image."""
    done = run_docker("run", "--rm", *HARDENED, "--network", "none", "--entrypoint", "python", image, "-c", program)
    return json.loads(done.stdout)


class Running(Endpoint):
    """One container of an image, its port 8080 reachable on this machine."""

    def __init__(
        self,
        image: str,
        *arguments: str,
        mounts: Mapping[Path, str] | None = None,
        options: tuple[str, ...] = HARDENED,
        container_port: int = 8080,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        given = [word for name, value in (environment or {}).items() for word in ("--env", f"{name}={value}")]
        given += [word for source, at in (mounts or {}).items() for word in ("--volume", f"{source}:{at}")]
        publish = ("--publish", f"127.0.0.1::{container_port}")
        self.begun = time.monotonic()
        self.id = run_docker("run", "--detach", *options, *publish, *given, image, *arguments).stdout.strip()
        published = inspect(self.id)["NetworkSettings"]["Ports"].get(f"{container_port}/tcp")
        self.port = int(published[0]["HostPort"]) if published else 0  # none once it has ended

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        run_docker("rm", "--force", "--volumes", self.id)

    @property
    def is_running(self) -> bool:
        return bool(inspect(self.id)["State"]["Running"])

    def logs(self) -> str:
        shown = run_docker("logs", self.id)
        return shown.stdout + shown.stderr

    def wait_ready(self, seconds: float = 60, path: str = "/readyz") -> float:
        """Return the seconds from the command to the first answer that it is ready."""
        deadline = time.monotonic() + seconds
        while self.send(path)[0] != 200:
            assert time.monotonic() < deadline, self.send(path)[1].decode() + self.logs()
            assert self.is_running, self.logs()
            time.sleep(0.01)
        return time.monotonic() - self.begun

    def processor_seconds(self) -> float:
        """Seconds of processor time that all processes of the container have taken so far."""
        listed = run_docker("top", self.id, "-eo", "pid").stdout.splitlines()[1:]
        ticks = 0
        for process in listed:
            with suppress(FileNotFoundError):
                fields = Path(f"/proc/{process.strip()}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(int(field) for field in fields[11:15])  # of itself, and of children that ended
        return ticks / os.sysconf("SC_CLK_TCK")

    def wait_ended(self, seconds: float = 60) -> int:
        wait_until(lambda: not self.is_running, seconds, f"the end of {self.id}")
        return int(inspect(self.id)["State"]["ExitCode"])

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM as platforms do, and SIGKILL 30 s later; return exit code and seconds."""
        begun = time.monotonic()
        run_docker("stop", "--time", "30", self.id)
        return int(inspect(self.id)["State"]["ExitCode"]), time.monotonic() - begun

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return run_docker("exec", self.id, *command, check=False)
