"""One reading a request over HTTP: kappawatt against MLServer with the same scikit-learn model.

All servers run at once, idle but for the one under load; `wrk` with 8 kept-alive connections drives one after
the other, round by round. Before any load each server must give the model's own answer to the body it will be
sent. A bare Flask route that answers constant bytes shows where the floor is.
"""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import models
from bench.environments import environment, kappawatt, kappawatt_version, versions, wrk
from bench.measure import Figure, alternate, medians, say
from bench.processes import BenchError, cpu_seconds, free_port, running, until_answers

__all__ = ["HttpOptions", "Load", "run"]

HERE = Path(__file__).parent
CONNECTIONS = 8
START_SECONDS = 90.0
TOLERANCE = 0.01  # MW between float32 and float64 arithmetic of one model
TARGETS = {"rate": ">= 3", "p99": "<= 0.5"}


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What the command line said.

    Parameters
    ----------
    workers : tuple of (int, int)
        Pairs of kappawatt's workers and MLServer's parallel_workers (0: it answers in its one process).
    artifact : Path or None
        A kappawatt artifact to serve in place of the one made of the same scikit-learn model.
    """

    cache: Path
    kinds: tuple[str, ...] = models.KINDS
    workers: tuple[tuple[int, int], ...] = ((1, 0), (1, 1), (2, 2))
    seconds: int = 10
    warmup: int = 3
    rounds: int = 3
    artifact: Path | None = None
    peers_only: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """How a server is started and what it is asked."""

    command: tuple[str, ...]
    environ: Mapping[str, str]
    ready: str
    url: str
    body: bytes
    value: Callable[[Any], float] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Load:
    """What `wrk` saw in one round, and the processor time the server spent on each request."""

    rate: float
    p50: float
    p99: float
    not_2xx: int
    socket_errors: int
    cpu_us: float


def run(options: HttpOptions) -> list[Figure]:
    """Measure every kind of model with every pair of worker counts."""
    wrk()
    figures: list[Figure] = []
    for kind in options.kinds:
        model = models.trained(kind, options.cache)
        for workers, parallel_workers in options.workers:
            figures += _compare(options, model, workers, parallel_workers)
    return figures


def _compare(options: HttpOptions, model: models.Trained, workers: int, parallel_workers: int) -> list[Figure]:
    kind = model.training["kind"]
    name = f"{kind}-{workers}-{parallel_workers}"
    peer = f"MLServer parallel_workers={parallel_workers}"
    servers = {
        peer: mlserver(model, parallel_workers, options.cache),
        "bare Flask route": floor(workers, options.cache),
    }
    if not options.peers_only:
        servers |= ours(model, workers, options.artifact)
    exact = options.artifact is None
    with ExitStack() as stack:
        sides: dict[str, Callable[[], Load]] = {}
        for side, server in servers.items():
            log = options.cache / "logs" / f"http-{name}-{side.split()[0].strip('/').replace('/', '-')}.log"
            check = model.training["answer"] if exact or side == peer else None
            sides[side] = stack.enter_context(_ready(server, check, options, log))
        found = alternate(sides, options.rounds)
    _require_answers(found)
    known = _versions(options.cache)
    figures = []
    for side in servers:
        if side != peer:
            figures += _figures(found, side, peer, kind, workers, options, known)
    return figures


def _figures(
    found: Mapping[str, list[Load]],
    side: str,
    peer: str,
    kind: str,
    workers: int,
    options: HttpOptions,
    known: Mapping[str, str],
) -> list[Figure]:
    protocol = (
        f"one reading a request, {kind} model, {workers} worker(s), wrk with {CONNECTIONS} kept-alive "
        f"connections, {options.rounds} alternating rounds of {options.seconds} s, medians"
    )
    figures = []
    for value, unit in (("rate", "requests/s"), ("p50", "ms"), ("p99", "ms"), ("cpu_us", "us CPU a request")):
        middle = medians(found, value)
        target = "" if side.startswith("bare") else TARGETS.get(value, "")
        rounds = {name: [getattr(load, value) for load in found[name]] for name in (side, peer)}
        figures.append(
            Figure(
                f"HTTP {side}: {value}",
                unit,
                middle[side],
                middle[peer],
                peer,
                target,
                protocol,
                known,
                rounds,
            )
        )
    return figures


def _require_answers(found: Mapping[str, list[Load]]) -> None:
    for side, loads in found.items():
        bad = sum(load.not_2xx for load in loads)
        broken = sum(load.socket_errors for load in loads)
        if bad or broken:
            raise BenchError(f"{side}: {bad} answers were not 2xx, {broken} socket errors")


@contextmanager
def _ready(server: Server, expected: float | None, options: HttpOptions, log: Path) -> Iterator[Callable[[], Load]]:
    """Start a server, check that it answers as the model does, and yield a function that loads it once."""
    with running(server.command, log, server.environ) as process:
        until_answers(server.ready, START_SECONDS, process)
        _check(server, expected)
        body = log.with_suffix(".body")
        body.write_bytes(server.body)
        yield lambda: _load(server, body, options, process.pid)


def _check(server: Server, expected: float | None) -> None:
    request = urllib.request.Request(server.url, server.body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            got = server.value(json.load(answer))
    except urllib.error.HTTPError as error:
        raise BenchError(f"{server.url}: {error.code} {error.read()[:500]!r}") from error
    if expected is not None and got == got and abs(got - expected) > TOLERANCE:
        raise BenchError(f"{server.url}: got {got} MW, the model says {expected}")


def _load(server: Server, body: Path, options: HttpOptions, pid: int) -> Load:
    _wrk(server.url, body, options.warmup)
    before = cpu_seconds(pid)
    seen = _wrk(server.url, body, options.seconds)
    used = cpu_seconds(pid) - before
    load = Load(
        rate=seen["requests"] / seen["seconds"],
        p50=seen["p50_ms"],
        p99=seen["p99_ms"],
        not_2xx=int(seen["not_2xx"]),
        socket_errors=int(seen["socket_errors"]),
        cpu_us=used / max(1, seen["requests"]) * 1e6,
    )
    say(
        f"  {load.rate:.0f} requests/s, p50 {load.p50:.2f} ms, p99 {load.p99:.2f} ms, "
        f"{load.cpu_us:.0f} us CPU a request"
    )
    return load


def _wrk(url: str, body: Path, seconds: int) -> dict[str, float]:
    command = [
        wrk(),
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "-s",
        str(HERE / "wrk.lua"),
        url,
        "--",
        str(body),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    last = done.stdout.strip().splitlines()[-1:] or [""]
    if done.returncode or not last[0].startswith("{"):
        raise BenchError(f"wrk: {done.stderr.strip()[-300:]} {last[0][:200]}")
    found: dict[str, float] = json.loads(last[0])
    return found


def ours(model: models.Trained, workers: int, artifact: Path | None) -> dict[str, Server]:
    """Return kappawatt's plant service by its two doors, each on a server of its own."""
    folder = artifact or models.kappawatt_artifact(model)
    example = model.training["example"]
    plain = json.dumps(example).encode()
    inference = json.dumps(
        {"inputs": [{"name": name, "shape": [1], "datatype": "FP64", "data": [v]} for name, v in example.items()]}
    ).encode()
    doors = {
        "/predict": (plain, lambda answer: float(answer["net_power"])),
        "/v2 infer": (inference, lambda answer: _output(answer, "net_power")),
    }
    paths = {"/predict": "/predict", "/v2 infer": "/v2/models/plant-power/infer"}
    servers = {}
    for door, (body, value) in doors.items():
        port = free_port()
        root = f"http://127.0.0.1:{port}"
        command = (kappawatt(), "serve", "plant-power", "--port", str(port), "--workers", str(workers))
        environ = {"KAPPAWATT_ARTIFACTS": str(folder.resolve()), "KAPPAWATT_LOG_LEVEL": "WARNING"}
        servers[door] = Server(command, environ, f"{root}/readyz", root + paths[door], body, value)
    return servers


def mlserver(model: models.Trained, parallel_workers: int, cache: Path) -> Server:
    """Return MLServer with the model in its scikit-learn runtime."""
    folder = cache / f"mlserver-{model.training['kind']}-{parallel_workers}"
    (folder / "plant-power").mkdir(parents=True, exist_ok=True)
    http, grpc, metrics = free_port(), free_port(), free_port()
    ports = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    settings = {"host": "127.0.0.1", "debug": False, "parallel_workers": parallel_workers, **ports}
    (folder / "settings.json").write_text(json.dumps(settings))
    parameters = {"uri": str(model.joblib.resolve()), "version": "1"}
    implementation = "mlserver_sklearn.SKLearnModel"
    settings = {"name": "plant-power", "implementation": implementation, "parameters": parameters}
    (folder / "plant-power" / "model-settings.json").write_text(json.dumps(settings))
    values = list(model.training["example"].values())
    body = {"inputs": [{"name": "predict", "shape": [1, 4], "datatype": "FP64", "data": values}]}
    root = f"http://127.0.0.1:{http}/v2/models/plant-power"
    command = (str(environment("mlserver", cache) / "mlserver"), "start", str(folder))
    return Server(command, {}, f"{root}/ready", f"{root}/infer", json.dumps(body).encode(), _first_output)


def floor(workers: int, cache: Path) -> Server:
    """Return a Flask route that answers constant bytes under gunicorn's threaded worker."""
    port = free_port()
    root = f"http://127.0.0.1:{port}"
    gunicorn = str(environment("floor", cache) / "gunicorn")
    command = (
        *(gunicorn, "--bind", f"127.0.0.1:{port}", "--workers", str(workers), "--worker-class", "gthread"),
        *(
            "--threads",
            "4",
            "--keep-alive",
            "75",
            "--pythonpath",
            str(HERE / "peers"),
            "floor_app:create_app()",
        ),
    )
    return Server(
        command,
        {"HOME": str(cache)},
        f"{root}/readyz",
        f"{root}/predict",
        b'{"ambient_temperature":14.96}',
        lambda _: float("nan"),
    )


def _first_output(answer: Any) -> float:
    return float(answer["outputs"][0]["data"][0])


def _output(answer: Any, name: str) -> float:
    return next(float(output["data"][0]) for output in answer["outputs"] if output["name"] == name)


def _versions(cache: Path) -> dict[str, str]:
    found = versions(environment("mlserver", cache) / "python", "mlserver", "scikit-learn")
    floors = versions(environment("floor", cache) / "python", "gunicorn", "flask")
    return {"kappawatt": kappawatt_version(), **found, **floors}
