"""What a service is made of, and how to find one by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kappawatt.bus.topic import Topic, dead_letter
from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.models.predictor import Predictor

if TYPE_CHECKING:
    from flask import Flask

    from kappawatt.serving.context import Context
    from kappawatt.serving.doors.classic import ClassicRows
    from kappawatt.settings import Settings

__all__ = ["Service", "Stream", "find_service", "service_names"]

PACKAGE = "kappawatt.services"


@dataclass(frozen=True, slots=True)
class Stream:
    """Where a predictor reads and writes on the bus."""

    source: Topic
    output: Topic
    errors: Topic | None = None  # of a forecasting service: realised errors

    @property
    def dead(self) -> Topic:
        """Where messages go that cannot be answered."""
        return dead_letter(self.source)


@dataclass(frozen=True, slots=True)
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
    predictor : Predictor, Forecaster or None
        What answers; None for a service that is no model.
    stream : Stream or None
        Topics of `kappawatt consume`.
    routes : callable or None
        Adds routes of its own to the app: (app, context) -> None.
    check : callable or None
        Raises SettingInvalid if the service cannot run with some settings; asked before serving starts.
    train : callable or None
        `kappawatt train`: (settings, options) -> None.
    backtest : callable or None
        `kappawatt backtest` of a service that predicts: (settings, as_json) -> None.
    fit : callable or None
        `kappawatt backtest` of a service that forecasts: how a model is trained, see `evaluation.backtest.Fit`.
    retrain : str
        How often the backtest trains if it is not told, a key of `kappawatt.evaluation.backtest.RETRAIN`.
    classic : ClassicRows or None
        Rows of features or timestamps that `/invocations` answers too, by a plain regression in the same artifact.
    threads : int
        Threads a serving process needs (streams of events hold one each).
    """

    name: str
    summary: str
    port: int
    predictor: Predictor | Forecaster | None = None
    stream: Stream | None = None
    routes: Callable[[Flask, Context], None] | None = None
    check: Callable[[Settings], None] | None = None
    train: Callable[..., Any] | None = None
    backtest: Callable[..., Any] | None = None
    fit: Callable[..., Any] | None = None
    retrain: str = "weekly"
    classic: ClassicRows | None = None
    threads: int = 4

    @property
    def folder(self) -> Path:
        """The service's folder, where its model card and shipped artifacts are."""
        package = importlib.import_module(f"{PACKAGE}.{self.name.replace('-', '_')}")
        return Path(package.__path__[0])


def service_names() -> list[str]:
    """Return the names of all services there are: the folders with a `service.py`."""
    package = importlib.import_module(PACKAGE)
    folders = {path for root in package.__path__ for path in Path(root).glob("*/service.py")}
    return sorted(path.parent.name.replace("_", "-") for path in folders)


def find_service(name: str) -> Service:
    """Return the service `name`; SettingInvalid names those there are."""
    if name not in service_names():
        raise SettingInvalid(f"service: got {name!r}, allowed {', '.join(service_names())}")
    module = importlib.import_module(f"{PACKAGE}.{name.replace('-', '_')}.service")
    service: Service = module.SERVICE
    return service
