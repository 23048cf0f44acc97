"""SMARD: older headers, and the forecast that only the name of the file gives away."""

from __future__ import annotations

import pytest

from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid

HEAD = "Datum von;Datum bis;Netzlast [MWh] Berechnete Auflösungen"
ROWS = "01.06.2024 00:00;01.06.2024 01:00;41.234,5\n01.06.2024 01:00;01.06.2024 02:00;-\n"


def test_names_in_windows_1252_are_read_too() -> None:
    [series] = read_bytes(f"{HEAD}\n{ROWS}".encode("cp1252"), Options(key="DE")).series

    assert (str(series.starts[0]), series.values[0]) == ("2024-05-31T22:00:00.000", 41234.5)


@pytest.mark.parametrize(
    "head",
    [
        "Datum;Anfang;Ende;Gesamt (Netzlast) [MWh] Berechnete Auflösungen;Residuallast [MWh] Berechnete Auflösungen",
        "Date;Start;End;Total (grid load) [MWh] Calculated resolutions;Residual load [MWh] Calculated resolutions",
    ],
)
def test_older_exports_have_the_day_apart(head: str) -> None:
    rows = "01.06.2022;00:00;01:00;41.234,5;9,5\n01.06.2022;01:00;02:00;40.000,25;9,5\n"

    [series] = read_bytes(f"{head}\n{rows}".encode(), Options(key="DE")).series

    assert (str(series.starts[0]), series.values.tolist()) == ("2022-05-31T22:00:00.000", [41234.5, 40000.25])


@pytest.mark.parametrize("name", ["Prognostizierter_Stromverbrauch_202406.csv", "Forecasted_consumption_202406.csv"])
def test_the_forecast_of_consumption_is_refused_by_the_files_name(name: str) -> None:
    with pytest.raises(PayloadInvalid, match="the operators' forecast"):
        read_bytes(f"{HEAD}\n{ROWS}".encode(), Options(key="DE"), name=name)


def test_an_hour_among_quarter_hours_is_named_since_its_energy_is_an_hours() -> None:
    rows = [f"01.06.2024 00:{m:02};01.06.2024 00:{m + 15:02};1,5" for m in (0, 15, 30)]
    rows.append("01.06.2024 01:00;01.06.2024 02:00;6,5")
    head = "Datum von;Datum bis;Netzlast [MWh] Originalauflösungen"

    found = read_bytes("\n".join([head, *rows]).encode(), Options(key="DE"))

    assert found.series[0].values.tolist() == [6.0, 6.0, 6.0]
    assert [(problem.line, problem.allowed) for problem in found.problems] == [(5, "an interval of 15 min")]


def test_generation_is_no_load() -> None:
    head = "Datum von;Datum bis;Biomasse [MWh] Berechnete Auflösungen"

    with pytest.raises(PayloadInvalid, match="no load"):
        read_bytes(f"{head}\n{ROWS}".encode(), Options(key="DE"))
