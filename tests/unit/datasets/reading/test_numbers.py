"""Columns of numbers: which mark is which, and what can be read in two ways."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappawatt.datasets.reading.numbers import NumberFormat, find_format, read_numbers
from kappawatt.datasets.reading.options import Options
from kappawatt.errors import PayloadInvalid


@pytest.mark.parametrize(
    ("texts", "separator", "values"),
    [
        (["412.5", "398"], ",", [412.5, 398]),
        (["412,5", "398"], ";", [412.5, 398]),
        (["1.412,5", "398,25"], ";", [1412.5, 398.25]),
        (["1,412.5", "398.25"], ";", [1412.5, 398.25]),
        (["1.234.567", "2"], ";", [1234567, 2]),
        (["1 412,5", "398,2"], ";", [1412.5, 398.2]),
        (["1\u202f412,5"], ";", [1412.5]),
        (["1'412.5"], ";", [1412.5]),
        (["47806.793", "45668.351"], ",", [47806.793, 45668.351]),
        (["0,166", "0,183"], ";", [0.166, 0.183]),
        (["-62,1", "+3,5"], ";", [-62.1, 3.5]),
        ([".145", "1e3"], ",", [0.145, 1000]),
        (["1,5", "2", "n/e", "N/A", "", " - "], ";", [1.5, 2, None, None, None, None]),
    ],
)
def test_numbers_are_read_however_they_are_written(texts: list[str], separator: str, values: list[float]) -> None:
    found, bad = read_numbers(texts, find_format([texts], separator, Options()))

    assert bad == []
    np.testing.assert_array_equal(found, np.array(values, dtype=np.float64))


@pytest.mark.parametrize(
    ("texts", "separator"),
    [(["1,234", "5,678"], ";"), (["1.234", "5.678"], ";"), (["1,5", "2.5"], ";"), (["1.234,5", "1,234.5"], ";")],
)
def test_what_can_be_read_in_two_ways_is_refused(texts: list[str], separator: str) -> None:
    with pytest.raises(PayloadInvalid, match=r"numbers: got .*, allowed one"):
        find_format([texts], separator, Options())


@pytest.mark.parametrize(
    ("said", "value"), [({"decimal": ","}, 1.234), ({"thousands": ","}, 1234.0), ({"decimal": "."}, 1234.0)]
)
def test_an_option_settles_it(said: dict[str, str], value: float) -> None:
    written = find_format([["1,234"]], ";", Options.of(said))

    assert read_numbers(["1,234"], written)[0].tolist() == [value]


def test_an_option_that_the_file_contradicts_is_refused() -> None:
    with pytest.raises(PayloadInvalid, match="as --decimal says"):
        find_format([["1.234,5"]], ";", Options(decimal="."))


@pytest.mark.parametrize("text", ["1,2,3", "12,34.5", "1_000", "0x10", "inf", "1e999", "5 MW", "1.5.2"])
def test_a_cell_that_is_no_number_is_named_not_guessed(text: str) -> None:
    values, bad = read_numbers(["1,412.5", text], NumberFormat(".", ","))

    assert bad == [1]
    assert np.isnan(values[1])


@given(st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 2)), min_size=3, max_size=30))
def test_a_column_with_a_decimal_comma_comes_back(values: list[float]) -> None:
    texts = [f"{value:.2f}".replace(".", ",") for value in values]

    found, bad = read_numbers(texts, find_format([texts], ";", Options()))

    assert (found.tolist(), bad) == (values, [])
