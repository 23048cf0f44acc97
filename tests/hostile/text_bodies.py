"""JSON, lines of JSON and CSV that take many times their bytes once they are parsed, or long to refuse."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

__all__ = ["csv_bodies", "export_bodies", "json_bodies", "line_bodies"]

LARGE = 8_388_000  # bytes: just below the largest body
GOOD = {"ambient_temperature": 14.96, "exhaust_vacuum": 41.76, "ambient_pressure": 1024.07, "relative_humidity": 73.17}
ROW = json.dumps(GOOD)

Make = Callable[[], bytes]


def repeated(part: str, before: str = "[", after: str = "]", between: str = ",", size: int = LARGE) -> bytes:
    """As many of `part` as a body may have."""
    count = (size - len(before.encode()) - len(after.encode())) // len((part + between).encode())
    return (before + between.join([part] * count) + after).encode()


def numbered(form: str, before: str, after: str, count: int, between: str = ",") -> bytes:
    """Parts that are each another."""
    return (before + between.join(form.format(i) for i in range(count)) + after).encode()


def _json() -> Iterator[tuple[str, Make]]:
    yield "rows, as many as there can be", lambda: repeated(ROW)
    yield "rows in an odd layout", lambda: repeated(ROW, "[\n  ", "\n]", ",\n  ")
    yield "empty rows", lambda: repeated("{}")
    yield "lists instead of rows", lambda: repeated("[]")
    yield "numbers instead of rows", lambda: repeated("1")
    yield "texts instead of rows", lambda: repeated('"ab"')
    yield "nulls instead of rows", lambda: repeated("null")
    yield "a row of lists", lambda: repeated("[]", '{"ambient_temperature":[', "]}")
    yield "a row of objects", lambda: repeated('{"a":1}', '{"ambient_temperature":[', "]}")
    yield "a row of many keys", lambda: numbered('"{:x}":1', "{", "}", 700_000)
    yield "a row of few unknown keys", lambda: numbered('"{:x}":1', "{", "}", 60_000)
    yield "rows of unknown keys", lambda: repeated('{"a":1,"b":2,"c":3}')
    yield "a row that repeats a key", lambda: repeated('"a":1', "{", "}")
    yield "rows that repeat a key", lambda: repeated('{"net_power":1,"net_power":1}')
    yield "a long text", lambda: b'{"ambient_temperature":"' + b"x" * LARGE + b'"}'
    yield "a long text with a wide letter", lambda: b'{"ambient_temperature":"' + b"x" * LARGE + "😀".encode() + b'"}'
    yield "a long key", lambda: b'{"' + b"x" * LARGE + b'":1}'
    yield "a text of quotes", lambda: repeated('\\"', '{"ambient_temperature":"', '"}', "")
    yield "a number of many digits", lambda: b'{"ambient_temperature":' + b"9" * LARGE + b"}"
    yield "numbers of many digits", lambda: repeated("9" * 4_000)
    yield "a number with many places", lambda: b'{"ambient_temperature":0.' + b"1" * LARGE + b"}"
    yield "lists in lists", lambda: b"[" * (LARGE // 2) + b"]" * (LARGE // 2)
    yield "objects in objects", lambda: b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000
    yield "objects in objects, as deep as passes", lambda: repeated('{"a":' * 900 + "1" + "}" * 900)
    yield "lists that never end", lambda: b"[" * LARGE
    yield "rows, the last cut off", lambda: repeated(ROW)[:-10]
    yield "rows with text that looks like their end", lambda: repeated('{"a":"},{"}')
    yield "NaN, many", lambda: repeated("NaN")
    yield "blanks", lambda: b" " * LARGE
    yield "one row and blanks", lambda: ROW.encode() + b" " * (LARGE - 200)
    yield "columns of short numbers", lambda: repeated("1", '{"columns":{"ambient_temperature":[', "]}}")
    yield "columns of texts", lambda: repeated('"x"', '{"columns":{"ambient_temperature":[', "]}}")
    yield "columns, many", lambda: numbered('"{:x}":[1]', '{"columns":{', "}}", 500_000)
    yield "columns, many, of no list", lambda: numbered('"{:x}":1', '{"columns":{', "}}", 90_000)
    yield "bytes that are no text", lambda: b"\xff" * LARGE
    yield "nothing but quotes", lambda: b'"' * LARGE


def _lines() -> Iterator[tuple[str, Make]]:
    yield "rows, as many as there can be", lambda: repeated(ROW, "", "", "\n")
    yield "numbers", lambda: b"1\n" * 1_000_000
    yield "numbers, as many as pass", lambda: b"1\n" * 262_000
    yield "numbers, as many as there can be", lambda: b"1\n" * (LARGE // 2)
    yield "no JSON, as many as pass", lambda: b"x\n" * 262_000
    yield "empty objects, as many as pass", lambda: b"{}\n" * 262_000
    yield "lists", lambda: b"[1]\n" * 250_000
    yield "columns", lambda: b'{"columns":{"a":[1]}}\n' * 250_000
    yield "texts where numbers should be", lambda: b'{"exhaust_vacuum":"x"}\n' * 250_000
    yield "repeated keys", lambda: b'{"a":1,"a":1}\n' * 250_000
    yield "empty lines", lambda: b"\n" * LARGE + ROW.encode()
    yield "one line of lists", lambda: repeated("[]")


def _csv() -> Iterator[tuple[str, Make]]:
    header = ",".join(GOOD) + "\n"
    yield "rows, as many as there can be", lambda: b"14.96,41.76,1024.07,73.17\n" * (LARGE // 26)
    yield "rows, as many as pass", lambda: b"14.96,41.76,1024.07,73.17\n" * 262_000
    yield "rows out of range, as many as pass", lambda: b"1e9,1e9,1e9,1e9\n" * 262_000
    yield "rows of words", lambda: b"a,b,c,d\n" * 262_000
    yield "rows of short numbers", lambda: b"5,50,1000,50\n" * (LARGE // 13)
    yield "rows too short", lambda: b"1\n" * 262_000
    yield "one row of empty cells", lambda: b"," * LARGE
    yield "one row of cells", lambda: b"11," * (LARGE // 3)
    yield "wide rows", lambda: (b"11," * 60_000 + b"\n") * 46
    yield "a wide header", lambda: b"ambient_temperature," * 400_000
    yield "a quote that never closes", lambda: header.encode() + b'"' + b"1\n" * (LARGE // 2 - 100)
    yield "quoted ends of lines", lambda: header.encode() + b'"\n",' * (LARGE // 4 - 100)
    yield "quoted rows", lambda: header.encode() + b'"14.96","41.76","1024.07","73.17"\n' * 200_000
    yield "a long cell", lambda: header.encode() + b"1" * (LARGE - 200) + b",2,3,4\n"
    yield "carriage returns", lambda: b"1\r" * (LARGE // 2)
    yield "empty lines", lambda: header.encode() + b"\n" * (LARGE - 100)
    yield "NULs", lambda: b"\x00" * LARGE
    yield "wide letters", lambda: header.encode() + "é,é,é,é\n".encode() * 250_000


def _hours(header: str, values: str, n: int) -> bytes:
    """So many hours, each another."""
    first = datetime(2000, 1, 1)
    return (header + "".join(f"{first + timedelta(hours=i)}{values}\n" for i in range(n))).encode()


def _exports() -> Iterator[tuple[str, Make]]:
    texas = "ESIID,USAGE_DATE,REVISION_DATE,USAGE_START_TIME,USAGE_END_TIME,USAGE_KWH\n"
    london = "LCLid,tstp,energy(kWh/hh)\n"
    yield "a meter's rows", lambda: (texas + "1,01/01/2024,,00:00,00:15,1\n" * 299_000).encode()
    yield "a meter's rows, as many as pass", lambda: (texas + "1,01/01/2024,,00:00,00:15,1\n" * 119_000).encode()
    yield "each another meter", lambda: numbered("{},01/01/2024,,00:00,00:15,1", texas, "\n", 120_000, "\n")
    yield "half hours", lambda: (london + "M,2012-01-01 00:00:00,1\n" * 130_000).encode()
    yield "rows that cannot be read", lambda: (london + "M\n" * 260_000).encode()
    yield "hours of a zone", lambda: b"Datetime,PJME_MW\n" + b"2016-07-01 01:00:00,1\n" * 261_000
    yield "hours with no time", lambda: b"Datetime,PJME_MW\n" + b"x,1\n" * 261_000
    yield "very many zones", lambda: numbered("Z{}_MW", "Datetime,", "\n2016-07-01 01:00:00" + ",1" * 6_000, 6_000)
    yield (
        "a gzip of a gigabyte",
        lambda: gzip.compress(b"Datetime,PJME_MW\n" + b"2016-07-01 01:00:00,1\n" * 4_000_000, 6),
    )
    yield "a gzip of one line", lambda: gzip.compress(b"Datetime,PJME_MW\n" + b"1," * 50_000_000, 6)
    zones = ",PJME_MW,AEP_MW,DAYTON_MW,DUQ_MW,FE_MW,DOM_MW,DEOK_MW,COMED_MW"
    yield "hours of a zone, as many as pass", lambda: _hours("Datetime,PJME_MW\n", ",12345.5", 150_000)
    yield "hours of eight zones, as many as pass", lambda: _hours(f"Datetime{zones}\n", ",12345.5" * 8, 18_500)
    yield "meters, as many as pass", lambda: numbered("M{},2013-01-01 00:00:00,1", london, "\n", 13_000, "\n")
    yield "cells that are all different", lambda: numbered("x{0},y{0}", "Datetime,PJME_MW\n", "\n", 250_000, "\n")
    record = b"100,NEM12,202401010000,A,B\n200,1,E1,E1,E1,N,1,kWh,5,\n"
    yield "days of a meter", lambda: record + (b"300,20240101," + b"1," * 288 + b"A\n") * 13_000
    yield "elements of XML", lambda: b"<feed espi=''>" + b"<IntervalReading/>" * 440_000 + b"</feed>"
    yield "elements in elements", lambda: b"<espi>" + b"<a>" * 1_300_000
    yield "quoted ends of lines", lambda: b"Datetime,PJME_MW\n" + b'"\n",' * 2_000_000


def _named(kind: str, cases: Iterator[tuple[str, Make]]) -> dict[str, Make]:
    return {f"{kind}: {name}": make for name, make in cases}


def json_bodies() -> dict[str, Make]:
    """JSON for `/predict`."""
    return _named("json", _json())


def line_bodies() -> dict[str, Make]:
    """JSON lines for `/predict`."""
    return _named("lines", _lines())


def csv_bodies() -> dict[str, Make]:
    """CSV for `/predict`."""
    return _named("csv", _csv())


def export_bodies() -> dict[str, Make]:
    """Publishers' files for the ingestor."""
    return _named("export", _exports())
