"""NEM12: registers of one meter, intervals that changed, values that are none, and files that are something else."""

from __future__ import annotations

import pytest

from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid


def register(suffix: str = "E1", unit: str = "kWh", minutes: int = 30, nmi: str = "NEM1201009") -> str:
    return f"200,{nmi},E1B1,1,{suffix},N1,01009,{unit},{minutes},20240610"


def day(date: str = "20240601", value: str = "1", minutes: int = 30, quality: str = "A", known: str = "") -> str:
    return ",".join(["300", date, *[value] * (1440 // minutes), quality, "", "", known, ""])


def file(*records: str) -> bytes:
    return "\r\n".join(["100,NEM12,202406081149,MDP1,Ret1", *records, "900"]).encode()


def test_the_first_value_begins_at_midnight_of_eastern_standard_time_in_summer_too() -> None:
    [series] = read_bytes(file(register(), day("20240101"))).series

    assert str(series.starts[0]) == "2023-12-31T14:00:00.000"


@pytest.mark.parametrize(
    ("suffixes", "keys"),
    [
        (["E1"], ["N"]),
        (["E1", "B1"], ["N", "N:surplus"]),
        (["E1", "E2", "B1"], ["N:E1", "N:E2", "N:surplus"]),
        (["E1", "Q1", "K1"], ["N"]),
    ],
)
def test_each_register_of_energy_is_a_series(suffixes: list[str], keys: list[str]) -> None:
    units = {"Q": "kVArh", "K": "kVArh"}
    records = [r for s in suffixes for r in (register(s, units.get(s[0], "kWh"), nmi="N"), day(value=s[1]))]

    found = read_bytes(file(*records))

    assert sorted(one.key for one in found.series) == keys
    assert found.problems == ()


def test_a_meter_of_reactive_energy_alone_is_refused() -> None:
    with pytest.raises(PayloadInvalid, match="no register of energy, only Q1 in kVArh"):
        read_bytes(file(register("Q1", "kVArh"), day()))


def test_days_before_and_after_the_change_to_five_minutes_are_of_one_length() -> None:
    data = file(register(), day("20240601", "6"), register(minutes=5), day("20240602", "1", minutes=5))

    [series] = read_bytes(data).series

    assert (series.step, len(series), set(series.values.tolist())) == (1800, 96, {6.0})


def test_quality_n_is_no_value_of_a_day_or_a_part_of_it() -> None:
    data = file(
        register(),
        day("20240601", "1", quality="V"),
        "400,3,4,N14,,",
        "400,5,48,A,,",
        day("20240602", "0", quality="N"),
    )

    [series] = read_bytes(data).series

    assert [i for i, value in enumerate(series.values.tolist()) if value != value] == [2, 3, *range(48, 96)]


def test_a_day_that_was_sent_again_is_known_from_its_own_time() -> None:
    data = file(register(), day(value="2", known="20240705000000"), day(value="1", known="20240602000000"))

    [series] = read_bytes(data).series

    assert series.values.tolist() == [1.0, 2.0] * 48
    assert str(series.known[1]) == "2024-07-04T14:00:00.000"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"100,NEM13,202406081149,MDP1,Ret1\n900\n", "NEM13"),
        (file("300,20240601,1"), "a record 300 before any 200"),
        (file(register(minutes=10), day()), "IntervalLength"),
        (file("200,N"), "9 or more"),
        (file(register(), day(), register("E2", "MWh"), day()), "MWh and kWh"),
    ],
    ids=["accumulated", "no_register", "minutes", "short", "units"],
)
def test_what_is_no_such_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(PayloadInvalid, match=message):
        read_bytes(data)


def test_a_short_day_a_wrong_date_and_an_unknown_record_are_named() -> None:
    data = file(register(), day(), "300,20240602,1,2", day("20240631"), "700,x")

    found = read_bytes(data, Options())

    assert [problem.line for problem in found.problems] == [4, 5, 6]
