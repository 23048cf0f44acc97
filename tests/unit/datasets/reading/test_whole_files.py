"""Files that are what they should be but for their form: Arrow's files, line ends, numbers as names, counts, totals."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest

from kappawatt.columns.budget import STANDARD
from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid, SettingInvalid

FIRST = np.datetime64("2024-01-31T23:00", "ms")


def rows(n: int = 48, mark: str = ";", value: float = 90.5) -> list[str]:
    return [f"{datetime(2024, 2, 1) + timedelta(hours=i):%Y-%m-%d %H:%M}{mark}{value + i}" for i in range(n)]


def read(lines: list[str], end: str = "\n", **said: str) -> Found:
    return read_bytes(end.join([*lines, ""]).encode(), Options.of({"time_zone": "Europe/Berlin", **said}), name="a.csv")


@pytest.mark.parametrize("compression", ["lz4", "zstd", "uncompressed"])
@pytest.mark.parametrize("chunk", [7, 48])
def test_files_of_arrow_are_read_as_streams_are(compression: str, chunk: int) -> None:
    starts = FIRST + np.arange(48) * np.timedelta64(3_600_000, "ms")
    table = pa.table({"time": pa.array(starts, pa.timestamp("ms", "UTC")), "load_mw": np.arange(48) + 7.25})
    out = io.BytesIO()
    pyarrow.feather.write_feather(table, out, compression=compression, chunksize=chunk)

    [series] = read_bytes(out.getvalue(), Options.of({"labels": "start"}), name="town.feather").series

    assert series.starts.tolist() == starts.tolist()
    assert series.values.tolist() == (np.arange(48) + 7.25).tolist()


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("budget", [None, STANDARD])
def test_lines_may_end_in_any_way(end: str, budget: None) -> None:
    data = end.join(["time;load_mw", *rows(), ""]).encode()

    [series] = read_bytes(data, Options.of({"time_zone": "Europe/Berlin"}), name="a.csv", budget=budget).series

    assert (len(series), series.starts[0], series.values[0]) == (48, FIRST, 90.5)


def test_numbers_of_meters_name_columns() -> None:
    lines = [f"{row};{i}.5" for i, row in enumerate(rows())]

    found = read(["time;40117;40118", *lines], unit="kWh")

    assert [(one.key, one.values[0]) for one in found.series] == [("40117", 90.5), ("40118", 0.5)]


def test_a_file_without_names_is_refused_all_the_same() -> None:
    with pytest.raises(PayloadInvalid, match="a table: names, then rows"):
        read(rows())


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1000)])
def test_counts_since_1970_are_read_if_a_person_says_so(unit: str, factor: int) -> None:
    seconds = int(FIRST.astype("datetime64[s]").astype(np.int64))
    lines = ["ts,load_mw", *(f"{(seconds + 3600 * i) * factor},{i}.25" for i in range(48))]

    with pytest.raises(PayloadInvalid, match=f"--epoch {unit}"):
        read(lines)
    [series] = read(lines, epoch=unit, labels="start").series

    assert (series.starts[0], series.values[0], len(series)) == (FIRST, 0.25, 48)


def test_counts_that_are_none_are_refused() -> None:
    lines = ["ts,load_mw", *(f"{1_706_742_000 + 3600 * i},{i}.25" for i in range(48))]

    with pytest.raises(PayloadInvalid, match="--epoch: got no columns"):
        read(lines, epoch="ms")
    with pytest.raises(PayloadInvalid, match="line 20: ts: got 'later', allowed seconds"):
        read([*lines[:19], "later,4", *lines[20:]], epoch="s", time_column="ts")
    with pytest.raises(SettingInvalid, match="--epoch"):
        Options.of({"epoch": "hours"})


@pytest.mark.parametrize(
    "below",
    [["Summe;6000"], ["Total;", "Mean;90.5"], ["Totalt;4295,8", "Erstellt am 03.02.2024;"], ["Gesamt"]],
)
def test_totals_below_a_table_are_left_out_by_name(below: list[str]) -> None:
    found = read(["time;load_mw", *rows(), *below])

    [fact] = [fact for fact in found.facts if fact.name == "left out below"]
    assert below[0].split(";")[0] in fact.value
    assert (len(found.series[0]), found.problems) == (48, ())


def test_a_zone_called_total_is_no_total() -> None:
    lines = [f"{zone};{row}" for zone in ("north", "total") for row in rows()]

    assert [(one.key, len(one)) for one in read(["zone;time;load_mw", *lines]).series] == [("north", 48), ("total", 48)]


@pytest.mark.parametrize("nothing", ["n.a.", "N.A.", "n.v."])
def test_words_for_nothing_are_missing_values(nothing: str) -> None:
    lines = rows()
    lines[7] = f"{lines[7].partition(';')[0]};{nothing}"

    found = read(["time;load_mw", *lines])

    assert found.problems == ()
    assert np.flatnonzero(np.isnan(found.series[0].values)).tolist() in ([7], [])


def test_energy_no_home_measures_is_asked_to_be_a_zones(tmp_path: Path) -> None:
    from kappawatt.streams import load

    lines = ["time;Netzlast (kWh)", *rows(value=230_000)]
    with pytest.raises(PayloadInvalid, match="--stream load"):
        read(lines)

    data = "\n".join(lines).encode()
    [series] = read_bytes(data, Options.of({"time_zone": "Europe/Berlin"}), load.STREAM, name="a.csv").series
    assert series.values[0] == 230


def test_dates_of_two_ways_ask_for_options_that_there_are() -> None:
    with pytest.raises(PayloadInvalid, match="--day-first or --month-first"):
        read(["time;load_mw", *(f"03/04/2024 {i:02}:00;{i}" for i in range(24))])
