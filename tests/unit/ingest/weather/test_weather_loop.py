"""Sources are asked when they are due, politely, and what is new of them goes on the bus; over restarts too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from kappawatt.bus import Bus
from kappawatt.cli.main import main
from kappawatt.columns.batch import Batch
from kappawatt.errors import BusUnreachable, SettingInvalid
from kappawatt.ingest.weather.loop import Outcome, Sources, state_folder
from kappawatt.ingest.weather.stations import Station, read_stations
from kappawatt.messages.readings import decode_records
from kappawatt.services.sensor_ingestor.service import SERVICE as INGESTOR
from kappawatt.services.sensor_ingestor.weather import EXTENSION
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams.load import STREAM
from tests.conftest import everything, wait_until
from tests.unit.ingest.weather.sources import Publisher, kml, kmz, open_meteo, publisher

NOW = 1_795_802_400.0  # 2026-11-27T18:00:00Z
TOPIC = "load.readings"
ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture
def source() -> Iterator[Publisher]:
    with publisher() as one:
        one.body, one.headers = open_meteo("2026-11-27T16:00", [1.0, 2.0, 3.0]), {"ETag": '"a"'}
        yield one


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def station(at: Publisher, **more: Any) -> Station:
    given = {"load_zone": "PJME", "number": 1, "source": "open-meteo", "address": f"{at.url}/v1", "is_file": False}
    return Station(**{**given, "every_minutes": 60, **more})


def rows_on(bus: Bus) -> list[dict[str, Any]]:
    found = []
    for part in everything(bus, TOPIC):
        for kind in ("application/json", ARROW):
            named = [i for i, headers in enumerate(part.headers) if dict(headers)["content-type"] == kind.encode()]
            if named:
                found += _rows(decode_records([part.pick(named)], kind, STREAM.schema).batch)
    return sorted(found, key=lambda row: str(row["available_at"]) + str(row["interval_start"]))


def _rows(batch: Batch) -> list[dict[str, Any]]:
    return [{name: column[i] for name, column in batch.columns.items()} for i in range(len(batch))]


def results(outcomes: list[Outcome]) -> list[str]:
    return [outcome.result for outcome in outcomes]


def test_a_row_says_when_it_was_fetched_and_carries_the_stations_number(
    source: Publisher, bus: Bus, tmp_path: Path, clock: Clock
) -> None:
    [outcome] = Sources([station(source, number=3)], tmp_path / "w", bus, clock=clock).round()

    rows = rows_on(bus)
    assert outcome.result == "published"
    assert [str(row["interval_start"]) for row in rows] == [f"2026-11-27T{h}:00:00.000" for h in (15, 16, 17, 18)]
    assert [float(row["temperature_3"]) for row in rows[1:]] == [1.0, 2.0, 3.0]
    assert {str(row["available_at"]) for row in rows} == {"2026-11-27T18:00:00.000"}
    assert float(rows[0]["global_horizontal_irradiance_3"]) == 100
    assert np.isnan(rows[0]["load"])
    assert {part.keys[0] for part in everything(bus, TOPIC)} == {b"PJME"}


def test_a_source_is_not_asked_before_it_is_due_not_even_after_a_restart(
    source: Publisher, bus: Bus, tmp_path: Path, clock: Clock
) -> None:
    first = Sources([station(source)], tmp_path / "w", bus, clock=clock)
    first.round()
    clock.now += 3_500

    again = results(first.round()), results(Sources([station(source)], tmp_path / "w", bus, clock=clock).round())

    assert again == (["not_due"], ["not_due"])
    assert len(source.asked) == 1


def test_it_is_asked_with_what_it_said_of_itself_and_tells_who_asks(
    source: Publisher, bus: Bus, tmp_path: Path, clock: Clock
) -> None:
    source.headers["Last-Modified"] = "Fri, 27 Nov 2026 17:00:00 GMT"
    Sources([station(source)], tmp_path / "w", bus, clock=clock).round()
    clock.now += 4_000

    outcomes = Sources([station(source)], tmp_path / "w", bus, clock=clock).round()

    assert results(outcomes) == ["unchanged"]
    assert "If-None-Match" not in source.asked[0][1]
    assert source.asked[1][1]["If-None-Match"] == '"a"'
    assert source.asked[1][1]["If-Modified-Since"] == "Fri, 27 Nov 2026 17:00:00 GMT"
    assert source.asked[1][1]["User-Agent"].startswith("kappawatt/")


def test_only_what_is_new_is_published(source: Publisher, bus: Bus, tmp_path: Path, clock: Clock) -> None:
    sources = Sources([station(source)], tmp_path / "w", bus, clock=clock)
    sources.round()
    clock.now += 4_000
    source.headers["ETag"], source.body = '"b"', open_meteo("2026-11-27T16:00", [1.0, 2.5, 3.0, 4.0])

    [outcome] = sources.round()

    new = [row for row in rows_on(bus) if str(row["available_at"]) > "2026-11-27T18:30"]
    assert outcome.rows == 3
    names = ("temperature_1", "wind_speed_1", "global_horizontal_irradiance_1")
    found = [[float(row.get(name, np.nan)) for name in names] for row in new]
    np.testing.assert_allclose(found, [[2.5, np.nan, np.nan], [np.nan, np.nan, 100], [4, 5, np.nan]])


def test_a_failing_source_is_left_alone_longer_and_longer(
    source: Publisher, bus: Bus, tmp_path: Path, clock: Clock
) -> None:
    source.status = 503
    counted: list[tuple[str, str]] = []
    waits = []

    for _ in range(4):
        sources = Sources([station(source)], tmp_path / "w", bus, lambda *one: counted.append(one), clock)
        began, asked = clock.now, len(source.asked)
        while len(source.asked) == asked:
            clock.now += 10
            sources.round()
        waits.append(clock.now - began)

    assert counted.count(("open-meteo", "failed")) == 4
    assert waits[0] == 10
    for wait, usual in zip(waits[1:], (60, 120, 240), strict=True):
        assert 0.75 * usual <= wait <= 1.25 * usual + 10


@pytest.mark.parametrize("said", ["7200", "Fri, 27 Nov 2026 20:00:00 GMT"])
def test_a_server_says_how_long_it_is_left_alone(
    source: Publisher, bus: Bus, tmp_path: Path, clock: Clock, said: str
) -> None:
    source.status, source.headers = 429, {"Retry-After": said}
    sources = Sources([station(source)], tmp_path / "w", bus, clock=clock)
    [outcome] = sources.round()

    clock.now += 7_190
    early = sources.round()
    clock.now += 11
    sources.round()

    assert outcome.said == f"{source.url}/v1: got HTTP status 429, allowed 200"
    assert results(early) == ["not_due"]
    assert len(source.asked) == 2


def test_a_server_may_say_that_its_answer_stays_for_longer(
    source: Publisher, bus: Bus, tmp_path: Path, clock: Clock
) -> None:
    source.headers["Cache-Control"] = "public, max-age=14400"
    sources = Sources([station(source)], tmp_path / "w", bus, clock=clock)
    sources.round()

    clock.now += 14_300

    assert results(sources.round()) == ["not_due"]


def test_a_bus_that_takes_nothing_costs_no_second_question(
    source: Publisher, bus: Bus, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = Sources([station(source)], tmp_path / "w", bus, clock=clock)
    send = sources._send

    def away(batch: Batch) -> Any:
        raise BusUnreachable("away")

    monkeypatch.setattr(sources, "_send", away)
    for _ in range(3):
        with pytest.raises(BusUnreachable):
            sources.round()
    monkeypatch.setattr(sources, "_send", send)
    clock.now += 600

    assert results(sources.round()) == ["published"]
    assert len(source.asked) == 1
    assert {str(row["available_at"]) for row in rows_on(bus)} == {"2026-11-27T18:00:00.000"}


def test_another_log_gets_everything_again(source: Publisher, bus: Bus, tmp_path: Path, clock: Clock) -> None:
    from kappawatt.bus import connect
    from kappawatt.streams.table import TOPICS

    Sources([station(source)], tmp_path / "w", bus, clock=clock).round()
    other = connect(f"embedded:{tmp_path}/other.sqlite")
    other.ensure(TOPICS)

    outcomes = Sources([station(source)], tmp_path / "w", other, clock=clock).round()

    assert results(outcomes) == ["published"]
    assert len(rows_on(other)) == 4
    other.close()


def mosmix(issue: str, *values: str) -> bytes:
    stations = {name: {"TTT": value} for name, value in zip(("10381", "10384"), values, strict=True)}
    return kmz(kml(f"2026-11-27T{issue}:00:00.000Z", "2026-11-27T18:00", stations, 2))


def test_one_file_of_many_stations_is_asked_for_once_and_an_older_issue_is_left(
    source: Publisher, bus: Bus, tmp_path: Path, clock: Clock
) -> None:
    both = [
        station(source, number=n, source="mosmix", station=name)
        for n, name in ((1, "10381"), (2, "10384"), (3, "99999"))
    ]
    source.headers = {}
    sources = Sources(both, tmp_path / "w", bus, clock=clock)
    source.body = mosmix("15", "273.15 274.15", "283.15 -")
    first = sources.round()
    clock.now += 4_000
    source.body = mosmix("09", "275.15 275.15", "285.15 285.15")
    second = sources.round()

    assert results(first) == ["published", "published", "unreadable"]
    assert "station: got '99999', allowed one that the file has: 10381, 10384" in first[2].said
    assert results(second) == ["unchanged", "unchanged", "unreadable"]
    assert second[0].said == "issued 2026-11-27T09:00:00.000Z, before what was published"
    assert len(source.asked) == 2
    rows = rows_on(bus)
    assert {str(row["weather_issue_time"]) for row in rows} == {"2026-11-27T15:00:00.000"}
    assert [float(row["temperature_1"]) for row in rows if row["temperature_1"] == row["temperature_1"]] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"no weather", "body: got malformed JSON"),
        (open_meteo("2026-11-27T16:00", [99.0]), "temperature_1: got 99.0, allowed a number from -80 to 65 degC"),
    ],
)
def test_weather_that_cannot_be_is_counted_and_said(
    source: Publisher, bus: Bus, tmp_path: Path, clock: Clock, body: bytes, said: str
) -> None:
    source.body = body

    [outcome] = Sources([station(source)], tmp_path / "w", bus, clock=clock).round()

    assert said in outcome.said
    assert all(np.isnan(row.get("temperature_1", np.nan)) for row in rows_on(bus))


def test_a_station_that_joins_a_source_gets_what_the_source_said_before(
    source: Publisher, bus: Bus, tmp_path: Path, clock: Clock
) -> None:
    Sources([station(source)], tmp_path / "w", bus, clock=clock).round()
    clock.now += 4_000

    outcomes = Sources([station(source), station(source, number=2)], tmp_path / "w", bus, clock=clock).round()

    assert [(outcome.result, outcome.rows) for outcome in outcomes] == [("unchanged", 0), ("published", 4)]


def test_a_key_in_an_address_is_told_to_nobody(
    source: Publisher, bus: Bus, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    source.status = 403
    at = [f"{source.url}/v1?apikey=secret", "http://127.0.0.1:9/v1?apikey=secret"]
    stations = [station(source, number=n, address=address) for n, address in enumerate(at, 1)]

    outcomes = Sources(stations, tmp_path / "w", bus, clock=clock).round()

    assert results(outcomes) == ["failed", "failed"]
    assert source.asked[0][0] == "/v1?apikey=secret"
    told = [outcome.said for outcome in outcomes] + [str(record.__dict__) for record in caplog.records]
    told += [path.read_text() for path in (tmp_path / "w").iterdir()]
    assert not [text for text in told if "secret" in text]


def test_what_cannot_be_read_is_asked_for_whole_again(
    source: Publisher, bus: Bus, tmp_path: Path, clock: Clock
) -> None:
    sources = Sources([station(source, source="mosmix", station="10384")], tmp_path / "w", bus, clock=clock)
    first = sources.round()
    clock.now += 4_000

    assert results(first) == results(sources.round()) == ["unreadable"]
    assert "If-None-Match" not in source.asked[1][1]


def test_what_is_remembered_and_damaged_is_forgotten(source: Publisher, bus: Bus, tmp_path: Path, clock: Clock) -> None:
    Sources([station(source)], tmp_path / "w", bus, clock=clock).round()
    [path] = (tmp_path / "w").glob("*.json")
    path.write_text('{"due": "soon"}')

    assert results(Sources([station(source)], tmp_path / "w", bus, clock=clock).round()) == ["published"]


GOOD = '[[station]]\nload_zone = "PJME"\nsource = "open-meteo"\nlatitude = 40\nlongitude = -75\n'
MOSMIX = '[[station]]\nload_zone = "DE"\nsource = "mosmix"\nstation = "10384"\n'


def settings_file(folder: Path, text: str, name: str = "weather.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_settings_file_is_toml_or_json(tmp_path: Path) -> None:
    text = (
        '{"station": [{"load_zone": "DE", "source": "mosmix", "station": "10384", "number": 2, "every_minutes": 180}]}'
    )

    [first, second] = read_stations(settings_file(tmp_path, GOOD + MOSMIX))
    [third] = read_stations(settings_file(tmp_path, text, "weather.json"))

    assert (first.field("temperature"), first.every_minutes) == ("temperature", 60)
    assert first.address.startswith("https://api.open-meteo.com/v1/forecast?latitude=40&longitude=-75&hourly=")
    assert second.address.endswith("/MOSMIX_L/single_stations/10384/kml/MOSMIX_L_LATEST_10384.kmz")
    assert (third.field("wind_speed"), third.every_minutes) == ("wind_speed_2", 180)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "weather.toml: got nothing, allowed station alone: a list of 1 to 1,000 tables"),
        ("[[station", "weather.toml: got damaged TOML"),
        (GOOD + "colour = 1", "station 1: colour: got an unknown field, allowed load_zone, number"),
        (GOOD + "number = 33", "station 1: number: got 33, allowed a whole number from 1 to 32"),
        (GOOD + "number = true", "station 1: number: got True, allowed a whole number"),
        (GOOD + "every_minutes = 5", "station 1: every_minutes: got 5, allowed a whole number from 60 to 1440"),
        (GOOD.replace("40", "91"), "station 1: latitude: got 91, allowed degrees from -90 to 90"),
        (GOOD.replace("40", "nan"), "station 1: latitude: got 'nan', allowed degrees from -90 to 90"),
        (GOOD.replace("latitude = 40\n", ""), "station 1: latitude: got nothing, allowed degrees"),
        (GOOD.replace("open-meteo", "noaa"), "station 1: source: got 'noaa', allowed open-meteo or mosmix"),
        (GOOD.replace("PJME", "a b"), "station 1: load_zone: got 'a b', allowed 1 to 100 of"),
        (GOOD + 'url = "ftp://x"', "station 1: url: got 'ftp://x', allowed http://HOST"),
        (GOOD + 'url = "http://x/"\nfile = "x"', "station 1: file: got it and a url, allowed one of the two"),
        (GOOD + 'time_zone = "Mars"', "station 1: time_zone: got 'Mars', allowed a name of the IANA"),
        (GOOD + GOOD, "station 2: number: got temperature of PJME again, allowed another than that of station 1"),
        (MOSMIX.replace('station = "10384"', ""), "station 1: station: got nothing"),
        (MOSMIX.replace('"10384"', '"../10384"'), "station 1: station: got '../10384', allowed letters and digits"),
        (MOSMIX + "latitude = 4", "station 1: latitude: got it, allowed it for open-meteo alone"),
    ],
)
def test_a_settings_file_that_cannot_be_is_refused_by_station_and_field(tmp_path: Path, text: str, said: str) -> None:
    path = settings_file(tmp_path, text)

    with pytest.raises(SettingInvalid) as refused:
        read_stations(path)

    assert said in str(refused.value)
    assert INGESTOR.check is not None
    with pytest.raises(SettingInvalid):
        INGESTOR.check(Settings.read({}, weather=path))


def test_the_command_shows_or_publishes_once(source: Publisher, bus: Bus, tmp_path: Path, bus_url: str) -> None:
    (tmp_path / "answer.json").write_bytes(open_meteo("2026-11-27T16:00", [1.0, 2.0]))
    text = GOOD + f'number = 1\nname = "Philadelphia"\nurl = "{source.url}/v1"\n' + GOOD
    path = settings_file(tmp_path, text + 'number = 2\nfile = "answer.json"\n')

    shown, once, again = (
        CliRunner().invoke(main, ["weather", str(path), option, "--bus", bus_url])
        for option in ("--dry-run", "--once", "--once")
    )

    assert shown.exit_code == once.exit_code == again.exit_code == 0, shown.output
    assert shown.output.splitlines()[0] == (
        "PJME temperature_1 (Philadelphia): would publish: 4 new of 4 hours, 2026-11-27T15:00Z to 2026-11-27T18:00Z: "
        "temperature_1, relative_humidity_1, wind_speed_1, cloud_cover_1, global_horizontal_irradiance_1"
    )
    assert once.output.splitlines()[1].startswith("PJME temperature_2: published: 3 new of 3 hours")
    assert all(": not due before " in line for line in again.output.splitlines())
    assert len(rows_on(bus)) == 7
    assert len(source.asked) == 2


def test_the_command_ends_with_one_if_a_source_fails(source: Publisher, tmp_path: Path, bus_url: str) -> None:
    source.status = 404
    path = settings_file(tmp_path, GOOD + f'url = "{source.url}/v1"\n')

    found = CliRunner().invoke(main, ["weather", str(path), "--once", "--bus", bus_url])

    assert found.exit_code == 1
    assert "got HTTP status 404, allowed 200" in found.output


def test_the_ingestor_reads_weather_beside_its_doors_and_a_failing_source_does_not_stop_it(
    source: Publisher, bus: Bus, tmp_path: Path, bus_url: str
) -> None:
    text = GOOD + f'number = 1\nurl = "{source.url}/v1"\n' + GOOD + 'number = 2\nfile = "not-there.json"\n'
    settings = Settings.read({}, bus=bus_url, state=tmp_path / "state", weather=settings_file(tmp_path, text))
    app = create_app(INGESTOR, settings)
    other = create_app(INGESTOR, settings)  # a second process of the same folder asks nobody
    try:
        wait_until(lambda: len(rows_on(bus)) == 4, what="the weather")
        client = app.test_client()
        reading = {"interval_start": "2026-11-27T16:00:00Z", "load": 30_000.0}
        assert client.post("/load/PJME", json=reading).status_code == 202
        assert client.get("/readyz").status_code == 200
        wait_until(lambda: 'result="failed",service="sensor-ingestor"' in client.get("/metrics").text, what="the count")
        metrics = client.get("/metrics").text
        assert 'weather_reads_total{result="published",service="sensor-ingestor",source="open-meteo"} 1.0' in metrics
        assert len(source.asked) == 1
        assert list(state_folder(settings.state, settings.bus).glob("*.json"))
    finally:
        for one in (app, other):
            one.extensions[EXTENSION].stop()
