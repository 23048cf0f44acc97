"""What one message may do to the histories that a process keeps."""

from __future__ import annotations

import numpy as np

from kappawatt.columns.batch import Rejection
from kappawatt.columns.codec import decode
from kappawatt.columns.content import CSV
from kappawatt.services.hourly_load.forecaster import FORECASTER
from kappawatt.worker.histories import ROOM, Histories, Step

ARRIVED = 1_782_864_000_000  # 2026-07-01
EACH = 2_500 + 16 * (1_095 * 24 + 1)  # bytes: a load and a temperature in each hour of three years


def steps(histories: Histories, rows: list[str]) -> tuple[list[Step], list[Rejection]]:
    """Have histories take one message."""
    batch = decode("\n".join(["load_zone,interval_start,load", *rows]).encode(), CSV, FORECASTER.request).batch
    found = list(histories.steps(None, batch, np.arange(len(batch)), ARRIVED))
    return [s for s in found if isinstance(s, Step)], [r for r in found if isinstance(r, Rejection)]


def far_apart(first: int, last: int) -> list[str]:
    hours = ("2023-07-01T00:00Z", "2026-06-30T00:00Z")
    return [f"{zone},{hour},1" for zone in range(first, last) for hour in hours]


def test_one_message_has_histories_grow_by_so_much_and_says_which_rows_are_beyond() -> None:
    histories = Histories(FORECASTER)

    taken, refused = steps(histories, far_apart(0, 500))

    assert len(histories) == len(taken) == ROOM // EACH
    assert len(refused) == 2 * (500 - len(taken))
    assert {(r.code, r.field) for r in refused} == {("out_of_range", "interval_start")}
    assert "got '500 series with gaps', allowed series that one message has grow by 32 MB in all" in refused[0].message
    assert not steps(histories, far_apart(499, 500))[1]  # alone it is taken


def test_series_without_gaps_are_all_taken() -> None:
    rows = [f"{zone},2026-06-{day:02}T00:00Z,1" for zone in range(10_000) for day in (29, 30)]
    histories = Histories(FORECASTER)

    assert not steps(histories, rows)[1]
    assert not steps(histories, [row.replace("T00", "T01") for row in rows])[1]
    assert len(histories) == 10_000
