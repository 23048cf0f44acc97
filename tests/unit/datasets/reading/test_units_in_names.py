"""Units in the names of columns that nobody knows, and columns beside the load: refused or left out, never taken."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid

HOURS = 72


def table(*names: str, step: int = 60) -> bytes:
    """Three days of columns that count from 31 on, each 10 higher than the one before."""
    rows = [
        ";".join([f"{datetime(2024, 2, 5) + timedelta(minutes=step * i):%Y-%m-%d %H:%M}"]
                 + [f"{31.5 + 10 * place + i % 24}" for place in range(len(names))])
        for i in range(HOURS)
    ]  # fmt: skip
    return "\n".join([";".join(["time", *names]), *rows, ""]).encode()


def read(data: bytes, **said: str) -> Found:
    return read_bytes(data, Options.of({"time_zone": "Europe/Berlin", **said}), name="works.csv")


@pytest.mark.parametrize(
    "name",
    [
        "load (%)", "load_pu", "Load factor", "Load (MVAr)", "Demand (kVA)", "Demand (A)", "consumption_m3",
        "Consumption (therms)", "usage_mj", "usage [GJ]", "demand_ccf", "load (furlongs)",
    ],
)  # fmt: skip
def test_a_unit_that_is_not_known_is_refused_until_a_person_says_one(name: str) -> None:
    with pytest.raises(PayloadInvalid, match=r"a unit that is not read.*--unit"):
        read(table(name))

    assert read(table(name), unit="kW").series[0].values[0] == pytest.approx(0.0315)


@pytest.mark.parametrize("name", ["Load (kilowatts)", "demand_kilowatt", "Load [Kilowatt]"])
def test_units_are_read_in_letters(name: str) -> None:
    [series] = read(table(name)).series

    assert (series.key, series.values[0]) == ("WORKS", pytest.approx(0.0315))


@pytest.mark.parametrize("name", ["load (actual)", "Last (15 min)", "demand [gross]", "Load (mean), MW"])
def test_brackets_that_hold_no_unit_are_no_fault(name: str) -> None:
    assert read(table(name)).series[0].values[0] == 31.5


@pytest.mark.parametrize(
    ("name", "unit", "first"),
    [("Load (10^3 MW)", "GW", 31_500), ("load (x1000 kW)", "MW", 31.5), ("Last (1e3 kW)", "MW", 31.5)],
)
def test_a_power_of_ten_names_the_unit_that_reads_it(name: str, unit: str, first: float) -> None:
    with pytest.raises(PayloadInvalid, match=f"--unit {unit}"):
        read(table(name))

    assert read(table(name), unit=unit).series[0].values[0] == first


@pytest.mark.parametrize(
    "name",
    [
        "co2_kg_per_mwh", "load_mw_lag24", "capacity_mw", "limit_mw", "reserve_mw", "ramp_mw", "losses_mw",
        "intraday_mw", "load_prog_mw", "Vortag MW", "export_mw", "Production MW", "gas_mw", "load (%)", "load_kvar",
    ],
)  # fmt: skip
def test_a_column_beside_the_load_is_left_out_by_name(name: str) -> None:
    found = read(table("load_mw", name))

    assert [(one.key, one.values[0]) for one in found.series] == [("WORKS", 31.5)]
    assert [one.name for one in found.left_out] == [name]
    assert "counts the rows" not in found.left_out[0].why


@pytest.mark.parametrize("name", ["export_kwh", "gas_kwh", "capacity_kw"])
def test_a_file_of_nothing_but_such_a_column_is_refused_unless_it_is_asked_for(name: str) -> None:
    with pytest.raises(PayloadInvalid, match="no column of measurements"):
        read(table(name))

    assert read(table(name), value_column=name).series[0].known.size == HOURS


def test_the_import_of_a_home_is_its_consumption_and_its_export_is_not() -> None:
    found = read(table("import_kwh", "export_kwh", "pv_kwh"))

    assert [(one.key, one.stream.name) for one in found.series] == [("WORKS", "meter")]


@pytest.mark.parametrize("name", ["heat_pump_kwh", "water_heater_kwh"])
def test_what_heats_by_electricity_is_a_consumption(name: str) -> None:
    assert len(read(table(name)).series) == 1


@pytest.mark.parametrize(("first", "then"), [(60, 15), (15, 60), (60, 30)])
def test_a_file_that_changes_the_length_of_its_intervals_is_refused(first: int, then: int) -> None:
    now, lines = datetime(2024, 2, 5), ["time;usage_kwh"]
    for step, days in ((first, 9), (then, 2)):
        for _ in range(days * 1440 // step):
            lines.append(f"{now:%Y-%m-%d %H:%M};0.{now.hour:02}5")
            now += timedelta(minutes=step)

    with pytest.raises(PayloadInvalid, match="rows of one length"):
        read("\n".join([*lines, ""]).encode(), labels="start")


def test_single_rows_between_hours_do_not_make_a_file_of_two_lengths() -> None:
    lines = table("load_mw").decode().splitlines()
    lines.insert(30, lines[29][:14] + "20" + lines[29][16:])

    found = read("\n".join(lines).encode())

    assert np.isfinite(found.series[0].values).sum() == HOURS
    assert len(found.problems) == 1
