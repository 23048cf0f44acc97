"""Model.answer: row for row, and never as a whole."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kappawatt.columns.json_rows import decode_objects
from kappawatt.errors import ArtifactInvalid, ModelNotFound
from kappawatt.models.artifact import find_artifact, open_artifact, versions
from kappawatt.streams.plant import READING
from tests import fakes
from tests.fakes import EXAMPLE, POISON, PREDICTOR


def test_good_rows_are_answered_beside_bad_ones(tmp_path: Path) -> None:
    rows = [EXAMPLE, {"ambient_temperature": 1}, EXAMPLE | {"ambient_temperature": 10}, "x", EXAMPLE]

    answer = fakes.model(tmp_path).answer(decode_objects(rows, READING))

    assert answer.valid.tolist() == [True, False, True, False, True]
    assert answer.columns["net_power"][[0, 2, 4]].tolist() == [500 - 2 * 14.96, 480.0, 500 - 2 * 14.96]
    assert np.isnan(answer.columns["net_power"][[1, 3]]).all()
    assert {r.row for r in answer.rejections} == {1, 3}


@pytest.mark.parametrize("poisoned", [[0], [6], [2, 3], [0, 1, 2, 3, 4, 5, 6]])
def test_a_row_the_model_fails_on_is_found_and_the_others_answered(tmp_path: Path, poisoned: list[int]) -> None:
    rows = [EXAMPLE | {"ambient_temperature": POISON if i in poisoned else float(i)} for i in range(7)]

    answer = fakes.model(tmp_path).answer(decode_objects(rows, READING))

    assert np.flatnonzero(~answer.valid).tolist() == poisoned
    assert [(r.row, r.code) for r in answer.rejections] == [(row, "model_failed") for row in poisoned]
    good = [i for i in range(7) if i not in poisoned]
    assert answer.columns["net_power"][good].tolist() == [500 - 2.0 * i for i in good]


def test_a_batch_without_a_valid_row_is_answered_with_rejections_only(tmp_path: Path) -> None:
    answer = fakes.model(tmp_path).answer(decode_objects([{}, {}], READING))

    assert not answer.valid.any()
    assert len(answer) == 2


def test_an_artifact_that_answers_its_example_differently_is_refused(tmp_path: Path) -> None:
    artifact = fakes.write_artifact(tmp_path, example={"request": EXAMPLE, "answer": {"net_power": 400.0}})
    with pytest.raises(ArtifactInvalid, match=r"example: net_power: got 470\.08, allowed 400"):
        PREDICTOR.open(artifact)


def test_an_artifact_made_for_other_features_is_refused(tmp_path: Path) -> None:
    artifact = fakes.write_artifact(tmp_path, feature_names=("wind",))
    with pytest.raises(ArtifactInvalid, match="feature_names: got"):
        PREDICTOR.open(artifact)


def test_an_artifact_of_another_model_is_refused(tmp_path: Path) -> None:
    artifact = fakes.write_artifact(tmp_path)
    with pytest.raises(ArtifactInvalid, match="model: got 'fake-power', allowed 'other'"):
        replace(PREDICTOR, name="other").open(artifact)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    artifact = fakes.write_artifact(tmp_path)
    (artifact.path / "offset.txt").write_text("1.0")
    with pytest.raises(ArtifactInvalid, match="sha256"):
        PREDICTOR.open(artifact)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1, "feature_names": []}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    artifact = fakes.write_artifact(tmp_path)
    (artifact.path / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactInvalid, match=r"manifest\.json"):
        open_artifact(artifact.path)


def test_versions_are_found_by_name_and_the_current_one_without(tmp_path: Path) -> None:
    fakes.write_artifact(tmp_path, "1")
    fakes.write_artifact(tmp_path, "2")

    assert versions(tmp_path) == ["1", "2"]
    assert find_artifact(tmp_path).manifest.version == "2"
    assert find_artifact(tmp_path, "1").manifest.version == "1"
    assert find_artifact(tmp_path / "1").manifest.version == "1"
    with pytest.raises(ModelNotFound, match="got '3', allowed 1, 2"):
        find_artifact(tmp_path, "3")


def made(root: Path, version: str, kind: str, created: str) -> None:
    artifact = fakes.write_artifact(root, version)
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    (artifact.path / "manifest.json").write_text(json.dumps(manifest | {"kind": kind, "created": created}))


def test_a_kind_means_the_newest_version_of_it(tmp_path: Path) -> None:
    made(tmp_path, "baseline-z", "baseline", "2026-01-01T00:00:00+00:00")
    made(tmp_path, "baseline-a", "baseline", "2026-02-01T00:00:00+00:00")
    made(tmp_path, "default-b", "default", "2026-03-01T00:00:00+00:00")

    assert find_artifact(tmp_path, "baseline").manifest.version == "baseline-a"
    assert find_artifact(tmp_path, "default").manifest.version == "default-b"
    assert find_artifact(tmp_path / "baseline-z", "baseline").manifest.version == "baseline-z"
    allowed = "allowed baseline-a, baseline-z, default-b, or a kind for the newest of it: baseline, default"
    with pytest.raises(ModelNotFound, match=re.escape(allowed)):
        find_artifact(tmp_path, "base")
    with pytest.raises(ModelNotFound, match=r"allowed baseline-z, or a kind for the newest of it: baseline$"):
        find_artifact(tmp_path / "baseline-z", "default")


def test_a_damaged_version_is_left_out_where_another_or_a_kind_is_looked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(tmp_path, "baseline-a", "baseline", "2026-01-01T00:00:00+00:00")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")

    assert versions(tmp_path) == ["baseline-a"]
    assert find_artifact(tmp_path, "baseline").manifest.version == "baseline-a"
    with pytest.raises(ModelNotFound, match="got 'none', allowed baseline-a, or a kind"):
        find_artifact(tmp_path, "none")
    with pytest.raises(ArtifactInvalid, match=r"broken/manifest\.json"):
        find_artifact(tmp_path, "broken")
    assert [record.message for record in caplog.records] == ["model version left out"]


def test_a_version_that_is_called_like_a_kind_is_that_version(tmp_path: Path) -> None:
    made(tmp_path, "baseline", "default", "2026-01-01T00:00:00+00:00")
    made(tmp_path, "baseline-a", "baseline", "2026-02-01T00:00:00+00:00")

    assert find_artifact(tmp_path, "baseline").manifest.version == "baseline"
