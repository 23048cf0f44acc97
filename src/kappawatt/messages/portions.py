"""Polls cut into portions that fit the memory: what a message unpacks to shows before it is unpacked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kappawatt.bus.interface import Records
from kappawatt.columns import arrow
from kappawatt.columns.budget import STANDARD, Budget
from kappawatt.columns.memory import give_back
from kappawatt.messages.envelopes import PACKED, packed_in

__all__ = ["portions"]

OF_TEXT, OF_ROW = 4, 96  # bytes that a byte of JSON or CSV, and a row in it, become as columns and rejections
OF_COMMA = 24  # a row of columns has several; of one alone, a portion has as many rows as a body may have
COLUMNS = re.compile(rb'"columns"|\\u')  # stands in each JSON of columns
TOGETHER = 3  # a portion of several messages has a third of what a single one may have: its answers wait with it


def portions(polled: Sequence[Records], budget: Budget = STANDARD) -> Iterator[Sequence[Records]]:
    """Yield the messages of a poll in their order, as many at a time as may be unpacked together.

    A single message that is too large comes alone: whoever reads it refuses it. What comes all day is one portion.
    """
    most = budget.unpacked // TOGETHER
    if not any(value.startswith(arrow.MARK) for records in polled for value in records.values):
        text = b"".join(value for records in polled for value in records.values)
        is_packed = any(records.envelope for records in polled) and PACKED.search(text)
        if not is_packed and OF_ROW * sum(map(len, polled)) + _of_text(text) <= most:
            yield polled
            return
    portion: list[Records] = []
    left = most
    for records in polled:
        first = 0
        for place, value in enumerate(records.values):
            weight = _weight(value)
            if records.envelope and PACKED.search(value):
                weight += sum(map(_weight, packed_in(value, records.headers[place])))
            if weight > left and left < most:
                if place > first:
                    portion.append(records.pick(range(first, place)))
                give_back()
                yield portion
                portion, first, left = [], place, most
            left -= weight
        portion.append(records if first == 0 else records.pick(range(first, len(records))))
    give_back()
    yield portion


def _weight(value: bytes) -> int:
    return arrow.weight(value) if value.startswith(arrow.MARK) else OF_ROW + _of_text(value)


def _of_text(value: bytes) -> int:
    """What text becomes; a row is a line or an object at most, or what a comma of columns ends."""
    commas = value.count(b",") if COLUMNS.search(value) else 0
    return OF_TEXT * len(value) + OF_ROW * (value.count(b"\n") + value.count(b"{")) + OF_COMMA * commas
