"""The tutorial's LSTM as Keras trains it: what is served says the same."""

from __future__ import annotations

import pytest

from kappawatt.models.onnx import OnnxModel
from kappawatt.services.smart_meter.lstm import to_onnx, train_lstm, windows
from tests.unit.services.smart_meter.meters import household


def test_the_graph_says_what_keras_says() -> None:
    values = household(10).values

    lstm, network = train_lstm(values, look_back=8, epochs=2)
    given, _ = windows(values, 8)
    scaled = (given - lstm.low) / (lstm.high - lstm.low)
    expected = network.predict(scaled[:, None, :], verbose=0)[:, 0] * (lstm.high - lstm.low) + lstm.low

    assert OnnxModel(to_onnx(lstm)).run(given)["next"] == pytest.approx(expected, abs=1e-5)


def test_training_again_with_one_seed_gives_the_same_network() -> None:
    values = household(10).values

    first, second = (train_lstm(values, epochs=1)[0] for _ in range(2))

    assert to_onnx(first) == to_onnx(second)
