"""What a service is made of, and how to find one by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from kappawatt.columns.budget import Budget
from kappawatt.errors import ModelNotFound, SettingInvalid
from kappawatt.models.artifact import Artifact, Manifest, find_artifact
from kappawatt.models.opening import AnyModel, Described, artifact_root, open_with
from kappawatt.serving.server.drain import Drain
from kappawatt.serving.server.fast_lane import Lane
from kappawatt.settings import Settings
from kappawatt.streams.stream import Stream, load_entry
from kappawatt.telemetry import Telemetry

if TYPE_CHECKING:
    from flask import Flask

    from kappawatt.bus.interface import Bus
    from kappawatt.bus.standing import Standing
    from kappawatt.evaluation.backtest import Rolling
    from kappawatt.serving.probes import Finding
    from kappawatt.worker.interface import Answers

__all__ = ["GROUP", "Context", "Loop", "ModelKind", "OpenedModels", "Service", "find_service", "service_names"]

PACKAGE = "kappawatt.services"
GROUP = "kappawatt.services"  # of entry points: services in packages of their own
PROBE_PORT_OFFSET = 100
PIN = "KAPPAWATT_MODEL_VERSION (--model)"  # as a person knows the setting
NOTHING = np.timedelta64(0, "ms")

M = TypeVar("M", bound=AnyModel)


class Loop(Protocol):
    """What works until it is stopped: a worker, a sink, a crawler."""

    def run(self) -> None:
        """Work until `stop` is called."""
        ...

    @property
    def standing(self) -> Standing:
        """How it stands on the bus, for probes."""
        ...

    def stop(self) -> None:
        """Finish what is at hand, and return from `run`.

        Takes a lock, so never called in a signal handler: `kappawatt.signals`.
        """
        ...


class OpenedModels(Protocol):
    """The models a process answers with."""

    def why_not_ready(self) -> str | None:
        """Return None if the current model answers, else why it does not."""
        ...

    @property
    def current(self) -> AnyModel:
        """The current model; NotReady if it does not load."""
        ...


class AnswersOf(Protocol):
    """Makes what answers polls of a stream into an output topic."""

    def __call__(
        self,
        model: Any,
        bus: Bus,
        stream: Stream,
        output: str,
        settings: Settings,
        *,
        alive: Callable[[], None] = ...,
        slice_seconds: float = ...,
    ) -> Answers:
        """Return it.

        Parameters
        ----------
        settings : Settings
            How answers travel; of forecasts, when they are updated and whose holidays series have.
        alive : callable, optional
            Told now and then where reading histories takes minutes.
        slice_seconds : float
            After which reading histories gives way to a poll; never if absent.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModelKind(Generic[M]):
    """How a model of one kind meets every place it runs; `kappawatt.serving.kinds` has those there are.

    Parameters
    ----------
    predictor : Described
        Name, schemas and target.
    open : callable
        (artifact, lookup or None) to a model that has answered its own example.
    doors : callable
        (app, context) to the models that answer: opens them and adds the routes that ask them.
    answers : callable
        What answers polls of the stream, see `AnswersOf`.
    probe : callable
        (bus, service name, stream, output topic, seconds): how `kappawatt doctor` sees whether answers come.
    score : callable
        (model, file) to scores: `kappawatt score`.
    sample : callable
        Manifest to a request's body as CSV, of the model's own example.
    looks_back : timedelta64
        Of history an answer needs.
    needs_history : bool
        Whether an answer depends on more than its row: then a function that sees one event cannot give it.
    most_records : int or None
        Most messages in one poll, where answering one takes long.
    rolling : Rolling or None
        How a rolling backtest trains and asks it.
    series_bytes : callable or None
        (whether in a worker) to the most memory that one series takes [bytes]; None if it keeps none.
    """

    predictor: Described
    open: Callable[[Artifact, Any], M]
    doors: Callable[[Flask, Context], OpenedModels]
    answers: AnswersOf
    probe: Callable[[Bus, str, Stream, str, float], Finding]
    score: Callable[[M, Path], dict[str, Any]]
    sample: Callable[[Manifest], bytes]
    looks_back: np.timedelta64 = NOTHING
    needs_history: bool = False
    most_records: int | None = None
    rolling: Rolling | None = None
    series_bytes: Callable[[bool], int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service: a record that names its parts. gunicorn, the worker and the CLI build themselves from it.

    Parameters
    ----------
    name : str
        As users write it (`plant-power`); its folder is the same with underscores.
    summary : str
        One sentence, shown in OpenAPI and `--help`.
    port : int
        Default port of `serve`; `consume` answers probes on this plus 100.
    model : ModelKind or None
        What answers; None for a service that is no model. `predicts` and `forecasts` of `serving.kinds` make it.
    stream : Stream or None
        What it answers on the bus.
    work : callable or None
        (app, context) to the loop of `kappawatt consume`.
    is_one_process : bool
        Whether that loop's process answers the routes too, on `port`: what both use cannot be shared.
    routes : callable or None
        Adds routes of its own to the app: (app, context) -> None.
    check : callable or None
        Raises SettingInvalid if the service cannot run with some settings; asked before serving starts.
    train : callable or None
        `kappawatt train`: (settings, options) -> None.
    backtest : callable or None
        `kappawatt backtest` by a published protocol: (settings, as_json) -> None.
    threads : int
        Threads a serving process needs (streams of events hold one each).
    """

    name: str
    summary: str
    port: int
    model: ModelKind[Any] | None = None
    stream: Stream | None = None
    work: Callable[[Flask, Context], Loop] | None = None
    is_one_process: bool = False
    routes: Callable[[Flask, Context], None] | None = None
    check: Callable[[Settings], None] | None = None
    train: Callable[..., Any] | None = None
    backtest: Callable[..., Any] | None = None
    threads: int = 4

    @property
    def folder(self) -> Path:
        """The service's folder, where its model card and shipped artifacts are."""
        package = importlib.import_module(_module_of(self.name).rpartition(".")[0])
        return Path(package.__path__[0])

    @property
    def work_port(self) -> int:
        """Default port of `consume`: probes and metrics, and the routes of a service that is one process."""
        return self.port if self.is_one_process else self.port + PROBE_PORT_OFFSET

    def modelled(self) -> ModelKind[Any]:
        """Return the model's kind; SettingInvalid if the service is no model."""
        if self.model is None:
            raise SettingInvalid(f"{self.name} has no model")
        return self.model

    def streamed(self) -> Stream:
        """Return the stream; SettingInvalid if the service answers none."""
        if self.stream is None:
            raise SettingInvalid(f"{self.name} reads no topic")
        return self.stream

    def artifacts(self, settings: Settings) -> Path:
        """Return the folder of its model versions: the one settings name, or the one it ships."""
        if settings.artifacts is None:
            return self.folder / "artifacts"
        return artifact_root(self.name, settings.artifacts)

    def artifact(self, settings: Settings, version: str | None = None) -> Artifact:
        """Return the artifact of a version or kind (None: the pinned or current one).

        Raises
        ------
        ModelNotFound
            There is no such version, or no current one.
        SettingInvalid
            The version that settings pin is not there, or they name a service that is not, or has no model.
        """
        root = self.artifacts(settings)
        if version is not None:
            return find_artifact(root, version)
        for name in settings.pins():
            if name not in (None, self.name) and not _has_model(name):
                allowed = ", ".join(name for name in service_names() if _has_model(name))
                raise SettingInvalid.of(f"{PIN}: service", repr(name), allowed)
        pinned = settings.pinned(self.name)
        try:
            return find_artifact(root, pinned)
        except ModelNotFound as error:
            if pinned is None:
                raise
            raise SettingInvalid(f"{PIN}: {self.name} {error}") from None

    def open(self, settings: Settings, version: str | None = None, lookup: Any = None) -> AnyModel:
        """Load a version or kind (None: the pinned or current one) and have it answer its example.

        Parameters
        ----------
        lookup : callable, optional
            Where a forecasting model finds the history of a series that a request only names.
        """
        kind = self.modelled()
        model: AnyModel = open_with(lambda artifact: kind.open(artifact, lookup), self.artifact(settings, version))
        return model


@dataclass(slots=True)
class Context:
    """What routes may use: the service, its settings and telemetry, and what readiness asks.

    Parameters
    ----------
    ready : list of callable
        Each returns None, or why the process cannot answer yet.
    alive : list of callable
        Each returns None, or why the process should be restarted.
    lanes : dict of str to (str, Lane)
        Paths that `FastLane` answers before Flask.
    drain : Drain
        Whether the process was told to end; a route with answers that do not end by themselves asks to be told.
    """

    service: Service
    settings: Settings
    telemetry: Telemetry
    ready: list[Callable[[], str | None]] = field(default_factory=list)
    alive: list[Callable[[], str | None]] = field(default_factory=list)
    lanes: dict[str, tuple[str, Lane]] = field(default_factory=dict)
    drain: Drain = field(default_factory=Drain)

    @property
    def budget(self) -> Budget:
        """What one body may become."""
        return Budget.of(self.settings.max_body_bytes)


def service_names() -> list[str]:
    """Return the names of all services there are: folders with a `service.py`, and entry points of other packages."""
    return sorted(_own_names() | _entries().keys())


def find_service(name: str) -> Service:
    """Return the service `name`; SettingInvalid names those there are."""
    if name not in service_names():
        raise SettingInvalid.of("service", repr(name), ", ".join(service_names()))
    entry = _entries().get(name)
    service = importlib.import_module(_module_of(name)).SERVICE if entry is None else load_entry(entry)
    if not isinstance(service, Service) or service.name != name:
        raise SettingInvalid.of(f"service {name}", repr(getattr(service, "name", service)), "a Service of that name")
    return service


def _has_model(name: str) -> bool:
    return name in service_names() and find_service(name).model is not None


def _own_names() -> set[str]:
    package = importlib.import_module(PACKAGE)
    folders = {path for root in package.__path__ for path in Path(root).glob("*/service.py")}
    return {path.parent.name.replace("_", "-") for path in folders}


@cache
def _entries() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in found or entry.name in _own_names():
            raise SettingInvalid.of(f"entry point of {GROUP}", entry.name, "a name that no other service has")
        found[entry.name] = entry
    return found


def _module_of(name: str) -> str:
    entry = _entries().get(name)
    return f"{PACKAGE}.{name.replace('-', '_')}.service" if entry is None else entry.module
