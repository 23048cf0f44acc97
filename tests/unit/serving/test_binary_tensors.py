"""Binary tensors of the Open Inference Protocol: no more than a field may hold, and nothing that JSON refuses."""

from __future__ import annotations

import json
import math
import struct
import tracemalloc
from typing import Any

import pytest
from flask import Flask

from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from tests import fakes
from tests.fakes import EXAMPLE


@pytest.fixture
def app(settings: Settings) -> Flask:
    assert settings.artifacts is not None
    fakes.write_artifact(settings.artifacts)
    return create_app(fakes.SERVICE, settings)


def infer(app: Flask, *tensors: tuple[str, str, bytes], behind: bytes = b"", rows: int = 1) -> tuple[int, str]:
    """Post the example, and tensors as (name, datatype, content), all in binary; return status and error."""
    numbers = {name: struct.pack(f"<{rows}d", *[value] * rows) for name, value in EXAMPLE.items()}
    whole = [(name, "FP64", content) for name, content in numbers.items() if name not in {t[0] for t in tensors}]
    whole += tensors
    inputs: list[dict[str, Any]] = [
        {"name": name, "shape": [rows], "datatype": kind, "parameters": {"binary_data_size": len(content)}}
        for name, kind, content in whole
    ]
    head = json.dumps({"inputs": inputs}).encode()
    answer = app.test_client().post(
        "/v2/models/fake-power/infer",
        data=head + b"".join(content for _, _, content in whole) + behind,
        content_type="application/octet-stream",
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    document = json.loads(answer.data)
    return answer.status_code, str(document.get("error", ""))


def element(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<I", len(content)) + content


def test_a_long_element_is_refused_before_it_is_decoded(app: Flask) -> None:
    content = element("a" * 4_000_000 + "\U0001f600")
    infer(app)
    tracemalloc.start()
    try:
        status, error = infer(app, ("event_time", "BYTES", content))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert status == 422
    assert "event_time" in error
    assert peak < 6 * len(content)  # the body, of which the client, the server and each tensor have a copy


def test_elements_that_take_more_than_the_budget_together_are_too_large(app: Flask) -> None:
    rows = 25_000

    status, error = infer(app, ("event_time", "BYTES", element("\u0661" * 130) * rows), rows=rows)

    assert status == 413
    assert "text of 'event_time'" in error


def test_an_element_as_long_as_a_time_may_be_is_read(app: Flask) -> None:
    assert infer(app, ("event_time", "BYTES", element("2016-07-01T04:00:00.000Z"))) == (200, "")
    assert infer(app, ("event_time", "BYTES", element("2016-07-01T04:00:00." + "0" * 43 + "Z"))) == (200, "")
    assert infer(app, ("event_time", "BYTES", element("2016-07-01T04:00:00." + "0" * 44 + "Z")))[0] == 422


@pytest.mark.parametrize("name", ["ambient_temperature", "event_time"])
def test_booleans_are_no_numbers_and_no_times(app: Flask, name: str) -> None:
    status, error = infer(app, (name, "BOOL", b"\x01"))

    assert status == 400
    assert error.startswith(f"{name}: got datatype 'BOOL', allowed UINT8")


@pytest.mark.parametrize("moment", [math.nan, math.inf, 1.5])
def test_a_binary_time_that_is_no_whole_number_is_refused(app: Flask, moment: float) -> None:
    status, error = infer(app, ("event_time", "FP64", struct.pack("<d", moment)))

    assert status == 422
    assert error.startswith("row 0: event_time: got")


def test_a_binary_time_that_is_a_whole_number_is_read(app: Flask) -> None:
    assert infer(app, ("event_time", "FP64", struct.pack("<d", 1467345600000.0))) == (200, "")


def test_bytes_behind_the_last_tensor_are_refused(app: Flask) -> None:
    status, error = infer(app, behind=b"trailing")

    assert status == 400
    assert "8 bytes behind the last tensor" in error
