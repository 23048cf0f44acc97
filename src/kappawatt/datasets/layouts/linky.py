"""Linky, as Enedis' account page and its flow R63 write a load curve.

A preamble says the meter (PRM), what is measured and its unit; then `Horodate;Valeur`, the mean power [W] of the 30 or
10 minutes that end at `Horodate`, which has an offset. Or each row says all of that (R63, with `Pas` as `PT30M`; energy
in Wh). Or `horodate ISO fin de pas;puissance moyenne (W)`. Exports of registers (`EAS F1`, a row a day) are no curve.
(https://www.enedis.fr/mon-compte, guide d'implementation R63)
"""

from __future__ import annotations

import re

import numpy as np

from kappawatt.datasets.layouts.rows import SURPLUS, chosen, exchanged, others
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.texts import dialect_of, read_with_csv
from kappawatt.errors import PayloadInvalid

__all__ = ["LINKY"]

PARIS = "Europe/Paris"
TIMES, VALUES = ("Horodate", "horodate ISO fin de pas"), ("Valeur", "puissance moyenne (W)")
METER, KIND, DIRECTION, UNIT = "Identifiant PRM", "Grandeur physique", "Grandeur metier", "Unite"
HEAD_BYTES = 8_192
PRM = re.compile(r"(?<![0-9])[0-9]{14}(?![0-9])")
STEP = re.compile(r"PT([0-9]{1,3})M")
ACTIVE = ("EA", "ENERGIE ACTIVE", "PA", "PUISSANCE ACTIVE", "")
ACCENTS = str.maketrans("éèêà", "eeea")


def _plain(text: str) -> str:
    return text.strip().translate(ACCENTS)


def _reshape(data: bytes) -> Table | None:
    """The curve, with what the preamble says of it in columns of its own."""
    head = [_plain(line) for line in data[:HEAD_BYTES].decode("utf-8", "replace").splitlines()[:30]]
    start = next((i for i, line in enumerate(head) if line.startswith((f"{METER};", f"{METER},"))), None)
    if start is None:
        return None
    mark = head[start][len(METER)]
    names = head[start].split(mark)
    if any(line.split(mark)[0] in TIMES and "EAS F1" in line for line in head):
        raise PayloadInvalid.of(
            "file", "registers of a Linky (EAS F1, ...), a row a day", "a load curve, courbe de charge"
        )
    if TIMES[0] in names:
        return None  # every row says all
    dialect = dialect_of(data, mark)
    if not set(dialect.names) & set(TIMES):
        return None
    table = read_with_csv(data, dialect)
    said = dict(zip(names, head[start + 1].split(mark) if start + 1 < len(head) else [], strict=False))
    if PRM.fullmatch(names[1].strip()):  # name and value stand beside each other
        said = dict(zip(names[::2], names[1::2], strict=False))
    columns = {name: [said.get(name, "").strip()] * len(table) for name in (METER, KIND, DIRECTION, UNIT)}
    return exchanged(table, {}, columns)


def _linky(table: Table, options: Options, name: str) -> Meaning | None:
    table = _with_plain_names(table)
    time, value = table.place(*TIMES), table.place(*VALUES)
    if time is None or value is None:
        return None
    meter, unit = table.place(METER), table.place(UNIT)
    table, facts = _active(table)
    units = sorted({text.strip() for text in table.texts(unit)} - {""}) if unit is not None else []
    if units not in ([], ["W"], ["kW"], ["Wh"], ["kWh"]):
        raise PayloadInvalid.of(UNIT, ", ".join(units)[:80], "one of W, kW, Wh and kWh in all of a file")
    if not units or units[0] in ("W", "kW"):
        facts = (*facts, Fact("quantity", "mean power of the interval", "a load curve of Enedis'"))
    key = next(iter(PRM.findall(name)), "")
    table = exchanged(table, {}, {"meter": _meters(table, meter, key)})
    left_out = others(table, {time, value, meter, len(table.header) - 1})
    step = table.place("Pas")
    steps = (
        {match[1] for text in table.texts(step) if (match := STEP.fullmatch(text.strip()))}
        if step is not None
        else set()
    )
    column = TimeColumn(
        time, Form.MOMENT, None, Labels.END, "", step=60 * int(steps.pop()) if len(steps) == 1 else 0
    )  # fmt: skip
    values = (Value(value, "", units[0] if units else "W", "meter"),)
    return Meaning(
        LINKY.name, column, values, (len(table.header) - 1,), left_out=left_out, facts=facts, days_in=PARIS, table=table
    )


def _with_plain_names(table: Table) -> Table:
    header = tuple(_plain(column) for column in table.header)
    return Table(header, table.columns, table.lines, table.separator, table.problems, table.facts)


def _active(table: Table) -> tuple[Table, tuple[Fact, ...]]:
    """The rows of active energy; reactive energy and voltage are no consumption."""
    kind = table.place(KIND)
    if kind is None:
        return table, ()
    keep = [_plain(text).upper() in ACTIVE for text in table.texts(kind)]
    gone = len(keep) - sum(keep)
    if keep and not any(keep):
        raise PayloadInvalid.of(KIND, repr(table.texts(kind)[0][:40]), "Energie active (EA)")
    return chosen(table, keep), (Fact("rows", f"{gone} left out", f"{KIND} is not active energy"),) if gone else ()


def _meters(table: Table, meter: int | None, named: str) -> list[str]:
    direction = table.place(DIRECTION)
    names = np.full(len(table), named, dtype=object) if meter is None else table.texts(meter)
    ways = [""] * len(table) if direction is None else [text.strip().upper() for text in table.texts(direction)]
    return [
        (str(one).strip() or named or ("meter" if way.startswith("PROD") else ""))
        + (SURPLUS if way.startswith("PROD") else "")
        for one, way in zip(names, ways, strict=True)
    ]


LINKY = Layout("Linky (Enedis)", "Horodate;Valeur", _linky, _reshape)
