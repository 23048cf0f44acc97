"""The published baseline: trees on the calendar alone."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from kappawatt.errors import ArtifactInvalid
from kappawatt.forecasting.calendar import HOUR, day_intervals, to_local
from kappawatt.forecasting.fan import LEVELS
from kappawatt.services.hourly_load.features import calendar_features
from kappawatt.services.hourly_load.inference import Classic, pack_classic, unpack_classic
from kappawatt.services.hourly_load.model import fit_classic
from tests.unit.services.hourly_load.series import ZONE, made_up_load

SERIES = made_up_load(200)
LABELS = to_local(SERIES.times, ZONE) + HOUR


@pytest.fixture(scope="module")
def classic() -> Classic:
    return fit_classic(LABELS, SERIES.values)


def test_it_learns_hour_and_weekday(classic: Classic) -> None:
    predicted = classic.predict(calendar_features(LABELS))

    assert np.abs(predicted / SERIES.values - 1).mean() < 0.1


def test_a_forecast_needs_nothing_but_the_calendar(classic: Classic) -> None:
    targets = day_intervals(np.datetime64("2013-07-04"), ZONE, 3600)

    fan = classic.forecast(SERIES, targets)

    labels = to_local(targets, ZONE) + HOUR
    np.testing.assert_array_equal(fan.median, classic.predict(calendar_features(labels)))
    assert fan.quantiles.shape == (24, len(LEVELS))
    assert (np.diff(fan.quantiles, axis=1) >= 0).all()


def test_files_give_the_baseline_back_to_the_bit(classic: Classic) -> None:
    rows = calendar_features(LABELS[:100])

    again = unpack_classic(pack_classic(classic))

    np.testing.assert_array_equal(again.predict(rows), classic.predict(rows))


def test_a_damaged_file_is_refused(classic: Classic) -> None:
    files = pack_classic(classic)

    with pytest.raises(ArtifactInvalid, match="hourly-load"):
        unpack_classic(files | {"classic_trees.ubj": files["classic_trees.ubj"][:100]})


def test_the_published_score_is_reproduced() -> None:
    """RMSE 3,721.75 MW from 2015 to August 2018; up to the end of 2016 the same protocol gives 3,673."""
    folder = os.environ.get("KAPPAWATT_DATA")
    path = Path(folder or "") / "pjm_load" / "PJME_hourly_to2016.csv.gz"
    if not folder or not path.is_file():
        pytest.skip("KAPPAWATT_DATA names no folder with pjm_load")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    labels = np.array([row[0].replace(" ", "T") for row in rows], "datetime64[ms]")
    load = np.array([float(row[1]) for row in rows])
    before = labels < np.datetime64("2015-01-01", "ms")

    classic = fit_classic(labels[before], load[before], labels[~before], load[~before])

    error = classic.predict(calendar_features(labels[~before])) - load[~before]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(3_673, rel=0.01)
