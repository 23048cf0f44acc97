"""From what training made to an artifact: manifest, and a version named after the files' own hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from kappawatt.models.artifact import CURRENT, MANIFEST, Artifact, Manifest, open_artifact, save_artifact, write_whole

__all__ = ["Trained", "make_current", "publish"]


@dataclass(frozen=True, slots=True)
class Trained:
    """What is to become an artifact.

    Parameters
    ----------
    kind : str
        `default` or `baseline`.
    files : mapping of str to bytes
        What the model's `load` reads.
    data : mapping
        `source`, `sha256`, `rows`, and whatever else says what it was fitted to.
    metrics : mapping
        By protocol.
    libraries : sequence of str
        Distributions whose versions are noted, where they are installed.
    training_range : mapping of str to (float, float)
        Smallest and largest value of each request field in the training data.
    """

    kind: str
    files: Mapping[str, bytes]
    data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    libraries: Sequence[str]
    training_range: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def publish(
    out: Path, model: str, feature_names: tuple[str, ...], trained: Trained, example: Mapping[str, Any]
) -> Artifact:
    """Write an artifact below `out` and return it; the same files again keep their name and date.

    Parameters
    ----------
    model : str
        Name of the predictor or forecaster that will load it.
    feature_names : tuple of str
        What it was fitted to, in order.
    example : mapping
        `request` and `answer`, which the model has to give when it is opened.
    """
    digest = hashlib.sha256()
    for name in sorted(trained.files):
        digest.update(name.encode() + trained.files[name])
    folder = out / f"{trained.kind}-{digest.hexdigest()[:8]}"
    created = datetime.now(UTC).isoformat(timespec="seconds")
    if (folder / MANIFEST).exists():
        created = open_artifact(folder).manifest.created
    manifest = Manifest(
        model=model,
        version=folder.name,
        kind=trained.kind,
        created=created,
        data=trained.data,
        feature_names=feature_names,
        training_range=trained.training_range,
        metrics=trained.metrics,
        libraries=_versions(trained.libraries),
        files={},
        example=example,
    )
    return save_artifact(folder, trained.files, manifest)


def make_current(out: Path, artifact: Artifact) -> None:
    """Have `out` serve this version where none is asked for."""
    write_whole(out / CURRENT, f"{artifact.manifest.version}\n".encode())


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
