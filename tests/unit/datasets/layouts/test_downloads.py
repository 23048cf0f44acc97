"""American utilities' downloads: what Opower's rows say of autumn, rows without their last cells, gas."""

from __future__ import annotations

import pytest

from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid

HEAD = "Name,JANE DOE\nAccount Number,123\nService,Service 1\n\n"
PACIFIC = Options(time_zone="America/Los_Angeles", key="home")


def opower(names: str, *rows: str) -> bytes:
    return "\n".join([f"{HEAD}TYPE,DATE,START TIME,END TIME,{names}", *rows, ""]).encode()


def test_rows_may_lack_their_last_cells() -> None:
    rows = ["Electric usage,2024-07-04,00:00,00:14,0.29", "Electric usage,2024-07-04,00:15,00:29,0.34,"]

    [series] = read_bytes(opower("USAGE (kWh),NOTES", *rows), PACIFIC).series

    assert (series.step, series.values.tolist()) == (900, [0.29, 0.34])


@pytest.mark.parametrize("end", ["00:29", "00:30"])
def test_an_interval_ends_with_its_last_minute_or_at_its_end(end: str) -> None:
    rows = [f"Electric usage,2024-07-04,00:00,{end},0.16,kWh,$0.02,"]

    assert read_bytes(opower("USAGE,UNITS,COST,NOTES", *rows), PACIFIC).series[0].step == 1800


def test_what_was_given_is_a_series_of_its_own() -> None:
    rows = ["Electric usage,2024-07-04,12:00,12:14,0.00,0.75,$0.00,"]

    found = read_bytes(opower("IMPORT (kWh),EXPORT (kWh),COST,NOTES", *rows), PACIFIC)

    assert [(one.key, one.values.tolist()) for one in found.series] == [("home", [0.0]), ("home:surplus", [0.75])]


def test_the_one_row_for_autumns_two_hours_is_left_out_in_words() -> None:
    rows = [
        f"Electric usage,2024-11-03,{h:02}:{m:02},{h:02}:{m + 14:02},1,," for h in range(4) for m in (0, 15, 30, 45)
    ]

    found = read_bytes(opower("USAGE (kWh),COST,NOTES", *rows), PACIFIC)

    assert ("repeated hour", "4 rows left out") in [(fact.name, fact.value) for fact in found.facts]
    [series] = found.series
    assert {str(s)[11:13] for s, v in zip(series.starts, series.values, strict=True) if v == v} == {"07", "10", "11"}


def test_a_row_of_an_hour_that_the_clock_skips_is_named() -> None:
    rows = [
        f"Electric usage,2024-03-10,{h:02}:{m:02},{h:02}:{m + 14:02},1,," for h in (1, 2, 4) for m in (0, 15, 30, 45)
    ]

    found = read_bytes(opower("USAGE (kWh),COST,NOTES", *rows), PACIFIC)

    assert len(found.problems) == 4 or any(fact.name == "rows in skipped hours" for fact in found.facts)
    assert len(found.series[0]) == 8


def test_the_utilitys_clock_is_asked_for() -> None:
    with pytest.raises(PayloadInvalid, match="--time-zone"):
        read_bytes(opower("USAGE (kWh),NOTES", "Electric usage,2024-07-04,00:00,00:14,0.29,"), Options(key="home"))


@pytest.mark.parametrize("names", ["USAGE (therms),COST", "USAGE,UNITS,COST"])
def test_gas_is_refused(names: str) -> None:
    row = "Natural gas usage,2024-07-04,00:00,23:59,1.05," + ("therms,$1" if "UNITS" in names else "$1")

    with pytest.raises(PayloadInvalid, match="energy in kWh"):
        read_bytes(opower(names, row), PACIFIC)


def test_sdges_gas_is_refused() -> None:
    names = b"Meter Number,Date,Start Time,Duration,Consumption"
    data = b"Resource,Gas\n" + names + b"\n1,7/4/2024,12:00 AM,15,0.1\n1,7/4/2024,12:15 AM,15,0.1\n"

    with pytest.raises(PayloadInvalid, match="gas"):
        read_bytes(data)
