"""Green Button: ESPI in an Atom feed, as utilities of North America let their customers download it.

(NAESB REQ.21, Energy Services Provider Interface.) A feed has usage points (meters, of electricity, gas or water), each
with meter readings; a meter reading names its `ReadingType`, which says unit, power of ten, direction and behaviour,
and has `IntervalBlock`s, whose readings each have a start in seconds since 1970, UTC, and a length. Entries belong
together by their links (`self`, `up`, `related`). `LocalTimeParameters` say the clock that the customer's days follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from kappawatt.datasets.layouts.rows import SURPLUS, chosen
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.series import Problem, Problems
from kappawatt.errors import PayloadInvalid, PayloadTooLarge

__all__ = ["GREEN_BUTTON"]

MOST_ELEMENTS = 5_000_000  # of a feed: 25 years of quarter hours
DEEPEST = 64
WATT_HOURS = "72"
ELECTRICITY = ("0", "1", "2", "3", "")  # commodities: not applicable, secondary, primary, transmission
FORWARD, REVERSE = ("1", "0", ""), "19"  # flow from and to the grid; others are nets and totals of both
CUMULATIVE = ("1", "3", "9")  # behaviours: bulk quantity, cumulative, summation; readings of a register
FIRST_YEAR, LAST_YEAR = 1990, 2100
SECONDS = tuple((np.datetime64(str(year), "s")).astype(int) for year in (FIRST_YEAR, LAST_YEAR))
CLOCKS = {
    (-12_600, 3600): "America/St_Johns", (-14_400, 3600): "America/Halifax", (-18_000, 3600): "America/New_York",
    (-21_600, 3600): "America/Chicago", (-25_200, 3600): "America/Denver", (-28_800, 3600): "America/Los_Angeles",
    (-32_400, 3600): "America/Anchorage", (-25_200, 0): "America/Phoenix", (-36_000, 0): "Pacific/Honolulu",
}  # fmt: skip
AMERICAN_RULES = {("B40E2000", "360E2000")}  # end: first Sunday of November, 2:00; start: second Sunday of March
HEADER = ("UsagePoint", "timePeriod.start", "timePeriod.end", "IntervalReading.value")
REGISTER = "accumulationBehaviour"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a block's readings are."""

    key: str
    factor: float  # to Wh
    is_register: bool


class _Bounded(ElementTree.TreeBuilder):
    """A tree of so many elements, and of no document type."""

    def __init__(self) -> None:
        super().__init__()
        self._count = self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        self._count += 1
        self._depth += 1
        if self._count > MOST_ELEMENTS:
            raise PayloadTooLarge.of("file", f"more than {MOST_ELEMENTS:,} XML elements", "fewer")
        if self._depth > DEEPEST:
            raise PayloadInvalid.of("file", f"XML elements {DEEPEST} deep", "Green Button")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise PayloadInvalid.of("file", "XML with a document type", "Green Button without one")


def _reshape(data: bytes) -> Table | None:
    head = data[:4_096].lstrip()
    if not head.startswith(b"<") or (b"espi" not in head and b"IntervalBlock" not in data[:1_000_000]):
        return None
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise PayloadInvalid.of("file", "XML with a document type", "Green Button without one")
    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_Bounded()))  # noqa: S314
    except (ElementTree.ParseError, LookupError) as error:  # an encoding that nobody knows is no ParseError
        raise PayloadInvalid.of("file", f"damaged XML ({error})", "Green Button, an Atom feed of ESPI") from None
    return _Feed(root).table()


class _Feed:
    """A feed's resources, by the addresses that its entries link to."""

    def __init__(self, root: ElementTree.Element) -> None:
        self.types: dict[str, ElementTree.Element] = {}
        self.readings: dict[str, list[str]] = {}  # links of the entry of each meter reading
        self.points: dict[str, ElementTree.Element] = {}
        self.blocks: list[tuple[str, str, ElementTree.Element]] = []  # own address, that of the collection
        self.zone = ""
        self.left_out: Counter[str] = Counter()
        entries = [element for element in root.iter() if _local(element) == "entry"]
        for entry in entries or [root]:
            self._take(entry)
        self.type_by_link: dict[str, ElementTree.Element] = {}  # of a meter reading, and of all that it links to
        for address, links in self.readings.items():
            kind = next((self.types[href] for href in links if href in self.types), None)
            if kind is not None:
                self.type_by_link.update(dict.fromkeys((one for one in (address, *links) if one), kind))

    def _take(self, entry: ElementTree.Element) -> None:
        links = [(e.get("rel", ""), e.get("href", "").strip("/")) for e in entry if _local(e) == "link"]
        own = next((href for rel, href in links if rel == "self"), "")
        up = next((href for rel, href in links if rel == "up"), "")
        for element in entry.iter():
            name = _local(element)
            if name == "ReadingType":
                self.types[own or f"#{len(self.types)}"] = element
            elif name == "MeterReading":
                self.readings[own] = [href for _, href in links if href]
            elif name == "UsagePoint":
                self.points[own] = element
            elif name == "IntervalBlock":
                self.blocks.append((own, up, element))
            elif name == "LocalTimeParameters":
                self.zone = self.zone or _zone_of(element)

    def table(self) -> Table:
        """Return the readings of electricity, a row each."""
        columns: tuple[list[str], ...] = ([], [], [], [], [])
        lines: list[int] = []
        problems = Problems()
        kinds = [(block, self._kind(own, up)) for own, up, block in self.blocks]
        if not self.blocks:
            raise PayloadInvalid.of("file", "no IntervalBlock", "Green Button with readings")
        number = 0
        for block, kind in kinds:
            for reading in _children(block, "IntervalReading"):
                number += 1
                if kind is None:
                    continue
                begin, length, value = _reading(reading)
                if begin is None or not length:
                    got = f"{_text(reading, 'start')} {_text(reading, 'duration')}"[:40]
                    problems.append(Problem(number, "timePeriod", got, "start and duration in whole seconds"))
                    continue
                moments = np.array([begin, begin + length], dtype="datetime64[s]")
                lines.append(number)
                cells = (
                    f"{moments[0]}Z",
                    f"{moments[1]}Z",
                    _scaled(value, kind.factor),
                    "1" if kind.is_register else "",
                )
                for column, text in zip(columns, (kind.key, *cells), strict=True):
                    column.append(text)
        facts = [Fact("readings", f"{n} blocks left out", what) for what, n in sorted(self.left_out.items())]
        facts.append(Fact("unit", "Wh", "ReadingType: uom 72, with its power of ten"))
        if self.zone:
            facts.append(Fact("clock", self.zone, "LocalTimeParameters"))
        return Table((*HEADER, REGISTER), columns, np.array(lines, np.int64), "", problems, tuple(facts))

    def _kind(self, own: str, up: str) -> _Kind | None:
        """What a block holds; None if it is no electric energy, which is counted."""
        kind = self._type_of(own, up)
        point = _between(own or up, "UsagePoint")
        unit, power = _text(kind, "uom") or WATT_HOURS, _text(kind, "powerOfTenMultiplier") or "0"
        commodity, direction = _text(kind, "commodity"), _text(kind, "flowDirection")
        service = self._service(own or up)
        if unit != WATT_HOURS or commodity not in ELECTRICITY or service not in ("0", ""):
            self.left_out[f"no electric energy: uom {unit}, commodity {commodity or service}"[:80]] += 1
            return None
        if direction not in (*FORWARD, REVERSE):
            self.left_out[f"flowDirection {direction}: a net or a total"[:80]] += 1
            return None
        if not power.lstrip("-").isdigit() or len(power) > 3 or abs(int(power)) > 12:
            raise PayloadInvalid.of("powerOfTenMultiplier", repr(power[:20]), "a whole number from -12 to 12")
        if direction == REVERSE:
            point = (point or "meter") + SURPLUS
        return _Kind(point, 10.0 ** int(power), _text(kind, "accumulationBehaviour") in CUMULATIVE)

    def _type_of(self, own: str, up: str) -> ElementTree.Element:
        """The reading type that the entry of a block's meter reading links to; the only one, if there is one."""
        if len(self.types) == 1:
            return next(iter(self.types.values()))
        for address in (own, up, own.partition("/IntervalBlock")[0], up.partition("/IntervalBlock")[0]):
            if address in self.type_by_link:
                return self.type_by_link[address]
        got = f"{(own or up or 'an IntervalBlock')[:80]!r} of no ReadingType among {len(self.types)}"
        raise PayloadInvalid.of("ReadingType", got, "one that its MeterReading links to: nothing else says the unit")

    def _service(self, address: str) -> str:
        """Kind of the service of a block's usage point: 0 is electricity, 1 gas, 2 water."""
        parts = address.split("/")
        begin = parts.index("UsagePoint") + 2 if "UsagePoint" in parts[:-1] else 0
        point = self.points.get("/".join(parts[:begin]))
        category = next(_children(point, "ServiceCategory"), None) if point is not None else None
        return _text(category, "kind")


def _between(address: str, name: str) -> str:
    parts = address.split("/")
    return parts[parts.index(name) + 1] if name in parts[:-1] else ""


def _zone_of(element: ElementTree.Element) -> str:
    """The zone of an offset and North America's rules of daylight saving; "" for others."""
    offset, saving = _text(element, "tzOffset"), _text(element, "dstOffset") or "0"
    rules = (_text(element, "dstEndRule"), _text(element, "dstStartRule"))
    if not offset.lstrip("-").isdigit() or not saving.isdigit() or len(offset) > 6 or len(saving) > 5:
        return ""
    if saving != "0" and rules not in AMERICAN_RULES:
        return ""
    return CLOCKS.get((int(offset), int(saving)), "")


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element.iter() if _local(child) == name)


def _text(element: ElementTree.Element | None, name: str) -> str:
    found = next(_children(element, name), None) if element is not None else None
    return (found.text or "").strip() if found is not None else ""


def _scaled(text: str, factor: float) -> str:
    """A reading's value in Wh, as text; what is no number stays as it is, to be named."""
    try:
        return f"{float(text) * factor:.12g}" if text else ""
    except ValueError:
        return text[:80]


def _reading(element: ElementTree.Element) -> tuple[int | None, int | None, str]:
    begin, length = (_text(element, name) for name in ("start", "duration"))
    start = int(begin) if begin.isdigit() and len(begin) < 12 else None
    if start is not None and not SECONDS[0] <= start < SECONDS[1]:
        start = None
    duration = int(length) if length.isdigit() and len(length) < 9 else None
    value = next((child for child in element if _local(child) == "value"), None)
    return start, duration, (value.text or "").strip() if value is not None else ""


def _meaning(table: Table, options: Options, name: str) -> Meaning | None:
    if table.header[:4] != HEADER:
        return None
    registers = [text == "1" for text in table.texts(4)] if len(table.header) > 4 else []
    if registers and all(registers) and not options.register:
        raise PayloadInvalid.of(REGISTER, "readings of a register", "energy of intervals, or --register")
    wanted = [one is options.register for one in registers]
    if not any(wanted):
        raise PayloadInvalid.of("file", "no interval of electric energy", "readings with uom 72 (Wh)")
    zone = next((fact.value for fact in table.facts if fact.name == "clock"), "")
    table = _of_one_length(chosen(table, wanted))
    time = TimeColumn(1, Form.MOMENT, None, Labels.START, "", end_place=2)
    key = (0,) if any(table.texts(0)) else ()
    return Meaning(GREEN_BUTTON.name, time, (Value(3, "", "Wh", "meter"),), key, days_in=zone, table=table)


def _of_one_length(table: Table) -> Table:
    """The intervals of each meter's shortest length; days and bills that stand beside them are left out."""
    begin, end = (np.array([t.removesuffix("Z") for t in table.texts(p)], dtype="datetime64[s]") for p in (1, 2))
    lengths = (end - begin).astype(np.int64)
    keys = table.texts(0)
    counts: dict[str, Counter[int]] = {}
    for key, length in zip(keys, lengths.tolist(), strict=True):
        counts.setdefault(key, Counter())[length] += 1
    kept = {key: min(found) for key, found in counts.items()}
    keep = [length == kept[key] for key, length in zip(keys, lengths.tolist(), strict=True)]
    gone = len(keep) - sum(keep)
    found = chosen(table, keep)
    if not gone:
        return found
    fact = Fact("readings", f"{gone} left out", "longer than others of the meter")
    return Table(found.header, found.columns, found.lines, "", found.problems, (*found.facts, fact))


GREEN_BUTTON = Layout("Green Button (ESPI)", "<feed><entry>...<IntervalBlock>", _meaning, _reshape)
