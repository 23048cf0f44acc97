"""The models a serving process holds: the current version, and others asked for by name."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from kappawatt.errors import ArtifactInvalid, ExtraMissing, ModelNotFound, NotReady, SettingInvalid
from kappawatt.models.artifact import Artifact, find_artifact, versions
from kappawatt.models.opening import AnyModel, Described, open_with
from kappawatt.serving.service import Context

__all__ = ["Models"]

log = logging.getLogger(__name__)

MOST_VERSIONS = 4  # held in memory at once besides the current one

M = TypeVar("M", bound=AnyModel)


class Models(Generic[M]):
    """Loads in `__init__`, so that a process which listens can answer; a failure is kept for readiness.

    Parameters
    ----------
    context : Context
        Whose service, settings and telemetry.
    predictor : Described
        What they are models of.
    open_model : callable
        Artifact to a model that has answered its own example.
    """

    def __init__(self, context: Context, predictor: Described, open_model: Callable[[Artifact], M]) -> None:
        self.predictor = predictor
        self._root: Path = context.service.artifacts(context.settings)
        self._open = open_model
        self._lock = threading.Lock()
        self._others: dict[str, M] = {}
        self._current: M | None = None
        self._reason: str | None = None
        self._missing: ExtraMissing | None = None
        try:
            self._current = open_with(open_model, context.service.artifact(context.settings))
            context.telemetry.serves(self._current.name, self._current.version)
        except (ArtifactInvalid, ExtraMissing, ModelNotFound, SettingInvalid) as error:
            self._reason = f"model {context.service.name}: {error}"
            self._missing = error if isinstance(error, ExtraMissing) else None
            log.error("model does not load", extra={"error": str(error)})

    def why_not_ready(self) -> str | None:
        """Return None if the current model answers, else why it does not."""
        return self._reason

    @property
    def current(self) -> M:
        """The current model; NotReady if it does not load, ExtraMissing if that is for want of a package."""
        if self._missing is not None:
            raise self._missing
        if self._current is None:
            raise NotReady(self._reason or "no model")
        return self._current

    def artifact(self) -> Artifact:
        """Return the artifact of the current model."""
        return find_artifact(self._root, self.current.version)

    def versions(self) -> list[str]:
        """Return all versions that can be asked for, the current one first if it is open."""
        first = [] if self._current is None else [self._current.version]
        return [*first, *(v for v in versions(self._root) if v not in first)]

    def get(self, version: str | None) -> M:
        """Return a version, or the newest of a kind.

        Raises
        ------
        ModelNotFound
            There is none of that name, or it is damaged.
        ExtraMissing
            It needs a package that is not installed here.
        """
        if version is None:
            return self.current
        current = self._current
        if current is not None and version == current.version:
            return current
        with self._lock:
            if version in self._others:
                return self._others[version]
            try:
                artifact = find_artifact(self._root, version)
                found = artifact.manifest.version  # of a kind
                if current is not None and found == current.version:
                    return current
                if found not in self._others:
                    model = open_with(self._open, artifact)
                    if len(self._others) >= MOST_VERSIONS:
                        self._others.pop(next(iter(self._others)))
                    self._others[found] = model
            except ArtifactInvalid as error:  # its path is for the log, not for whoever asks
                log.error("model does not load", extra={"version": version[:80], "error": str(error)})
                raise ModelNotFound(f"version: got {version[:80]!r}, which is damaged, allowed another") from None
            return self._others[found]
