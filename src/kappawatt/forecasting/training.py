"""From a fitted forecaster to an artifact: manifest, example, version from the files' own hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.model import ForecastModel, open_forecaster
from kappawatt.forecasting.request import example_request, read_forecast_request
from kappawatt.models.artifact import Artifact, Manifest, open_artifact, save_artifact

__all__ = ["Trained", "make_current", "save_trained"]

EXAMPLE_KEY = "example"


@dataclass(frozen=True, slots=True)
class Trained:
    """What is to become an artifact.

    Parameters
    ----------
    kind : str
        `default` or `baseline`.
    files : mapping of str to bytes
        What the forecaster's `load` reads.
    data : mapping
        `source`, `sha256`, `rows`, and whatever else says what it was fitted to.
    metrics : mapping
        By protocol.
    libraries : sequence of str
        Distributions whose versions are noted.
    """

    kind: str
    files: Mapping[str, bytes]
    data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    libraries: Sequence[str]


def save_trained(out: Path, forecaster: Forecaster, trained: Trained) -> Artifact:
    """Write an artifact below `out`; its example is answered by the model as it is loaded again from its files."""
    digest = hashlib.sha256()
    for name in sorted(trained.files):
        digest.update(name.encode() + trained.files[name])
    folder = out / f"{trained.kind}-{digest.hexdigest()[:8]}"
    request = example_request(forecaster, EXAMPLE_KEY)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    if (folder / "manifest.json").exists():
        created = open_artifact(folder).manifest.created  # the same model once more
    manifest = Manifest(
        model=forecaster.name,
        version=folder.name,
        kind=trained.kind,
        created=created,
        data=trained.data,
        feature_names=forecaster.feature_names,
        training_range={},
        metrics=trained.metrics,
        libraries=_versions(trained.libraries),
        files={},
        example={"request": request, "answer": {}},
    )
    first = save_artifact(folder, trained.files, manifest)
    model = ForecastModel(forecaster, forecaster.load(first), first.manifest)
    history, targets, issue_time = read_forecast_request(request, forecaster)
    median = model.issue(history.until(issue_time), targets).fan.median
    answer = {forecaster.target: [float(f"{value:.9g}") for value in median]}
    save_artifact(folder, trained.files, replace(manifest, example={"request": request, "answer": answer}))
    open_forecaster(forecaster, open_artifact(folder))
    return open_artifact(folder)


def make_current(out: Path, artifact: Artifact) -> None:
    """Have `out` serve this version where none is asked for."""
    (out / "CURRENT").write_text(artifact.manifest.version + "\n")


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
