"""Schemas: one description, and everything made from it agrees."""

from __future__ import annotations

import jsonschema
import numpy as np
import pytest

from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.streams.plant import POWER, READING
from tests.fakes import EXAMPLE


def test_the_json_schema_accepts_the_example_and_refuses_what_validation_refuses() -> None:
    schema = READING.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)

    jsonschema.validate(EXAMPLE, schema)
    for bad in ({**EXAMPLE, "exhaust_vacuum": 812}, {**EXAMPLE, "wind": 1}, {"exhaust_vacuum": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_an_optional_field_may_be_null() -> None:
    jsonschema.validate({**EXAMPLE, "net_power": None, "event_time": None}, READING.json_schema())


def test_limits_are_inclusive() -> None:
    schema = Schema("S", "", (Field("x", "MW", "x", minimum=0, maximum=10),))

    batch = schema.check({"x": np.array([0.0, 10.0, -0.001, 10.001])}, 4)

    assert batch.valid.tolist() == [True, True, False, False]


def test_a_refusal_says_unit_and_range() -> None:
    batch = READING.check({name: np.array([812.0]) for name in EXAMPLE}, 1)

    told = {r.field: r.message for r in batch.rejections}
    assert told["exhaust_vacuum"] == "exhaust_vacuum: got 812.0, allowed a number from 0 to 100 cm Hg"


def test_the_docs_table_has_every_field_with_its_unit_and_file_header() -> None:
    table = READING.markdown_table()

    for field in READING.fields:
        assert f"`{field.name}`" in table
        assert field.unit in table
    assert "| AT |" in table


def test_kinds_have_json_types() -> None:
    kinds = {f.kind for f in (*READING.fields, *POWER.fields)}
    assert {Kind.NUMBER, Kind.TIMESTAMP, Kind.BOOLEAN} <= kinds
    assert POWER.field("extrapolated").json_schema()["type"] == "boolean"
