"""The parts of a running gateway, made from settings and streams, and held together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeGuard, TypeVar

from kappawatt.bus import Bus, connect_as
from kappawatt.bus.retrying import RetryingThread
from kappawatt.serving.service import Context
from kappawatt.settings import Settings
from kappawatt.signals import also_on_signal
from kappawatt.streams.stream import Form, Stream, resolve
from kappawatt.streams.table import STREAMS
from kappawatt.telemetry import Telemetry

from .access import Access, read_access
from .live.follow import Follower, LagWatch
from .live.forecasts import ForecastsView
from .live.hub import Hub
from .live.predictions import PredictionsView
from .live.rejections import Rejections
from .live.view import View
from .proxy.descriptions import Descriptions
from .proxy.discovery import LABEL, KubernetesDiscovery, check_discovery
from .proxy.forward import Proxy, parse_services

__all__ = ["EXTENSION", "Gateway", "Live", "check", "open_gateway"]

EXTENSION = "kappawatt.gateway"  # where a test finds the gateway of an app, to stop it
VIEWS: Mapping[Form, Callable[[Stream, Rejections], View]] = {
    Form.PREDICTIONS: PredictionsView,
    Form.FORECASTS: ForecastsView,
}
V_co = TypeVar("V_co", bound=View, covariant=True)


@dataclass(frozen=True, slots=True)
class Live(Generic[V_co]):
    """A view, the thread that feeds it, and the hub that hands on what is news."""

    view: V_co
    hub: Hub
    follower: Follower


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything routes use.

    Parameters
    ----------
    live : mapping of str to Live
        Every view by the name of its stream, in the order of `STREAMS`.
    predictions, forecasts : mapping of str to Live
        Those of predictions by name, and those of forecasts by service.
    lags : mapping of str to LagWatch
        Of each stream of predictions.
    """

    access: Access
    proxy: Proxy
    descriptions: Descriptions
    rejections: Rejections
    live: Mapping[str, Live[View]]
    predictions: Mapping[str, Live[PredictionsView]]
    forecasts: Mapping[str, Live[ForecastsView]]
    lags: Mapping[str, LagWatch]
    open_bus: Callable[[], Bus]
    discovery: KubernetesDiscovery | None

    @property
    def clients(self) -> int:
        """How many event streams are open."""
        return len(frozenset[object]().union(*(each.hub.subscriptions for each in self.live.values())))

    def why_no_services(self) -> str:
        """Return why there are none, if there are none."""
        found = "" if self.discovery is None else f", and no Service with a port `http` has the label {LABEL}"
        return f"KAPPAWATT_SERVICES is empty{found}"

    def summary(self, name: str) -> dict[str, Any]:
        """Return how well a view goes, and how fresh it is."""
        live = self.live[name]
        lag = self.lags.get(name)
        reading = {} if lag is None else {"readings_per_second": lag.readings_per_second(), "consumer_lag": lag.lag()}
        return {**live.view.summary(), **reading, "view": {**live.follower.state(), "streams": self.clients}}

    def forecast_list(self, service: str | None, key: str | None = None) -> dict[str, Any]:
        """Return series with their newest forecast and score, and how fresh their streams are; None is all."""
        wanted = {name: live for name, live in self.forecasts.items() if service in (None, name)}
        found = [live.view.listed() if key is None else [live.view.row(key)] for live in wanted.values()]
        states = [
            {
                "service": name,
                "topic": live.follower.topic,
                **live.follower.state(),
                "score": live.view.scores()["score"],
            }
            for name, live in wanted.items()
        ]
        return {"series": [row for rows in found for row in rows if row is not None], "streams": states}

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
        for live in self.live.values():
            live.hub.close()

    @property
    def threads(self) -> tuple[RetryingThread, ...]:
        """What runs beside the requests."""
        found = () if self.discovery is None else self.discovery.threads
        return (*(live.follower for live in self.live.values()), *self.lags.values(), self.descriptions, *found)


def check(settings: Settings) -> None:
    """Raise SettingInvalid if services, keys or rate limit cannot be used, or keys are missing."""
    read_access(settings)
    parse_services(settings.services)
    check_discovery(settings)


def open_live(stream: Stream, rejections: Rejections, open_bus: Callable[[], Bus], telemetry: Telemetry) -> Live[View]:
    """Return the view of a stream, not started: the one its record names, or that of its answers' form."""
    make = resolve(stream.view.opens) if stream.view.opens else VIEWS[stream.form]
    view, hub = make(stream, rejections), Hub()
    return Live(view, hub, Follower(open_bus, view, hub, telemetry))


def _shows(live: Live[View], kind: type[V_co]) -> TypeGuard[Live[V_co]]:
    return isinstance(live.view, kind)


def open_gateway(context: Context) -> Gateway:
    """Return a gateway that reads the bus, set up from settings.

    Raises
    ------
    SettingInvalid
        Services, keys or rate limit cannot be used, or keys are missing; or a stream names a view that is not there.
    """
    settings = context.settings
    access = read_access(settings)
    check_discovery(settings)
    proxy = Proxy(parse_services(settings.services))
    discovery = KubernetesDiscovery(proxy.found) if settings.discovery == "kubernetes" else None

    def open_bus() -> Bus:
        return connect_as(settings, context.telemetry.skipped)

    rejections = Rejections()
    live = {stream.name: open_live(stream, rejections, open_bus, context.telemetry) for stream in STREAMS}
    predictions = {name: each for name, each in live.items() if _shows(each, PredictionsView)}
    forecasts = {each.view.stream.service: each for each in live.values() if _shows(each, ForecastsView)}
    lags = {name: LagWatch(open_bus, each.view.stream, each.hub) for name, each in predictions.items()}
    descriptions = Descriptions(lambda: proxy.targets, proxy.fetch)
    gateway = Gateway(access, proxy, descriptions, rejections, live, predictions, forecasts, lags, open_bus, discovery)
    context.ready += [each.follower.why_not_ready for each in list(live.values())[:1]]  # all of them ask the same bus
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
    also_on_signal(signal.SIGTERM, gateway.end_streams)  # nobody drains where nobody handles it
