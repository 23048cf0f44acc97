"""Load and meter files onto the bus: what they are recognised as, in which order and how fast they go."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner
from werkzeug.serving import make_server

from kappawatt.bus import Bus
from kappawatt.bus.topic import Topic
from kappawatt.cli.ingest import Wanted, ingest_file
from kappawatt.cli.main import main
from kappawatt.columns.arrow import read_columns, write_columns
from kappawatt.columns.codec import decode
from kappawatt.columns.content import ARROW
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.forecasting.calendar import HOUR, as_instant
from kappawatt.ingest import (
    bus_sender,
    http_sender,
    read_own_rows,
    send_series,
    series_rows,
)
from kappawatt.ingest.series_rows import merged, recognise
from kappawatt.messages.readings import content_type, reading_messages
from kappawatt.services.sensor_ingestor.service import SERVICE
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams.load import STREAM as LOAD
from kappawatt.streams.meter import STREAM as METER
from kappawatt.streams.plant import STREAM as PLANT
from kappawatt.streams.stream import Stream
from kappawatt.streams.table import STREAMS
from tests.unit.ingest.test_ingest import Collected

TEXAS_HEADER = (
    "ESIID,USAGE_DATE,REVISION_DATE,USAGE_START_TIME,USAGE_END_TIME,USAGE_KWH,ESTIMATED_ACTUAL,"
    "CONSUMPTION_SURPLUSGENERATION"
)


def pjm(days: int, zone: str = "PJME", first: str = "2016-07-01T00") -> str:
    """Whole local days of load, newest day first as the publisher writes them; the load is the hour's number."""
    rows = []
    for day in reversed(range(days)):
        for hour in range(24):
            label = np.datetime64(first, "h") + day * 24 + hour + 1
            rows.append(f"{str(label).replace('T', ' ')}:00:00,{1000 + day * 24 + hour}")
    return "\n".join([f"Datetime,{zone}_MW", *rows, ""])


def read_series(content: bytes, key: str = "") -> list[SeriesFile]:
    return read_bytes(content, Options(key=key)).series


def texas(quarters: int, blank: int = -1) -> str:
    """Quarter hours of 1 July 2022, published the next morning."""
    rows = [TEXAS_HEADER]
    for i in range(quarters):
        start, end = (f"{j % 96 // 4:02}:{j % 4 * 15:02}" for j in (i, i + 1))
        energy = "" if i == blank else f".{100 + i}"
        rows.append(f"'0012,07/01/2022,07/02/2022 06:00:00,{start},{end},{energy},A,Consumption")
    return "\n".join(rows) + "\n"


def read_topic(bus: Bus, topic: Topic) -> list[tuple[str, str, dict[str, Any]]]:
    """Key, content type and columns of each message, in the order published."""
    reader = bus.reader([topic.name], {})
    found = []
    while polled := reader.poll(0.0):
        for records in polled:
            for i, value in enumerate(records.values):
                kind = content_type(records.headers[i], value)
                key = records.keys[i]
                assert key is not None
                assert topic.message is not None
                batch = decode(value, kind, topic.message).batch
                assert batch.valid.all()
                found.append((key.decode(), kind, dict(batch.columns)))
    reader.close()
    return found


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", pjm(1).encode(), None),
        ("a.csv.gz", gzip.compress(pjm(1).encode()), None),
        ("a.csv", b"ds,y\n2016-07-01 01:00:00,1\n", None),
        ("a.csv", texas(1).encode(), None),
        ("a.csv", b"LCLid,tstp,energy(kWh/hh)\n", None),
        ("a.csv", b"load_zone,interval_start,load\n", LOAD),
        ("a.csv", b"\xef\xbb\xbfinterval_start,consumption\n", METER),
        ("a.ndjson", b'{"interval_start":"2016-07-01T04:00:00Z","load":1}\n', LOAD),
        ("a.jsonl", b'{"meter_id":"a","interval_start":0}\n', METER),
        ("a.arrow", write_columns({"interval_start": np.array([0], "M8[ms]"), "load": np.ones(1)}), LOAD),
        ("a.csv", b"AT,V,AP,RH\n", PLANT),
        ("a.csv", b"14.96,41.76,1024.07,73.17\n", PLANT),
        ("a.ndjson", b"no json", None),
        ("a.arrow", b"no arrow", None),
    ],
)
def test_a_file_is_recognised_by_what_it_names(tmp_path: Path, name: str, content: bytes, expected: Any) -> None:
    (tmp_path / name).write_bytes(content)

    assert recognise(tmp_path / name) == expected


def test_a_load_file_arrives_in_order_of_time_with_its_zone_and_key(tmp_path: Path, bus: Bus) -> None:
    (tmp_path / "a.csv").write_text(pjm(3))

    wanted = Wanted(1e6, backfill=3, progress=False)
    summary = ingest_file(tmp_path / "a.csv", wanted, lambda stream, key: bus_sender(stream, bus, key))

    [(key, kind, columns)] = read_topic(bus, LOAD.readings)
    assert (summary.rows, summary.accepted, summary.refused) == (72, 72, 0)
    assert (key, kind) == ("PJME", ARROW)
    assert columns["interval_start"].tolist() == (as_instant("2016-07-01T04") + np.arange(72) * HOUR).tolist()
    assert columns["load"].tolist() == (1000.0 + np.arange(72)).tolist()
    assert set(columns["time_zone"]) == {"America/New_York"}
    assert set(columns["load_zone"]) == {None}  # the message key says it


def test_meter_rows_say_their_interval_and_leave_blanks_out(bus: Bus) -> None:
    [series] = [series_rows(one) for one in read_series(texas(4, blank=2).encode())]

    send_series([series], send=bus_sender(METER, bus, ""), rate=1e6)

    found = read_topic(bus, METER.readings)
    assert [key for key, _, _ in found] == ["0012"] * 3
    assert [columns["consumption"][0] for _, _, columns in found] == [0.1, 0.101, 0.103]
    assert {columns["interval_seconds"][0] for _, _, columns in found} == {900.0}
    assert np.isnat([columns["available_at"][0] for _, _, columns in found]).all()


def test_as_published_a_value_says_when_it_became_known() -> None:
    [series] = [series_rows(one, as_published=True) for one in read_series(texas(4).encode())]

    assert {str(moment) for moment in series.live.columns["available_at"]} == {"2022-07-02T11:00:00.000"}


def test_history_goes_at_once_as_blocks_and_the_rest_at_its_rate(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(pjm(30))
    sent = Collected()

    summary = ingest_file(
        tmp_path / "a.csv",
        Wanted(10.0, start="2016-07-22", until="2016-07-22T09:00:00Z", backfill=14, progress=False),
        lambda stream, key: sent,
    )

    assert [len(batch) for batch in sent.batches] == [14 * 24, 1, 1, 1, 1, 1]
    assert str(sent.batches[0].columns["interval_start"][0]) == "2016-07-08T04:00:00.000"
    assert str(sent.batches[1].columns["interval_start"][0]) == "2016-07-22T04:00:00.000"
    assert sent.times[-1] - sent.times[1] == pytest.approx(0.4, abs=0.1)
    assert summary.accepted == 14 * 24 + 5


def test_without_a_start_the_first_days_are_history() -> None:
    [series] = [series_rows(one).between(backfill=2) for one in read_series(pjm(3).encode())]

    assert (len(series.history), len(series.live)) == (48, 24)


def test_several_series_interleave_in_order_of_time() -> None:
    both = [series_rows(s) for name in ("AEP", "DAYTON") for s in read_series(pjm(1, name).encode())]
    sent = Collected()

    send_series(both, send=sent, rate=1e6)

    zones, starts = (
        np.concatenate([batch.columns[name] for batch in sent.batches]) for name in ("load_zone", "interval_start")
    )
    assert zones.tolist() == ["AEP", "DAYTON"] * 24
    assert (np.diff(starts) >= np.timedelta64(0)).all()


def test_a_message_has_rows_of_one_key_only() -> None:
    both = [series_rows(s) for name in ("AEP", "DAYTON") for s in read_series(pjm(1, name).encode())]

    messages = reading_messages(LOAD, merged([one.live for one in both]), "", block_rows=1)

    assert [(m.key, len(read_columns(m.value)["load"])) for m in messages] == [(b"AEP", 24), (b"DAYTON", 24)]


def test_rows_of_the_schema_are_sorted_and_bad_ones_named_by_position(tmp_path: Path, bus: Bus) -> None:
    rows = [
        {"meter_id": "b", "interval_start": "2022-07-01T05:30:00Z", "consumption": 1, "interval_seconds": 1800},
        {"meter_id": "a", "interval_start": "2022-07-01T05:15:00Z", "consumption": 2},
        {"meter_id": "a", "interval_start": "2022-07-01T05:00:00Z", "consumption": 3},
        {"meter_id": "a", "interval_start": "2022-07-01T05:01:00Z", "consumption": 4},
    ]
    (tmp_path / "a.ndjson").write_bytes(b"\n".join(map(orjson.dumps, rows)))

    summary = ingest_file(tmp_path / "a.ndjson", Wanted(1e6, progress=False), lambda i, k: bus_sender(i, bus, k))

    found = sorted(read_topic(bus, METER.readings), key=lambda m: m[0])
    assert [(key, columns["consumption"][0]) for key, _, columns in found] == [("a", 3.0), ("a", 2.0), ("b", 1.0)]
    assert (summary.accepted, summary.refused) == (3, 1)
    assert summary.refusals[0].startswith("line 4: interval_start: got")


def test_lines_that_cannot_be_read_are_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(pjm(1) + "soon,1\n")

    summary = ingest_file(tmp_path / "a.csv", Wanted(1e6, progress=False), lambda stream, key: Collected())

    assert (summary.rows, summary.accepted, summary.refused) == (25, 24, 1)
    assert summary.refusals == [
        "line 26: Datetime: got 'soon', allowed a date and time, such as 2024-01-31 23:00",
    ]


def test_a_key_stands_above_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(texas(2))

    [series] = [series_rows(s) for s in read_bytes((tmp_path / "a.csv").read_bytes(), Options(key="house-1")).series]

    assert set(series.live.columns["meter_id"]) == {"house-1"}


def test_a_file_of_rows_without_names_needs_a_key(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("interval_start,load\n2016-07-01T04:00:00Z,1\n")

    with pytest.raises(PayloadInvalid, match=r"a\.csv: line 1: load_zone"):
        read_own_rows(tmp_path / "a.csv", LOAD)
    assert [s.key for s in read_own_rows(tmp_path / "a.csv", LOAD, "PJME")] == ["PJME"]


@pytest.mark.parametrize(
    ("content", "wanted", "option"),
    [
        ("AT,V,AP,RH\n1,2,3,4\n", Wanted(1, start="2016-01-01"), "--from"),
        ("AT,V,AP,RH\n1,2,3,4\n", Wanted(1, backfill=1.0), "--backfill"),
        (pjm(1), Wanted(1, loop=True), "--loop"),
        (pjm(1), Wanted(1, start="yesterday"), "--from"),
        (pjm(1), Wanted(1, until="2016-07-01T04:00:00"), "--until"),
        ("AT,V,AP,RH\n1,2,3,4\n", Wanted(1, options=Options(unit="kW")), "--unit"),
    ],
)
def test_an_option_that_does_not_fit_is_named(tmp_path: Path, content: str, wanted: Wanted, option: str) -> None:
    (tmp_path / "a.csv").write_text(content)

    with pytest.raises(SettingInvalid, match=f"^{option}: got"):
        ingest_file(tmp_path / "a.csv", wanted, lambda stream, key: Collected())


def test_the_command_takes_a_load_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(pjm(3))
    bus = f"embedded:{tmp_path}/bus.sqlite"

    given = CliRunner().invoke(
        main, ["ingest", str(tmp_path / "a.csv"), "--backfill", "2", "--rate", "1000", "--bus", bus]
    )

    assert given.exit_code == 0, given.output
    assert "72 accepted, 0 refused" in given.output


@pytest.fixture
def ingestor(settings: Settings, bus: Bus) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, create_app(SERVICE, settings), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_rows_of_several_keys_arrive_once_through_a_real_ingestor(ingestor: str, bus: Bus) -> None:
    both = [series_rows(s) for name in ("AEP", "DAYTON:part") for s in read_series(pjm(5).encode(), name)]

    summary = send_series([one.between(backfill=4.0) for one in both], send=http_sender(LOAD, ingestor, ""), rate=1_000)

    found = read_topic(bus, LOAD.readings)
    assert summary.accepted == 240
    assert sum(len(columns["load"]) for _, _, columns in found) == 240
    assert {key for key, _, _ in found} == {"AEP", "DAYTON:part"}


def test_every_intake_has_a_path_and_topic_of_its_own() -> None:
    assert len({stream.path for stream in STREAMS}) == len({stream.readings.name for stream in STREAMS}) == len(STREAMS)
    assert all(stream.readings.message is stream.schema for stream in STREAMS)


def test_a_person_says_that_energy_is_a_zones(tmp_path: Path) -> None:
    file = tmp_path / "works.csv"
    file.write_text("\n".join(["time_utc,supply_kwh", *(f"2024-02-05 {i:02}:00,{310_000 + i}" for i in range(24))]))
    asked: list[str] = []

    def sender(stream: Stream, key: str) -> Any:
        asked.append(stream.name)
        raise InterruptedError

    options = Options.of({"labels": "start"})
    with pytest.raises(PayloadInvalid, match="--stream load"):
        ingest_file(file, Wanted(rate=1e6, options=options, progress=False), sender)
    with pytest.raises(InterruptedError):
        ingest_file(file, Wanted(rate=1e6, options=options, stream="load", progress=False), sender)

    assert asked == ["load"]
