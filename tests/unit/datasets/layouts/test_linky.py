"""Linky: the preamble, accents, what was given to the grid, and files that are no load curve."""

from __future__ import annotations

import pytest

from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid

NAMES = "Identifiant PRM;Type de donnees;Date de debut;Date de fin;Grandeur physique;Grandeur metier;Etape metier;Unite"
CURVE = "Horodate;Valeur\n2024-06-01T00:30:00+02:00;1000\n2024-06-01T01:00:00+02:00;\n2024-06-01T01:30:00+02:00;500\n"


def said(metier: str = "Consommation", physique: str = "Energie active", unite: str = "W") -> str:
    return f"30000000000001;Courbe de charge;01/06/2024;02/06/2024;{physique};{metier};Comptage Brut;{unite}\n"


def test_a_time_is_the_end_of_its_interval_and_power_becomes_energy() -> None:
    [series] = read_bytes(f"{NAMES}\n{said()}{CURVE}".encode()).series

    assert (series.key, series.time_zone, series.step) == ("30000000000001", "Europe/Paris", 1800)
    assert str(series.starts[0]) == "2024-05-31T22:00:00.000"
    assert series.values[[0, 2]].tolist() == [0.5, 0.25]


def test_a_blank_line_and_accents_make_no_difference() -> None:
    names = (
        NAMES.replace("donnees", "données")
        .replace("debut", "début")
        .replace("metier", "métier")
        .replace("Unite", "Unité")
    )

    [series] = read_bytes(f"\ufeff{names}\n{said()}\n{CURVE}".encode()).series

    assert series.values[0] == 0.5


def test_production_is_a_series_of_its_own() -> None:
    [series] = read_bytes(f"{NAMES}\n{said('Production')}{CURVE}".encode()).series

    assert series.key == "30000000000001:surplus"


def test_reactive_energy_is_refused() -> None:
    with pytest.raises(PayloadInvalid, match="Energie active"):
        read_bytes(f"{NAMES}\n{said(physique='Energie reactive', unite='VAR')}{CURVE}".encode())


def test_registers_are_refused_in_words() -> None:
    index = "Horodate;Type de releve;EAS F1;EAS F2\n2024-06-01T01:00:00+02:00;Arrêté quotidien;11538434;12944147\n"

    with pytest.raises(PayloadInvalid, match="registers of a Linky"):
        read_bytes(f"{NAMES}\n{said(unite='Wh')}{index}".encode())


def test_the_meter_may_stand_in_the_files_name_only() -> None:
    [series] = read_bytes(CURVE.encode(), name="Enedis_Conso_30000000000009_2024.csv").series

    assert series.key == "30000000000009"
