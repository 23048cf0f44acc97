"""The parts of a running gateway, made from settings and held together."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from kappawatt.bus import Bus, connect
from kappawatt.bus.topics import PLANT_PREDICTIONS, PLANT_READINGS, dead_letter
from kappawatt.events import plant
from kappawatt.serving.context import Context
from kappawatt.settings import Settings
from services.gateway.access import Access, read_access
from services.gateway.follow import Follower, LagWatch
from services.gateway.hub import Hub
from services.gateway.proxy import Proxy, parse_services
from services.gateway.view import LatestView

__all__ = ["EXTENSION", "Gateway", "check", "open_gateway"]

EXTENSION = "kappawatt.gateway"  # where a test finds the gateway of an app, to stop it
SERVICE = PLANT_PREDICTIONS.producers[0]  # whose workers answer, and whose lag is shown

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything routes use."""

    access: Access
    proxy: Proxy
    view: LatestView
    hub: Hub
    follower: Follower
    lag: LagWatch
    open_bus: Callable[[], Bus]

    def summary(self) -> dict[str, Any]:
        """Return the figures of the dashboard's tiles."""
        return {
            **self.view.summary(self.hub.followed),
            "readings_per_second": self.lag.readings_per_second(),
            "consumer_lag": self.lag.lag(),
            "view": {**self.follower.state(), "streams": self.hub.clients},
        }

    def start(self) -> None:
        """Start reading the bus."""
        self.follower.start()
        self.lag.start()

    def stop(self) -> None:
        """Let streams end, stop reading, close connections."""
        self.hub.close()
        for thread in (self.follower, self.lag):
            thread.stopped.set()
        for thread in (self.follower, self.lag):
            thread.stop()
        self.proxy.close()


def check(settings: Settings) -> None:
    """Raise SettingInvalid if services, keys or rate limit cannot be used, or keys are missing."""
    read_access(settings)
    parse_services(settings.services)


def open_gateway(context: Context) -> Gateway:
    """Return a gateway that reads the bus, set up from settings.

    Raises
    ------
    SettingInvalid
        Services, keys or rate limit cannot be used, or keys are missing.
    """
    settings = context.settings
    access = read_access(settings)
    targets = parse_services(settings.services)

    def open_bus() -> Bus:
        return connect(settings.bus, settings.bus_options())

    view, hub = LatestView(plant.NET_POWER.name), Hub()
    dead = dead_letter(PLANT_READINGS).name
    follower = Follower(
        open_bus,
        view,
        hub,
        context.telemetry,
        stream=PLANT_PREDICTIONS.name,
        source=PLANT_READINGS.name,
        dead=dead,
        service=SERVICE,
    )

    def group() -> str:
        return hub.followed.group if hub.followed is not None else SERVICE

    lag = LagWatch(open_bus, topic=PLANT_READINGS.name, group=group)
    context.ready.append(follower.why_not_ready)
    context.alive += [follower.why_dead, lag.why_dead]
    gateway = Gateway(access, Proxy(targets), view, hub, follower, lag, open_bus)
    _end_streams_on_termination(hub)
    gateway.start()
    return gateway


def _end_streams_on_termination(hub: Hub) -> None:
    """SIGTERM lets requests finish, and a stream never would: end them, then do what was set up before."""
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before):
        return  # nobody drains here, so the signal ends the process anyway

    def terminate(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=hub.close, daemon=True).start()  # a lock may be held by the code interrupted here
        before(number, frame)

    signal.signal(signal.SIGTERM, terminate)
