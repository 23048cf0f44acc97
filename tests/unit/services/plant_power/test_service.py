"""Which file of an artifact is served, and what is marked as extrapolated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kappawatt.columns.json_rows import decode_objects
from kappawatt.datasets.named import synthetic_plant
from kappawatt.errors import ArtifactInvalid
from kappawatt.models.artifact import Manifest, save_artifact
from kappawatt.models.predictor import Model
from kappawatt.services.plant_power.features import CONDITION_NAMES, FEATURE_NAMES, features
from kappawatt.services.plant_power.inference import OUTPUT_NAMES, pack
from kappawatt.services.plant_power.model import build_baseline
from kappawatt.services.plant_power.service import SERVICE

ROW = {
    "ambient_temperature": 14.96,
    "exhaust_vacuum": 41.76,
    "ambient_pressure": 1024.07,
    "relative_humidity": 73.17,
}


def open_with(folder: Path, files: dict[str, bytes], answer: dict[str, float]) -> Model:
    """Write an artifact and open it as the service does."""
    manifest = Manifest(
        model="plant-power",
        version="test",
        kind="default",
        created="2026-01-01T00:00:00+00:00",
        data={},
        feature_names=FEATURE_NAMES,
        training_range={name: (value - 1, value + 1) for name, value in ROW.items()},
        metrics={},
        libraries={},
        files={},
        example={"request": ROW, "answer": answer},
    )
    assert SERVICE.predictor is not None
    return SERVICE.predictor.open(save_artifact(folder, files, manifest))


def answer(model: Model, **changed: float) -> dict[str, Any]:
    """Return the answer to ROW with some conditions changed."""
    found = model.answer(decode_objects([ROW | changed], model.predictor.request))
    return {name: column[0] for name, column in found.columns.items()}


@pytest.fixture(scope="module")
def own() -> tuple[bytes, dict[str, float]]:
    """A fitted baseline's file, and its answer to ROW."""
    plant = synthetic_plant(200, seed=1)
    fitted = build_baseline().fit(features(plant), plant["net_power"])
    columns = {name: np.array([value]) for name, value in ROW.items()}
    return pack(fitted), {name: float(value[0]) for name, value in fitted.predict(features(columns)).items()}


@pytest.fixture(scope="module")
def brought() -> bytes:
    """An ONNX graph from elsewhere: power is the temperature, give or take 1."""
    onnx = pytest.importorskip("onnx")
    helper, single = onnx.helper, onnx.TensorProto.FLOAT
    constants = [
        onnx.numpy_helper.from_array(np.array(value), name)
        for name, value in (("first", [0]), ("one", np.float32(1.0)))
    ]
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["net_power"], axis=1),
        helper.make_node("Sub", ["net_power", "one"], ["net_power_lower"]),
        helper.make_node("Add", ["net_power", "one"], ["net_power_upper"]),
    ]
    outputs = [helper.make_tensor_value_info(name, single, ["n", 1]) for name in OUTPUT_NAMES]
    inputs = [helper.make_tensor_value_info("x", single, ["n", len(FEATURE_NAMES)])]
    graph = helper.make_graph(nodes, "brought", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def test_own_file_is_served(own: tuple[bytes, dict[str, float]], tmp_path: Path) -> None:
    """And answers through the service as it did where it was fitted."""
    content, expected = own

    found = answer(open_with(tmp_path, {"model.npz": content}, expected))

    assert {name: found[name] for name in OUTPUT_NAMES} == expected


def test_onnx_graph_from_elsewhere_is_served(brought: bytes, tmp_path: Path) -> None:
    """Any graph with the three outputs."""
    pytest.importorskip("onnxruntime")
    expected = {"net_power": 14.96, "net_power_lower": 13.96, "net_power_upper": 15.96}

    model = open_with(tmp_path, {"model.onnx": brought}, expected)

    assert answer(model, ambient_temperature=15.5)["net_power"] == pytest.approx(15.5)


@pytest.mark.parametrize("files", [{"model.npz": b"PK nothing"}, {"model.onnx": b"nothing"}, {"other": b""}])
def test_unreadable_model_is_an_invalid_artifact(files: dict[str, bytes], tmp_path: Path) -> None:
    """Whichever file it is in, and where there is none."""
    if "model.onnx" in files:
        pytest.importorskip("onnxruntime")
    with pytest.raises(ArtifactInvalid):
        open_with(tmp_path, files, {})


@pytest.mark.parametrize("field", CONDITION_NAMES)
def test_answer_outside_of_training_is_marked(own: tuple[bytes, dict[str, float]], tmp_path: Path, field: str) -> None:
    """One condition beyond its range is enough; the ends themselves are inside."""
    model = open_with(tmp_path, {"model.npz": own[0]}, own[1])

    assert not answer(model)["extrapolated"]
    assert not answer(model, **{field: ROW[field] + 1})["extrapolated"]
    assert answer(model, **{field: ROW[field] - 1.01})["extrapolated"]
    assert answer(model, **{field: ROW[field] + 1.01})["extrapolated"]


def test_shipped_model_needs_no_more_than_numpy() -> None:
    """A serving process starts fast and stays small: nothing that trains or draws is imported."""
    code = (
        "import sys\n"
        "from kappawatt.services.plant_power.service import SERVICE\n"
        "from kappawatt.models.artifact import find_artifact\n"
        "from pathlib import Path\n"
        "import kappawatt.services.plant_power as package\n"
        "SERVICE.predictor.open(find_artifact(Path(package.__file__).parent / 'artifacts'))\n"
        "print([name for name in ('onnxruntime', 'onnx', 'scipy', 'sklearn', 'matplotlib') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "[]", done.stderr
