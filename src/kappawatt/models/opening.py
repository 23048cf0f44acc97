"""What every model can be asked, whatever its kind, and where its versions are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from kappawatt.columns.batch import Answer, Batch
from kappawatt.columns.schema import Schema
from kappawatt.errors import ArtifactInvalid, ExtraMissing, SettingInvalid
from kappawatt.models.artifact import Artifact, Manifest

__all__ = ["AnyModel", "Described", "artifact_root", "open_with", "opening", "require_made_for"]

M = TypeVar("M")


class Described(Protocol):
    """What is known of a model before it is opened."""

    @property
    def name(self) -> str:
        """As users write it."""
        ...

    @property
    def request(self) -> Schema:
        """Of a row that is asked."""
        ...

    @property
    def response(self) -> Schema:
        """Of a row that is answered."""
        ...

    @property
    def target(self) -> str:
        """The response field that measurements are compared with."""
        ...

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What an artifact must have been made for."""
        ...


class AnyModel(Protocol):
    """A model that was opened: it answers batches, row by row in the same order."""

    @property
    def predictor(self) -> Described:
        """What it is a model of."""
        ...

    @property
    def fitted(self) -> Any:
        """What training made."""
        ...

    @property
    def manifest(self) -> Manifest:
        """Of its artifact."""
        ...

    @property
    def name(self) -> str:
        """The predictor's name."""
        ...

    @property
    def version(self) -> str:
        """The artifact's version."""
        ...

    def answer(self, batch: Batch) -> Answer:
        """Answer all valid rows of `batch`; never fails as a whole for one bad row."""
        ...


def require_made_for(described: Described, manifest: Manifest) -> None:
    """Raise ArtifactInvalid if an artifact was made for another model, or for other features."""
    if manifest.model != described.name:
        raise ArtifactInvalid(f"model: got {manifest.model!r}, allowed {described.name!r}")
    if manifest.feature_names != described.feature_names:
        raise ArtifactInvalid(f"feature_names: got {manifest.feature_names}, allowed {described.feature_names}")


@contextmanager
def opening(described: Described, manifest: Manifest) -> Iterator[None]:
    """Have whatever goes wrong while a model is opened, and asked its example, be ArtifactInvalid.

    A file whose hash is right and a manifest whose fields have the right types may still not belong together, in more
    ways than can be foreseen. What this machine lacks (a package, memory) stays what it is.
    """
    require_made_for(described, manifest)
    try:
        yield
    except (ArtifactInvalid, ExtraMissing, SettingInvalid, ImportError, MemoryError):
        raise
    except Exception as error:
        found = f"{type(error).__name__} ({str(error)[:200]})"
        allowed = "what `kappawatt train` writes"
        raise ArtifactInvalid(f"{manifest.model} {manifest.version}: got {found}, allowed {allowed}") from error


def open_with(open_model: Callable[[Artifact], M], artifact: Artifact) -> M:
    """Return the model of an artifact; ExtraMissing if a package that it needs is not installed."""
    try:
        return open_model(artifact)
    except ModuleNotFoundError as error:
        raise ExtraMissing.of(error.name, artifact.manifest.model) from error


def artifact_root(name: str, root: Path) -> Path:
    """Return the folder of a service's model versions below a folder that may hold those of several."""
    named = root / name
    return named if named.is_dir() else root
