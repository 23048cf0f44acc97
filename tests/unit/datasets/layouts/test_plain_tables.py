"""Tables that people make themselves, as packages for forecasting write them, and two meters of the trade."""

from __future__ import annotations

import pytest

from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid

BERLIN = Options(time_zone="Europe/Berlin", unit="MW", key="zone")
HOURS = [f"2024-06-01 {hour:02}:00:00" for hour in range(24)]


def rows(head: str, *cells: str) -> bytes:
    return "\n".join([head, *(f"{cell}" for cell in cells), ""]).encode()


def test_prophets_ds_and_y() -> None:
    [series] = read_bytes(rows("ds,y", *(f"{h},5" for h in HOURS)), BERLIN).series

    assert (series.key, str(series.starts[0]), len(series)) == ("zone", "2024-05-31T22:00:00.000", 24)


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_an_index_of_pandas_before_them(name: str) -> None:
    [series] = read_bytes(rows(f"{name},ds,y", *(f"{i},{h},5" for i, h in enumerate(HOURS))), BERLIN).series

    assert series.values.tolist() == [5.0] * 24


def test_an_index_of_pandas_that_is_the_time() -> None:
    [series] = read_bytes(rows(",load_mw", *(f"{h},5" for h in HOURS)), BERLIN).series

    assert str(series.starts[0]) == "2024-05-31T22:00:00.000"


def test_nixtlas_unique_id_ds_and_y() -> None:
    cells = [f"{key},{hour},5" for key in ("H1", "H2") for hour in HOURS]

    found = read_bytes(rows("unique_id,ds,y", *cells), Options(time_zone="Europe/Berlin")).series

    assert [(one.key, len(one)) for one in found] == [("H1", 24), ("H2", 24)]


def test_without_a_clock_it_is_asked_for() -> None:
    with pytest.raises(PayloadInvalid, match="--time-zone"):
        read_bytes(rows("ds,y", *(f"{h},5" for h in HOURS)), Options(key="zone"))


def test_octopus_gas_is_refused() -> None:
    data = rows("Consumption (m³), Start, End", "0.5, 2024-06-01T00:00:00+01:00, 2024-06-01T00:30:00+01:00")

    with pytest.raises(PayloadInvalid, match="that of electricity"):
        read_bytes(data, Options(key="home"))


def test_fluvius_writes_decimal_commas_however_large_its_numbers_are() -> None:
    head = "Van (datum);Van (tijdstip);Tot (datum);Tot (tijdstip);EAN-code;Meter;Metertype;Register;Volume;Eenheid"
    data = rows(head, "01-06-2024;00:00:00;01-06-2024;00:15:00;5414488;1SAG;AMR-meter;Afname Actief;3,179;kWh")

    assert read_bytes(data).series[0].values.tolist() == [3.179]


def test_fluvius_registers_of_one_quarter_hour_are_summed_and_gas_is_left_out() -> None:
    head = "Van (datum);Van (tijdstip);Tot (datum);Tot (tijdstip);EAN-code;Meter;Metertype;Register;Volume;Eenheid"
    start = '01-06-2024;00:00:00;01-06-2024;00:15:00;="5414488";1SAG;Digitale meter'
    data = rows(
        head, f"{start};Afname Dag;0,100;kWh", f"{start};Afname Nacht;0,250;kWh", f"{start};Gas;1,0;m³",
        f"{start};Injectie Dag;;kWh", f"{start.replace('00:00:00', '00:15:00', 1)};Afname Nacht;x;kWh",
    )  # fmt: skip

    found = read_bytes(data)

    taken = next(one for one in found.series if one.key == "5414488")
    assert taken.values.tolist() == pytest.approx([0.35])
    assert [problem.got for problem in found.problems] == ["x"]
    assert any("Gas" in fact.because for fact in found.facts)
