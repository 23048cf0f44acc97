"""What a figure is, and how two sides are measured against each other: alternately, by their medians."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, TypeVar

__all__ = ["Figure", "alternate", "medians", "say"]

T = TypeVar("T")

STARTED = time.monotonic()


def say(message: str) -> None:
    """Print a progress line with the seconds since the start."""
    print(f"[{time.monotonic() - STARTED:6.1f} s] {message}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of kappawatt beside the same number of a peer.

    Parameters
    ----------
    name, protocol : str
        What was measured, and how.
    ours, theirs : float or None
        Medians over the rounds [unit]; None where a side did not run.
    peer : str
    unit : str
    target : str
        `>= 3` and `<= 0.5` are bars of the ratio ours / theirs; with `ours` in front, of our value.
    versions : mapping of str to str
    rounds : mapping of str to list of float
        The single measurements by side.
    """

    name: str
    unit: str
    ours: float | None
    theirs: float | None
    peer: str
    target: str
    protocol: str
    versions: Mapping[str, str] = field(default_factory=dict)
    rounds: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """ours / theirs."""
        if not self.ours or not self.theirs:
            return None
        return self.ours / self.theirs

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target or a measurement.

        Examples
        --------
        >>> Figure("rate", "1/s", 9.0, 3.0, "peer", ">= 3", "").met
        True
        >>> Figure("memory", "MB", 130.0, None, "", "ours < 120", "").met
        False
        """
        if not self.target:
            return None
        of_ours = self.target.startswith("ours ")
        sign, bar = self.target.removeprefix("ours ").split()
        value = self.ours if of_ours else self.ratio
        if value is None:
            return None
        return {">=": value >= float(bar), "<=": value <= float(bar), "<": value < float(bar)}[sign]

    def to_json(self) -> dict[str, Any]:
        """Return the form that `--json` writes."""
        return asdict(self) | {"ratio": self.ratio, "met": self.met}


def alternate(sides: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run every side once a round (A B C, A B C, ...), so that a busy minute of the machine meets all."""
    found: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, run in sides.items():
            say(f"round {number + 1} of {rounds}: {name}")
            found[name].append(run())
    return found


def medians(found: Mapping[str, Sequence[Any]], value: str) -> dict[str, float]:
    """Return the median of attribute `value` by side."""
    return {name: median(float(getattr(one, value)) for one in runs) for name, runs in found.items() if runs}
