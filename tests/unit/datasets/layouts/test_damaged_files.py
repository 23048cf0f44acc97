"""Damaged files of every form: each row is read or named, or the file is refused; nothing else ever happens."""

from __future__ import annotations

import random
from datetime import date

import numpy as np
import pytest

from kappawatt.columns.budget import FILES
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.errors import PayloadInvalid, PayloadTooLarge
from tests.layout_samples import SAMPLES, days_of

CUTS = 60
PIECES = [
    b"",
    b",",
    b";",
    b'"',
    b"\n",
    b"-1",
    b"1e308",
    b"nan",
    b"24:00",
    b"25:61",
    b"99/99/9999",
    b"\xff",
    b"<",
    b"0",
    b"\xe2\x80\xaf",
]


@pytest.mark.parametrize("form", SAMPLES, ids=[name.replace(" ", "_") for name in SAMPLES])
@pytest.mark.parametrize("budget", [None, FILES], ids=["file", "body"])
def test_a_damaged_file_is_read_or_refused(form: str, budget: object) -> None:
    sample, chance = SAMPLES[form], random.Random(form)
    instants = days_of(date(2024, 11, 2), 2, sample.zone, sample.minutes)
    whole = sample.write(instants, {key: [1000.0 + i for i in range(len(instants))] for key in sample.keys})
    if budget is FILES and whole.startswith(b"PK"):
        pytest.skip("a workbook is no body")

    for _ in range(CUTS if budget is not None else CUTS // 4):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(min(len(data), chance.choice([200, len(data)])))
            data[at : at + chance.randint(0, 12)] = chance.choice(PIECES)
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        try:
            found = read_bytes(bytes(data), sample.options, name=sample.name, budget=budget)  # type: ignore[arg-type]
        except (PayloadInvalid, PayloadTooLarge):
            continue
        for one in found.series:
            assert not np.isnat(one.starts).any()
            assert not np.isinf(one.values).any()
