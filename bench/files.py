"""How fast a file becomes series: `python -m bench.files [--before CHECKOUT]`, one JSON line each.

A year of quarter-hours of 30 zones one below the other (1,051,200 rows, semicolons, a decimal comma) and side by side,
and an hourly file as PJM's readers write it. Each is read in a process of its own, by this checkout and, of the hourly
file, by another's reader from before there was one for all layouts. Seconds and processor time are those of reading
alone, without the start of Python; memory is the process's peak.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
ZONES, QUARTERS, HOURS = 30, 35_040, 131_470
READ = """
import json, resource, sys, time
from pathlib import Path
{importing}
path = Path(sys.argv[1])
begin, used = time.perf_counter(), time.process_time()
{reading}
seconds, processor = time.perf_counter() - begin, time.process_time() - used
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({{"rows": rows, "seconds": seconds, "processor_seconds": processor, "peak_mb": memory}}))
"""
NOW = (
    "from kappawatt.datasets.reading.options import Options\nfrom kappawatt.datasets.reading.read import read_file",
    "found = read_file(path, Options.of({said}))\nrows = sum(map(len, found.series))",
)
BEFORE = (
    "from kappawatt.datasets.pjm import read_load_file",
    "rows = sum(len(one.starts) for one in read_load_file(path.read_bytes()).series)",
)


def long_file(path: Path) -> None:
    """Write zones one below the other: zone;timestamp;load_mw."""
    random = np.random.default_rng(1)
    times = _times(QUARTERS, 15)
    with path.open("w") as file:
        file.write("zone;timestamp;load_mw\n")
        for zone in range(ZONES):
            values = random.normal(5000, 500, QUARTERS).tolist()
            file.writelines(f"Z{zone};{t};{v:.2f}\n".replace(".", ",") for t, v in zip(times, values, strict=True))


def wide_file(path: Path) -> None:
    """Write zones side by side: timestamp,Z0_MW,..."""
    values = np.random.default_rng(2).normal(5000, 500, (QUARTERS, ZONES)).round(2).tolist()
    with path.open("w") as file:
        file.write("timestamp," + ",".join(f"Z{zone}_MW" for zone in range(ZONES)) + "\n")
        file.writelines(f"{t},{','.join(map(str, row))}\n" for t, row in zip(_times(QUARTERS, 15), values, strict=True))


def hourly_file(path: Path) -> None:
    """Write one zone as PJM's readers do, in blocks of days from the year's last to its first."""
    values = np.random.default_rng(3).normal(32_000, 4_000, HOURS).round(1).tolist()
    rows = [f"{t},{v}\n" for t, v in zip(_times(HOURS, 60), values, strict=True)]
    days = [rows[i : i + 24] for i in range(0, HOURS, 24)][::-1]
    path.write_text("Datetime,PJME_MW\n" + "".join(row for day in days for row in day))


def _times(n: int, minutes: int) -> list[str]:
    first = datetime(2002, 1, 1)
    return [str(first + timedelta(minutes=minutes * i)) for i in range(n)]


def measure(path: Path, script: tuple[str, str], said: dict[str, str], checkout: Path) -> dict[str, float]:
    """Read a file in a process of its own."""
    importing, reading = script
    program = READ.format(importing=importing, reading=reading.format(said=said))
    environment = {"PYTHONPATH": f"{checkout / 'src'}:{checkout}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON line for each file and reader."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout, with datasets/pjm.py")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for name, write, said in (
            ("30 zones one below the other", long_file, {"time_zone": "UTC"}),
            ("30 zones side by side", wide_file, {"time_zone": "UTC"}),
            ("one zone, hourly, PJM", hourly_file, {}),
        ):
            path = Path(folder) / "file.csv"
            write(path)
            checkouts = [("this", NOW, ROOT)]
            if given.before and write is hourly_file:
                checkouts.append(("before", BEFORE, given.before.resolve()))
            for reader, script, checkout in checkouts:
                found = min((measure(path, script, said, checkout) for _ in range(2)), key=lambda f: -f["seconds"])
                figure = {"file": name, "reader": reader, **found, "rows_per_second": found["rows"] / found["seconds"]}
                print(json.dumps({key: round(v, 3) if isinstance(v, float) else v for key, v in figure.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
