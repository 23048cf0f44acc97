"""The ONNX graphs give what the fitted regressions give, whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest

from kappawatt.datasets import synthetic_plant
from kappawatt.onnx import OnnxModel
from services.plant_power.features import features
from services.plant_power.model import OUTPUT_NAMES, Fitted, build_baseline, build_model

MOST_ROWS = 100_000
ONE_STEP = 0.001001  # MW: answers are rounded to 0.001, float32 distances may tip a rounding


@pytest.fixture(scope="module", params=["baseline", "default"])
def fitted(request: pytest.FixtureRequest) -> Fitted:
    """Each regression, fitted to a small synthetic plant."""
    plant = synthetic_plant(300, seed=3)
    build = {"baseline": build_baseline, "default": build_model}[request.param]
    return build().fit(features(plant), plant["net_power"])


@pytest.fixture(scope="module")
def graph(fitted: Fitted) -> OnnxModel:
    """Its graph, loaded as a service loads it."""
    return OnnxModel(fitted.to_onnx(), {})


@pytest.fixture(scope="module")
def together(graph: OnnxModel) -> dict[str, np.ndarray]:
    """Answers for all rows in one batch."""
    return graph.run(features(synthetic_plant(MOST_ROWS, seed=4)))


def test_graph_equals_the_fitted_regression(fitted: Fitted, together: dict[str, np.ndarray]) -> None:
    """To one rounding step, and far closer on average."""
    expected = fitted.predict(features(synthetic_plant(MOST_ROWS, seed=4))[:2_000])

    assert tuple(together) == OUTPUT_NAMES
    for name, values in expected.items():
        difference = np.abs(values - together[name][:2_000])
        assert difference.max() < ONE_STEP
        assert difference.mean() < 1e-4


@pytest.mark.parametrize("rows", [1, 2, 10, 49, 50, 51, 1_000])
def test_a_batch_gives_the_bits_the_whole_gives(graph: OnnxModel, together: dict[str, np.ndarray], rows: int) -> None:
    """A replay reads other batches than the live stream did, and must publish the same numbers."""
    matrix = features(synthetic_plant(MOST_ROWS, seed=4))

    for start in range(0, 3_000, rows):
        answer = graph.run(matrix[start : start + rows])
        for name, values in answer.items():
            assert np.array_equal(values, together[name][start : start + rows])


def test_two_loads_of_a_graph_give_the_same_bits(fitted: Fitted, together: dict[str, np.ndarray]) -> None:
    """A restarted process answers as the one before."""
    matrix = features(synthetic_plant(MOST_ROWS, seed=4))[:500]

    answer = OnnxModel(fitted.to_onnx(), {}).run(matrix)

    for name, values in answer.items():
        assert np.array_equal(values, together[name][:500])
