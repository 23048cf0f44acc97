"""A store of the release before, and a process that migrates it and can be killed on the way."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["MIGRATED", "ROWS", "as_before", "killed_after", "make_before", "migrating", "said_by"]

STATEMENTS = [
    statement.strip()
    for statement in re.sub(r"^--.*$", "", Path(__file__).with_name("before.sql").read_text(), flags=re.M).split(";\n")
    if statement.strip()
]
ROWS = {
    "readings": 4,
    "predictions": 4,
    "rejections": 3,
    "load_readings": 2,
    "meter_readings": 2,
    "forecasts": 5,
    "forecast_days": 1,
    "forecast_errors": 4,
}
SERIES = ["series -> key", "known_at -> available_at"]
MIGRATED: dict[str, tuple[list[str], int]] = {
    "readings": (["plant -> key"], 4),
    "predictions": (["plant -> key"], 4),
    "rejections": (["plant -> key"], 3),
    "load_readings": (["load_zone -> key"], 2),
    "meter_readings": (["meter_id -> key"], 2),
    "forecasts": (SERIES, 5),
    "forecast_days": (SERIES, 1),
    "forecast_errors": (SERIES, 4),
}
PROGRAM = """
import json, logging, os, signal, sys, time
from kappawatt.services.sink.tables import LAYOUT
from kappawatt.store import migration
from kappawatt.store.interface import StoreBusy
from kappawatt.store.open import open_store

class Said(logging.Handler):
    def emit(self, record):
        print(json.dumps({"table": record.table, "renamed": record.renamed, "rows": record.rows}), flush=True)


log = logging.getLogger("kappawatt.store.migration")
log.addHandler(Said())
log.setLevel(logging.INFO)
most = int(sys.argv[2])
statements, done = migration.Change.statements.fget, []

def counted(change):
    for statement in statements(change):
        if len(done) == most:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(statement)
        yield statement

migration.Change.statements = property(counted)
store = open_store(sys.argv[1], LAYOUT)
print("ready", flush=True)
sys.stdin.readline()
deadline = time.monotonic() + 60
while True:
    try:
        store.prepare()
        break
    except StoreBusy:
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""


def make_before(execute: Callable[[str], Any]) -> None:
    """Make the store of the release before."""
    for statement in STATEMENTS:
        execute(statement)


def as_before(
    now: dict[str, list[tuple[Any, ...]]], before: dict[str, list[tuple[Any, ...]]]
) -> dict[str, list[tuple[Any, ...]]]:
    """Return rows of a migrated store without the columns that came since; those hold nothing."""
    found = {}
    for name, rows in now.items():
        width = len(before[name][0])
        assert {value for row in rows for value in row[width:]} <= {None, ""}, name
        found[name] = [row[:width] for row in rows]
    return found


def migrating(url: str, most: int = 1000) -> subprocess.Popen[str]:
    """Return a process that migrates once it reads a line, and kills itself after so many statements."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url, str(most)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def said_by(*processes: subprocess.Popen[str]) -> dict[str, tuple[list[str], int]]:
    """Let them go at once, and return what they said of each table; none may be said twice."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said: dict[str, tuple[list[str], int]] = {}
    for process in processes:
        out, _ = process.communicate(timeout=90)
        assert process.returncode == 0
        for line in out.splitlines():
            document = json.loads(line)
            assert document["table"] not in said
            said[document["table"]] = (document["renamed"], document["rows"])
    return said


def killed_after(url: str, most: int) -> int:
    """Migrate until so many statements are through, and return how the process ended."""
    process = migrating(url, most)
    process.communicate("go\n", timeout=90)
    return process.returncode
