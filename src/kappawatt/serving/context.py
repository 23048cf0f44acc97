"""What routes may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kappawatt.serving.models import Models
from kappawatt.serving.server.drain import Drain
from kappawatt.serving.server.fast_lane import Lane
from kappawatt.serving.service import Service
from kappawatt.settings import Settings
from kappawatt.telemetry import Telemetry

if TYPE_CHECKING:
    from kappawatt.serving.histories import Histories

__all__ = ["Context"]


@dataclass(slots=True)
class Context:
    """What routes may use: the service, its settings and telemetry, its models, the
    histories it keeps, and what readiness asks.

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
    models: Models | None = None
    histories: Histories | None = None
    ready: list[Callable[[], str | None]] = field(default_factory=list)
    alive: list[Callable[[], str | None]] = field(default_factory=list)
    lanes: dict[str, tuple[str, Lane]] = field(default_factory=dict)
    drain: Drain = field(default_factory=Drain)
