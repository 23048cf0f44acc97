"""One reader for files of any measured series."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes, read_file
from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import PayloadInvalid
from kappawatt.streams import load, meter
from kappawatt.streams.stream import Stream


def read_series(content: bytes, key: str = "", time_zone: str = "") -> list[SeriesFile]:
    return read_bytes(content, Options(key=key, time_zone=time_zone)).series


def read_series_file(path: Path) -> list[SeriesFile]:
    return read_file(path).series


TEXAS = (
    "ESIID,USAGE_DATE,REVISION_DATE,USAGE_START_TIME,USAGE_END_TIME,USAGE_KWH,ESTIMATED_ACTUAL,"
    "CONSUMPTION_SURPLUSGENERATION\n"
    "'0012,07/01/2022,07/02/2022 06:00:00,00:00,00:15,.145,A,Consumption\n"
    "'0012,07/01/2022,07/02/2022 06:00:00,00:15,00:30,.2,A,Consumption\n"
)
LONDON = "LCLid,tstp,energy(kWh/hh)\nMAC000002,2013-01-01 00:00:00, 0.219 \n"
LOAD = "Datetime,PJME_MW\n2016-07-01 01:00:00,30000\n"


@pytest.mark.parametrize(
    ("text", "stream", "key", "step", "start"),
    [
        (LOAD, load.STREAM, "PJME", 3600, "2016-07-01T04:00:00.000"),
        (TEXAS, meter.STREAM, "0012", 900, "2022-07-01T05:00:00.000"),
        (LONDON, meter.STREAM, "MAC000002", 1800, "2013-01-01T00:00:00.000"),
    ],
    ids=["pjm", "texas", "london"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_each_layout_is_recognised(text: str, stream: Stream, key: str, step: int, start: str, packed: bool) -> None:
    content = gzip.compress(text.encode()) if packed else text.encode()

    found = read_series(content)

    assert [(s.stream, s.key, s.step, str(s.starts[0])) for s in found] == [(stream, key, step, start)]


def test_a_meters_publication_is_when_its_value_is_known() -> None:
    [series] = read_series(TEXAS.encode())

    assert [str(moment) for moment in series.known] == ["2022-07-02T11:00:00.000"] * 2


def test_a_load_file_that_names_no_zone_takes_the_files_name(tmp_path: Path) -> None:
    (tmp_path / "PJME_hourly_to2016.csv").write_text("ds,y\n2016-07-01 01:00:00,30000\n")

    assert [s.key for s in read_series_file(tmp_path / "PJME_hourly_to2016.csv")] == ["PJME"]


def test_a_key_stands_above_the_file() -> None:
    assert [s.key for s in read_series(LOAD.encode(), key="mine")] == ["mine"]
    assert [s.key for s in read_series(LONDON.encode(), key="mine")] == ["mine"]


def test_a_key_for_several_series_is_refused() -> None:
    with pytest.raises(PayloadInvalid, match="allowed none for a file of"):
        read_series(f"{LONDON}MAC000003,2013-01-01 00:00:00,1\n".encode(), key="mine")


def test_the_clock_of_a_load_file_can_be_another() -> None:
    said = Options(time_zone="America/Chicago", labels="end")
    [series] = read_bytes(LOAD.encode(), said).series

    assert str(series.starts[0]) == "2016-07-01T05:00:00.000"


def test_problems_are_counted_once_whatever_the_number_of_series() -> None:
    found = read_series(b"Datetime,AEP_MW,DAYTON_MW\n2014-05-01 02:00:00,1,2\nsoon,1,2\n")

    assert [len(s.problems) for s in found] == [1, 0]


@pytest.mark.parametrize("text", ["", "AT,V,AP,RH\n1,2,3,4\n", "Datetime,PJME_MW\n", "Datetime,PJME_MW\nsoon,1\n"])
def test_what_holds_no_series_says_so_with_the_files_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)

    with pytest.raises(PayloadInvalid, match=r"a\.csv.*allowed"):
        read_series_file(tmp_path / "a.csv")


@pytest.mark.skipif("KAPPAWATT_DATA" not in os.environ, reason="KAPPAWATT_DATA names no folder of data sets")
def test_every_file_of_the_data_folder_is_read_without_a_problem() -> None:
    folder = Path(os.environ["KAPPAWATT_DATA"])
    files = [*sorted((folder / "pjm_load").glob("*.csv.gz")), *sorted((folder / "smart_meter").glob("*.csv.gz"))]

    found = {path.name: read_series_file(path) for path in files}

    assert len(found) >= 8
    for series in found.values():
        assert len(series) == 1
        assert series[0].problems == ()
        assert (np.diff(series[0].starts) > np.timedelta64(0)).all()
