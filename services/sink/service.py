"""The sink: what passes on the bus into a database that people query, and example queries on it."""

from __future__ import annotations

from flask import Flask

from kappawatt.serving.service import Context, Service

from .loop import Sink, open_sink

__all__ = ["SERVICE"]

EXTENSION = "kappawatt.sink"  # where the loop finds the sink whose database the routes ask


def add_routes(app: Flask, context: Context) -> None:
    """Set up the sink that settings describe, and add `/queries` on its database."""
    sink = open_sink(context.settings, context.telemetry)
    app.extensions[EXTENSION] = sink
    sink.add_routes(app, context)


def work(app: Flask, context: Context) -> Sink:
    """Return the loop: poll, write, commit."""
    sink: Sink = app.extensions[EXTENSION]
    return sink


SERVICE = Service(
    name="sink",
    summary="Lands readings, predictions, forecasts and rejections in a database, and runs example queries on it.",
    port=8090,
    routes=add_routes,
    work=work,
    is_one_process=True,
)
