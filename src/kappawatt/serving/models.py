"""The models a serving process holds: the current version, and others asked for by name."""

from __future__ import annotations

import logging
import threading
from functools import cached_property
from pathlib import Path

from kappawatt.errors import ArtifactInvalid, ModelNotFound, NotReady, SettingInvalid
from kappawatt.forecasting.forecaster import Forecaster, Lookup
from kappawatt.forecasting.model import ForecastModel, open_forecaster
from kappawatt.models.artifact import find_artifact, versions
from kappawatt.models.predictor import Model
from kappawatt.serving.service import Service
from kappawatt.settings import Settings
from kappawatt.telemetry import Telemetry

__all__ = ["AnyModel", "Models", "artifact_root", "open_model"]

log = logging.getLogger(__name__)

AnyModel = Model | ForecastModel

MOST_VERSIONS = 4  # held in memory at once besides the current one


def artifact_root(service: Service, settings: Settings) -> Path:
    """Return the folder of the service's model versions."""
    root = settings.artifacts
    if root is None:
        return service.folder / "artifacts"
    named = root / service.name
    return named if named.is_dir() else root


def open_model(
    service: Service, settings: Settings, version: str | None = None, lookup: Lookup | None = None
) -> AnyModel:
    """Load a version (None: the pinned or current one) and have it answer its example.

    Parameters
    ----------
    lookup : callable, optional
        Where a forecasting model finds the history of a series that a request only names.
    """
    assert service.predictor is not None
    artifact = find_artifact(artifact_root(service, settings), version or settings.model_version or None)
    if isinstance(service.predictor, Forecaster):
        return open_forecaster(service.predictor, artifact, lookup)
    return service.predictor.open(artifact)


class Models:
    """Loads in `__init__`, so that a process which listens can answer; a failure is kept for readiness."""

    def __init__(
        self, service: Service, settings: Settings, telemetry: Telemetry, lookup: Lookup | None = None
    ) -> None:
        self._service = service
        self._settings = settings
        self._lookup = lookup
        self._lock = threading.Lock()
        self._others: dict[str, AnyModel] = {}
        self._current: AnyModel | None = None
        self._reason: str | None = None
        try:
            self._current = open_model(service, settings, lookup=lookup)
            telemetry.serves(self._current.name, self._current.version)
        except (ArtifactInvalid, ModelNotFound, SettingInvalid) as error:
            self._reason = f"model {service.name}: {error}"
            log.error("model does not load", extra={"error": str(error)})

    def why_not_ready(self) -> str | None:
        """Return None if the current model answers, else why it does not."""
        return self._reason

    @cached_property
    def classic(self) -> Model | None:
        """The plain regression that answers classic rows; None if the service or its current version has none."""
        classic = self._service.classic
        if classic is None:
            return None
        artifact = find_artifact(artifact_root(self._service, self._settings), self.current.version)
        try:
            return Model(classic.predictor, classic.predictor.load(artifact), artifact.manifest)
        except ArtifactInvalid as error:
            log.info("no classic rows", extra={"version": self.current.version, "error": str(error)})
            return None

    @property
    def current(self) -> AnyModel:
        """The current model; NotReady if it does not load."""
        if self._current is None:
            raise NotReady(self._reason or "no model")
        return self._current

    def versions(self) -> list[str]:
        """Return all versions that can be asked for, the current one first."""
        current = self.current.version
        stored = versions(artifact_root(self._service, self._settings))
        return [current, *(v for v in stored if v != current)]

    def get(self, version: str | None) -> AnyModel:
        """Return a version; ModelNotFound if there is none of that name."""
        if version is None or version == self.current.version:
            return self.current
        with self._lock:
            if version not in self._others:
                if version not in self.versions():
                    raise ModelNotFound(f"version: got {version[:80]!r}, allowed {', '.join(self.versions())}")
                if len(self._others) >= MOST_VERSIONS:
                    self._others.pop(next(iter(self._others)))
                self._others[version] = open_model(self._service, self._settings, version, self._lookup)
            return self._others[version]
