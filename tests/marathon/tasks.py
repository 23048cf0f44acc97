"""One instance of an app, really run: its image by docker, or a process where there is no such image.

What a Mesos agent does for it: a sandbox with what was fetched, secrets and ports in its environment, SIGTERM and
then SIGKILL, and the health check that its definition asks for.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Agent", "Task"]

App = dict[str, Any]
SANDBOX = "/mnt/mesos/sandbox"
LOOPBACK = "127.0.0.1"
L4LB = "marathon.l4lb.thisdcos.directory"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Agent:
    """The machine that tasks run on.

    Parameters
    ----------
    folder : Path
        Holds the tasks' sandboxes.
    secrets : mapping of str to str
        The secret store: value by path.
    network : str or None
        Docker network whose DNS stands for DC/OS's: containers get their VIPs' names in it. None: the host's own
        network, so that a task reaches servers on 127.0.0.1 and listens at the port that it is given.
    without_docker : bool
        Run images as processes even if docker has them.
    """

    folder: Path
    secrets: Mapping[str, str]
    network: str | None = None
    without_docker: bool = False

    def runs(self, image: str) -> bool:
        """Whether images of this name are docker's to run; a tag that is not there then fails as a pull would."""
        if self.without_docker or shutil.which("docker") is None:
            return False
        name = image.split("@")[0].rpartition(":")[0] or image
        asked = subprocess.run(["docker", "images", "-q", name], capture_output=True, text=True, check=False)
        return asked.returncode == 0 and bool(asked.stdout.strip())


class Task:
    """One instance. Made, it runs; `stop` ends it.

    Parameters
    ----------
    agent : Agent
    app : dict
        The app's definition.
    version : str
    number : int
        Makes the id unique.
    """

    def __init__(self, agent: Agent, app: App, version: str, number: int) -> None:
        self.agent, self.app, self.version = agent, app, version
        self.id = f"{app['id'].strip('/').replace('/', '_')}.{number}-{time.time_ns()}"
        self.started_at = time.time()
        self.healthy: bool | None = None  # None until the first check has an answer
        self.ready = not app.get("readinessChecks")
        self.ready_answer: tuple[int, str] | None = None
        self.failures = 0
        self._was_healthy = False
        self.killed_hard = False
        self.stopping = False
        self.sandbox = agent.folder / self.id
        self.ports = [free_port() for _ in self._mappings]
        self._ended = threading.Event()
        self._fetch()
        image = ((app.get("container") or {}).get("docker") or {}).get("image", "")
        self.image = image if image and agent.runs(image) else None
        command, environment = self._by_docker(image) if self.image else self._as_process(image)
        self._output = (self.sandbox / "stdout").open("ab")
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=self.sandbox,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._watch_health, self._watch_ready)]
        for thread in self._threads:
            thread.start()

    @property
    def _mappings(self) -> list[App]:
        """Its ports, as a container's or as the host's."""
        return (self.app.get("container") or {}).get("portMappings") or self.app.get("portDefinitions") or []

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    @property
    def said(self) -> str:
        """What it wrote."""
        return (self.sandbox / "stdout").read_text(errors="replace")

    @property
    def in_service(self) -> bool:
        """Whether Marathon would count it as up: running, healthy and once ready."""
        return self.running and not self.stopping and self.ready and self.passes_health

    @property
    def passes_health(self) -> bool:
        return self.healthy is True or not self.app.get("healthChecks")

    @property
    def is_sick(self) -> bool:
        """Whether its health check says that it has to be replaced; with 0 allowed, at the first failure."""
        checks = self.app.get("healthChecks", [])
        return bool(checks and self.failures and self.failures >= checks[0].get("maxConsecutiveFailures", 3))

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL after the definition's grace period."""
        self.stopping = True
        if self.running:
            self._process.send_signal(signal.SIGTERM)  # docker passes it on to its container
            try:
                self._process.wait(self.app.get("taskKillGracePeriodSeconds", 3))
            except subprocess.TimeoutExpired:
                self.kill()
        self._close()

    def kill(self) -> None:
        """End it without a word, as a crash would."""
        self.killed_hard = True
        if self.image:
            subprocess.run(["docker", "kill", self._container], capture_output=True, check=False)
        elif self.running:
            # The shell that Mesos wraps around a `cmd`, and what it started.
            subprocess.run(["kill", "-KILL", "--", f"-{self._process.pid}"], capture_output=True, check=False)
        self._process.wait(30)
        self._close()

    def _close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(10)
        self._output.close()

    def to_json(self) -> App:
        """Return the task as `/v2/apps/ID/tasks` has it."""
        results = []
        if self.app.get("healthChecks"):
            results = [
                {
                    "alive": self.healthy is True,
                    "consecutiveFailures": self.failures,
                    "firstSuccess": iso(self.started_at) if self._was_healthy else None,
                    "instanceId": f"{self.app['id']}.{self.id}",
                }
            ]
        return {
            "id": self.id,
            "appId": self.app["id"],
            "slaveId": "agent-1",
            "host": LOOPBACK,
            "ports": self.ports,
            "servicePorts": self.ports,
            "startedAt": iso(self.started_at),
            "stagedAt": iso(self.started_at),
            "state": "TASK_KILLING" if self.stopping else "TASK_RUNNING",
            "version": self.version,
            "healthCheckResults": results if self.healthy is not None else [],
            "ipAddresses": [{"ipAddress": LOOPBACK, "protocol": "IPv4"}],
        }

    def _fetch(self) -> None:
        self.sandbox.mkdir(parents=True)
        self.sandbox.chmod(0o777)
        for item in self.app.get("fetch", []):
            parts = urlsplit(item["uri"])
            target = self.sandbox / item.get("destPath", Path(parts.path).name)
            if parts.scheme in ("", "file"):
                shutil.copyfile(parts.path, target)
            else:
                with urllib.request.urlopen(item["uri"], timeout=30) as answer:
                    target.write_bytes(answer.read())
            target.chmod(0o755 if item.get("executable") else 0o644)
            if item.get("extract", True) and target.suffix in (".gz", ".tgz", ".zip"):
                shutil.unpack_archive(target, self.sandbox)

    def _environment(self, ports: list[int], sandbox: str) -> dict[str, str]:
        env = {
            "MARATHON_APP_ID": self.app["id"],
            "MARATHON_APP_VERSION": self.version,
            "MESOS_TASK_ID": self.id,
            "MESOS_SANDBOX": sandbox,
            "HOST": LOOPBACK,
            "PORTS": ",".join(map(str, ports)),
        }
        for i, port in enumerate(ports):
            env[f"PORT{i}"] = str(port)
            if i < len(self._mappings) and self._mappings[i].get("name"):
                env[f"PORT_{self._mappings[i]['name'].upper()}"] = str(port)
        declared = self.app.get("secrets", {})
        for name, value in self.app.get("env", {}).items():
            env[name] = value if isinstance(value, str) else self.agent.secrets[declared[value["secret"]]["source"]]
        return env

    def _without_network_of_its_own(self, env: dict[str, str]) -> dict[str, str]:
        """Beside others on one network it cannot have the port that the definition gives it alone."""
        for name in ("KAPPAWATT_PORT", "KAPPAWATT_PROBE_PORT"):
            if name in env:
                env[name] = str(self.ports[0])
        return env

    def _by_docker(self, image: str) -> tuple[list[str], dict[str, str]]:
        self._container = f"marathon-{self.id}"
        docker = self.app["container"]["docker"]
        command = [
            "docker",
            "run",
            "--rm",
            "--pull",
            "never",
            "--name",
            self._container,
            "-v",
            f"{self.sandbox}:{SANDBOX}",
        ]
        command += ["--memory", f"{self.app.get('mem', 128)}m"]
        env = self._environment(self.ports, SANDBOX)
        if self.agent.network:
            command += ["--network", self.agent.network]
            for mapping, port in zip(self._mappings, self.ports, strict=True):
                command += ["-p", f"{LOOPBACK}:{port}:{mapping['containerPort']}"]
                vips = [value for key, value in mapping.get("labels", {}).items() if key.startswith("VIP_")]
                for vip in vips:
                    command += ["--network-alias", f"{vip.strip('/').split(':')[0]}.{L4LB}"]
        else:
            command += ["--network", "host"]
            env = self._without_network_of_its_own(env)
        if self.app.get("user"):
            command += ["--user", self.app["user"]]
        for parameter in docker.get("parameters", []):
            command.append(f"--{parameter['key']}={parameter['value']}")
        for name in env:
            command += ["-e", name]
        arguments = ["/bin/sh", "-c", self.app["cmd"]] if self.app.get("cmd") else self.app.get("args", [])
        return [*command, image, *arguments], {**env, "PATH": PATH, "HOME": str(Path.home())}

    def _as_process(self, image: str) -> tuple[list[str], dict[str, str]]:
        env = {"PATH": PATH, "HOME": str(self.sandbox), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        env |= self._environment(self.ports, str(self.sandbox))
        if self.app.get("cmd"):
            return ["/bin/sh", "-c", self.app["cmd"]], env
        if not image:
            return list(self.app["args"]), env
        # What the image's ENTRYPOINT is; `kappawatt/NAME:TAG` says which service.
        env = {name: value.replace(SANDBOX, str(self.sandbox)) for name, value in env.items()}
        env |= {"KAPPAWATT_STATE": str(self.sandbox)} if "KAPPAWATT_STATE" in env else {}
        entry = [sys.executable, "-m", "kappawatt.deploy.container.entry", *self.app.get("args", [])]
        return entry, self._without_network_of_its_own(env)

    def _watch_health(self) -> None:
        checks = self.app.get("healthChecks", [])
        if not checks:
            return
        check = checks[0]
        wait = check.get("delaySeconds", 15)
        while not self._ended.wait(wait):
            wait = check.get("intervalSeconds", 60)
            status, _ = self._ask(check.get("path", "/"), check.get("portIndex", 0), check.get("timeoutSeconds", 20))
            if 200 <= status < 400:
                self.healthy, self._was_healthy, self.failures = True, True, 0
            else:
                in_grace = time.time() - self.started_at < check.get("gracePeriodSeconds", 300)
                if self._was_healthy or not in_grace:
                    self.failures += 1
                self.healthy = False

    def _watch_ready(self) -> None:
        for check in self.app.get("readinessChecks", []):
            names = [mapping.get("name") for mapping in self._mappings]
            index = names.index(check.get("portName", "http-api"))
            wait = 0.0
            while not self._ended.wait(wait) and not self.ready:
                wait = check.get("intervalSeconds", 30)
                self.ready_answer = self._ask(check.get("path", "/"), index, check.get("timeoutSeconds", 10))
                self.ready = self.ready_answer[0] in check.get("httpStatusCodesForReady", [200])

    def _ask(self, path: str, index: int, timeout: float) -> tuple[int, str]:
        """Status and body; status 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.ports[index]}{path}", timeout=timeout) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(errors="replace")
        except OSError:
            return 0, ""


PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"


def iso(moment: float) -> str:
    """Return seconds since the epoch as Marathon writes time."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return f"{whole}.{int(moment % 1 * 1000):03d}Z"
