"""A view that fails on a message leaves it out, tells of it, and has everything else."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from flask import Flask

from kappawatt.bus import Bus, Outgoing
from kappawatt.bus.interface import Records
from kappawatt.services.gateway.live import predictions
from kappawatt.services.gateway.live.isolating import isolated
from kappawatt.services.gateway.live.rejections import LONGEST_ORIGINAL, MOST_REASONS, Rejections
from kappawatt.services.gateway.live.view import Events, encode
from tests.conftest import publish

POISON = b"poison"
DEAD = "plant.readings.dead"


def read(records: Records, start: int) -> Events:
    """Events of a view that fails as a whole on poison."""
    if POISON in records.values:
        raise ZeroDivisionError
    documents = [{"key": value.decode()} for value in records.values]
    end = records.next_offset
    return Events(records.topic, records.partition, start, end, "k", documents, list(records.offsets), log=records.log)


@pytest.mark.parametrize("places", [(), (0,), (4,), (2, 3), range(5)])
def test_the_message_is_left_out_and_no_offset_is_missing(
    places: Sequence[int], caplog: pytest.LogCaptureFixture
) -> None:
    values = [POISON if i in places else b"%d" % i for i in range(5)]
    records = Records("t", 3, [10, 11, 15, 16, 20], [0] * 5, [None] * 5, values, [()] * 5, "log")
    failed: list[int] = []

    with caplog.at_level(logging.ERROR):
        found = list(isolated(read, records, 9, lambda: failed.append(1)))

    assert [d["key"] for events in found for d in events.documents] == [str(i) for i in range(5) if i not in places]
    assert found[0].start == 9
    assert found[-1].end == 21
    assert all(before.end == after.start for before, after in itertools.pairwise(found))
    assert {events.log for events in found} == {"log"}
    assert len(failed) == len(places)
    logged = [(r.topic, r.partition, r.offset) for r in caplog.records]  # type: ignore[attr-defined]
    assert logged == [("t", 3, records.offsets[i]) for i in places]


def test_memory_that_is_used_up_is_no_message() -> None:
    def full(records: Records, start: int) -> Events:
        raise MemoryError

    with pytest.raises(MemoryError):
        list(isolated(full, Records("t", 0, [0], [0], [None], [b""], [()]), 0))


def test_a_view_with_a_bug_shows_all_else_and_counts_it(
    open_gateway: Callable[..., Flask], plant: Any, eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = predictions.PredictionsView._add

    def fails(view: Any, prediction: Any) -> None:
        if prediction["net_power"] == 401.0:
            raise KeyError("a bug")
        original(view, prediction)

    monkeypatch.setattr(predictions.PredictionsView, "_add", fails)
    app = open_gateway()
    plant.predict(*(400.0 + i for i in range(5)))

    client = app.test_client()
    eventually(lambda: len(client.get("/api/recent?limit=10").json["predicted"]) == 4)
    assert client.get("/readyz").status_code == 200
    assert (
        b'kappawatt_rejections_total{door="view",reason="internal",service="gateway"} 1.0'
        in client.get("/metrics").data
    )


def test_what_is_shown_of_rejections_is_bounded(
    bus: Bus, open_gateway: Callable[..., Flask], eventually: Callable[..., Any]
) -> None:
    letters = [{"id": f"x-{i}", "reason": f"reason-{i}", "original": "o" * 50_000} for i in range(MOST_REASONS + 50)]
    letters.append({"id": "encoded", "reason": "last", "original_base64": "QUJD" * 5_000, "original_bytes": 77})
    publish(bus, [Outgoing(DEAD, orjson.dumps(letter)) for letter in letters])
    app = open_gateway()

    found = eventually(
        lambda: (answer := app.test_client().get("/api/rejections").json)["total"] == len(letters) and answer
    )

    assert len(found["by_reason"]) == MOST_REASONS + 1
    assert found["by_reason"]["other"] == 51
    assert {len(letter["original"]) for letter in found["newest"][1:]} == {LONGEST_ORIGINAL}
    assert {letter["original_bytes"] for letter in found["newest"][1:]} == {50_000}
    assert len(found["newest"][0]["original_base64"]) == LONGEST_ORIGINAL
    assert found["newest"][0]["original_bytes"] == 77


def test_counts_of_hostile_letters_stay_numbers_json_has() -> None:
    rejections = Rejections()
    rejections.add([{"id": str(i), "reason": "r", "rejected_rows": 2**62} for i in range(10)])

    assert orjson.loads(encode(rejections.listed()))["total"] > 2**62
