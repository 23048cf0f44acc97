"""Open-Meteo's JSON and MOSMIX's KMZ as hours; what is not so is refused by name."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kappawatt.errors import PayloadInvalid
from kappawatt.ingest.weather.mosmix import read_mosmix
from kappawatt.ingest.weather.open_meteo import open_meteo_address, read_open_meteo
from tests.unit.ingest.weather.sources import kml, kmz, open_meteo

ISSUE, START = "2026-11-27T15:00:00.000Z", "2026-11-27T16:00"
ELEMENTS = {
    "PPPP": "101000.00 101010.00 -",
    "TTT": "283.15 273.15 -",
    "Td": "273.15 273.15 -",
    "FF": "5.14 0.00 -",
    "N": "87.00 - 3.00",
    "Rad1h": "360.00 0.00 -",
}
BERLIN = kml(ISSUE, START, {"10381": {"TTT": "1.00 2.00 3.00"}, "10384": ELEMENTS}, 3)


def test_open_meteo_values_stand_for_the_hour_that_begins_and_radiation_for_the_one_before() -> None:
    found = read_open_meteo(open_meteo("2026-11-27T00:00", [1.5, None, 3.0]))

    assert found.issue_time is None
    assert found.starts.astype(str).tolist() == [f"2026-11-{t}:00:00.000" for t in ("26T23", "27T00", "27T01", "27T02")]
    np.testing.assert_array_equal(found.columns["temperature"], [np.nan, 1.5, np.nan, 3.0])
    np.testing.assert_array_equal(found.columns["global_horizontal_irradiance"], [100, 100, 100, np.nan])
    np.testing.assert_allclose(found.columns["wind_speed"][1:], 5.0)


def test_open_meteo_times_are_by_the_clock_it_says_or_in_seconds() -> None:
    document = orjson.loads(open_meteo("2026-11-27T00:00", [1.0, 2.0]))
    utc = read_open_meteo(orjson.dumps(document)).starts
    seconds = [int(t.astype("datetime64[s]").astype(int)) for t in utc[1:]]
    unix = {**document, "hourly": {**document["hourly"], "time": seconds}}
    unix["hourly_units"] = {**document["hourly_units"], "time": "unixtime"}

    np.testing.assert_array_equal(read_open_meteo(orjson.dumps({**unix, "utc_offset_seconds": 3600})).starts, utc)
    local = read_open_meteo(orjson.dumps({**document, "utc_offset_seconds": -18_000})).starts
    np.testing.assert_array_equal(local, utc + np.timedelta64(5, "h"))


def test_open_meteo_in_fahrenheit_is_celsius() -> None:
    units = orjson.loads(open_meteo("2026-11-27T00:00", [1.0]))["hourly_units"] | {"temperature_2m": "°F"}

    found = read_open_meteo(open_meteo("2026-11-27T00:00", [50.0], hourly_units=units))

    assert found.columns["temperature"][1] == pytest.approx(10.0)


def test_an_address_asks_for_all_there_is() -> None:
    assert open_meteo_address("https://x/v1/forecast", 40.0, -75.25, 14, 8) == (
        "https://x/v1/forecast?latitude=40&longitude=-75.25&hourly=temperature_2m,relative_humidity_2m,wind_speed_10m,"
        "cloud_cover,shortwave_radiation&wind_speed_unit=ms&timeformat=unixtime&past_days=14&forecast_days=8"
    )
    assert open_meteo_address("https://x/v1/forecast?apikey=1", 40.0, -75.25, 14, 8) == "https://x/v1/forecast?apikey=1"


def changed(**hourly: Any) -> bytes:
    document = orjson.loads(open_meteo("2026-11-27T00:00", [1.0, 2.0]))
    return orjson.dumps({**document, "hourly": {**document["hourly"], **hourly}})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "body: got malformed JSON"),
        (b'{"error": true, "reason": "Latitude must be in range"}', "body: got an error: Latitude must be in range"),
        (b"[{}, {}]", "hourly: got "),
        (b'{"hourly": {}}', "hourly_units: got None, allowed an object of units"),
        (changed(time=[]), "hourly.time: got 0 times, allowed a list of 1 to 2880 times"),
        (changed(time=["2026-11-27T00:00", "2026-11-27T00:30"]), "hourly.time[1]: got '2026-11-27T00:30', allowed"),
        (changed(time=["2026-11-27T00:00Z", "x"]), "hourly.time: got '2026-11-27T00:00Z', allowed YYYY-MM-DDThh:mm"),
        (changed(temperature_2m=[1.0]), "hourly.temperature_2m: got 1 values, allowed a list of 2 numbers"),
        (changed(temperature_2m=[1.0, "2"]), "hourly.temperature_2m[1]: got '2', allowed a number or null"),
        (changed(temperature_2m=[1.0, True]), "hourly.temperature_2m[1]: got True, allowed a number or null"),
        (open_meteo("2026-11-27T00:00", [1.0], hourly_units={"time": "iso8601", "temperature_2m": "K"}),
         "hourly_units.temperature_2m: got 'K', allowed °C or °F"),
        (open_meteo("2026-11-27T00:00", [1.0], utc_offset_seconds="1h"), "utc_offset_seconds: got '1h', allowed"),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_open_meteo_is_refused_by_name(body: bytes, said: str) -> None:
    with pytest.raises(PayloadInvalid) as refused:
        read_open_meteo(body)

    assert said in str(refused.value)


@pytest.mark.parametrize("body", [BERLIN, kmz(BERLIN)], ids=["kml", "kmz"])
def test_mosmix_is_read_in_the_units_of_a_reading(body: bytes) -> None:
    found = read_mosmix(body, "10384")

    assert found.issue_time == np.datetime64("2026-11-27T15:00", "ms")
    assert found.starts.astype("datetime64[h]").astype(str).tolist() == [f"2026-11-27T{h}" for h in (15, 16, 17, 18)]
    np.testing.assert_allclose(found.columns["temperature"], [np.nan, 10.0, 0.0, np.nan])
    np.testing.assert_allclose(found.columns["relative_humidity"], [np.nan, 49.8, 100.0, np.nan], atol=0.05)
    np.testing.assert_allclose(found.columns["wind_speed"], [np.nan, 5.14, 0.0, np.nan])
    np.testing.assert_allclose(found.columns["cloud_cover"], [np.nan, 87, np.nan, 3])
    np.testing.assert_allclose(found.columns["global_horizontal_irradiance"], [100, 0, np.nan, np.nan])


BOMB = BERLIN.replace(b"?>", b'?><!DOCTYPE k [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>', 1)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body: got damaged XML (no element found"),
        (BERLIN[:-40], "body: got damaged XML"),
        (b'<?xml version="1.0" encoding="x-nobody-knows"?><kml/>', "body: got damaged XML (unknown encoding"),
        (kmz(BERLIN)[:-30], "body: got a damaged zip"),
        (kmz(BERLIN, "a.kml", "b.kml"), "body: got a zip with 2 KML documents, allowed one"),
        (kmz(BERLIN, "a.txt"), "body: got a zip with 0 KML documents, allowed one"),
        (BOMB, "body: got XML with a document type"),
        (BERLIN.replace(b"283.15", b"warm"), "TTT[0]: got 'warm', allowed a number, or - where there is none"),
        (BERLIN.replace(b"283.15", b"1e999"), "TTT[0]: got '1e999'"),
        (BERLIN.replace(b"283.15 ", b""), "TTT: got 2 values, allowed 3, one a time step"),
        (BERLIN.replace(ISSUE.encode(), b"now"), "IssueTime: got 'now', allowed an ISO 8601 time with zone"),
        (BERLIN.replace(b"T17:00", b"T17:30"), "TimeStep: got 2026-11-27T17:30:00.000Z, allowed an hour after"),
        (BERLIN.replace(b">10384<", b">10385<"), "station: got '10384', allowed one that the file has: 10381, 10385"),
        (b"<a>" * 40, "body: got XML elements 32 deep"),
        (b"<a b='" + b"x" * 5_000_000 + b"'/>", "body: got more than 1,000,000 bytes of XML in one tag"),
        (b"<html>" + b"</html>", "IssueTime: got nothing"),
    ],
)  # fmt: skip
def test_what_is_no_mosmix_is_refused_by_name(body: bytes, said: str) -> None:
    with pytest.raises(PayloadInvalid) as refused:
        read_mosmix(body, "10384")

    assert said in str(refused.value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_answer_is_refused_and_nothing_else_happens(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["open-meteo", "kml", "kmz"]))
    body = bytearray(
        {"open-meteo": open_meteo("2026-11-27T00:00", [1.0, 2.0]), "kml": BERLIN, "kmz": kmz(BERLIN)}[form]
    )
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PayloadInvalid):
        read_open_meteo(bytes(body)) if form == "open-meteo" else read_mosmix(bytes(body), "10384")
