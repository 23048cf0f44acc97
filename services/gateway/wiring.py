"""The parts of a running gateway, made from settings and held together."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from kappawatt.bus import Bus, connect
from kappawatt.bus.retrying import SurvivingThread
from kappawatt.bus.topic import PLANT_PREDICTIONS, PLANT_READINGS, dead_letter
from kappawatt.serving.context import Context
from kappawatt.settings import Settings
from kappawatt.streams import plant

from .access import Access, read_access
from .live.follow import Follower, LagWatch
from .live.forecast_follow import ForecastFollower
from .live.forecast_hub import ForecastHub
from .live.forecast_streams import FORECAST_STREAMS
from .live.forecasts import ForecastView
from .live.hub import Hub
from .live.predictions import LatestView
from .proxy.discovery import LABEL, KubernetesDiscovery, check_discovery
from .proxy.forward import Proxy, parse_services

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
    forecasts: Mapping[str, ForecastView]
    forecast_hub: ForecastHub
    forecast_followers: Sequence[ForecastFollower]
    open_bus: Callable[[], Bus]
    discovery: KubernetesDiscovery | None

    @property
    def streams(self) -> int:
        """How many event streams are open."""
        return self.hub.clients + self.forecast_hub.clients

    def why_no_services(self) -> str:
        """Return why there are none, if there are none."""
        found = "" if self.discovery is None else f", and no Service with a port `http` has the label {LABEL}"
        return f"KAPPAWATT_SERVICES is empty{found}"

    def summary(self) -> dict[str, Any]:
        """Return the figures of the dashboard's tiles."""
        return {
            **self.view.summary(self.hub.followed),
            "readings_per_second": self.lag.readings_per_second(),
            "consumer_lag": self.lag.lag(),
            "view": {**self.follower.state(), "streams": self.streams},
        }

    def forecast_list(self, service: str | None, key: str | None = None) -> dict[str, Any]:
        """Return series with their newest forecast and score, and how fresh their streams are; None is all."""
        views = [view for name, view in self.forecasts.items() if service in (None, name)]
        rows = [row for view in views for row in (view.listed() if key is None else [view.row(key)]) if row is not None]
        states = [
            {**follower.state(), "score": self.forecasts[follower.service].scores()["score"]}
            for follower in self.forecast_followers
        ]
        return {"series": rows, "streams": [state for state in states if service in (None, state["service"])]}

    def start(self) -> None:
        """Start reading the bus."""
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Let streams end, stop reading, close connections."""
        self.end_streams()
        for thread in self.threads:
            thread.stopped.set()
        for thread in self.threads:
            thread.stop()
        self.proxy.close()

    def end_streams(self) -> None:
        """Let every client's event stream end."""
        self.hub.close()
        self.forecast_hub.close()

    @property
    def threads(self) -> tuple[SurvivingThread, ...]:
        """What runs beside the requests."""
        found = () if self.discovery is None else self.discovery.threads
        return (self.follower, self.lag, *self.forecast_followers, *found)


def check(settings: Settings) -> None:
    """Raise SettingInvalid if services, keys or rate limit cannot be used, or keys are missing."""
    read_access(settings)
    parse_services(settings.services)
    check_discovery(settings)


def open_gateway(context: Context) -> Gateway:
    """Return a gateway that reads the bus, set up from settings.

    Raises
    ------
    SettingInvalid
        Services, keys or rate limit cannot be used, or keys are missing.
    """
    settings = context.settings
    access = read_access(settings)
    check_discovery(settings)
    proxy = Proxy(parse_services(settings.services))
    discovery = KubernetesDiscovery(proxy.found) if settings.discovery == "kubernetes" else None

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
    forecasts = {stream.service: ForecastView(stream) for stream in FORECAST_STREAMS}
    forecast_hub = ForecastHub()
    readers = tuple(ForecastFollower(open_bus, each, forecast_hub, view) for each in forecasts.values())
    gateway = Gateway(access, proxy, view, hub, follower, lag, forecasts, forecast_hub, readers, open_bus, discovery)
    context.alive += [thread.why_dead for thread in gateway.threads]
    if discovery is not None:
        context.ready.append(discovery.why_not_ready)
    _end_streams_on_termination(gateway)
    context.drain.when_begun(gateway.end_streams)
    gateway.start()
    return gateway


def _end_streams_on_termination(gateway: Gateway) -> None:
    """SIGTERM lets requests finish, and a stream never would: end them, then do what was set up before."""
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before):
        return  # nobody drains here, so the signal ends the process anyway

    def terminate(number: int, frame: FrameType | None) -> None:
        # in a thread, as a lock may be held by the code interrupted here
        threading.Thread(target=gateway.end_streams, daemon=True).start()
        before(number, frame)

    signal.signal(signal.SIGTERM, terminate)
