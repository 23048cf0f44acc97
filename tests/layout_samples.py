"""Files in the exact form of each publisher, with made-up values, written from instants that a test chooses.

A test then knows what must be read, independently of the code that reads: local times here are those of `zoneinfo`.
Where a form was seen is said beside it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from kappawatt.datasets.reading.options import NOTHING_SAID, Options

__all__ = ["SAMPLES", "Sample", "days_of"]

Values = dict[str, list[float | None]]
Write = Callable[[Sequence[datetime], Values], bytes]
EASTERN, CENTRAL, PACIFIC = (ZoneInfo(f"America/{city}") for city in ("New_York", "Chicago", "Los_Angeles"))
LONDON, BERLIN, BRUSSELS, PARIS = (ZoneInfo(f"Europe/{city}") for city in ("London", "Berlin", "Brussels", "Paris"))
STANDARD = ZoneInfo("Etc/GMT+5")
BRISBANE = ZoneInfo("Australia/Brisbane")


@dataclass(frozen=True)
class Sample:
    """A publisher's form.

    Parameters
    ----------
    layout : str
        Name of the layout that reads it.
    write : callable
        (instants in UTC, values by series) to a file.
    zone : ZoneInfo
        Whose days and clock changes are asked.
    minutes : int
        Length of an interval.
    keys : tuple of str
        Of the series, as they are written into the file.
    read_as : tuple of str
        The same, as they come back; `keys` if empty.
    options : Options
    name : str
        Of the file.
    factor : float
        From the file's numbers to the stream's unit.
    lost : str
        What a file of this form cannot hold: `autumn` (one column or row for two hours).
    """

    layout: str
    write: Write
    zone: ZoneInfo
    minutes: int
    keys: tuple[str, ...]
    read_as: tuple[str, ...] = ()
    options: Options = field(default=NOTHING_SAID)
    name: str = "file.csv"
    factor: float = 1.0
    lost: str = ""


def days_of(first: date, count: int, zone: ZoneInfo, minutes: int) -> list[datetime]:
    """All starts of intervals in some local days, UTC."""
    begin, end = (
        datetime.combine(first + timedelta(days=days), time(), tzinfo=zone).astimezone(UTC) for days in (0, count)
    )
    found = []
    while begin < end:
        found.append(begin)
        begin += timedelta(minutes=minutes)
    return found


def text(value: float | None, nothing: str = "") -> str:
    return nothing if value is None else f"{value:g}"


def us(moment: datetime) -> str:
    return f"{moment.month}/{moment.day}/{moment.year}"


def clock12(moment: datetime, seconds: bool = True) -> str:
    return f"{moment.hour % 12 or 12}:{moment:%M}{':00' if seconds else ''} {'AM' if moment.hour < 12 else 'PM'}"


def lines(*rows: str) -> bytes:
    return ("\r\n".join(rows) + "\r\n").encode()


def skipped(day: date, zone: ZoneInfo, minutes: int) -> list[datetime]:
    """Labels that the clock of a day skips."""
    labels = [datetime.combine(day, time()) + timedelta(minutes=i) for i in range(0, 1440, minutes)]
    return [m for m in labels if m.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != m]


# ---- load zones


def own_rows(instants: Sequence[datetime], values: Values) -> bytes:
    rows = [
        f"{k},{m:%Y-%m-%dT%H:%M:%SZ},{text(v)},Europe/Berlin"
        for k, c in values.items()
        for m, v in zip(instants, c, strict=True)
    ]
    return lines("load_zone,interval_start,load,time_zone", *rows)


def pjm_wide(instants: Sequence[datetime], values: Values) -> bytes:
    """Kaggle, robikscube/hourly-energy-consumption, pjm_hourly_est.csv."""
    rows = []
    for i, moment in enumerate(instants):
        label = moment.astimezone(EASTERN).replace(tzinfo=None) + timedelta(hours=1)
        rows.append(",".join([f"{label:%Y-%m-%d %H:%M:%S}", *(text(column[i]) for column in values.values())]))
    return lines(",".join(["Datetime", *values]), *rows)


def pjm_metered(instants: Sequence[datetime], values: Values) -> bytes:
    """Data Miner 2, feed hrl_load_metered."""
    rows = [
        f"{us(m)} {clock12(m)},{us(e)} {clock12(e)},RFC,WEST,{key},{key},{text(v)},True"
        for key, column in values.items()
        for m, v in zip(instants, column, strict=True)
        for e in [m.astimezone(EASTERN)]
    ]
    return lines(
        "datetime_beginning_utc,datetime_beginning_ept,nerc_region,mkt_region,zone,load_area,mw,is_verified", *rows
    )


def pjm_prelim(instants: Sequence[datetime], values: Values) -> bytes:
    """Data Miner 2, feed hrl_load_prelim; newest first."""
    hour = timedelta(hours=1)
    rows = [
        ",".join(f"{us(t)} {clock12(t)}" for t in (m, m.astimezone(EASTERN), m + hour, (m + hour).astimezone(EASTERN)))
        + f",{key},{text(v)}"
        for key, column in values.items()
        for m, v in zip(instants, column, strict=True)
    ]
    head = "datetime_beginning_utc,datetime_beginning_ept,datetime_ending_utc,datetime_ending_ept"
    return lines(f"{head},load_area,prelim_load_avg_hourly", *reversed(rows))


def pjm_samples(instants: Sequence[datetime], values: Values) -> bytes:
    """Data Miner 2, feed inst_load."""
    rows = [
        f"{us(m)} {clock12(m)},{us(e)} {clock12(e)},{key},{'' if v is None else f'{v:.6f}'}"
        for key, column in values.items()
        for m, v in reversed(list(zip(instants, column, strict=True)))
        for e in [m.astimezone(EASTERN)]
    ]
    return lines("datetime_beginning_utc,datetime_beginning_ept,area,instantaneous_load", *rows)


def entsoe_old(instants: Sequence[datetime], values: Values) -> bytes:
    """The platform's export until 2024, by the clock of Brussels: spring's hour is there, without values."""
    (key, column), minutes = next(iter(values.items())), instants[1] - instants[0]
    rows = []
    for moment, value in zip(instants, column, strict=True):
        begin = moment.astimezone(BRUSSELS).replace(tzinfo=None)
        if rows and begin.strftime("%H:%M") == "03:00" and not rows[-1].startswith(f'"{begin:%d.%m.%Y} 02'):
            rows.append(f'"{begin:%d.%m.%Y} 02:00 - {begin:%d.%m.%Y} 03:00","",""')
        end = begin + minutes
        rows.append(f'"{begin:%d.%m.%Y %H:%M} - {end:%d.%m.%Y %H:%M}","1000","{text(value, "N/A")}"')
    head = f"Day-ahead Total Load Forecast [MW] - {key}"
    return lines(f'"Time (CET)","{head}","Actual Total Load [MW] - {key}"', *rows)


def entsoe_new(instants: Sequence[datetime], values: Values) -> bytes:
    """The platform's export since 2024, several areas: days of a change say CET or CEST (as theses have it)."""
    rows, quarter = [], instants[1] - instants[0]
    for key, column in values.items():
        for moment, value in zip(instants, column, strict=True):
            begin, end = (m.astimezone(BRUSSELS) for m in (moment, moment + quarter))
            noon = [datetime.combine(begin.date() + timedelta(days=d), time(), tzinfo=BRUSSELS) for d in (0, 1)]
            is_changed = noon[0].utcoffset() != noon[1].utcoffset()
            span = " - ".join(f"{m:%d/%m/%Y %H:%M}{f' ({m:%Z})' if is_changed else ''}" for m in (begin, end))
            rows.append(f'"{span}","BZN|{key}","{text(value, "n/e")}","1000"')
    return lines('"MTU (CET/CEST)","Area","Actual Total Load (MW)","Day-ahead Total Load Forecast (MW)"', *rows)


def german(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")


def smard_german(instants: Sequence[datetime], values: Values) -> bytes:
    """smard.de, data centre, quarter hours; with a mark of UTF-8."""
    [column] = values.values()
    rows, quarter = [], instants[1] - instants[0]
    for moment, value in zip(instants, column, strict=True):
        begin, end = (m.astimezone(BERLIN) for m in (moment, moment + quarter))
        rows.append(f"{begin:%d.%m.%Y %H:%M};{end:%d.%m.%Y %H:%M};{german(value)};{german(900)}")
    head = "Datum von;Datum bis;Netzlast [MWh] Originalauflösungen;Residuallast [MWh] Originalauflösungen"
    return b"\xef\xbb\xbf" + lines(head, *rows)


def smard_english(instants: Sequence[datetime], values: Values) -> bytes:
    """smard.de, data centre, in English, hours (as several public loaders of it have it)."""
    [column] = values.values()
    rows, hour = [], timedelta(hours=1)
    for moment, value in zip(instants, column, strict=True):
        both = [m.astimezone(BERLIN) for m in (moment, moment + hour)]
        times = ";".join(f"{m:%b} {m.day}, {m.year} {clock12(m, False)}" for m in both)
        rows.append(f"{times};{'-' if value is None else f'{value:,.2f}'};{30:,.2f}")
    head = "Start date;End date;grid load [MWh] Calculated resolutions;Residual load [MWh] Calculated resolutions"
    return lines(head, *rows)


def opsd(instants: Sequence[datetime], values: Values) -> bytes:
    """Open Power System Data, time_series_60min_singleindex.csv."""
    rows = []
    for i, moment in enumerate(instants):
        cells = [f"{moment:%Y-%m-%dT%H:%M:%SZ}", f"{moment.astimezone(BERLIN):%Y-%m-%dT%H:%M:%S%z}"]
        for column in values.values():
            cells += [text(column[i]), "1000"]
        rows.append(",".join(cells))
    names = [f"{k}_load_{kind}_entsoe_transparency" for k in values for kind in ("actual", "forecast")]
    return lines(",".join(["utc_timestamp", "cet_cest_timestamp", *names]), *rows)


def hour_ending(moment: datetime, zone: ZoneInfo) -> tuple[datetime, int]:
    """The day, and the hour from 1 to 24 by the clock at its start and one more."""
    start = moment.astimezone(zone)
    return start.replace(hour=0), start.hour + 1


def ercot_workbook(instants: Sequence[datetime], values: Values) -> bytes:
    """Native_Load_2022.xlsx: texts, 24:00, and ` DST` behind the second of the repeated hour."""
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Hour Ending", *values])
    seen = set()
    for i, moment in enumerate(instants):
        day, hour = hour_ending(moment, CENTRAL)
        label = f"{day:%m/%d/%Y} {hour:02}:00"
        sheet.append([f"{label} DST" if label in seen else label, *(column[i] for column in values.values())])
        seen.add(label)
    return saved(book)


def ercot_times(instants: Sequence[datetime], values: Values) -> bytes:
    """Native_Load_2016.xlsx and before: times of Excel, not quite whole hours, and the older names."""
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Hour_End", *values])
    for i, moment in enumerate(instants):
        label = moment.astimezone(CENTRAL).replace(tzinfo=None) + timedelta(hours=1) - timedelta(milliseconds=3)
        sheet.append([label, *(column[i] for column in values.values())])
    return saved(book)


def saved(book: object) -> bytes:
    file = io.BytesIO()
    book.save(file)  # type: ignore[attr-defined]
    return file.getvalue()


def ercot_report(instants: Sequence[datetime], values: Values) -> bytes:
    """NP6-345-CD, actual system load by weather zone."""
    rows, seen = [], set()
    for i, moment in enumerate(instants):
        day, hour = hour_ending(moment, CENTRAL)
        label = f"{day:%m/%d/%Y},{hour:02}:00"
        cells = [label, *(text(column[i]) for column in values.values()), "Y" if label in seen else "N"]
        rows.append(",".join(cells))
        seen.add(label)
    return lines(",".join(["OperDay", "HourEnding", *values, "DSTFlag"]), *rows)


def nyiso_integrated(instants: Sequence[datetime], values: Values) -> bytes:
    """mis.nyiso.com, 20250701palIntegrated.csv."""
    rows = []
    for i, moment in enumerate(instants):
        local = moment.astimezone(EASTERN)
        for n, (key, column) in enumerate(values.items()):
            rows.append(f'"{local:%m/%d/%Y %H:%M:%S}","{local:%Z}","{key}",{61757 + n},{text(column[i])}')
    return lines('"Time Stamp","Time Zone","Name","PTID","Integrated Load"', *rows)


def nyiso_five_minutes(instants: Sequence[datetime], values: Values) -> bytes:
    """mis.nyiso.com, 20250701pal.csv: five minutes, and a sample between them now and then."""
    rows = []
    for i, moment in enumerate(instants):
        local = moment.astimezone(EASTERN)
        for key, column in values.items():
            rows.append(f'"{local:%m/%d/%Y %H:%M:%S}","{local:%Z}","{key}",61757,{text(column[i])}')
            if i % 40 == 7:
                rows.append(f'"{local:%m/%d/%Y %H:%M:}47","{local:%Z}","{key}",61757,9')
    return lines('"Time Stamp","Time Zone","Name","PTID","Load"', *rows)


def iso_new_england(instants: Sequence[datetime], values: Values) -> bytes:
    """ISO Express, Real-Time Hourly System Load Report: a letter before each row, and 02X."""
    [column] = values.values()
    rows, seen = [], set()
    for moment, value in zip(instants, column, strict=True):
        day, hour = hour_ending(moment, EASTERN)
        label = f'"{day:%m/%d/%Y}","{hour:02}'
        rows.append(f'"D",{label}{"X" if label in seen else ""}",{text(value)}')
        seen.add(label)
    head = ['"C","Real-Time Hourly System Load Report"', '"C","Report generated: 11/05/2024 13:07:54 EST"']
    names = ['"H","Date","Hour Ending","Total Load"', '"H","Date","HE","MWh"']
    return lines(*head, *names, *rows, f'"T","{len(rows)} lines"')


def settlement(moment: datetime) -> tuple[datetime, int]:
    """Day of London's clock, and the number of its half hour."""
    local = moment.astimezone(LONDON)
    midnight = datetime.combine(local.date(), time(), tzinfo=LONDON)
    return local, int((moment - midnight.astimezone(UTC)) / timedelta(minutes=30)) + 1


def neso(instants: Sequence[datetime], values: Values) -> bytes:
    """NESO data portal, demanddataupdate.csv: forecasts behind, marked F, and zeros."""
    [column] = values.values()
    rows = []
    for moment, value in zip(instants, column, strict=True):
        day, number = settlement(moment)
        rows.append(f"{day:%Y-%m-%d},{number},{text(value, '0')},A,26000")
    last, _ = settlement(instants[-1] + timedelta(minutes=30))
    rows += [f"{last:%Y-%m-%d},{number},21000,F,24000" for number in range(1, 5)]
    return lines("SETTLEMENT_DATE,SETTLEMENT_PERIOD,ND,FORECAST_ACTUAL_INDICATOR,TSD", *rows)


def neso_old(instants: Sequence[datetime], values: Values) -> bytes:
    """NESO data portal, demanddata_2016.csv."""
    [column] = values.values()
    rows = []
    for moment, value in zip(instants, column, strict=True):
        day, number = settlement(moment)
        rows.append(f"{day:%d-%b-%Y},{number},{text(value)},26000,19000,1200,0".upper())
    head = "ND,TSD,ENGLAND_WALES_DEMAND,EMBEDDED_WIND_GENERATION,EMBEDDED_SOLAR_GENERATION"
    return lines(f"SETTLEMENT_DATE,SETTLEMENT_PERIOD,{head}", *rows)


def elexon(instants: Sequence[datetime], values: Values) -> bytes:
    """Elexon's Insights, /demand/outturn as CSV; newest first."""
    [column] = values.values()
    rows = []
    for moment, value in zip(instants, column, strict=True):
        day, number = settlement(moment)
        told = moment + timedelta(minutes=45)
        rows.append(
            f"{told:%Y-%m-%dT%H:%M:%SZ},{moment:%Y-%m-%dT%H:%M:%SZ},{day:%Y-%m-%d},{number},{text(value)},26000"
        )
    head = "PublishTime,StartTime,SettlementDate,SettlementPeriod"
    return lines(f"{head},InitialDemandOutturn,InitialTransmissionSystemDemandOutturn", *reversed(rows))


def aemo(instants: Sequence[datetime], values: Values) -> bytes:
    """aemo.com.au, PRICE_AND_DEMAND_202501_NSW1.csv."""
    rows = [
        f"{key},{(m + timedelta(minutes=5)).astimezone(BRISBANE):%Y/%m/%d %H:%M:%S},{text(v)},81.5,TRADE"
        for key, column in values.items()
        for m, v in zip(instants, column, strict=True)
    ]
    return lines("REGION,SETTLEMENTDATE,TOTALDEMAND,RRP,PERIODTYPE", *rows)


def ieso(instants: Sequence[datetime], values: Values) -> bytes:
    r"""reports.ieso.ca, PUB_Demand_2024.csv: three lines before the names."""
    [column] = values.values()
    rows = []
    for moment, value in zip(instants, column, strict=True):
        day, hour = hour_ending(moment, STANDARD)
        rows.append(f"{day:%Y-%m-%d},{hour},17000,{text(value)}")
    head = [r"\\Hourly Demand Report,,,", r"\\Created at 2024-12-30 07:30:09,,,", r"\\For 2024,,,"]
    return lines(*head, "Date,Hour,Market Demand,Ontario Demand", *rows)


def eia(instants: Sequence[datetime], values: Values) -> bytes:
    """eia.gov, EIA930_BALANCE_2024_Jan_Jun.csv: the hour's end, and commas in thousands."""
    rows = []
    for key, column in values.items():
        for moment, value in zip(instants, column, strict=True):
            end = moment + timedelta(hours=1)
            local = end.astimezone(PACIFIC)
            times = ",".join(f'"{m:%m/%d/%Y} {clock12(m)}"' for m in (local, end))
            number = "" if value is None else f'"{value:,.0f}"'
            rows.append(f'{key},"{local:%m/%d/%Y}",{local.hour or 24},{times},"9,000",{number},,"9,100"')
    head = "Balancing Authority,Data Date,Hour Number,Local Time at End of Hour,UTC Time at End of Hour"
    more = "Demand Forecast (MW),Demand (MW),Demand (MW) (Imputed),Demand (MW) (Adjusted)"
    return lines(f"{head},{more}", *rows)


def oasis(instants: Sequence[datetime], values: Values) -> bytes:
    """CAISO OASIS, SLD_FCST with every market run: only ACTUAL is load."""
    rows = []
    for key, column in values.items():
        for run, item in (("DAM", "SYS_FCST_DA_MW"), ("ACTUAL", "SYS_FCST_ACT_MW")):
            for moment, value in zip(instants, column, strict=True):
                local = moment.astimezone(PACIFIC)
                times = ",".join(f"{m:%Y-%m-%dT%H:%M:%S}-00:00" for m in (moment, moment + timedelta(hours=1)))
                mw = text(value) if run == "ACTUAL" else "1"
                cells = (
                    f"{times},0,{local:%Y-%m-%d},{local.hour + 1},0,{run},{key},Demand Forecast,{item},3.8,{mw},{run},1"
                )
                rows.append(cells)
    head = "INTERVALSTARTTIME_GMT,INTERVALENDTIME_GMT,LOAD_TYPE,OPR_DT,OPR_HR,OPR_INTERVAL,MARKET_RUN_ID,TAC_AREA_NAME"
    return lines(f"{head},LABEL,XML_DATA_ITEM,POS,MW,EXECUTION_TYPE,GROUP", *rows)


def gridstatus(instants: Sequence[datetime], values: Values) -> bytes:
    """The package gridstatus: DataFrame.to_csv(index=False) of Ercot.get_load."""
    rows = []
    for i, moment in enumerate(instants):
        both = [f"{m.astimezone(CENTRAL):%Y-%m-%d %H:%M:%S%z}" for m in (moment, moment + timedelta(hours=1))]
        times = [f"{one[:-2]}:{one[-2:]}" for one in (both[0], *both)]
        rows.append(",".join([*times, *(text(column[i]) for column in values.values())]))
    names = ["Load" if key == "ERCOT" else key for key in values]
    return lines(",".join(["Time", "Interval Start", "Interval End", *names]), *rows)


def bigdeal(instants: Sequence[datetime], values: Values) -> bytes:
    """BigDEAL Challenge 2022: 24 hours every day, temperatures and their forecasts behind."""
    rows = []
    for i, moment in enumerate(instants):
        local = moment.astimezone(EASTERN)
        if local.fold == 0:
            cells = [
                f"{local.day}-{local:%b-%y}",
                str(local.hour + 1),
                *(text(c[i]) for c in values.values()),
                "30",
                "",
            ]
            rows.append(",".join(cells))
    return lines(",".join(["DATE", "Hour", *values, "T1", "T1_forecast"]), *rows)


# ---- meters


def texas(instants: Sequence[datetime], values: Values) -> bytes:
    """Smart Meter Texas, IntervalData.csv: blank in spring, and the one label that tells the repeated hour."""
    rows = []
    for key, column in values.items():
        esiid, _, kind = key.partition(":")
        word = "Surplus Generation" if kind else "Consumption"
        before = None
        for moment, value in zip(instants, column, strict=True):
            local = moment.astimezone(CENTRAL).replace(tzinfo=None)
            end = local + timedelta(minutes=15)
            head = f"'{esiid},{local:%m/%d/%Y},{local + timedelta(days=1):%m/%d/%Y} 06:18:33"
            if before is not None and local - before > timedelta(minutes=15):
                for label in skipped(local.date(), CENTRAL, 15):
                    rows.append(f"{head},{label:%H:%M},{label + timedelta(minutes=15):%H:%M},,,{word}")
            start = "02:00" if before is not None and local < before else f"{local:%H:%M}"
            energy = "" if value is None else f"{value:.3f}".lstrip("0")
            rows.append(f"{head},{start},{end:%H:%M},{energy},{'' if value is None else 'A'},{word}")
            before = local
    head = "ESIID,USAGE_DATE,REVISION_DATE,USAGE_START_TIME,USAGE_END_TIME,USAGE_KWH,ESTIMATED_ACTUAL"
    return lines(f"{head},CONSUMPTION_SURPLUSGENERATION", *rows)


def london_kaggle(instants: Sequence[datetime], values: Values) -> bytes:
    """Kaggle, jeanmidev/smart-meters-in-london, block_0.csv; a row without a value between half hours."""
    rows = [
        f"{key},{m:%Y-%m-%d %H:%M:%S}.0000000, {text(v, 'Null')} "
        for key, column in values.items()
        for m, v in zip(instants, column, strict=True)
    ]
    rows.insert(9, f"{next(iter(values))},{instants[8]:%Y-%m-%d %H}:13:41.0000000,Null")
    return lines("LCLid,tstp,energy(kWh/hh)", *rows)


def london_datastore(instants: Sequence[datetime], values: Values) -> bytes:
    """London Datastore, LCL-FullData: the name of the energy ends with a blank."""
    rows = [
        f"{key},Std,{m:%Y-%m-%d %H:%M:%S}.0000000, {text(v, 'Null')} ,ACORN-A,Affluent"
        for key, column in values.items()
        for m, v in zip(instants, column, strict=True)
    ]
    return lines("LCLid,stdorToU,DateTime,KWH/hh (per half hour) ,Acorn,Acorn_grouped", *rows)


def octopus(instants: Sequence[datetime], values: Values) -> bytes:
    """Octopus Energy, download of a home's electricity: blanks behind commas, offsets of London's clock."""
    [column] = values.values()
    rows = []
    for moment, value in zip(instants, column, strict=True):
        if value is not None:
            both = [m.astimezone(LONDON) for m in (moment, moment + timedelta(minutes=30))]
            rows.append(", ".join([f"{value:.6f}", *(m.isoformat() for m in both), "5.1", "0.9"]))
    return lines(" Consumption (kwh), Start, End, Estimated Cost Inc. Tax (p), Standing Charge Inc. Tax (p)", *rows)


def fluvius(instants: Sequence[datetime], values: Values) -> bytes:
    """Mijn Fluvius, Verbruikshistoriek, quarter hours: two registers a direction, one at a time."""
    rows = []
    for i, moment in enumerate(instants):
        both = [m.astimezone(BRUSSELS) for m in (moment, moment + timedelta(minutes=15))]
        times = ";".join(f"{m:%d-%m-%Y};{m:%H:%M:%S}" for m in both)
        tariff = "Dag" if 7 <= both[0].hour < 22 else "Nacht"
        for key, column in values.items():
            ean, _, surplus = key.partition(":")
            way = "Injectie" if surplus else "Afname"
            number = "" if column[i] is None else f"{column[i]:.3f}".replace(".", ",")
            rows.append(f'{times};="{ean}";1SAG3100000000;Digitale meter;{way} {tariff};{number};kWh;Uitgelezen;')
    head = "Van (datum);Van (tijdstip);Tot (datum);Tot (tijdstip);EAN-code;Meter;Metertype;Register;Volume;Eenheid"
    return b"\xef\xbb\xbf" + lines(f"{head};Validatiestatus;Omschrijving", *rows)


def linky(instants: Sequence[datetime], values: Values) -> bytes:
    """Enedis, export of an account: two lines before the names, W of the interval that ends."""
    [(key, column)] = values.items()
    length = instants[1] - instants[0]
    rows = [f"{(m + length).astimezone(PARIS).isoformat()};{text(v)}" for m, v in zip(instants, column, strict=True)]
    head = (
        "Identifiant PRM;Type de donnees;Date de debut;Date de fin;Grandeur physique;Grandeur metier;Etape metier;Unite"
    )
    said = f"{key};Courbe de charge;01/03/2024;01/11/2024;Energie active;Consommation;Comptage Brut;W;"
    return lines(f"{head};Pas en minutes", said, "Horodate;Valeur", *rows)


def linky_short(instants: Sequence[datetime], values: Values) -> bytes:
    """Enedis, conso-courbe-30min: the meter in the first line, `fin de pas` in the names."""
    [(key, column)] = values.items()
    length = instants[1] - instants[0]
    rows = [f"{(m + length).astimezone(PARIS).isoformat()};{text(v)}" for m, v in zip(instants, column, strict=True)]
    head = f"Identifiant PRM;{key};Type de donnees;Courbe de charge;"
    return lines(head, "horodate ISO fin de pas;puissance moyenne (W)", *rows)


def linky_flow(instants: Sequence[datetime], values: Values) -> bytes:
    """Enedis, flow R63: each row says all; energy of the interval."""
    rows = [
        f"{key};2024-03-01;2024-11-01;EA;CONS;BEST;Wh;{(m + timedelta(minutes=30)).astimezone(PARIS).isoformat()};"
        f"{text(v)};R;PT30M"
        for key, column in values.items()
        for m, v in zip(instants, column, strict=True)
    ]
    head = "Identifiant PRM;Date de debut;Date de fin;Grandeur physique;Grandeur metier;Etape metier;Unite"
    return lines(f"{head};Horodate;Valeur;Nature;Pas", *rows)


def opower(instants: Sequence[datetime], values: Values) -> bytes:
    """PG&E, Green Button download as CSV; 24 hours every day, in autumn both of them in one row."""
    [column] = values.values()
    rows = []
    for moment, value in zip(instants, column, strict=True):
        local = moment.astimezone(PACIFIC)
        if local.fold == 0:
            last = (local.replace(tzinfo=None) + timedelta(minutes=14)).strftime("%H:%M")
            rows.append(f"Electric usage,{local:%Y-%m-%d},{local:%H:%M},{last},{text(value)},$0.03")
    head = [
        "Name,JANE DOE",
        'Address,"1 MAIN ST, ANYTOWN CA 90000"',
        "Account Number,1234567890",
        "Service,Service 1",
        "",
    ]
    return lines(*head, "TYPE,DATE,START TIME,END TIME,USAGE (kWh),COST,NOTES", *rows)


def sdge(instants: Sequence[datetime], values: Values) -> bytes:
    """SDG&E, CSV Export Electric Meter(s): thirteen lines before the names, the repeated hour twice."""
    names = list(values)
    rows = []
    for i, moment in enumerate(instants):
        local = moment.astimezone(PACIFIC)
        taken, given = (text(values[name][i]) for name in names)
        rows.append(f'"{names[0]}","{us(local)}","{clock12(local, False)}","15","{taken}","{given}","0.1"')
    head = [
        "Name,JANE DOE", "Address,1 MAIN ST San Diego CA 92101", "Account Number,0000000000", "Disclaimer,none",
        "Title,CSV Export Electric Meter(s)", "Resource,Electric", "Meter Number,05551234", "Interval UOM,Minute(s)",
        "Reading Start,11/1/2024 00:00", "Reading End,11/5/2024 23:45", "Total Duration,5 Days", "Total Usage,817.415",
        "UOM,kWh",
    ]  # fmt: skip
    return lines(*head, "Meter Number,Date,Start Time,Duration,Consumption,Generation,Net", *rows)


def nem12(instants: Sequence[datetime], values: Values) -> bytes:
    """AEMO, Meter Data File Format Specification: E1 of half hours, B1, and a register of reactive energy."""
    rows = ["100,NEM12,202405081149,MDP1,Retailer1"]
    for key, column in values.items():
        nmi, _, surplus = key.partition(":")
        suffix = "B1" if surplus else "E1"
        by_day: dict[str, list[str]] = {}
        for moment, value in zip(instants, column, strict=True):
            by_day.setdefault(f"{moment.astimezone(BRISBANE):%Y%m%d}", []).append(text(value))
        rows.append(f"200,{nmi},E1B1Q1,1,{suffix},N1,01009,kWh,30,")
        for day, cells in by_day.items():
            rows.append(f"300,{day},{','.join(cells)},A,,,20241231120000,")
        rows.append(f"200,{nmi},E1B1Q1,1,Q1,N1,01009,kVArh,30,")
        rows.append(f"300,{day},{','.join(['1'] * 48)},A,,,20241231120000,")
    return lines(*rows, "900")


ATOM = 'xmlns="http://www.w3.org/2005/Atom"'
ESPI = 'xmlns="http://naesb.org/espi"'
AMERICAN = "<dstEndRule>B40E2000</dstEndRule><dstOffset>3600</dstOffset><dstStartRule>360E2000</dstStartRule>"


def entry(own: str, content: str, *related: str, up: str = "") -> str:
    links = [f'<link rel="self" href="{own}"/>'] if own else []
    links += [f'<link rel="up" href="{up}"/>'] if up else []
    links += [f'<link rel="related" href="{one}"/>' for one in related]
    return f"<entry><id>urn:uuid:{abs(hash(own))}</id>{''.join(links)}<title/><content>{content}</content></entry>"


def reading_type(flow: int = 1, uom: int = 72, power: int = 0, commodity: int = 1, behaviour: int = 4) -> str:
    return (
        f"<ReadingType {ESPI}><accumulationBehaviour>{behaviour}</accumulationBehaviour>"
        f"<commodity>{commodity}</commodity>"
        f"<currency>840</currency><dataQualifier>12</dataQualifier><flowDirection>{flow}</flowDirection>"
        f"<intervalLength>900</intervalLength><kind>12</kind><phase>769</phase>"
        f"<powerOfTenMultiplier>{power}</powerOfTenMultiplier><timeAttribute>0</timeAttribute><uom>{uom}</uom></ReadingType>"
    )


def block(instants: Sequence[datetime], column: Sequence[float | None], seconds: int, factor: float = 1000) -> str:
    readings = "".join(
        f"<IntervalReading><cost>2300</cost><timePeriod><duration>{seconds}</duration><start>{int(m.timestamp())}</start>"
        f"</timePeriod>{'' if v is None else f'<value>{round(v * factor)}</value>'}</IntervalReading>"
        for m, v in zip(instants, column, strict=True)
    )
    begin = int(instants[0].timestamp())
    return (
        f"<IntervalBlock {ESPI}><interval><duration>{seconds * len(instants)}</duration>"
        f"<start>{begin}</start></interval>"
        f"{readings}</IntervalBlock>"
    )


def green_button(instants: Sequence[datetime], values: Values) -> bytes:
    """A feed as PG&E's Share My Data gives it: electricity of two directions, and gas; blocks of a day each."""
    root = "RetailCustomer/1/UsagePoint"
    parts = [
        entry(
            "LocalTimeParameters/1",
            f"<LocalTimeParameters {ESPI}>{AMERICAN}<tzOffset>-28800</tzOffset></LocalTimeParameters>",
        )
    ]
    for n, (key, column) in enumerate(values.items(), 1):
        point, _, surplus = key.partition(":")
        reading = f"{root}/{point}/MeterReading/{n}"
        parts += [
            entry(
                f"{root}/{point}", f"<UsagePoint {ESPI}><ServiceCategory><kind>0</kind></ServiceCategory></UsagePoint>"
            ),
            entry(f"ReadingType/{n}", reading_type(19 if surplus else 1, power=-3)),
            entry(reading, f"<MeterReading {ESPI}/>", f"ReadingType/{n}", f"{reading}/IntervalBlock"),
        ]
        for begin in range(0, len(instants), 96):
            part = slice(begin, begin + 96)
            own = f"{reading}/IntervalBlock/{begin}"
            parts.append(entry(own, block(instants[part], column[part], 900, 1e6), up=f"{reading}/IntervalBlock"))
    gas = f"{root}/77/MeterReading/9"
    parts += [
        entry(f"{root}/77", f"<UsagePoint {ESPI}><ServiceCategory><kind>1</kind></ServiceCategory></UsagePoint>"),
        entry("ReadingType/9", reading_type(uom=169, commodity=7)),
        entry(gas, f"<MeterReading {ESPI}/>", "ReadingType/9", f"{gas}/IntervalBlock"),
        entry(f"{gas}/IntervalBlock/1", block(instants[:1], [3.0], 86_400)),
    ]
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<feed {ATOM}>{"".join(parts)}</feed>'.encode()


# ---- a row a day


def by_day(
    instants: Sequence[datetime], column: Sequence[float | None], zone: ZoneInfo
) -> dict[date, list[tuple[datetime, float | None]]]:
    found: dict[date, list[tuple[datetime, float | None]]] = {}
    for moment, value in zip(instants, column, strict=True):
        local = moment.astimezone(zone)
        found.setdefault(local.date(), []).append((local, value))
    return found


def half_hours_counted(instants: Sequence[datetime], values: Values) -> bytes:
    """Half-hourly data of a British supplier: MPAN, 50 columns that count the day's half hours."""
    rows = [
        ",".join([key, f"{day:%d/%m/%Y}", "kWh", *(text(v) for _, v in cells), *[""] * (50 - len(cells))])
        for key, column in values.items()
        for day, cells in by_day(instants, column, LONDON).items()
    ]
    return lines(",".join(["MPAN", "Date", "Unit", *(f"HH{i:02}" for i in range(1, 51))]), *rows)


def hours_of_the_clock(instants: Sequence[datetime], values: Values) -> bytes:
    """Hours by the clock's end, H01 to H24: none in spring's third, and one column for autumn's two."""
    rows = []
    for key, column in values.items():
        for day, cells in by_day(instants, column, EASTERN).items():
            row = [""] * 24
            for local, value in cells:
                row[local.hour] = row[local.hour] or text(value)
            rows.append(",".join([key, f"{day:%Y-%m-%d}", *row]))
    return lines(",".join(["zone", "date", *(f"H{i:02}" for i in range(1, 25))]), *rows)


def quarters_by_end(instants: Sequence[datetime], values: Values) -> bytes:
    """Quarter hours by their end, 00:15 to 24:00, semicolons, decimal commas."""
    ends = [f"{i // 4:02}:{i % 4 * 15:02}" for i in range(1, 97)]
    rows = []
    for key, column in values.items():
        for day, cells in by_day(instants, column, BERLIN).items():
            row = [""] * 96
            for local, value in cells:
                place = local.hour * 4 + local.minute // 15
                row[place] = row[place] or text(value).replace(".", ",")
            rows.append(";".join([key, f"{day:%d.%m.%Y}", *row]))
    return lines(";".join(["Zählpunkt meter", "Datum [kWh]", *ends]), *rows)


SAMPLES = {
    "own rows": Sample("kappawatt's own rows", own_rows, BERLIN, 60, ("DE", "AT")),
    "pjm wide": Sample(
        "PJM hourly load (Kaggle)", pjm_wide, EASTERN, 60, ("AEP", "PJME", "PJM_Load"), ("AEP", "PJME", "PJM_LOAD")
    ),
    "pjm metered": Sample("PJM Data Miner", pjm_metered, EASTERN, 60, ("AEPAPT", "RTO")),
    "pjm prelim": Sample("PJM Data Miner", pjm_prelim, EASTERN, 60, ("AE/MIDATL", "DOM"), ("AE-MIDATL", "DOM")),
    "pjm samples": Sample("PJM Data Miner", pjm_samples, EASTERN, 5, ("PEP",)),
    "entsoe old": Sample("ENTSO-E Transparency", entsoe_old, BRUSSELS, 60, ("North Macedonia (MK)",), ("MK",)),
    "entsoe new": Sample("ENTSO-E Transparency", entsoe_new, BRUSSELS, 15, ("DE-LU", "DK1")),
    "smard german": Sample("SMARD", smard_german, BERLIN, 15, ("DE",), options=Options(key="DE"), factor=4.0),
    "smard english": Sample("SMARD", smard_english, BERLIN, 60, ("DE",), options=Options(key="DE")),
    "opsd": Sample(
        "Open Power System Data", opsd, BERLIN, 60, ("AT", "DE_50hertz"), options=Options(time_zone="Europe/Berlin")
    ),
    "ercot workbook": Sample("ERCOT hourly load", ercot_workbook, CENTRAL, 60, ("COAST", "FWEST", "SCENT", "ERCOT")),
    "ercot times": Sample(
        "ERCOT hourly load",
        ercot_times,
        CENTRAL,
        60,
        ("COAST", "FAR_WEST", "SOUTHERN", "ERCOT"),
        ("COAST", "FWEST", "SOUTH", "ERCOT"),
    ),
    "ercot report": Sample(
        "ERCOT hourly load",
        ercot_report,
        CENTRAL,
        60,
        ("COAST", "NORTH_C", "WEST", "TOTAL"),
        ("COAST", "NCENT", "WEST", "ERCOT"),
    ),
    "nyiso integrated": Sample(
        "NYISO load", nyiso_integrated, EASTERN, 60, ("CAPITL", "HUD VL", "N.Y.C."), ("CAPITL", "HUD-VL", "N.Y.C.")
    ),
    "nyiso five minutes": Sample("NYISO load", nyiso_five_minutes, EASTERN, 5, ("WEST",)),
    "iso new england": Sample("ISO New England load", iso_new_england, EASTERN, 60, ("ISONE",)),
    "neso": Sample("NESO and Elexon demand", neso, LONDON, 30, ("GB",)),
    "neso old": Sample("NESO and Elexon demand", neso_old, LONDON, 30, ("GB",)),
    "elexon": Sample("NESO and Elexon demand", elexon, LONDON, 30, ("GB",)),
    "aemo": Sample("AEMO price and demand", aemo, BRISBANE, 5, ("NSW1", "SA1")),
    "ieso": Sample("IESO demand", ieso, ZoneInfo("America/Toronto"), 60, ("ONTARIO",)),
    "eia": Sample("EIA-930", eia, PACIFIC, 60, ("CISO", "BPAT"), options=Options(time_zone="America/Los_Angeles")),
    "oasis": Sample("CAISO OASIS", oasis, PACIFIC, 60, ("CA ISO-TAC", "PGE-TAC"), ("CA-ISO-TAC", "PGE-TAC")),
    "gridstatus": Sample(
        "gridstatus",
        gridstatus,
        CENTRAL,
        60,
        ("ERCOT", "COAST", "FAR WEST"),
        ("ERCOT", "COAST", "FAR-WEST"),
        name="ercot_load.csv",
    ),
    "bigdeal": Sample("BigDEAL and GEFCom", bigdeal, EASTERN, 60, ("LDC1", "LDC2"), lost="autumn"),
    "texas": Sample("Smart Meter Texas", texas, CENTRAL, 15, ("10443720000000001", "10443720000000001:surplus")),
    "london kaggle": Sample("Low Carbon London", london_kaggle, ZoneInfo("UTC"), 30, ("MAC000002", "MAC000003")),
    "london datastore": Sample("Low Carbon London", london_datastore, ZoneInfo("UTC"), 30, ("MAC000002",)),
    "octopus": Sample("Octopus Energy", octopus, LONDON, 30, ("home",), options=Options(key="home")),
    "fluvius": Sample("Fluvius", fluvius, BRUSSELS, 15, ("541448820000000001", "541448820000000001:surplus")),
    "linky 30 min": Sample("Linky (Enedis)", linky, PARIS, 30, ("30000000000001",), factor=0.0005),
    "linky 10 min": Sample(
        "Linky (Enedis)", linky, PARIS, 10, ("30000000000001",), options=Options(resample=1800), factor=1 / 6000
    ),
    "linky short": Sample("Linky (Enedis)", linky_short, PARIS, 30, ("30000000000001",), factor=0.0005),
    "linky flow": Sample("Linky (Enedis)", linky_flow, PARIS, 30, ("30000000000001", "30000000000002"), factor=0.001),
    "opower": Sample(
        "Opower (PG&E, PECO, ComEd)",
        opower,
        PACIFIC,
        15,
        ("home",),
        options=Options(key="home", time_zone="America/Los_Angeles"),
        lost="autumn",
    ),
    "sdge": Sample("SDG&E", sdge, PACIFIC, 15, ("05551234", "05551234:surplus")),
    "nem12": Sample("AEMO NEM12", nem12, BRISBANE, 30, ("NEM1201009", "NEM1201009:surplus")),
    "green button": Sample(
        "Green Button (ESPI)", green_button, PACIFIC, 15, ("5391320724", "5391320724:surplus"), name="usage.xml"
    ),
    "half hours counted": Sample(
        "a row a day",
        half_hours_counted,
        LONDON,
        30,
        ("1200000000001", "1200000000002"),
        options=Options(time_zone="Europe/London"),
    ),
    "hours of the clock": Sample(
        "a row a day",
        hours_of_the_clock,
        EASTERN,
        60,
        ("ISONE", "NYIS"),
        options=Options(time_zone="America/New_York", unit="MW"),
        lost="autumn",
    ),
    "quarters by end": Sample(
        "a row a day",
        quarters_by_end,
        BERLIN,
        15,
        ("DE000001",),
        options=Options(time_zone="Europe/Berlin"),
        lost="autumn",
    ),
}
