"""What a worker does with a poll, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Outgoing, Records
from kappawatt.columns.batch import Rejection

__all__ = ["INTERNAL", "Answers", "Outcome"]

INTERNAL = "internal"  # code of a rejection that is an error of ours


@dataclass(slots=True)
class Outcome:
    """What became of one poll.

    Parameters
    ----------
    refused : list of Rejection
        The reasons, message after message; of a message with very many the first hundred.
    unlisted : Counter of str
        How many more reasons there are of each code.
    first_refused : str
        Place of the message that `refused[0]` is about, `topic[partition]@offset`; empty if there is none.
    suspects : Counter of str
        How many measurements its forecasts took for missing, by why.
    internal : int
        Messages that could not be answered for an error of ours.
    """

    outgoing: list[Outgoing] = field(default_factory=list)
    rows: int = 0
    refused: list[Rejection] = field(default_factory=list)
    unlisted: Counter[str] = field(default_factory=Counter)
    suspects: Counter[str] = field(default_factory=Counter)
    refused_rows: int = 0
    first_refused: str = ""
    internal: int = 0
    event_times: list[NDArray[np.int64]] = field(default_factory=list)

    def refuse(self, records: Records, at: int, reasons: Sequence[Rejection], rows: int | None = None) -> None:
        """Note why message `records[at]`, or rows of it, were refused; `reasons` count rows inside the message.

        `rows` is how many were, if `reasons` are only the first.
        """
        if not self.refused:
            self.first_refused = f"{records.topic}[{records.partition}]@{records.offsets[at]}"
        self.refused += reasons
        self.refused_rows += len({r.row for r in reasons}) if rows is None else rows
        self.internal += any(r.code == INTERNAL for r in reasons)

    def add(self, more: Outcome) -> None:
        """Take in what became of the messages behind."""
        self.outgoing += more.outgoing
        self.rows += more.rows
        self.first_refused = self.first_refused or more.first_refused
        self.refused += more.refused
        self.refused_rows += more.refused_rows
        self.internal += more.internal
        self.unlisted += more.unlisted
        self.suspects += more.suspects
        self.event_times += more.event_times


class Answers(Protocol):
    """What a worker does with a poll: `Answering` predicts row by row, `Forecasting` keeps histories."""

    def answer(self, polled: Sequence[Records]) -> Outcome:
        """Return everything to publish for `polled`."""
        ...

    @property
    def series(self) -> int:
        """How many series' histories are kept."""
        ...
