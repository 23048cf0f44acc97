"""What a file looks like from its first bytes, also one that cannot be read: for a person who has to say more of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from kappawatt.datasets.reading.content import GZIP, gunzipped_head, text_of, unpack
from kappawatt.datasets.reading.dialect import cells_of
from kappawatt.datasets.reading.generic import kind_of
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import table_of
from kappawatt.datasets.reading.table import Fact
from kappawatt.datasets.reading.texts import HEAD_BYTES, dialect_of, facts_of
from kappawatt.datasets.series import MOST_BYTES
from kappawatt.errors import KappawattError, PayloadInvalid

__all__ = ["HEAD", "ColumnLook", "Glance", "glance"]

HEAD = 4 * HEAD_BYTES  # bytes of a packed file, which become a head of many times more
ASKED = 200
ROWS = 3
LINES = 5
SHOWN = 80
HOLDS = {"time": "times", "number": "numbers", "clock": "times of the day", "text": "text", "nothing": "nothing"}


@dataclass(frozen=True, slots=True)
class ColumnLook:
    """What a column looks like.

    Parameters
    ----------
    name : str
    holds : str
        `numbers`, `times`, `times of the day`, `text` or `nothing`, as most of its cells do.
    samples : tuple of str
        Its first cells.
    """

    name: str
    holds: str
    samples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Glance:
    """What a file looks like.

    Parameters
    ----------
    facts : tuple of Fact
    columns : tuple of ColumnLook
        Empty if no table is seen.
    lines : tuple of str
        The first lines of a text, or the first bytes of what is none.
    """

    facts: tuple[Fact, ...] = ()
    columns: tuple[ColumnLook, ...] = ()
    lines: tuple[str, ...] = ()


def glance(data: bytes, name: str, options: Options) -> Glance:
    """Look at a file; nothing in it is an error.

    Parameters
    ----------
    data : bytes
        The whole file, or its first `HEAD` bytes.
    name : str
    options : Options
    """
    facts: list[Fact] = []
    head = b"" if data[:2] == GZIP else data
    if data[:2] == GZIP:
        facts.append(Fact("packed", "gzip"))
        with suppress(PayloadInvalid):
            head = gunzipped_head(data, HEAD_BYTES + 1)
    else:
        try:
            content = unpack(data, name, MOST_BYTES)
            facts.extend(content.facts)
            if content.kind != "text":
                facts.append(Fact("format", content.kind))
                return _of_table(data, name, options, facts)
            head = content.data
        except KappawattError:
            head = data
    return _of_text(_whole_lines(head[:HEAD_BYTES], is_all=len(head) <= HEAD_BYTES), data, name, options, facts)


def _whole_lines(head: bytes, *, is_all: bool) -> bytes:
    end = head.rfind(b"\n")
    if is_all or end < 0:
        return head
    return head[: (end + 1) // 2 * 2] if head[:2] in (b"\xff\xfe", b"\xfe\xff") else head[: end + 1]


def _of_text(head: bytes, data: bytes, name: str, options: Options, facts: list[Fact]) -> Glance:
    try:
        text, encoding = text_of(head)
    except PayloadInvalid:
        return Glance(tuple(facts), (), (repr(head[:40]),) if head else ())
    if text:
        facts.append(encoding)
    lines = text.decode().splitlines()
    first = tuple(line[:SHOWN] for line in lines if line.strip())[:LINES]
    if text.lstrip()[:1] in (b"{", b"["):
        found = _of_table(data, name, options, facts)
        return found if found.columns else Glance(tuple(facts), (), first)
    try:
        dialect = dialect_of(text, options.sep)
    except PayloadInvalid:
        return Glance(tuple(facts), (), first)
    facts.extend(facts_of(dialect))
    rows = [cells_of(line, dialect.separator) for line in lines[dialect.line : dialect.line + ASKED] if line.strip()]
    width = max([len(dialect.names), *(len(row) for row in rows[:ROWS])])
    names = [*dialect.names, *(f"(column {i + 1}, without a name)" for i in range(len(dialect.names), width))]
    cells = [[row[i] if i < len(row) else "" for row in rows] for i in range(width)]
    return Glance(tuple(facts), _looks(names, cells), first)


def _of_table(data: bytes, name: str, options: Options, facts: list[Fact]) -> Glance:
    try:
        table = table_of(data, name, options)
    except KappawattError:
        return Glance(tuple(facts))
    head = [table.texts(place)[:ASKED] for place in range(len(table.header))]
    return Glance(tuple(dict.fromkeys([*facts, *table.facts])), _looks(table.header, head))


def _looks(names: Sequence[str], cells: Sequence[Sequence[str]]) -> tuple[ColumnLook, ...]:
    return tuple(
        ColumnLook(name, HOLDS[kind_of(column)], tuple(cell.strip()[:SHOWN] for cell in column[:ROWS]))
        for name, column in zip(names, cells, strict=True)
    )
