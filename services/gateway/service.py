"""The gateway: one address for every service, the newest values, the event stream and the dashboard."""

from __future__ import annotations

from flask import Flask

from kappawatt.serving.service import Context, Service
from kappawatt.settings import Settings

__all__ = ["SERVICE"]


def add_routes(app: Flask, context: Context) -> None:
    """Start the gateway and add its routes; its packages are imported here, so that anyone can ask for the record."""
    from .routes import add_routes as add

    add(app, context)


def check(settings: Settings) -> None:
    """Raise SettingInvalid if services, keys or rate limit cannot be used, or keys are missing."""
    from .wiring import check as check_settings

    check_settings(settings)


SERVICE = Service(
    name="gateway",
    summary="One door to every service: API, newest predictions, live event stream and dashboard.",
    port=8000,
    routes=add_routes,
    check=check,
    threads=64,
)
