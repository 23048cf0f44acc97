"""Polls cut into portions that fit the memory: what a message unpacks to shows before it is unpacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kappawatt.bus.interface import Records
from kappawatt.columns import arrow
from kappawatt.columns.budget import STANDARD, Budget

__all__ = ["portions"]

OF_TEXT = 32  # bytes that a byte of JSON or CSV becomes at most, as columns and rejections


def portions(polled: Sequence[Records], budget: Budget = STANDARD) -> Iterator[Sequence[Records]]:
    """Yield the messages of a poll in their order, as many at a time as may be unpacked together.

    A single message that is too large comes alone: whoever reads it refuses it. What comes all day is one portion.
    """
    size = sum(len(value) for records in polled for value in records.values)
    packed = any(value.startswith(arrow.MARK) for records in polled for value in records.values)
    if not packed and size * OF_TEXT <= budget.unpacked:
        yield polled
        return
    portion: list[Records] = []
    left = budget.unpacked
    for records in polled:
        first = 0
        for place, value in enumerate(records.values):
            weight = arrow.weight(value) if value.startswith(arrow.MARK) else OF_TEXT * len(value)
            if weight > left and left < budget.unpacked:
                if place > first:
                    portion.append(records.pick(range(first, place)))
                yield portion
                portion, first, left = [], place, budget.unpacked
            left -= weight
        portion.append(records if first == 0 else records.pick(range(first, len(records))))
    if portion:
        yield portion
