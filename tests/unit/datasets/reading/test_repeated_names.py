"""Files of one layout appended to one another, header and all."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from kappawatt.columns.budget import STANDARD
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes, read_file

OPTIONS = Options.of({"time_zone": "UTC"})


def month(number: int, header: str = "timestamp;load_mw") -> str:
    first = datetime(2024, number, 1)
    rows = [f"{first + timedelta(hours=i):%d.%m.%Y %H:%M};{500 + 7 * i % 24},5" for i in range(24 * 28)]
    return "\n".join([header, *rows])


@pytest.mark.parametrize("is_at_the_door", [False, True], ids=["file", "door"])
def test_names_that_stand_again_are_no_row_and_said(is_at_the_door: bool) -> None:
    text = "\n".join([month(1), month(2), month(3)]).encode()

    found = read_bytes(text, OPTIONS, name="town.csv", budget=STANDARD if is_at_the_door else None)

    (one,) = found.series
    assert (len(one), found.problems) == (3 * 24 * 28, ())
    assert np.isfinite(one.values).all()
    (fact,) = [fact for fact in found.facts if "once more" in fact.because]
    assert fact.value == "line 674 and 1 more"


def test_lines_after_them_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "town.csv"
    path.write_text("\n".join([month(1), month(2).replace("28.02.2024 23:00;517,5", "28.02.2024 23:00;much")]))

    found = read_file(path, OPTIONS)

    (problem,) = found.problems
    assert problem.line == 2 * (24 * 28 + 1)


def test_other_names_further_down_are_rows_that_cannot_be_read() -> None:
    text = "\n".join([month(1), month(2, "timestamp;generation_mw")]).encode()

    found = read_bytes(text, OPTIONS, name="town.csv")

    assert [problem.line for problem in found.problems] == [674]
