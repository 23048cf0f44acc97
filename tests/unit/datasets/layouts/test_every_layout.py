"""Every publisher's form: usual days, both changes of the clock, blanks, series; none is taken for another's."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.read import layouts, read_bytes, table_of
from kappawatt.errors import PayloadInvalid
from kappawatt.streams.stream import NAME_OR_PART
from tests.layout_samples import SAMPLES, Sample, Values, days_of

AMERICAN = {"usual": date(2024, 6, 3), "spring": date(2024, 3, 9), "autumn": date(2024, 11, 2)}
EUROPEAN = {"usual": date(2024, 6, 3), "spring": date(2024, 3, 30), "autumn": date(2024, 10, 26)}
BLANK = 17  # interval that has no value
ALL = pytest.mark.parametrize("form", SAMPLES, ids=[name.replace(" ", "_") for name in SAMPLES])


def season_of(sample: Sample, season: str) -> date:
    """Two days before the third, in the middle of which the clock is changed."""
    return (AMERICAN if sample.zone.key.startswith("America") else EUROPEAN)[season]


def made_up(sample: Sample, season: str, days: int = 4) -> tuple[list[datetime], Values]:
    instants = days_of(season_of(sample, season), days, sample.zone, sample.minutes)
    columns: Values = {
        key: [None if i == BLANK else float(1000 + 3 * i + 7_000 * n) for i in range(len(instants))]
        for n, key in enumerate(sample.keys)
    }
    return instants, columns


def read(sample: Sample, data: bytes) -> Found:
    return read_bytes(data, sample.options, name=sample.name)


def repeated(instants: list[datetime], zone: ZoneInfo) -> set[datetime]:
    """Instants whose wall clock is shown twice."""
    local = [moment.astimezone(zone).replace(tzinfo=None) for moment in instants]
    return {moment for moment, wall in zip(instants, local, strict=True) if local.count(wall) > 1}


@ALL
@pytest.mark.parametrize("season", ["usual", "spring", "autumn"])
def test_every_interval_comes_back_where_it_was(form: str, season: str) -> None:
    sample = SAMPLES[form]
    instants, columns = made_up(sample, season)

    found = read(sample, sample.write(instants, columns))

    assert found.layout == sample.layout
    assert {one.key for one in found.series} == set(sample.read_as or sample.keys)
    lost = repeated(instants, sample.zone) if sample.lost == season else set()
    for key, one in zip(
        sample.keys, sorted(found.series, key=lambda s: (sample.read_as or sample.keys).index(s.key)), strict=True
    ):
        expected = dict(zip(instants, columns[key], strict=True))
        factor = sample.factor
        if sample.options.resample:
            thirds = [columns[key][i : i + 3] for i in range(0, len(instants), 3)]
            expected = {
                m: None if None in t else sum(filter(None, t)) for m, t in zip(instants[::3], thirds, strict=True)
            }
        expected = {moment: value for moment, value in expected.items() if value is not None and moment not in lost}
        got = {
            datetime.fromtimestamp(moment / 1000, UTC): value
            for moment, value in zip(one.starts.astype(np.int64).tolist(), one.values.tolist(), strict=True)
            if not np.isnan(value)
        }
        assert len(set(one.starts.tolist())) == len(one.starts)
        left = {moment: value for moment, value in got.items() if moment not in lost}
        assert left == pytest.approx({moment: value * factor for moment, value in expected.items()})
    assert [problem.message for problem in found.problems] == []


@ALL
def test_keys_are_such_as_streams_take(form: str) -> None:
    sample = SAMPLES[form]

    found = read(sample, sample.write(*made_up(sample, "usual")))

    assert all(NAME_OR_PART.fullmatch(one.key) for one in found.series)


@ALL
def test_no_other_layout_takes_it(form: str) -> None:
    sample = SAMPLES[form]
    data = sample.write(*made_up(sample, "usual"))
    table = table_of(data, sample.name, sample.options)

    taken = [layout.name for layout in layouts() if _takes(layout.meaning, table, sample)]
    reshaped = [layout.name for layout in layouts() if layout.reshape is not None and _reshapes(layout.reshape, data)]

    assert taken == [sample.layout]
    assert reshaped in ([], [sample.layout])


def _takes(meaning, table, sample) -> bool:  # type: ignore[no-untyped-def]
    try:
        return meaning(table, sample.options, sample.name) is not None
    except PayloadInvalid:
        return True


def _reshapes(reshape, data) -> bool:  # type: ignore[no-untyped-def]
    try:
        return reshape(data.removeprefix(b"\xef\xbb\xbf")) is not None
    except (PayloadInvalid, UnicodeDecodeError):
        return not data.startswith(b"PK")


def test_every_layout_has_a_sample() -> None:
    assert {layout.name for layout in layouts()} == {sample.layout for sample in SAMPLES.values()}


@ALL
def test_the_two_readers_of_text_give_the_same(form: str) -> None:
    from kappawatt.columns.budget import FILES

    sample = SAMPLES[form]
    data = sample.write(*made_up(sample, "autumn"))
    if data.startswith(b"PK"):
        pytest.skip("a workbook is no text")

    one, other = read(sample, data), read_bytes(data, sample.options, name=sample.name, budget=FILES)

    assert [(s.key, s.starts.tolist()) for s in one.series] == [(s.key, s.starts.tolist()) for s in other.series]
    assert all(
        np.array_equal(a.values, b.values, equal_nan=True) for a, b in zip(one.series, other.series, strict=True)
    )
