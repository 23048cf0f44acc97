"""The LSTM of the classic tutorial, as the named baseline: trained in Keras, served as an ONNX graph.

The tutorial forecasts the next reading of one series from the last one with four LSTM units: readings scaled to 0..1,
the first 67 % for training, the rest for the test, mean squared error, Adam. Two things differ here and are
said with every score: the scale comes from the training part alone (the tutorial lets it see the test), and
batches are larger, which reaches the same error in minutes instead of hours.

For the next day it is run on its own answers, one interval after another, which is how such tutorials forecast
further ahead; with one reading of look-back it soon stands still.

TensorFlow is imported only where training happens.

References
----------
J. Brownlee, Time Series Prediction with LSTM Recurrent Neural Networks in Python with Keras, 2016: `look_back` 1,
`LSTM(4)`, `Dense(1)`, 100 epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import Times
from kappawatt.forecasting.fan import LEVELS, Fan
from kappawatt.forecasting.history import Past
from kappawatt.models.onnx import OnnxModel
from kappawatt.models.scores import mae, rmse

__all__ = ["LSTM_FILE", "Lstm", "Tutorial", "forecast", "one_step_scores", "to_onnx", "train_lstm"]

Vector = NDArray[np.float64]
Single = NDArray[np.float32]

LSTM_FILE = "lstm.onnx"
UNITS = 4
TRAINING_SHARE = 0.67
EPOCHS = 40
BATCH = 32
SEED = 7  # the tutorial's
OPSET = 17
IR_VERSION = 8  # read by every onnxruntime since 1.12
GATES = (0, 3, 1, 2)  # Keras keeps input, forget, cell, output; ONNX wants input, output, forget, cell


@dataclass(frozen=True, eq=False)
class Lstm:
    """Weights as Keras keeps them, and the scale of the readings.

    Parameters
    ----------
    kernel : ndarray of shape (look_back, 4 * units)
        Gates in Keras' order: input, forget, cell, output.
    recurrent_kernel : ndarray of shape (units, 4 * units)
    bias : ndarray of shape (4 * units,)
    dense_kernel : ndarray of shape (units, 1)
    dense_bias : ndarray of shape (1,)
    low, high : float
        Smallest and largest reading of the training part [kWh], which are 0 and 1 to the network.
    """

    kernel: Single
    recurrent_kernel: Single
    bias: Single
    dense_kernel: Single
    dense_bias: Single
    low: float
    high: float

    @property
    def look_back(self) -> int:
        """Readings it is given."""
        return int(self.kernel.shape[0])


def train_lstm(
    values: Vector, *, look_back: int = 1, epochs: int = EPOCHS, batch: int = BATCH, seed: int = SEED
) -> tuple[Lstm, Any]:
    """Train the tutorial's network on the first `TRAINING_SHARE` of a series.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Energies in order of time [kWh], none of them NaN.
    look_back : int
        Readings the next is forecast from; features of one time step, as in the tutorial.

    Returns
    -------
    Lstm
    object
        The Keras model itself, of scaled readings of shape (n, 1, look_back).

    Raises
    ------
    SettingInvalid
        TensorFlow is not installed.
    """
    try:
        import keras
    except ImportError as error:
        raise SettingInvalid(f"keras is not installed ({error}): pip install 'kappawatt[smart-meter-train]'") from error
    training = values[: int(len(values) * TRAINING_SHARE)]
    low, high = float(training.min()), float(training.max())
    given, wanted = windows((training - low) / (high - low), look_back)
    keras.utils.set_random_seed(seed)
    network = keras.Sequential([keras.Input((1, look_back)), keras.layers.LSTM(UNITS), keras.layers.Dense(1)])
    network.compile(loss="mean_squared_error", optimizer="adam")
    network.fit(given[:, None, :], wanted, epochs=epochs, batch_size=batch, verbose=0)
    kernel, recurrent, bias, dense_kernel, dense_bias = (
        np.asarray(array, dtype=np.float32) for array in network.get_weights()
    )
    return Lstm(kernel, recurrent, bias, dense_kernel, dense_bias, low, high), network


def windows(values: Vector, look_back: int) -> tuple[Single, Single]:
    """Return what the network is given, (n - look_back, look_back), and the reading that came next."""
    given = np.lib.stride_tricks.sliding_window_view(values, look_back)[:-1]
    return given.astype(np.float32), values[look_back:].astype(np.float32)


def to_onnx(lstm: Lstm) -> bytes:
    """Return a graph from readings [kWh], float32 of shape (n, look_back), to the next one, `next` of shape (n, 1).

    Written by hand: converters from Keras need TensorFlow and lag behind its releases.
    """
    from onnx import TensorProto, helper, numpy_helper

    def by_gate(array: Single) -> Single:
        parts = np.split(array, 4, axis=-1)
        return np.concatenate([parts[gate] for gate in GATES], axis=-1)

    span = lstm.high - lstm.low
    bias = np.concatenate([by_gate(lstm.bias), np.zeros(4 * UNITS, dtype=np.float32)])
    constants = {
        "low": np.array([lstm.low], dtype=np.float32),
        "span": np.array([span], dtype=np.float32),
        "first": np.array([0], dtype=np.int64),
        "W": by_gate(lstm.kernel).T[None],
        "R": by_gate(lstm.recurrent_kernel).T[None],
        "B": bias[None],
        "dense_kernel": lstm.dense_kernel,
        "dense_bias": lstm.dense_bias,
    }
    nodes = [
        helper.make_node("Sub", ["readings", "low"], ["above_low"]),
        helper.make_node("Div", ["above_low", "span"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "first"], ["steps"]),
        helper.make_node("LSTM", ["steps", "W", "R", "B"], ["", "hidden"], hidden_size=UNITS),
        helper.make_node("Squeeze", ["hidden", "first"], ["last"]),
        helper.make_node("Gemm", ["last", "dense_kernel", "dense_bias"], ["scaled_next"]),
        helper.make_node("Mul", ["scaled_next", "span"], ["above"]),
        helper.make_node("Add", ["above", "low"], ["next"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tutorial_lstm",
        [helper.make_tensor_value_info("readings", TensorProto.FLOAT, ["n", lstm.look_back])],
        [helper.make_tensor_value_info("next", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    content: bytes = model.SerializeToString()
    return content


def forecast(model: OnnxModel, past: Past, targets: Times, look_back: int = 1) -> Fan:
    """Return the next day by running the network on its own answers.

    It says a number and no spread: all quantiles are that number, so that its CRPS is its mean absolute error.

    Parameters
    ----------
    model : OnnxModel
        Of `to_onnx`.
    past : Past
        The newest `look_back` values are known.
    targets : ndarray of datetime64[ms], shape (n,)
    """
    newest = past.values[-look_back:].astype(np.float32)[None, :]
    steps = int((targets[-1] + past.interval - past.end) // past.interval)
    answers = np.empty(steps)
    for step in range(steps):
        answers[step] = model.run(newest)["next"][0]
        newest = np.concatenate([newest[:, 1:], [[np.float32(answers[step])]]], axis=1).astype(np.float32)
    places = ((targets - past.end) // past.interval).astype(np.int64)
    return Fan(np.repeat(np.maximum(answers[places], 0.0)[:, None], len(LEVELS), axis=1))


@dataclass(frozen=True, eq=False)
class Tutorial:
    """The baseline as it serves: a graph that looks back one reading.

    Parameters
    ----------
    model : OnnxModel
        Of `to_onnx`.
    """

    model: OnnxModel

    def forecast(self, past: Past, targets: Times) -> Fan:
        """Return the next day, see `forecast`."""
        return forecast(self.model, past, targets)


def one_step_scores(model: OnnxModel, values: Vector, look_back: int = 1) -> dict[str, float]:
    """Return errors one interval ahead on the tutorial's test part, and those of taking the last reading [kWh].

    Returns
    -------
    dict of str to float
        n, rmse and mae; persistence_rmse and persistence_mae on the same readings; training_rmse.
    """
    cut = int(len(values) * TRAINING_SHARE)
    scores: dict[str, float] = {}
    for name, part in (("training_", values[:cut]), ("", values[cut:])):
        given, wanted = windows(part, look_back)
        answers = model.run(given)["next"]
        scores[f"{name}rmse"] = rmse(wanted.astype(np.float64), answers)
    measured = wanted.astype(np.float64)
    last = given[:, -1].astype(np.float64)
    return {
        "n": len(measured),
        **scores,
        "mae": mae(measured, answers),
        "persistence_rmse": rmse(measured, last),
        "persistence_mae": mae(measured, last),
    }
