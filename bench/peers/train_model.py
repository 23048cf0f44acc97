"""Train one scikit-learn model of net power and export the same model to ONNX.

    python train_model.py linear|boosting OUT [DATA]

Runs where scikit-learn and skl2onnx are installed. Writes model.joblib, training.json and model.onnx: one
float32 input of shape (n, 4 or more), of which it reads the first four; outputs net_power, net_power_lower
and net_power_upper, each float32 of shape (n, 1).
DATA is a folder with ccpp/ccpp_shared.csv.gz; without it a plant is made up, which training.json says.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression

NAMES = ("ambient_temperature", "exhaust_vacuum", "ambient_pressure", "relative_humidity")
EXAMPLE = (14.96, 41.76, 1024.07, 73.17)
HALF_WIDTH = 5.0  # MW; the figures need an interval of the right shape, not a good one
MODELS = {
    "linear": LinearRegression,
    "boosting": lambda: GradientBoostingRegressor(
        n_estimators=600, max_depth=6, learning_rate=0.05, subsample=0.7, random_state=7
    ),
}


def measured(folder: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Return conditions of shape (n, 4), net power of shape (n,), and where they are from."""
    file = folder / "ccpp" / "ccpp_shared.csv.gz"
    with gzip.open(file, "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", skiprows=1)
    return table[:, :4], table[:, 4], f"real: {file.name}"


def made_up(n: int = 7_000, seed: int = 7) -> tuple[np.ndarray, np.ndarray, str]:
    """Return a plant of about the same ranges and slopes as the measured one."""
    draw = np.random.default_rng(seed)
    temperature = draw.uniform(2, 37, n)
    vacuum = 30 + 1.2 * temperature + draw.normal(0, 6, n)
    pressure = draw.normal(1013, 6, n)
    humidity = np.clip(draw.normal(73, 15, n), 25, 100)
    power = 497 - 1.9 * temperature - 0.24 * (vacuum - 40) + 0.06 * (pressure - 1013) - 0.16 * (humidity - 60)
    return (
        np.column_stack([temperature, vacuum, pressure, humidity]),
        power + draw.normal(0, 3, n),
        "synthetic, seed 7",
    )


def with_interval(graph: Any) -> Any:
    """Name the graph's output net_power and add an interval of constant width around it."""
    body = graph.graph
    old = body.output[0].name
    for node in body.node:
        node.output[:] = ["net_power" if name == old else name for name in node.output]
        node.input[:] = ["net_power" if name == old else name for name in node.input]
    del body.output[:]
    body.initializer.append(helper.make_tensor("half_width", TensorProto.FLOAT, [1], [HALF_WIDTH]))
    body.node.append(helper.make_node("Sub", ["net_power", "half_width"], ["net_power_lower"]))
    body.node.append(helper.make_node("Add", ["net_power", "half_width"], ["net_power_upper"]))
    for name in ("net_power", "net_power_lower", "net_power_upper"):
        body.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]))
    onnx.checker.check_model(graph)
    return graph


def of_any_width(graph: Any) -> Any:
    """Let the graph take rows of more than four features and read the first four; services compute more."""
    body = graph.graph
    bounds = {"first": 0, "last": len(NAMES), "axis": 1}
    body.initializer.extend(helper.make_tensor(name, TensorProto.INT64, [1], [at]) for name, at in bounds.items())
    body.node.insert(0, helper.make_node("Slice", ["features", *bounds], ["conditions"]))
    del body.input[:]
    body.input.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, None]))
    return graph


def main(kind: str, out: str, data: str = "") -> None:
    """Train, export, describe."""
    conditions, power, source = measured(Path(data)) if data else made_up()
    # Both sides are given float32 conditions, so that a tree's threshold cannot tell them apart.
    model = MODELS[kind]().fit(conditions.astype(np.float32), power)
    graph = with_interval(of_any_width(to_onnx(model, initial_types=[("conditions", FloatTensorType([None, 4]))])))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, folder / "model.joblib")
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    example = float(np.ravel(model.predict(np.array([EXAMPLE], dtype=np.float32)))[0])
    training = {
        "kind": kind,
        "source": source,
        "rows": len(power),
        "sha256": hashlib.sha256(np.column_stack([conditions, power]).tobytes()).hexdigest(),
        "names": NAMES,
        "range": {
            n: [float(low), float(high)]
            for n, low, high in zip(NAMES, conditions.min(0), conditions.max(0), strict=True)
        },
        "example": dict(zip(NAMES, EXAMPLE, strict=True)),
        "answer": example,
        "half_width": HALF_WIDTH,
    }
    (folder / "training.json").write_text(json.dumps(training, indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
