"""Operators' files: what in them is somebody's forecast, and what would be read wrong without a word."""

from __future__ import annotations

import pytest

from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid

NYISO = "Time Stamp,Capitl,Centrl,Dunwod,Genese,Hud Vl,Longil,Mhk Vl,Millwd,N.Y.C.,North,West,NYISO\n"
PJM_7_DAY = (
    "evaluated_at_datetime_utc,evaluated_at_datetime_ept,forecast_datetime_beginning_utc,"
    "forecast_datetime_beginning_ept,forecast_datetime_ending_utc,forecast_datetime_ending_ept,forecast_area,"
    "forecast_load_mw\n1/1/2024 5:00:00 AM,1/1/2024 12:00:00 AM,1/1/2024 5:00:00 AM,1/1/2024 12:00:00 AM,"
    "1/1/2024 6:00:00 AM,1/1/2024 1:00:00 AM,AEP,14000\n"
)
PJM_HIST = (
    "evaluated_at_utc,evaluated_at_ept,forecast_hour_beginning_utc,forecast_hour_beginning_ept,forecast_area,"
    "forecast_load_mw\n1/1/2024 5:00:00 AM,1/1/2024 12:00:00 AM,1/1/2024 5:00:00 AM,1/1/2024 12:00:00 AM,AEP,14000\n"
)
OASIS = "INTERVALSTARTTIME_GMT,INTERVALENDTIME_GMT,MARKET_RUN_ID,TAC_AREA_NAME,MW\n"


@pytest.mark.parametrize(
    "file",
    [
        PJM_7_DAY,
        PJM_HIST,
        NYISO + "01/06/2025 00:00:00" + ",100" * 12 + "\n",
        OASIS + "2024-01-01T08:00:00-00:00,2024-01-01T09:00:00-00:00,DAM,CA ISO-TAC,20000\n",
        "Dataset,PublishTime,StartTime,SettlementDate,SettlementPeriod,Demand\n"
        "NDF,2024-01-01T09:00:00Z,2024-01-02T00:00:00Z,2024-01-02,1,25000\n",
        "PublishTime,StartTime,SettlementDate,SettlementPeriod,Quantity\n"
        "2024-01-01T09:00:00Z,2024-01-02T00:00:00Z,2024-01-02,1,25000\n",
    ],
    ids=["pjm_seven_days", "pjm_history_of_forecasts", "nyiso_isolf", "oasis_dam", "elexon_ndf", "elexon_datl"],
)
def test_a_file_of_forecasts_alone_is_refused_in_words(file: str) -> None:
    with pytest.raises(PayloadInvalid, match="forecast"):
        read_bytes(file.encode())


def test_elexons_generation_by_type_is_no_demand() -> None:
    file = b"StartTime,SettlementDate,SettlementPeriod,PsrType,Quantity\n2024-01-02T00:00:00Z,2024-01-02,1,Solar,100\n"

    with pytest.raises(PayloadInvalid, match="no demand"):
        read_bytes(file)


def test_two_measures_of_neso_are_two_series_when_they_are_named() -> None:
    file = b"SETTLEMENT_DATE,SETTLEMENT_PERIOD,ND,TSD\n2024-01-02,1,20,30\n2024-01-02,2,40,50\n"

    found = read_bytes(file, Options(resample=3600, value_column=("ND", "TSD"))).series

    assert [(one.key, one.values.tolist()) for one in found] == [("GB-ND", [30.0]), ("GB-TSD", [40.0])]


@pytest.mark.parametrize("number", ["0", "51", "x", "1.5"])
def test_a_settlement_period_that_no_day_has_is_named(number: str) -> None:
    file = f"SETTLEMENT_DATE,SETTLEMENT_PERIOD,ND\n2024-01-02,1,20\n2024-01-02,2,20\n2024-01-02,{number},9\n".encode()

    found = read_bytes(file, Options(resample=3600))

    assert [problem.line for problem in found.problems] == [4]


def test_aemos_own_forecasts_in_a_file_of_demand_are_left_out() -> None:
    rows = ["SETTLEMENTDATE,REGIONID,RRP,TOTALDEMAND,PERIODTYPE"]
    rows += [f"2024-06-01T00:{i:02}:00,NSW1,80,{8000 + i},ACTUAL" for i in range(5, 60, 5)]
    rows += ["2024-06-01T01:00:00,NSW1,80,8060,ACTUAL", "2024-06-01T01:05:00,NSW1,80,1,FORECAST"]

    found = read_bytes("\n".join(rows).encode(), Options(resample=3600))

    assert [one.values.tolist() for one in found.series] == [[8032.5]]
    assert ("rows", "1 left out") in [(fact.name, fact.value) for fact in found.facts]


def test_a_clock_of_ones_own_changes_days_and_no_labels_of_aemo() -> None:
    rows = [f"NSW1,2024/01/01 01:{minute}:00,8000,80,TRADE" for minute in ("00", "30")]
    file = "\n".join(["REGION,SETTLEMENTDATE,TOTALDEMAND,RRP,PERIODTYPE", *rows]).encode()

    [series] = read_bytes(file, Options(time_zone="Australia/Sydney")).series

    assert (str(series.starts[0]), series.time_zone) == ("2023-12-31T14:30:00.000", "Australia/Sydney")


def test_the_label_of_an_hour_of_eia_is_its_end_in_utc() -> None:
    head = "Balancing Authority,Local Time at End of Hour,UTC Time at End of Hour,Demand (MW),Demand (MW) (Adjusted)"
    file = f'{head}\nPJM,01/01/2024 1:00:00 AM,01/01/2024 6:00:00 AM,"85,123","85,000"\n'.encode()

    [series] = read_bytes(file).series

    assert (series.key, str(series.starts[0]), series.values.tolist()) == ("PJM", "2024-01-01T05:00:00.000", [85123.0])


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("DE_load_actual_entsoe_transparency", "DE"),
        ("DE_load_entsoe_transparency", "DE"),
        ("GB_GBN_load_actual_entsoe_transparency", "GB_GBN"),
        ("IE_sem_load_actual_tso", "IE_sem"),
    ],
)
def test_older_names_of_opsd(column: str, key: str) -> None:
    rows = ["2019-01-01T00:00:00Z,50000", "2019-01-01T01:00:00Z,50001"]
    file = "\n".join([f"utc_timestamp,{column}", *rows]).encode()

    assert [one.key for one in read_bytes(file).series] == [key]


def test_an_area_that_two_sources_tell_is_two_series() -> None:
    head = "utc_timestamp,DE_load_actual_entsoe_transparency,DE_load_actual_entsoe_power_statistics"

    found = read_bytes(f"{head}\n2019-01-01T00:00:00Z,50,51\n2019-01-01T01:00:00Z,50,51\n".encode()).series

    assert [one.key for one in found] == ["DE-entsoe_transparency", "DE-entsoe_power_statistics"]


def test_any_table_with_a_date_an_hour_and_a_load_is_no_competitions() -> None:
    file = b"Date,Hour,load,holiday\n2024-01-01,1,5,0\n2024-01-01,2,6,0\n"

    with pytest.raises(PayloadInvalid, match=r"--time-zone|several columns"):
        read_bytes(file)


DEMAND = b"Date,Hour,Market Demand,Ontario Demand\n2024-01-01,1,17000,15000\n2024-01-01,2,17100,15100\n"


def test_another_measure_of_a_layout_is_read_if_it_is_named() -> None:
    [series] = read_bytes(DEMAND, Options(value_column=("Market Demand",))).series

    assert (str(series.starts[0]), series.values.tolist()) == ("2024-01-01T05:00:00.000", [17000.0, 17100.0])


def test_of_several_areas_those_are_read_that_are_named() -> None:
    file = b"Hour Ending,COAST,EAST,WEST,ERCOT\n01/01/2021 01:00,1,2,3,6\n01/01/2021 02:00,1,2,3,6\n"

    assert [one.key for one in read_bytes(file, Options(value_column=("ercot", "EAST"))).series] == ["EAST", "ERCOT"]


@pytest.mark.parametrize(
    "options", [Options(value_column=("Foreign Demand",)), Options(time_column="Hour")], ids=["value", "time"]
)
def test_a_column_that_a_layout_does_not_read_is_refused_and_not_passed_over(options: Options) -> None:
    with pytest.raises(PayloadInvalid, match=r"--(value|time)-column.*allowed"):
        read_bytes(DEMAND, options)


def test_two_names_that_would_make_one_key_are_refused() -> None:
    head = "Time Stamp,Time Zone,Name,PTID,Integrated Load"
    file = f"{head}\n01/06/2025 00:00:00,EST,HUD VL,1,5\n01/06/2025 00:00:00,EST,HUD-VL,1,6\n".encode()

    with pytest.raises(PayloadInvalid, match="'HUD VL' and 'HUD-VL'"):
        read_bytes(file)
