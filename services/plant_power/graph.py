"""The fitted regressions as ONNX graphs.

The whole computation of a row stands inside one Scan, so that ONNX Runtime evaluates every row by the same
kernels on the same shapes, alone or among a hundred thousand: answers are the same, bit for bit.
(A plain MatMul or a tree ensemble takes another path, and sums in another order, for a batch of one.)
Distances are taken in float32, sums in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from services.plant_power.features import FEATURE_NAMES
from services.plant_power.model import DENSITY_FLOOR, LINEAR_FEATURES, OUTPUT_NAMES, STEPS

if TYPE_CHECKING:
    from services.plant_power.model import FittedBaseline, FittedModel

__all__ = ["kernel_graph", "linear_graph"]

INPUT = "features"
OPSET = 17
IR_VERSION = 9  # the oldest onnxruntime allowed, 1.20, reads it
Node = tuple[str, Sequence[str], Sequence[str]]


def kernel_graph(fitted: FittedModel) -> bytes:
    """Return the default's graph: `features` (n, n_features) to `OUTPUT_NAMES` (n,), float64."""
    kernels = (fitted.parameters.trend, fitted.parameters.regime)
    n = len(fitted.rows)
    # One row of weights for each kernel and training row, one column for each sum.
    sums = np.zeros((2, n, 3))
    sums[:, :, 0] = fitted.power_weights
    sums[:, :, 1] = fitted.scale_weights
    sums[1, :, 2] = 1.0
    constants: dict[str, NDArray[Any]] = {
        **_linear_constants(fitted.linear),
        "rows": np.ascontiguousarray(fitted.rows.T),
        "inverse_squared_scales": np.stack([kernel.weights for kernel in kernels]),
        "is_smooth": np.array([[float(kernel.smooth)] for kernel in kernels], dtype=np.float32),
        "one": np.array(1.0, dtype=np.float32),
        "as_column": np.array([len(FEATURE_NAMES), 1]),
        "as_row": np.array([1, 2 * n]),
        "as_vector": np.array([3]),
        "sums": sums.reshape(2 * n, 3),
        "zero_index": np.array([0]),
        "one_index": np.array([1]),
        "two_index": np.array([2]),
        "density_floor": np.array([DENSITY_FLOOR]),
        "scale_intercept": fitted.scale_line[:1],
        "scale_slope": fitted.scale_line[1:],
        "quantile": np.array([fitted.quantile]),
    }
    nodes: list[Node] = [
        ("Reshape", ["row", "as_column"], ["column"]),
        ("Sub", ["rows", "column"], ["difference"]),
        ("Mul", ["difference", "difference"], ["squared_difference"]),
        ("MatMul", ["inverse_squared_scales", "squared_difference"], ["squared_distance"]),
        ("Sqrt", ["squared_distance"], ["distance"]),
        ("Neg", ["distance"], ["negative_distance"]),
        ("Exp", ["negative_distance"], ["decay"]),
        ("Mul", ["distance", "is_smooth"], ["smooth_distance"]),
        ("Add", ["smooth_distance", "one"], ["factor"]),
        ("Mul", ["factor", "decay"], ["correlation"]),
        ("Reshape", ["correlation", "as_row"], ["correlation_row"]),
        ("Cast", ["correlation_row"], ["correlation_double"]),
        ("MatMul", ["correlation_double", "sums"], ["summed"]),
        ("Reshape", ["summed", "as_vector"], ["summed_vector"]),
        ("Gather", ["summed_vector", "zero_index"], ["kernel_power"]),
        ("Gather", ["summed_vector", "one_index"], ["kernel_scale"]),
        ("Gather", ["summed_vector", "two_index"], ["density"]),
        *_linear_nodes("linear_power"),
        ("Add", ["linear_power", "kernel_power"], ["power"]),
        ("Add", ["density", "density_floor"], ["positive_density"]),
        ("Log", ["positive_density"], ["log_density"]),
        ("Mul", ["log_density", "scale_slope"], ["density_scale"]),
        ("Add", ["density_scale", "scale_intercept"], ["scale_line"]),
        ("Add", ["scale_line", "kernel_scale"], ["log_scale"]),
        ("Exp", ["log_scale"], ["scale"]),
        ("Mul", ["scale", "quantile"], ["half_width"]),
    ]
    return _scan(nodes, constants)


def linear_graph(fitted: FittedBaseline) -> bytes:
    """Return the baseline's graph: input `features` (n, n_features), outputs `OUTPUT_NAMES` (n,) float64."""
    constants = {**_linear_constants(fitted.linear), "half_width": np.array([fitted.half_width])}
    return _scan(_linear_nodes("power"), constants)


def _linear_constants(linear: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    slopes = np.zeros(len(FEATURE_NAMES))
    slopes[:LINEAR_FEATURES] = linear[1:]
    return {"intercept": linear[:1], "slopes": slopes}


def _linear_nodes(output: str) -> list[Node]:
    return [
        ("Cast", ["row"], ["row_double"]),
        ("Mul", ["row_double", "slopes"], ["terms"]),
        ("ReduceSum", ["terms"], ["term_sum"]),
        ("Add", ["term_sum", "intercept"], [output]),
    ]


def _scan(nodes: Sequence[Node], constants: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a model that runs `nodes` on each row; they make `power` and `half_width` of shape (1,)."""
    from onnx import TensorProto, helper, numpy_helper

    per_row: list[Node] = [
        *nodes,
        ("Sub", ["power", "half_width"], ["lower"]),
        ("Add", ["power", "half_width"], ["upper"]),
        ("Concat", ["power", "lower", "upper"], ["all"]),
        ("Mul", ["all", "steps"], ["in_steps"]),
        ("Round", ["in_steps"], ["whole_steps"]),
        ("Div", ["whole_steps", "steps"], ["answer"]),
    ]
    attributes: dict[str, dict[str, Any]] = {
        "Cast": {"to": TensorProto.DOUBLE},
        "Concat": {"axis": 0},
        "ReduceSum": {"keepdims": 1},
    }

    def make(node: Node) -> Any:
        kind, inputs, outputs = node
        return helper.make_node(kind, inputs, outputs, **attributes.get(kind, {}))

    tensor = helper.make_tensor_value_info
    width = len(FEATURE_NAMES)
    body = helper.make_graph(
        [make(node) for node in per_row],
        "one_row",
        [tensor("row", TensorProto.FLOAT, [width])],
        [tensor("answer", TensorProto.DOUBLE, [len(OUTPUT_NAMES)])],
    )
    outer = [helper.make_node("Scan", [INPUT], ["answers"], num_scan_inputs=1, body=body)]
    picks = {f"pick_{name}": np.array(i) for i, name in enumerate(OUTPUT_NAMES)}
    outer += [helper.make_node("Gather", ["answers", f"pick_{name}"], [name], axis=1) for name in OUTPUT_NAMES]
    graph = helper.make_graph(
        outer,
        "plant_power",
        [tensor(INPUT, TensorProto.FLOAT, ["n", width])],
        [tensor(name, TensorProto.DOUBLE, ["n"]) for name in OUTPUT_NAMES],
        [
            numpy_helper.from_array(value.copy(order="C"), name)
            for name, value in {**constants, "steps": np.array(STEPS), **picks}.items()
        ],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="kappawatt",
    )
    serialized: bytes = model.SerializeToString()
    return serialized
