"""The archive: the same bytes each time, and nothing in it but the artifact."""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from kappawatt.deploy.aws.pack import pack_artifact
from kappawatt.deploy.aws.sample import answer_here, same_answer, sample_of
from kappawatt.errors import ArtifactInvalid, PayloadInvalid
from kappawatt.models.artifact import Artifact, find_artifact, open_artifact
from kappawatt.serving.models import artifact_root, open_model
from kappawatt.serving.service import Service, find_service, service_names
from kappawatt.settings import Settings
from tests import forecast_fakes

MODELS = [n for n in service_names() if (find_service(n).folder / "artifacts" / "CURRENT").exists()]


def shipped(service: Service) -> Artifact:
    return find_artifact(artifact_root(service, Settings.read({})))


@pytest.fixture(params=MODELS)
def service(request: pytest.FixtureRequest) -> Service:
    return find_service(request.param)


def test_the_same_artifact_gives_the_same_bytes(service: Service, tmp_path: Path) -> None:
    artifact = shipped(service)
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for name in sorted([*artifact.manifest.files, "manifest.json"], reverse=True):
        (copy / name).write_bytes((artifact.path / name).read_bytes())
        os.utime(copy / name, (1, 1))
    (copy / "notes.txt").write_text("no part of the artifact")

    first, second = pack_artifact(artifact), pack_artifact(open_artifact(copy))

    assert first.content == second.content
    assert first.checksum == second.checksum


def test_an_unpacked_archive_is_an_artifact_that_answers(service: Service, tmp_path: Path) -> None:
    archive = pack_artifact(shipped(service))

    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        entries = tar.getmembers()
        tar.extractall(tmp_path, filter="data")

    assert open_model(service, Settings.read({}, artifacts=tmp_path)).version == archive.version
    assert [e.name for e in entries] == sorted(e.name for e in entries)
    assert {(e.mtime, e.uid, e.gid, e.uname, e.gname, e.mode) for e in entries} == {(0, 0, 0, "", "", 0o644)}


def test_a_damaged_artifact_is_not_packed(service: Service, tmp_path: Path) -> None:
    artifact = shipped(service)
    name = next(iter(artifact.manifest.files))
    (tmp_path / name).write_bytes(artifact.read(name) + b" ")
    (tmp_path / "manifest.json").write_bytes((artifact.path / "manifest.json").read_bytes())

    with pytest.raises(ArtifactInvalid, match="sha256"):
        pack_artifact(open_artifact(tmp_path))


def test_the_sample_is_the_example_and_is_answered_as_the_manifest_says(service: Service, settings: Settings) -> None:
    settings = replace(settings, artifacts=None)
    artifact = shipped(service)
    assert service.predictor is not None

    answer = answer_here(service, settings, sample_of(service.predictor, artifact.manifest))

    target = artifact.manifest.example["answer"][service.predictor.target]
    expected = target if isinstance(target, list) else [target]
    assert same_answer("\n".join(answer.split()[-len(expected) :]), "\n".join(map(str, expected)))


def test_a_forecaster_is_asked_with_its_history_and_empty_hours(tmp_path: Path, settings: Settings) -> None:
    artifact = forecast_fakes.write_artifact(tmp_path / "artifacts")

    sample = sample_of(forecast_fakes.FORECASTER, artifact.manifest)

    lines = sample.decode().splitlines()
    assert lines[0] == "interval_start,load"
    assert len(lines) == 1 + 21 * 24 + 24
    assert [line.endswith(",") for line in lines].count(True) == 24
    answer = answer_here(forecast_fakes.SERVICE, settings, sample)
    expected = "\n".join(map(str, artifact.manifest.example["answer"]["load"]))
    assert same_answer("\n".join(answer.split()[-24:]), expected)


def test_a_sample_that_the_model_refuses_is_refused_before_anything_is_made(settings: Settings) -> None:
    service = find_service("plant-power")

    with pytest.raises(PayloadInvalid, match="exhaust_vacuum: got"):
        answer_here(service, replace(settings, artifacts=None), b"14.96,812,1024.07,73.17\n")


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        ("463.418\n", "463.4180001\r\n", True),
        ("463.418\n", "463.5\n", False),
        ("1\n2\n", "1\n", False),
        ("1,true,\n", "1,true,\n", True),
        ("body", "463.418", False),
        ("nan", "463.418", False),
    ],
)
def test_answers_agree_to_within_rounding(got: str, expected: str, same: bool) -> None:
    assert same_answer(got, expected) is same
