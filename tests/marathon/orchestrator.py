"""The part of Marathon that acts: apps with versions, deployments that change them, and what keeps instances running.

After mesosphere/marathon's TaskReplaceActor, TaskStartActor, DeploymentPlan and HealthCheckActor, in what they do.
"""

from __future__ import annotations

import contextlib
import copy
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.marathon.tasks import Agent, Task, iso

__all__ = ["App", "Deployment", "Locked", "Orchestrator"]

App = dict[str, Any]
TICK = 0.05
DEFAULTS: App = {
    "args": None,
    "cmd": None,
    "container": None,
    "cpus": 1,
    "mem": 128,
    "disk": 0,
    "instances": 1,
    "env": {},
    "labels": {},
    "secrets": {},
    "fetch": [],
    "constraints": [],
    "dependencies": [],
    "healthChecks": [],
    "readinessChecks": [],
    "networks": [{"mode": "host"}],
    "backoffSeconds": 1,
    "backoffFactor": 1.15,
    "killSelection": "YOUNGEST_FIRST",
    "upgradeStrategy": {"minimumHealthCapacity": 1.0, "maximumOverCapacity": 1.0},
}


class Locked(Exception):
    """Another deployment is changing an app."""

    def __init__(self, deployments: Sequence[str]) -> None:
        super().__init__("App is locked by one or more deployments.")
        self.deployments = list(deployments)


@dataclass(eq=False)
class Running:
    """An app and its instances."""

    definition: App
    version: str
    versions: dict[str, App] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    wanted: int = 0  # instances of `version`
    not_before: float = 0.0  # backoff
    delay: float = 0.0
    last_failure: App | None = None
    deployed: threading.Event = field(default_factory=threading.Event)

    def of_version(self, version: str) -> list[Task]:
        return [task for task in self.tasks if task.version == version and not task.stopping]

    def of_others(self) -> list[Task]:
        return [task for task in self.tasks if task.version != self.version and not task.stopping]


@dataclass(eq=False)
class Deployment:
    """A change on its way, app by app."""

    id: str
    version: str
    steps: list[tuple[str, str]]  # action, app
    before: dict[str, App | None]
    current: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    @property
    def apps(self) -> list[str]:
        return list(dict.fromkeys(app for _, app in self.steps))

    def to_json(self) -> App:
        action, app = self.steps[min(self.current, len(self.steps) - 1)]
        listed = [{"actions": [{"action": action, "app": app}]} for action, app in self.steps]
        return {
            "id": self.id,
            "version": self.version,
            "affectedApps": self.apps,
            "affectedPods": [],
            "steps": listed,
            "currentActions": [{"action": action, "app": app, "readinessCheckResults": []}],
            "currentStep": self.current + 1,
            "totalSteps": len(self.steps),
        }


class Orchestrator:
    """All apps of a Marathon; `close` ends every instance."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.lock = threading.RLock()
        self.apps: dict[str, Running] = {}
        self.groups: set[str] = set()
        self.deployments: dict[str, Deployment] = {}
        self.events: list[tuple[float, str, str]] = []  # time, what, app or task
        self._number = 0
        self._stopped = threading.Event()
        self._stoppers: list[threading.Thread] = []
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def close(self) -> None:
        """Cancel what is on its way and end all instances, quickly."""
        self._stopped.set()
        for deployment in list(self.deployments.values()):
            deployment.cancelled.set()
            if deployment.thread is not None:
                deployment.thread.join(30)
        self._keeper.join(30)
        for running in self.apps.values():
            for task in running.tasks:
                if not task.stopping:
                    task.kill()
        for thread in self._stoppers:
            thread.join(60)

    def change(
        self, wanted: dict[str, App | None], *, force: bool = False, restart: bool = False, keep: bool = False
    ) -> Deployment:
        """Begin to make each app what it is to be (None: gone), dependencies first; Locked if one is being changed.

        Parameters
        ----------
        wanted : mapping of str to dict or None
            Definitions by id.
        force : bool
            Cancel what is in the way.
        restart : bool
            Replace instances even where the definition is the same.
        keep : bool
            Keep instances that were made from the same definition earlier.
        """
        with self.lock:
            blocking = [d for d in self.deployments.values() if set(d.apps) & wanted.keys()]
            if blocking and not force:
                raise Locked([d.id for d in blocking])
            for other in blocking:
                other.cancelled.set()
                self.deployments.pop(other.id, None)
            version = iso(time.time() + self._number / 1000)
            self._number += 1
            before = {name: copy.deepcopy(self.apps[name].definition) if name in self.apps else None for name in wanted}
            steps = []
            for name in _in_order(wanted):
                steps += self._steps(name, wanted[name], version, restart, keep)
            deployment = Deployment(str(uuid.uuid4()), version, steps, before)
            if steps:
                self.deployments[deployment.id] = deployment
                deployment.thread = threading.Thread(target=self._run, args=(deployment,), daemon=True)
                deployment.thread.start()
            return deployment

    def cancel(self, deployment: Deployment) -> Deployment | None:
        """Stop a deployment where it is; its apps keep what they have."""
        with self.lock:
            deployment.cancelled.set()
            self.deployments.pop(deployment.id, None)
        return None

    def roll_back(self, deployment: Deployment) -> Deployment:
        """Stop a deployment and bring back what was before; instances that are it already stay."""
        self.cancel(deployment)
        return self.change(dict(deployment.before), force=True, keep=True)

    def kill(self, name: str, tasks: Sequence[Task]) -> None:
        """End some instances; others take their place."""
        for task in tasks:
            self._stop(task, "killed")

    def _steps(self, name: str, app: App | None, version: str, restart: bool, keep: bool) -> list[tuple[str, str]]:
        running = self.apps.get(name)
        if app is None:
            return [("StopApplication", name)] if running else []
        definition = {**copy.deepcopy(DEFAULTS), **copy.deepcopy(app), "id": name}
        if running is None:
            self.apps[name] = Running(definition, version, {version: definition})
            return [("StartApplication", name), ("ScaleApplication", name)]
        same = _but_instances(definition) == _but_instances(running.definition)
        if keep:
            for task in running.tasks:
                if _but_instances(task.app) == _but_instances(definition):
                    task.version = version
        running.versions[version] = definition
        running.definition = definition
        if same and not restart:
            for task in running.tasks:  # scaling makes no instance old
                task.version = version
            running.version = version
            return [("ScaleApplication", name)]
        running.version, running.wanted = version, 0
        return [("RestartApplication", name)]

    def _run(self, deployment: Deployment) -> None:
        for action, name in deployment.steps:  # what is to go goes at once, as in Marathon's first step
            if action == "StopApplication":
                self._empty(self.apps[name])
        for i, (action, name) in enumerate(deployment.steps):
            deployment.current = i
            running = self.apps.get(name)
            if running is None:
                continue
            self._say(action, name)
            {
                "StartApplication": lambda *_: None,
                "ScaleApplication": self._scale,
                "RestartApplication": self._replace,
                "StopApplication": self._remove,
            }[action](deployment, running)
            if deployment.cancelled.is_set() or self._stopped.is_set():
                return
        with self.lock:
            self.deployments.pop(deployment.id, None)
        self._say("finished", deployment.id)

    def _scale(self, deployment: Deployment, running: Running) -> None:
        """As many instances as wanted, all in service; the youngest go first."""
        target = running.definition["instances"]
        oldest_first = running.definition["killSelection"] == "OLDEST_FIRST"
        surplus = sorted(
            running.of_version(running.version), key=lambda task: task.started_at, reverse=not oldest_first
        )
        running.wanted = target
        for task in surplus[: max(0, len(surplus) - target)]:
            self._stop(task, "scaled down")
        for task in running.of_others():
            self._stop(task, "old")
        self._until(
            deployment,
            lambda: (
                sum(task.in_service for task in running.of_version(running.version)) == target
                and len(running.tasks) == target
            ),
        )

    def _replace(self, deployment: Deployment, running: Running) -> None:
        """Old instances out, new ones in, within what the upgrade strategy allows."""
        n = running.definition["instances"]
        strategy = {**DEFAULTS["upgradeStrategy"], **running.definition["upgradeStrategy"]}
        minimum = math.ceil(n * strategy["minimumHealthCapacity"])
        most = math.floor(n * (1 + strategy["maximumOverCapacity"]))
        there = len(running.of_others())
        at_once = max(0, there - minimum)
        if minimum == most and most <= there:
            at_once, most = 0, there + 1
        for task in running.of_others()[:at_once]:
            self._stop(task, "old")
        counted: set[str] = set()

        def step() -> bool:
            with self.lock:
                new = running.of_version(running.version)
                running.wanted = min(n, max(0, most - (len(running.tasks) - len(new))))
                for task in new:
                    if task.in_service and task.id not in counted:
                        counted.add(task.id)
                        old = running.of_others()
                        if old:
                            self._stop(old[0], "old")
                if len(counted) >= n:
                    for task in running.of_others():
                        self._stop(task, "old")
            return sum(task.in_service for task in new) == n and len(running.tasks) == n

        self._until(deployment, step)

    def _remove(self, deployment: Deployment, running: Running) -> None:
        self._empty(running)
        self._until(deployment, lambda: not running.tasks)
        with self.lock:
            self.apps.pop(running.definition["id"], None)

    def _empty(self, running: Running) -> None:
        running.wanted = 0
        for task in list(running.tasks):
            self._stop(task, "removed")

    def _until(self, deployment: Deployment, claim: Callable[[], bool]) -> None:
        while not claim():
            if deployment.cancelled.wait(TICK) or self._stopped.is_set():
                return

    def _stop(self, task: Task, why: str) -> None:
        """End an instance in the background: it may take its whole grace period."""
        with self.lock:
            if task.stopping:
                return
            task.stopping = True
        self._say(why, task.id)

        def end() -> None:
            task.stop()
            with self.lock:
                for running in self.apps.values():
                    with contextlib.suppress(ValueError):
                        running.tasks.remove(task)
            self._say("killed hard" if task.killed_hard else "ended", task.id)

        thread = threading.Thread(target=end, daemon=True)
        self._stoppers.append(thread)
        thread.start()

    def _keep(self) -> None:
        """Replace what ended or is sick, and launch what is missing."""
        while not self._stopped.wait(TICK):
            with self.lock:
                every = list(self.apps.values())
            for running in every:
                self._bury(running)
                with self.lock:
                    missing = running.wanted - len(running.of_version(running.version))
                if missing > 0 and time.time() >= running.not_before:
                    self._launch(running)

    def _bury(self, running: Running) -> None:
        for task in list(running.tasks):
            if task.stopping:
                continue
            if task.is_sick:
                self._fail(running, task, "TASK_KILLED", "Task was killed since health check failed.")
                self._stop(task, "unhealthy")
            elif not task.running:
                self._fail(running, task, "TASK_FAILED", f"Command exited with status {task.exit_code}")
                self._say("failed", task.id)
                task.stop()
                with self.lock:
                    running.tasks.remove(task)

    def _fail(self, running: Running, task: Task, state: str, message: str) -> None:
        factor = running.definition["backoffFactor"]
        running.delay = running.delay * factor if running.delay else running.definition["backoffSeconds"]
        running.not_before = time.time() + running.delay
        running.last_failure = {
            "appId": running.definition["id"],
            "host": "127.0.0.1",
            "message": message,
            "state": state,
            "taskId": task.id,
            "timestamp": iso(time.time()),
            "version": task.version,
        }

    def _launch(self, running: Running) -> None:
        with self.lock:
            self._number += 1
            number = self._number
        task = Task(self.agent, running.definition, running.version, number)
        with self.lock:
            running.tasks.append(task)
        self._say("launched", task.id)

    def _say(self, what: str, whom: str) -> None:
        self.events.append((time.time(), what, whom))


def _but_instances(app: App) -> App:
    return {key: value for key, value in app.items() if key != "instances"}


def _in_order(wanted: dict[str, App | None]) -> Iterator[str]:
    """Yield apps so that each comes after those it depends on; what is to go comes first."""
    gone = [name for name, app in wanted.items() if app is None]
    yield from gone
    done = set(gone)

    def visit(name: str) -> Iterator[str]:
        if name in done:
            return
        done.add(name)
        for other in (wanted[name] or {}).get("dependencies", []):
            if other in wanted:
                yield from visit(other)
        yield name

    for name in wanted:
        yield from visit(name)
