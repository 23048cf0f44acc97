"""The sensor ingestor: readings of every stream, acknowledged when the bus has them."""

from __future__ import annotations

from kappawatt.serving.service import Service

from .routes import add_routes
from .weather import check

__all__ = ["SERVICE"]

SERVICE = Service(
    name="sensor-ingestor",
    summary="Takes readings of plants, load zones and meters over HTTP, validates them and puts them on the bus.",
    port=8082,
    routes=add_routes,
    check=check,
)
