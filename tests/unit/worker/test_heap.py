"""Memory between what lives on is given back to the system."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

HOLES = """
import numpy as np
from kappawatt.worker import heap

def resident():
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000  # MB

heap.PAUSE_SECONDS = 0.0
before = resident()
kept, gone = [], []
for _ in range(4_000):  # 15 kB that live on between 30 kB that do not, as fans do between the work for them
    gone.append(np.ones(3_750))
    kept.append(np.ones(1_875))
del gone
full = resident()
heap.Heap().give_back()
print(full - before, resident() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_holes_between_what_lives_on_are_given_back() -> None:
    said = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True).stdout

    full, rest = (float(text) for text in said.split())
    assert full > 150
    assert 55 < rest < 90
