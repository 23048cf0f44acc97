"""ONNX graphs on one CPU thread: small, fast for a single row, no pickle."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import ArtifactInvalid, ExtraMissing
from kappawatt.models.artifact import Artifact

__all__ = ["OnnxModel", "load_onnx"]


class OnnxModel:
    """A graph with one float32 input of shape (n, n_features) and named outputs of shape (n,) or (n, 1).

    Parameters
    ----------
    graph : bytes
    """

    def __init__(self, graph: bytes) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ExtraMissing.of("onnxruntime", "onnx") from error
        options = onnxruntime.SessionOptions()
        # One thread: rows are answered in parallel by processes, and sums keep one order whatever the batch.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise ArtifactInvalid(f"model.onnx: {str(error).splitlines()[0][:200]}") from error
        self._input = self._session.get_inputs()[0].name
        self._names = [output.name for output in self._session.get_outputs()]
        self.output_names = tuple(self._names)

    def run(self, features: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Return every output as float64 of shape (n,)."""
        found = self._session.run(self._names, {self._input: features})
        return {
            name: values.reshape(-1).astype(np.float64) for name, values in zip(self.output_names, found, strict=True)
        }


def load_onnx(artifact: Artifact) -> OnnxModel:
    """Return the graph `model.onnx` of an artifact."""
    return OnnxModel(artifact.read("model.onnx"))
