"""Green Button: entries in any order and with any links, units, directions, registers, and hostile XML."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kappawatt.datasets.layouts import green_button
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid, PayloadTooLarge
from tests.layout_samples import ATOM, ESPI, block, entry, reading_type

START = datetime(2024, 6, 1, tzinfo=UTC)
QUARTERS = [START + timedelta(minutes=15 * i) for i in range(96)]
UTC_DAYS = Options(time_zone="UTC")
READING = "RetailCustomer/1/UsagePoint/7/MeterReading/1"


def feed(*entries: str, xmlns: str = ATOM) -> bytes:
    return f'<?xml version="1.0"?><feed {xmlns}>{"".join(entries)}</feed>'.encode()


def quarters(factor: float = 1000, value: float = 0.25) -> str:
    return block(QUARTERS, [value] * 96, 900, factor)


def reading(kind: str, own: str = READING) -> str:
    return entry(own, f"<MeterReading {ESPI}/>", f"{own}/IntervalBlock", kind)


@pytest.mark.parametrize("power", [-3, 0, 3])
def test_the_power_of_ten_and_watt_hours_become_kilowatt_hours(power: int) -> None:
    data = feed(entry("ReadingType/1", reading_type(power=power)), entry("", quarters(1000 / 10.0**power, 4.0)))

    [series] = read_bytes(data, Options(time_zone="UTC", key="home")).series

    assert series.values == pytest.approx([4.0] * 96)
    assert (series.key, series.step, str(series.starts[0])) == ("home", 900, "2024-06-01T00:00:00.000")


def test_links_lead_from_a_block_to_its_reading_type_in_any_order() -> None:
    blocks = entry(f"{READING}/IntervalBlock/1", quarters(1e6), up=f"{READING}/IntervalBlock")
    kinds = [entry("ReadingType/1", reading_type()), entry("ReadingType/2", reading_type(power=-3))]
    entries = [blocks, reading("ReadingType/2"), *kinds]

    [series] = read_bytes(feed(*entries), UTC_DAYS).series

    assert series.values == pytest.approx([0.25] * 96)
    assert series.key == "7"


def test_a_meter_reading_may_link_to_its_block_itself() -> None:
    base = "https://api.example.com/espi/1_0/resource"
    entries = [
        entry(f"{base}/ReadingType/1", reading_type(power=-3)),
        entry(f"{base}/ReadingType/2", reading_type(uom=119, commodity=7)),
        entry(f"{base}/MeterReading/1", f"<MeterReading {ESPI}/>", f"{base}/ReadingType/1", f"{base}/IntervalBlock/1"),
        entry(f"{base}/MeterReading/2", f"<MeterReading {ESPI}/>", f"{base}/ReadingType/2", f"{base}/IntervalBlock/2"),
        entry(f"{base}/IntervalBlock/1", quarters(1e6)),
        entry(f"{base}/IntervalBlock/2", quarters()),
    ]

    found = read_bytes(feed(*entries), Options(time_zone="UTC", key="home"))

    assert [one.values[0] for one in found.series] == pytest.approx([0.25])
    assert any("uom 119" in fact.because for fact in found.facts)


def test_prefixes_of_namespaces_are_whatever_they_are() -> None:
    data = feed(entry("ReadingType/1", reading_type()), entry(f"{READING}/IntervalBlock/1", quarters())).decode()
    for name in ("feed", "entry", "link", "content", "title", "id"):
        data = data.replace(f"<{name} ", f"<ns1:{name} ").replace(f"<{name}>", f"<ns1:{name}>")
        data = data.replace(f"</{name}>", f"</ns1:{name}>").replace(f"<{name}/>", f"<ns1:{name}/>")
    data = data.replace(ATOM, 'xmlns:ns1="http://www.w3.org/2005/Atom"')

    assert len(read_bytes(data.encode(), UTC_DAYS).series[0]) == 96


@pytest.mark.parametrize(
    "entries",
    [
        [entry("", quarters())],
        [entry("ReadingType/1", reading_type()), entry("ReadingType/2", reading_type(power=-3)), entry("", quarters())],
    ],
    ids=["none", "two_and_no_link"],
)
def test_a_block_whose_unit_nothing_says_is_refused(entries: list[str]) -> None:
    with pytest.raises(PayloadInvalid, match="ReadingType"):
        read_bytes(feed(*entries), UTC_DAYS)


def test_a_bill_and_a_day_beside_quarter_hours_are_left_out() -> None:
    month = block([START - timedelta(days=30)], [900.0], 30 * 86_400)
    data = feed(entry("ReadingType/1", reading_type()), entry("", month), entry("", quarters()))

    found = read_bytes(data, Options(time_zone="UTC", key="home"))

    assert (found.series[0].step, len(found.series[0])) == (900, 96)
    assert any(fact.value == "1 left out" for fact in found.facts)


def test_days_are_refused_by_their_length() -> None:
    days = block([START, START + timedelta(days=1)], [9.0, 8.0], 86_400)

    with pytest.raises(PayloadInvalid, match="intervals of 1440 min"):
        read_bytes(feed(entry("ReadingType/1", reading_type()), entry("", days)), Options(time_zone="UTC", key="home"))


@pytest.mark.parametrize("flow", [4, 20])
def test_a_net_of_both_directions_is_no_consumption(flow: int) -> None:
    with pytest.raises(PayloadInvalid, match="no interval of electric energy"):
        read_bytes(feed(entry("ReadingType/1", reading_type(flow)), entry("", quarters())), UTC_DAYS)


def test_readings_of_a_register_are_refused_unless_their_differences_are_wanted() -> None:
    counter = block(QUARTERS, [10 + 0.25 * i for i in range(96)], 900)
    data = feed(entry("ReadingType/1", reading_type(behaviour=3)), entry("", counter))

    with pytest.raises(PayloadInvalid, match="--register"):
        read_bytes(data, Options(time_zone="UTC", key="home"))
    [series] = read_bytes(data, Options(time_zone="UTC", key="home", register=True)).series
    assert series.values[:3] == pytest.approx([0.25] * 3)


def test_a_reading_without_a_time_or_number_is_named() -> None:
    bad = (
        f"<IntervalBlock {ESPI}><IntervalReading><value>1</value></IntervalReading>"
        "<IntervalReading><timePeriod><duration>900</duration><start>1717200000</start></timePeriod>"
        "<value>x</value></IntervalReading></IntervalBlock>"
    )
    data = feed(entry("ReadingType/1", reading_type()), entry("", bad), entry("", quarters()))

    found = read_bytes(data, Options(time_zone="UTC", key="home"))

    assert [problem.field for problem in found.problems] == ["timePeriod", "IntervalReading.value"]


@pytest.mark.parametrize(
    "head",
    ['<!DOCTYPE a [<!ENTITY b "c">]>', "<!-- " + "x" * 9_000 + ' --><!DOCTYPE a SYSTEM "http://example.com/a.dtd">'],
    ids=["entity", "far_behind"],
)
def test_a_document_type_is_refused(head: str) -> None:
    with pytest.raises(PayloadInvalid, match="document type"):
        read_bytes(
            f"{head}<feed {ATOM}><!-- espi --><IntervalBlock/></feed>".replace("<!-- xx", "<!-- espi xx").encode()
        )


def test_too_many_elements_and_too_deep_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PayloadInvalid, match="deep"):
        read_bytes(f"<feed {ESPI}>{'<a>' * 100}{'</a>' * 100}</feed>".encode())
    monkeypatch.setattr(green_button, "MOST_ELEMENTS", 100)
    with pytest.raises(PayloadTooLarge, match="XML elements"):
        read_bytes(feed(entry("ReadingType/1", reading_type()), entry("", quarters())), UTC_DAYS)


def test_damaged_xml_is_refused() -> None:
    with pytest.raises(PayloadInvalid, match="damaged XML"):
        read_bytes(f"<feed {ESPI}><IntervalBlock></feed>".encode())


def test_an_offset_without_daylight_saving_is_a_clock_too() -> None:
    clock = f"<LocalTimeParameters {ESPI}><dstOffset>0</dstOffset><tzOffset>-25200</tzOffset></LocalTimeParameters>"
    data = feed(entry("L/1", clock), entry("ReadingType/1", reading_type()), entry("", quarters()))

    assert read_bytes(data, Options(key="home")).series[0].time_zone == "America/Phoenix"


@pytest.mark.parametrize("encoding", ["x-nobody-knows", "UTF-16", "base64"])
def test_an_encoding_that_is_none_of_it_is_refused(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><feed {ESPI}><entry/></feed>'

    with pytest.raises(PayloadInvalid, match="damaged XML"):
        read_bytes(text.encode())
