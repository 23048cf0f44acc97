"""How much memory there is for this process, and how much its series want."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kappawatt.bus.interface import Bus
from kappawatt.serving.probes import Finding
from kappawatt.serving.service import ModelKind
from kappawatt.streams.stream import Stream

__all__ = ["BASE_BYTES", "Limit", "count_series", "examine_memory", "memory_limit"]

BASE_BYTES = 200_000_000  # of a forecasting process without series: code, model, and the messages of one poll
NEAR = 0.7  # of a limit, from which on it is said: what is late or revised takes more, and so does growth
LOOKED_AT = 100_000  # messages at the end of each partition, which name the series that are alive
LOOK_SECONDS = 3.0
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Limit:
    """Memory that may be used [bytes], and who says so."""

    size: int
    source: str
    is_own: bool  # whether it holds for this container alone, not for all that runs on a machine


def memory_limit(root: Path = Path("/")) -> Limit:
    """Return the least limit of this process' control groups, or what the machine has.

    Parameters
    ----------
    root : Path
        Where `proc` and `sys` are.
    """
    found = [
        Limit(int(text), f"{path.name} of {path.parent}", True)
        for path in _limit_files(root)
        if (text := _read(path)).isdecimal()
    ]
    machine = Limit(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "memory of the machine", False)
    return min([*found, machine], key=lambda limit: limit.size)


def _limit_files(root: Path) -> list[Path]:
    """Those of version 2 in every group above the process, and that of version 1."""
    groups = root / "sys" / "fs" / "cgroup"
    files = [groups / "memory.max", groups / "memory" / "memory.limit_in_bytes"]
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        number, _, path = line.partition("::")
        if number == "0":
            own = groups / path.lstrip("/")
            files += [each / "memory.max" for each in (own, *own.parents) if each.is_relative_to(groups)]
    return files


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def count_series(bus: Bus, topic: str) -> int:
    """Return how many series the newest messages of a topic name, as far as they can be read in a few seconds."""
    begin = {(topic, p): max(known.begin, known.end - LOOKED_AT) for p, known in bus.offsets(topic).items()}
    left = {(topic, p): known.end for p, known in bus.offsets(topic).items()}
    reader = bus.reader([topic], begin)
    keys: set[bytes | None] = set()
    try:
        deadline = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < deadline and any(reader.positions().get(at, 0) < end for at, end in left.items()):
            for records in reader.poll(0.25):
                keys.update(records.keys)
    finally:
        reader.close()
    return len(keys)


def examine_memory(bus: Bus, name: str, kind: ModelKind[Any], stream: Stream, limit: Limit) -> Finding | None:
    """Compare what a service's series take with a limit; None if it keeps none."""
    if kind.series_bytes is None:
        return None
    series = count_series(bus, stream.readings.name)
    serve, consume = (BASE_BYTES + series * kind.series_bytes(in_worker) for in_worker in (False, True))
    needed = max(serve, consume) if limit.is_own else serve + consume
    is_near = needed > NEAR * limit.size
    detail = (
        f"{series} series take up to {serve / MEGABYTE:,.0f} MB in `serve` and {consume / MEGABYTE:,.0f} MB in "
        f"`consume`, {needed / limit.size:.0%} of {limit.size / MEGABYTE:,.0f} MB ({limit.source})"
    )
    if is_near:
        detail += "; give more (in the chart by expectedSeries), or let more workers share the partitions"
    return Finding(f"{name} memory", True, detail, is_warning=is_near)
