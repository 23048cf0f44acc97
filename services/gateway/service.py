"""The gateway: one address for every service, the newest values, the event stream and the dashboard."""

from __future__ import annotations

from kappawatt.serving.service import Service

from .routes import add_routes
from .wiring import check

__all__ = ["SERVICE"]

SERVICE = Service(
    name="gateway",
    summary="One door to every service: API, newest predictions, live event stream and dashboard.",
    port=8000,
    routes=add_routes,
    check=check,
    threads=64,
)
