"""ERCOT: names of all years, and a repeated hour that is marked or not."""

from __future__ import annotations

import pytest

from kappawatt.datasets.reading.read import read_bytes

ZONES = "COAST,EAST,FWEST,NORTH,NCENT,SOUTH,SCENT,WEST,ERCOT"
OLDER = "COAST,EAST,FAR_WEST,NORTH,NORTH_C,SOUTHERN,SOUTH_C,WEST,ERCOT"


def file(head: str, labels: list[str]) -> bytes:
    return "\n".join([head, *(f"{label},{','.join([str(i)] * 9)}" for i, label in enumerate(labels, 1)), ""]).encode()


@pytest.mark.parametrize("name", ["Hour Ending", "HourEnding", "Hour_End"])
@pytest.mark.parametrize("zones", [ZONES, OLDER])
def test_zones_of_all_years_have_the_same_keys(name: str, zones: str) -> None:
    found = read_bytes(file(f"{name},{zones}", ["01/01/2021 23:00", "01/01/2021 24:00"])).series

    assert [one.key for one in found] == ZONES.split(",")
    assert str(found[0].starts[-1]) == "2021-01-02T05:00:00.000"


@pytest.mark.parametrize("marks", [("", " DST"), (" DST", ""), ("", "")], ids=["second", "first", "none"])
def test_the_repeated_hour_is_told_by_its_place(marks: tuple[str, str]) -> None:
    labels = ["11/06/2022 01:00", *(f"11/06/2022 02:00{mark}" for mark in marks), "11/06/2022 03:00"]

    series = read_bytes(file(f"Hour Ending,{ZONES}", labels)).series[-1]

    assert [str(start)[11:13] for start in series.starts] == ["05", "06", "07", "08"]
    assert series.values.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_no_hour_ends_at_three_in_spring() -> None:
    labels = ["03/13/2022 02:00", "03/13/2022 03:00", "03/13/2022 04:00"]

    found = read_bytes(file(f"Hour Ending,{ZONES}", labels))

    assert [str(start)[11:13] for start in found.series[0].starts] == ["07", "08"]
    assert {problem.line for problem in found.problems} == {3}
