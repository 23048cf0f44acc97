"""What a worker does with a poll, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Outgoing, Records
from kappawatt.columns.batch import Rejection

__all__ = ["Answers", "Outcome"]


@dataclass(slots=True)
class Outcome:
    """What became of one poll."""

    outgoing: list[Outgoing] = field(default_factory=list)
    rows: int = 0
    refused: list[Rejection] = field(default_factory=list)
    refused_rows: int = 0
    event_times: list[NDArray[np.int64]] = field(default_factory=list)


class Answers(Protocol):
    """What a worker does with a poll: `Answering` predicts row by row, `Forecasting` keeps histories."""

    def answer(self, polled: Sequence[Records]) -> Outcome:
        """Return everything to publish for `polled`."""
        ...
