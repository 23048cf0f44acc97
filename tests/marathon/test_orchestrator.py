"""The Marathon of these tests does what Marathon promises, shown with an app that misbehaves on order."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.marathon.orchestrator import Running
from tests.marathon.server import Marathon

EXAMPLE = Path(__file__).with_name("example_app.py")
ID = "/test/example"
CHECK = {"protocol": "MESOS_HTTP", "path": "/healthz", "portIndex": 0, "timeoutSeconds": 2, "maxConsecutiveFailures": 2}


def example(**more: Any) -> dict[str, Any]:
    """An app of one process, checked every second."""
    check = CHECK | {"delaySeconds": 0, "intervalSeconds": 1, "gracePeriodSeconds": 20}
    app = {
        "id": ID,
        "cmd": f"exec {sys.executable} -S {EXAMPLE}",
        "cpus": 0.1,
        "mem": 32,
        "networks": [{"mode": "host"}],
        "portDefinitions": [{"port": 0, "name": "http"}],
        "healthChecks": [check],
        "taskKillGracePeriodSeconds": 5,
    }
    return app | more


def call(marathon: Marathon, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and document."""
    raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(marathon.url + path, raw, method=method)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def add(marathon: Marathon, app: dict[str, Any]) -> Running:
    status, document = call(marathon, "POST", "/v2/apps", app)
    assert status == 201, document
    return marathon.orchestrator.apps[app["id"]]


def deployed(marathon: Marathon, seconds: float = 60) -> None:
    wait_until(lambda: not call(marathon, "GET", "/v2/deployments")[1], seconds, "deployments end")


def happened(marathon: Marathon, what: str) -> list[str]:
    return [whom for _, event, whom in marathon.orchestrator.events if event == what]


def test_an_app_is_added_and_found_healthy(marathon: Marathon) -> None:
    status, document = call(marathon, "POST", "/v2/apps", example(instances=2))
    assert (status, document["id"], document["instances"]) == (201, ID, 2)
    assert len(document["deployments"]) == 1

    deployed(marathon)

    app = call(marathon, "GET", f"/v2/apps{ID}")[1]["app"]
    assert (app["tasksRunning"], app["tasksHealthy"], app["tasksUnhealthy"]) == (2, 2, 0)
    for task in app["tasks"]:
        with urllib.request.urlopen(f"http://127.0.0.1:{task['ports'][0]}/", timeout=5) as answer:
            assert answer.status == 200


def test_what_cannot_be_is_refused_in_marathons_words(marathon: Marathon) -> None:
    add(marathon, example(instances=0, healthChecks=[]))
    wrong = example(id="/test/other", upgradeStrategy={"minimumHealthCapacity": 1.5})

    assert call(marathon, "POST", "/v2/apps", example())[0] == 409
    assert call(marathon, "GET", "/v2/apps/test/none") == (404, {"message": "App '/test/none' does not exist"})
    assert call(marathon, "POST", "/v2/apps", b"{")[0] == 400
    status, document = call(marathon, "POST", "/v2/apps", wrong)
    assert (status, document["message"]) == (422, "Object is not valid")
    assert [detail["path"] for detail in document["details"]] == ["/upgradeStrategy/minimumHealthCapacity"]
    assert call(marathon, "GET", "/v2/apps/test/other")[0] == 404


def test_an_instance_that_is_no_longer_healthy_is_replaced(marathon: Marathon, tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    running = add(marathon, example(env={"SICK_FILE": str(sick)}))
    deployed(marathon)
    (first,) = running.tasks

    sick.touch()
    wait_until(lambda: happened(marathon, "unhealthy"), 20)
    sick.unlink()

    wait_until(lambda: [task for task in running.tasks if task.in_service and task is not first], 20)
    failure = call(marathon, "GET", f"/v2/apps{ID}")[1]["app"]["lastTaskFailure"]
    assert (failure["taskId"], failure["state"]) == (first.id, "TASK_KILLED")
    assert first.failures == 2  # as many as the definition allows, in a row


def test_failures_before_the_grace_period_ends_do_not_count(marathon: Marathon) -> None:
    check = CHECK | {"delaySeconds": 0, "intervalSeconds": 0, "gracePeriodSeconds": 20}
    add(marathon, example(env={"SLOW": "2"}, healthChecks=[check]))

    deployed(marathon)

    assert happened(marathon, "unhealthy") == []


def test_failures_after_the_grace_period_count(marathon: Marathon) -> None:
    check = CHECK | {"delaySeconds": 0, "intervalSeconds": 1, "gracePeriodSeconds": 0}
    add(marathon, example(env={"SLOW": "60"}, healthChecks=[check]))

    wait_until(lambda: happened(marathon, "unhealthy"), 20)


def test_an_instance_that_ends_is_replaced_after_a_backoff_that_grows(marathon: Marathon) -> None:
    add(marathon, example(cmd="exit 3", healthChecks=[], backoffSeconds=1, backoffFactor=2.0))

    wait_until(lambda: len(happened(marathon, "launched")) >= 3, 30)

    launched = [moment for moment, what, _ in marathon.orchestrator.events if what == "launched"]
    assert launched[1] - launched[0] >= 1
    assert launched[2] - launched[1] >= 2
    failure = call(marathon, "GET", f"/v2/apps{ID}")[1]["app"]["lastTaskFailure"]
    assert failure["message"] == "Command exited with status 3"


def test_the_youngest_go_when_an_app_is_scaled_down(marathon: Marathon) -> None:
    running = add(marathon, example(instances=1))
    deployed(marathon)
    (oldest,) = running.tasks
    call(marathon, "PUT", f"/v2/apps{ID}", {"instances": 3})
    deployed(marathon)
    assert len(running.tasks) == 3

    call(marathon, "PUT", f"/v2/apps{ID}", {"instances": 1})
    deployed(marathon)

    assert running.tasks == [oldest]


@pytest.mark.parametrize(
    ("strategy", "least", "most"),
    [
        ({"minimumHealthCapacity": 1.0, "maximumOverCapacity": 0.5}, 2, 3),
        ({"minimumHealthCapacity": 1.0, "maximumOverCapacity": 0.0}, 2, 3),
        ({"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.0}, 1, 2),
    ],
    ids=["one more, none less", "none more is taken as one more", "one less, none more"],
)
def test_an_upgrade_keeps_to_its_strategy(marathon: Marathon, strategy: Any, least: int, most: int) -> None:
    running = add(marathon, example(instances=2, upgradeStrategy=strategy, env={"SAYS": "old"}))
    deployed(marathon)
    old = list(running.tasks)

    call(marathon, "PUT", f"/v2/apps{ID}", {"env": {"SAYS": "new"}})
    counted = []
    while call(marathon, "GET", "/v2/deployments")[1]:
        tasks = list(running.tasks)
        counted.append((sum(task.in_service for task in tasks), len(tasks)))
        time.sleep(0.02)

    assert min(up for up, _ in counted) == least
    assert max(there for _, there in counted) == most
    assert not set(old) & set(running.tasks)
    for task in running.tasks:
        with urllib.request.urlopen(f"http://127.0.0.1:{task.ports[0]}/", timeout=5) as answer:
            assert answer.read() == b"new"


def test_a_deployment_waits_for_readiness(marathon: Marathon, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    check = {"name": "ready", "path": "/readyz", "portName": "http", "intervalSeconds": 2, "timeoutSeconds": 1}
    running = add(marathon, example(env={"READY_FILE": str(ready)}, readinessChecks=[check]))
    wait_until(lambda: running.tasks and running.tasks[0].passes_health, 20)
    assert call(marathon, "GET", "/v2/deployments")[1]

    ready.touch()

    deployed(marathon)


def test_an_app_starts_after_those_it_depends_on_are_in_service(marathon: Marathon) -> None:
    first, second = example(id="/test/first", env={"SLOW": "1"}), example(id="/test/second")
    group = {"id": "/test", "apps": [{**second, "dependencies": ["/test/first"]}, first]}

    assert call(marathon, "POST", "/v2/groups", group)[0] == 201
    deployed(marathon)

    launched = {whom.split(".")[0]: moment for moment, what, whom in marathon.orchestrator.events if what == "launched"}
    assert launched["test_second"] - launched["test_first"] >= 1
    assert call(marathon, "DELETE", "/v2/groups/test")[0] == 200
    deployed(marathon)
    assert len(happened(marathon, "removed")) == 2
    assert call(marathon, "GET", "/v2/groups/test")[0] == 404


def test_an_instance_that_ignores_sigterm_is_killed_after_its_grace_period(marathon: Marathon) -> None:
    running = add(marathon, example(env={"DEAF": "1"}, taskKillGracePeriodSeconds=2))
    deployed(marathon)
    (task,) = running.tasks
    wait_until(lambda: "listening" in task.said, 20)

    begun = time.monotonic()
    call(marathon, "DELETE", f"/v2/apps{ID}")
    deployed(marathon)

    assert 2 <= time.monotonic() - begun < 10
    assert happened(marathon, "killed hard") == [task.id]
    assert call(marathon, "GET", f"/v2/apps{ID}")[0] == 404


def test_an_app_under_way_is_locked_and_a_roll_back_brings_the_old_one(marathon: Marathon) -> None:
    running = add(marathon, example(env={"SAYS": "old"}))
    deployed(marathon)
    (old,) = running.tasks
    call(marathon, "PUT", f"/v2/apps{ID}", {"env": {"SAYS": "new", "SLOW": "60"}})
    (deployment,) = call(marathon, "GET", "/v2/deployments")[1]

    status, document = call(marathon, "PUT", f"/v2/apps{ID}", {"instances": 2})
    assert (status, document["deployments"]) == (409, [{"id": deployment["id"]}])
    assert call(marathon, "DELETE", f"/v2/deployments/{deployment['id']}")[0] == 200
    deployed(marathon)

    assert call(marathon, "GET", f"/v2/apps{ID}")[1]["app"]["env"] == {"SAYS": "old"}
    assert running.tasks == [old]  # it was there all the time
    with urllib.request.urlopen(f"http://127.0.0.1:{running.tasks[0].ports[0]}/", timeout=5) as answer:
        assert answer.read() == b"old"


def test_many_apps_are_changed_at_once_by_one_deployment(marathon: Marathon) -> None:
    for name in ("a", "b"):
        add(marathon, example(id=f"/test/{name}", instances=0))
    deployed(marathon)

    status, document = call(
        marathon, "PUT", "/v2/apps", [{"id": "/test/a", "instances": 1}, {"id": "/test/b", "instances": 1}]
    )
    assert status == 200, document
    deployed(marathon)

    apps = call(marathon, "GET", "/v2/apps")[1]["apps"]
    assert {app["id"]: app["tasksHealthy"] for app in apps} == {"/test/a": 1, "/test/b": 1}


def test_ending_the_marathon_ends_what_it_runs(tmp_path: Path, marathon: Marathon) -> None:
    running = add(marathon, example(instances=2))
    deployed(marathon)
    tasks = list(running.tasks)

    marathon.orchestrator.close()

    assert not any(task.running for task in tasks)
