"""The chart on a real cluster, as one user's story: install, use, upgrade, break, grow, roll back, uninstall.

One release for all tests here; each starts from a release that is well and leaves it well, the last removes it.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.conftest import wait_until
from tests.e2e import cluster
from tests.e2e.cluster import Release, free_node_port, has_api, is_ready, kubectl, objects, run
from tests.e2e.conftest import NEXT_TAG, SERVICES, TAG
from tests.e2e.load import Load, reading

pytestmark = pytest.mark.timeout(900)

SLOW_WORKER = (  # so slow that a burst takes it a while
    "plant-power.consume.resources.limits.cpu=200m",
    # The autoscaler looks every 15 s: four are due at a lag that a slow machine's burst has too, and stay until they
    # are ready.
    "plant-power.consume.autoscaling.lagThreshold=500",
    "plant-power.consume.autoscaling.pollingSeconds=2",
    "plant-power.consume.autoscaling.scaleDownSeconds=45",
)
BURST = 150_000


@dataclass
class Story:
    """The release, and what was sent to it so far."""

    release: Release
    accepted: int = 0
    report: dict[str, int] = field(default_factory=dict)

    def request(self, method: str, path: str, body: Any = None, role: str = "admin", **headers: str) -> Any:
        """Ask the gateway at its node port; the answer's JSON."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"authorization": f"Bearer {self.keys[role]}", "content-type": "application/json", **headers}
        asked = urllib.request.Request(self.release.url + path, content, sent, method=method)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.loads(answer.read())

    @property
    def keys(self) -> dict[str, str]:
        if not hasattr(self, "_keys"):
            self._keys = {role: self.release.key(role) for role in ("admin", "writer", "reader")}
        return self._keys

    def load(self, **options: Any) -> Load:
        return Load(self.release.url, self.keys["writer"], **options)

    def judge(self, load: Load | None = None) -> dict[str, int]:
        """Nothing is lost and nothing doubled, of everything this story has sent."""
        if load is not None:
            self.accepted += load.accepted
        self.report = self.release.judge(self.accepted)
        print(self.report)
        return self.report


@pytest.fixture(scope="module")
def story(images: None) -> Iterator[Story]:
    """An installed release, in a namespace that lets only restricted pods in, with a single-node Kafka in it."""
    name = f"kw-{uuid.uuid4().hex[:6]}"
    with (
        cluster.namespace(name),
        cluster.volume_for("data-kw-kafka-0", name),
        cluster.known_to_an_operator_outside("kw-kafka", name),
    ):
        release = Release("kw", name, free_node_port())
        began = time.monotonic()
        release.helm("install")
        print(f"helm install --wait: {time.monotonic() - began:.0f} s")
        try:
            yield Story(release)
        finally:
            run("helm", "uninstall", "kw", "-n", name, "--ignore-not-found", seconds=120)


def test_helm_says_what_to_do_next_and_its_tests_pass(story: Story) -> None:
    notes = run("helm", "get", "notes", "kw", "-n", story.release.namespace)
    tested = run("helm", "test", "kw", "-n", story.release.namespace, "--logs", "--timeout", "180s", seconds=200)

    assert f"helm -n {story.release.namespace} test kw" in notes
    assert tested.count("Phase:") >= 2
    assert "Failed" not in tested
    story.accepted += 1  # the reading of `kappawatt doctor`


def test_no_pod_had_to_be_restarted_for_the_others_to_come_up(story: Story) -> None:
    restarts = {
        pod["metadata"]["name"]: status["restartCount"]
        for pod in objects("pods", story.release.namespace)
        for status in pod["status"].get("containerStatuses", ())
    }

    assert not {name: count for name, count in restarts.items() if count}


def test_a_reading_at_the_node_port_comes_back_as_a_prediction(story: Story) -> None:
    sent = reading()
    answer = story.request("POST", "/api/sensor-ingestor/readings/first-plant", [sent], role="writer")
    story.accepted += 1

    def latest() -> Any:
        return _or_none(lambda: story.request("GET", "/api/latest/first-plant", role="reader"))

    assert answer["accepted"] == 1
    predicted = wait_until(latest, 30, "the prediction of a reading")
    asked = story.request("POST", "/api/plant-power/predict", sent, role="reader")
    assert predicted["net_power"] == pytest.approx(asked["net_power"])


def test_without_a_key_nothing_is_said_and_a_reader_may_not_write(story: Story) -> None:
    for key, expected in (("", 401), (story.keys["reader"], 403)):
        asked = urllib.request.Request(
            story.release.url + "/api/sensor-ingestor/readings/first-plant",
            b"14.96,41.76,1024.07,73.17",
            {"content-type": "text/csv"} | ({"authorization": f"Bearer {key}"} if key else {}),
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=10)
        refused.value.close()
        assert refused.value.code == expected


def test_forecasts_are_served_of_what_was_streamed(story: Story) -> None:
    """Four weeks of a made-up load go in by the gateway, and tomorrow comes out, over HTTP and over Kafka."""
    hours = np.arange(np.datetime64("2026-01-05T05:00"), np.datetime64("2026-02-02T17:00"), np.timedelta64(1, "h"))
    local = (hours.astype("datetime64[h]").astype(int) - 5) % 24
    rows = [
        {"interval_start": f"{hour}:00Z", "load": float(30_000 + 5_000 * np.sin((at - 9) / 24 * 2 * np.pi))}
        for hour, at in zip(hours, local, strict=True)
    ]

    answer = story.request("POST", "/api/sensor-ingestor/load/E2E", rows, role="writer")

    assert answer["accepted"] == len(rows), answer

    def forecast() -> Any:
        zone = {"load_zone": "E2E"}
        return _or_none(lambda: story.request("POST", "/api/hourly-load/forecast", zone, role="reader"))

    made = wait_until(forecast, 60, "a forecast of the zone")
    assert len(made["target_time"]) == 24
    assert not made["fallback"]
    assert made["quantiles"]["0.05"][12] <= made["quantiles"]["0.50"][12] <= made["quantiles"]["0.95"][12]

    def published() -> Any:
        found = story.request("GET", "/api/forecasts/hourly-load", role="reader")
        return [row for row in found["series"] if row["key"] == "E2E"]

    wait_until(published, 60, "a forecast of the zone on the bus")


def test_a_new_model_appears_behind_the_gateway_without_a_redeploy(story: Story) -> None:
    gateways = {pod["metadata"]["uid"] for pod in story.release.pods("gateway", "serve")}
    others = [f"{name}.enabled=false" for name in SERVICES if name != "mlp-regressor"]
    chosen = [f"--set={each}" for each in (*others, "mlp-regressor.enabled=true", "grafana.enabled=false")]
    own_kafka = ["--set=kafka.enabled=false", "--set=global.kafka.bootstrapServers=kw-kafka:9092"]
    namespace = story.release.namespace

    run(
        "helm", "install", "mine", str(cluster.CHART), "-n", namespace, *chosen, *own_kafka,
        "--wait",
        "--timeout=120s", seconds=150,
    )  # fmt: skip
    try:
        params = wait_until(lambda: _or_none(lambda: story.request("GET", "/api/mlp-regressor/params")), 15)
    finally:
        run("helm", "uninstall", "mine", "-n", namespace, "--wait", seconds=120)

    assert params["model"] == "mlp-regressor"
    assert gateways == {pod["metadata"]["uid"] for pod in story.release.pods("gateway", "serve")}
    wait_until(lambda: _or_none(lambda: story.request("GET", "/api/mlp-regressor/params")) is None, 15, "its end")


def _or_none(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except urllib.error.HTTPError as error:
        error.close()
        return None


def _images(story: Story) -> set[str]:
    pods = [pod for name in SERVICES for role in ("serve", "consume") for pod in story.release.pods(name, role)]
    return {pod["spec"]["containers"][0]["image"].rpartition(":")[2] for pod in pods}


def test_an_upgrade_under_load_fails_no_request_and_loses_and_doubles_nothing(story: Story) -> None:
    with story.load() as load:
        cluster.settle(3)
        story.release.helm("upgrade", f"global.image.tag={NEXT_TAG}")
        cluster.settle(3)

    print(f"{load.requests} requests, {load.accepted} readings, {len(load.failures)} failures")
    assert _images(story) == {NEXT_TAG}
    assert load.failures == []
    assert load.requests > 200
    story.judge(load)


def test_a_rollback_under_load_does_neither(story: Story) -> None:
    with story.load() as load:
        cluster.settle(2)
        run("helm", "rollback", "kw", "1", "-n", story.release.namespace, "--wait", "--timeout=240s", seconds=270)
        cluster.settle(2)

    print(f"{load.requests} requests, {load.accepted} readings, {len(load.failures)} failures")
    assert _images(story) == {TAG}
    assert load.failures == []
    story.judge(load)


def test_pods_deleted_under_load_fail_no_request(story: Story) -> None:
    """One of each kind, as a drained node would: it gets its signal, and another takes its place."""
    with story.load() as load:
        for service, role in (
            ("plant-power", "serve"), ("plant-power", "consume"), ("sensor-ingestor", "serve"), ("gateway", "serve"),
        ):  # fmt: skip
            before = story.release.ready(service, role)
            name = story.release.pods(service, role)[0]["metadata"]["name"]
            kubectl("delete", "pod", name, "-n", story.release.namespace, "--wait=false")
            wait_until(lambda: story.release.ready(service, role) >= before, 90, f"{service} {role} again")  # noqa: B023
        cluster.settle(2)

    print(f"{load.requests} requests, {load.accepted} readings, {len(load.failures)} failures")
    assert load.failures == []
    story.judge(load)


def test_pods_killed_at_once_under_load_lose_and_double_nothing(story: Story) -> None:
    """Without a signal: what was on its way to them fails, and whoever sent it sends it again."""
    with story.load(tries_again=True) as load:
        for service, role in (("plant-power", "consume"), ("plant-power", "serve")):
            cluster.settle(2)
            before = story.release.ready(service, role)
            story.release.kill(story.release.pods(service, role)[0]["metadata"]["name"])
            wait_until(lambda: story.release.ready(service, role) >= before, 90, f"{service} {role} again")  # noqa: B023
        cluster.settle(2)

    print(f"{load.requests} requests, {load.accepted} readings, failures: {load.failures}")
    assert [failure for failure in load.failures if "readings" in failure] == []
    story.judge(load)


def test_kafka_killed_under_load_loses_and_doubles_nothing(story: Story) -> None:
    with story.load(tries_again=True) as load:
        cluster.settle(3)
        before = objects("pods", story.release.namespace, "app.kubernetes.io/name=kafka")[0]["metadata"]["uid"]
        story.release.kill("kw-kafka-0")

        def is_back() -> bool:
            pods = objects("pods", story.release.namespace, "app.kubernetes.io/name=kafka")
            return any(is_ready(pod) and pod["metadata"]["uid"] != before for pod in pods)

        wait_until(is_back, 120, "Kafka again")
        cluster.settle(10)

    print(f"{load.requests} requests, {load.accepted} readings, failures: {load.failures[:5]} of {len(load.failures)}")
    assert load.accepted > 0
    story.judge(load)


def test_a_burst_scales_the_workers_from_one_to_four_on_lag_and_back(story: Story) -> None:
    if not has_api("keda.sh/v1alpha1"):
        pytest.skip("KEDA: not on this cluster")
    story.release.helm("upgrade", *SLOW_WORKER)
    wait_until(lambda: story.release.ready("plant-power", "consume") == 1, 120, "one worker")
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            seen.append(story.release.ready("plant-power", "consume"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        story.accepted += story.release.python(cluster.ROOT / "tests/e2e/burst.py", str(BURST))["sent"]
        wait_until(lambda: max(seen, default=0) == 4, 180, "four workers")
        story.judge()
        wait_until(lambda: seen[-1] == 1, 240, "one worker again")
    finally:
        done.set()
        watcher.join()
        print("workers ready:", [n for i, n in enumerate(seen) if i == 0 or seen[i - 1] != n])
    story.judge()


def test_a_cpu_load_scales_serve(story: Story) -> None:
    if not has_api("metrics.k8s.io/v1beta1"):
        pytest.skip("metrics-server: not on this cluster")
    story.release.helm(
        "upgrade",
        "plant-power.serve.autoscaling.enabled=true",
        "plant-power.serve.resources.requests.cpu=100m",
    )
    # a Deployment whose replicas are no longer said has one, until the autoscaler gives it the least it may have
    wait_until(lambda: story.release.ready("plant-power", "serve") == 2, 90, "the least that the autoscaler may have")
    rows = "\n".join("14.96,41.76,1024.07,73.17" for _ in range(5_000)).encode()
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            story.request("POST", "/api/plant-power/predict", rows, **{"content-type": "text/csv"})

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        wait_until(lambda: len(story.release.pods("plant-power", "serve")) > 2, 180, "more than two pods")
    finally:
        stopped.set()
        for client in clients:
            client.join()


def test_uninstall_leaves_nothing(story: Story) -> None:
    namespace = story.release.namespace
    run("helm", "uninstall", "kw", "-n", namespace, "--wait", "--timeout=120s", seconds=150)

    def left() -> list[str]:
        kinds = kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
        kept = [kind for kind in kinds if not kind.startswith(("events", "pods.metrics"))]
        found = kubectl("get", ",".join(kept), "-n", namespace, "-o", "name", "--ignore-not-found").split()
        return [name for name in found if name not in ("configmap/kube-root-ca.crt", "serviceaccount/default")]

    wait_until(lambda: not left(), 90, f"an empty namespace: {left()}")
