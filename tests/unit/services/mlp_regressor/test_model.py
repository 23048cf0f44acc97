"""The network as it serves: the shipped artifact, its bits, damaged files, and how it is trained."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from kappawatt.columns.json_rows import decode_objects
from kappawatt.errors import ArtifactInvalid, SettingInvalid
from kappawatt.models.artifact import open_artifact
from kappawatt.models.predictor import Model
from kappawatt.models.scores import rmse
from kappawatt.services.mlp_regressor.features import END, features
from kappawatt.services.mlp_regressor.model import CHUNK, HIDDEN_UNITS, Network, fit, pack, unpack
from kappawatt.services.mlp_regressor.service import SERVICE
from kappawatt.services.mlp_regressor.train import points, train
from kappawatt.serving.models import open_model
from kappawatt.settings import Settings


@pytest.fixture(scope="module")
def model() -> Model:
    found = open_model(SERVICE, Settings.read({}))
    assert isinstance(found, Model)
    return found


def test_the_shipped_network_is_as_good_on_fresh_points_as_its_card_says(model: Model) -> None:
    x, y = points(1_000, seed=77)

    predicted = model.fitted.network.predict(features({"x": x}))

    assert rmse(y, predicted["y"]) < 0.005  # the card: 0.0035 on 1,000 other points
    inside = (predicted["y_lower"] <= y) & (y <= predicted["y_upper"])
    assert inside.mean() == pytest.approx(0.9, abs=0.04)


def test_it_beats_a_straight_line_a_hundredfold_and_its_manifest_says_that_interpolation_beats_it(model: Model) -> None:
    metrics = model.manifest.metrics

    assert metrics["fresh_points"]["rmse"] * 100 < metrics["baselines"]["linear"]
    assert metrics["baselines"]["interpolation"] < metrics["fresh_points"]["rmse"]
    assert metrics["wider_range"]["rmse"] > metrics["fresh_points"]["rmse"]


@pytest.mark.parametrize("n", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_row_gets_the_same_bits_alone_and_in_a_batch(model: Model, n: int) -> None:
    position = features({"x": points(n, seed=5)[0]})

    together = model.fitted.network.predict(position)["y"]

    for row in {0, n // 2, n - 1}:
        assert model.fitted.network.predict(position[row : row + 1])["y"][0] == together[row]


def test_numpy_answers_what_scikit_learn_would_have(model: Model) -> None:
    x, y = points(200, seed=6)
    network = fit(features({"x": x}), y)
    fresh = features({"x": points(50, seed=7)[0]})

    by_matrices = (
        np.maximum(fresh @ network.hidden_weights[None, :] + network.hidden_biases, 0) @ network.output_weights
    )

    np.testing.assert_allclose(network.predict(fresh)["y"], by_matrices + network.output_bias, atol=1e-6)


def test_answers_outside_the_training_range_are_marked(model: Model) -> None:
    answer = model.answer(decode_objects([{"x": END - 0.001}, {"x": END + 0.001}], SERVICE.predictor.request))

    assert answer.columns["extrapolated"].tolist() == [False, True]


def test_an_x_beyond_the_pole_is_refused_by_name(model: Model) -> None:
    answer = model.answer(decode_objects([{"x": 1.6}], SERVICE.predictor.request))

    assert answer.rejections[0].message == "x: got 1.6, allowed a number from 0 to 1.5707 rad"


def test_a_network_comes_back_from_its_file_with_the_same_bits(model: Model) -> None:
    network = model.fitted.network

    again = unpack(pack(network))

    assert pack(again) == pack(network)
    assert model.manifest.version.endswith(model.manifest.files["model.npz"][:8])


@pytest.mark.parametrize("fault", ["not a zip", "an array too few", "a wrong shape", "a NaN", "a pickle"])
def test_a_damaged_file_is_refused(model: Model, fault: str) -> None:
    arrays = dict(np.load(io.BytesIO(pack(model.fitted.network))))
    if fault == "an array too few":
        del arrays["half_width"]
    elif fault == "a wrong shape":
        arrays["hidden_weights"] = arrays["hidden_weights"][1:]
    elif fault == "a NaN":
        arrays["output_weights"][3] = np.nan
    elif fault == "a pickle":
        arrays["output_bias"] = np.array({"anything": 1}, dtype=object)
    buffer = io.BytesIO(b"not a zip")
    if fault != "not a zip":
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)

    with pytest.raises(ArtifactInvalid, match=r"model\.npz"):
        unpack(buffer.getvalue())


def test_training_writes_an_artifact_that_serves(tmp_path: Path) -> None:
    (path,) = train(Settings.read({}), out=tmp_path, quick=True)

    trained = SERVICE.predictor.open(open_artifact(path))
    assert (tmp_path / "CURRENT").read_text().strip() == trained.version
    assert trained.manifest.metrics["fresh_points"]["rmse"] < 0.02
    assert isinstance(trained.fitted.network, Network)
    assert len(trained.fitted.network.hidden_weights) == HIDDEN_UNITS


def test_training_without_scikit_learn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.neural_network", None)

    with pytest.raises(SettingInvalid, match=r"pip install 'kappawatt\[mlp-regressor-train\]'"):
        fit(np.zeros((1, 1)), np.zeros(1))


def test_serving_imports_no_scikit_learn() -> None:
    import subprocess

    code = "from kappawatt.services.mlp_regressor.service import SERVICE; import sys; print('sklearn' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
