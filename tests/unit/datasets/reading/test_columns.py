"""Which columns of a table nobody publishes are load or consumption: extremes, tariffs and means are told apart."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid


def read(header: str, cells: str, **said: str) -> Found:
    rows = [f"{datetime(2023, 6, 5) + timedelta(hours=i)},{cells}" for i in range(48)]
    options = Options.of({"time_zone": "Europe/Paris", **said})
    return read_bytes("\n".join([header, *rows]).encode(), options, name="usine.csv")


@pytest.mark.parametrize(
    "header",
    [
        "Date,Pmin_kW,Pmoy_kW,Pmax_kW",
        "time,load_min_kw,load_kw,load_max_kw",
        "t,PowerMin (kW),Power (kW),PowerMax (kW)",
    ],
)
def test_extremes_beside_a_mean_are_named_and_left_out(header: str) -> None:
    found = read(header, "90,100,130")

    assert [(one.key, one.values[0]) for one in found.series] == [("USINE", 0.1)]
    assert [one.name for one in found.left_out] == [header.split(",")[1], header.split(",")[3]]
    assert {one.why for one in found.left_out} == {"an extreme of the interval, not its mean"}


@pytest.mark.parametrize(
    "header", ["Date,Pmin_kW,Pmax_kW", "time,Peak demand [kW],Lowest [kW]", "time,MinLoad_kW,MaxLoad_kW"]
)
def test_extremes_alone_are_refused_until_one_is_named(header: str) -> None:
    with pytest.raises(PayloadInvalid, match=r"extremes of intervals only: .*--value-column"):
        read(header, "90,130")
    assert read(header, "90,130", value_column=header.split(",")[2]).series[0].values[0] == 0.13


@pytest.mark.parametrize("header", ["Date,Peak_kWh,OffPeak_kWh", "Date,HP (kWh),HC (kWh)", "Datum,HT_kWh,NT_kWh"])
def test_energy_by_tariff_is_refused_as_no_column_holds_all_of_it(header: str) -> None:
    with pytest.raises(PayloadInvalid, match=r"energy by tariff: .*--value-column"):
        read(header, "1.5,0")


def test_names_that_begin_with_such_a_word_are_zones() -> None:
    found = read("time,MINSK_MW,MAXDORF_MW", "90,130")

    assert [one.key for one in found.series] == ["MINSK", "MAXDORF"]


@pytest.mark.parametrize("name", ["load (15 min) MW", "load_15_min_mw"])
def test_minutes_are_no_minimum(name: str) -> None:
    assert len(read(f"time,{name}", "90").series) == 1
