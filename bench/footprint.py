"""Memory and start time of the plant service: what a container of it needs, and how soon it answers."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import models
from bench.environments import environment, kappawatt_version, versions
from bench.http import Server, mlserver, ours
from bench.measure import Figure, alternate, say
from bench.processes import memory, running, until_answers

__all__ = ["FootprintOptions", "run"]

START_SECONDS = 90.0
REQUESTS = 200
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class FootprintOptions:
    """What the command line said."""

    cache: Path
    rounds: int = 5
    workers: int = 1
    artifact: Path | None = None
    peers_only: bool = False


@dataclass(frozen=True, slots=True)
class Footprint:
    """One start: seconds until the ready probe answered 200, memory after some requests [MB], processes."""

    seconds: float
    pss: float
    rss: float
    processes: int


def run(options: FootprintOptions) -> list[Figure]:
    """Start each side some times; the first start of each, which reads the disk, is not counted."""
    model = models.trained("linear" if options.artifact is None else "boosting", options.cache)
    peer = "MLServer parallel_workers=0"
    servers = {peer: mlserver(model, 0, options.cache)}
    if not options.peers_only:
        servers["kappawatt"] = ours(model, options.workers, options.artifact)["/predict"]
    found = alternate({side: _starter(side, server, options) for side, server in servers.items()}, options.rounds + 1)
    counted = {side: starts[1:] for side, starts in found.items()}
    known = {
        "kappawatt": kappawatt_version(),
        **versions(environment("mlserver", options.cache) / "python", "mlserver"),
    }
    protocol = (
        f"{options.workers} worker(s), master and workers summed from /proc after {REQUESTS} requests; spawn "
        f"until the ready probe answers 200; median of {options.rounds} starts, files cached"
    )
    figures = []
    for value, unit, target in (("pss", "MB", "ours < 120"), ("rss", "MB", ""), ("seconds", "s", "ours < 1")):
        rounds = {side: [float(getattr(start, value)) for start in starts] for side, starts in counted.items()}
        middle = {side: median(values) for side, values in rounds.items()}
        figures.append(
            Figure(
                f"footprint: {value}",
                unit,
                middle.get("kappawatt"),
                middle[peer],
                peer,
                target,
                protocol,
                known,
                rounds,
            )
        )
    return figures


def _starter(side: str, server: Server, options: FootprintOptions) -> Callable[[], Footprint]:
    log = options.cache / "logs" / f"footprint-{side.split()[0]}.log"

    def start() -> Footprint:
        begun = time.monotonic()
        with running(server.command, log, server.environ) as process:
            until_answers(server.ready, START_SECONDS, process)
            seconds = time.monotonic() - begun
            for _ in range(REQUESTS):
                request = urllib.request.Request(server.url, server.body, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=30) as answer:
                    answer.read()
            used = memory(process.pid)
        found = Footprint(seconds, used.pss / MEGABYTE, used.rss / MEGABYTE, used.processes)
        say(
            f"  ready after {seconds:.2f} s, {found.pss:.0f} MB PSS, {found.rss:.0f} MB RSS "
            f"in {found.processes} processes"
        )
        return found

    return start
