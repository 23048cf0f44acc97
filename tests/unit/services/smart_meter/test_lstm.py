"""The tutorial's LSTM as it is served; its training is tested in tests/train."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from kappawatt.errors import SettingInvalid
from kappawatt.models.onnx import OnnxModel
from kappawatt.services.smart_meter.lstm import UNITS, Lstm, forecast, one_step_scores, to_onnx, train_lstm
from tests.unit.services.smart_meter.meters import household, next_day


def made_up(look_back: int = 1) -> Lstm:
    generator = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    return Lstm(draw(look_back, 4 * UNITS), draw(UNITS, 4 * UNITS), draw(4 * UNITS), draw(UNITS, 1), draw(1), 0.1, 2.5)


@pytest.mark.parametrize("look_back", [1, 48])
def test_the_graph_is_the_lstm_of_the_equations(look_back: int) -> None:
    """One step from a zero state (Hochreiter and Schmidhuber 1997, with forget gate): c = i * g, h = o * tanh(c)."""
    lstm = made_up(look_back)
    readings = np.random.default_rng(1).random((20, look_back)).astype(np.float32) * 3

    found = OnnxModel(to_onnx(lstm)).run(readings)["next"]

    scaled = (readings - lstm.low) / (lstm.high - lstm.low)
    entry, _, cell, out = np.split(scaled @ lstm.kernel + lstm.bias, 4, axis=1)
    state = 1 / (1 + np.exp(-entry)) * np.tanh(cell)
    hidden = 1 / (1 + np.exp(-out)) * np.tanh(state)
    expected = (hidden @ lstm.dense_kernel + lstm.dense_bias)[:, 0] * (lstm.high - lstm.low) + lstm.low
    assert found == pytest.approx(expected, abs=1e-5)


def test_without_tensorflow_training_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)

    with pytest.raises(SettingInvalid, match=r"pip install 'kappawatt\[smart-meter-train\]'"):
        train_lstm(household(10).values)


def test_the_next_day_is_run_on_the_networks_own_answers() -> None:
    model = OnnxModel(to_onnx(made_up()))
    past = household(10)

    fan = forecast(model, past, next_day(past))

    first = model.run(past.values[-1:].astype(np.float32)[:, None])["next"][0]
    second = model.run(np.array([[first]], dtype=np.float32))["next"][0]
    assert fan.median[:2] == pytest.approx(np.maximum([first, second], 0), abs=1e-6)
    assert fan.quantiles.shape == (48, 19)


def test_persistence_is_scored_beside_it_on_the_same_readings() -> None:
    values = np.arange(100.0)

    scores = one_step_scores(OnnxModel(to_onnx(made_up())), values)

    assert scores["n"] == 32
    assert scores["persistence_rmse"] == pytest.approx(1.0)
