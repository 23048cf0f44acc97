"""The sensor ingestor: readings come in over HTTP and are acknowledged when the bus has them."""

from __future__ import annotations

from kappawatt.service import Service
from services.sensor_ingestor.routes import add_routes

__all__ = ["SERVICE"]

SERVICE = Service(
    name="sensor-ingestor",
    summary="Takes sensor readings over HTTP, validates them at the door and puts them on the bus.",
    port=8082,
    routes=add_routes,
)
