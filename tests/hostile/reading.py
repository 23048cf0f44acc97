"""A process that reads what it is told, and says how its memory grew: `python -m tests.hostile.reading FOLDER`.

Each line on its input is `KIND PATH`; the answer is what became of it, seconds of processor time and bytes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kappawatt.errors import ArtifactInvalid
from kappawatt.models.arrays import read_arrays
from kappawatt.models.s3 import unpack_archive


def of_kernel(name: str) -> int:
    """A figure of this process [bytes]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name + ":")).split()[1]) * 1024


def main(folder: Path) -> None:
    """Read file after file."""

    def unpack(path: Path) -> None:
        with path.open("rb") as file:
            unpack_archive(file, folder / "model")

    readers: dict[str, Callable[[Path], object]] = {
        "npz": lambda path: read_arrays(path.read_bytes()),
        "tar": unpack,
    }
    np.zeros(1)
    before = of_kernel("VmRSS")
    for line in sys.stdin:
        kind, _, path = line.strip().partition(" ")
        started = time.process_time()
        try:
            readers[kind](Path(path))
            said = "read"
        except ArtifactInvalid as error:
            said = str(error)
        print(json.dumps([said, time.process_time() - started, of_kernel("VmHWM") - before]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
