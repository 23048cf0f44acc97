"""Every service there is, each as a real app over one embedded bus, and by HTTP where something stands in front."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.serving import make_server

from kappawatt.bus import connect
from kappawatt.services.gateway.wiring import EXTENSION
from kappawatt.serving.app import create_app
from kappawatt.serving.service import find_service, service_names
from kappawatt.settings import Settings
from kappawatt.streams.table import TOPICS
from tests.conftest import wait_until

__all__ = ["behind_a_gateway", "fleet_settings", "opened", "served"]


def fleet_settings(folder: Path, **more: Any) -> Settings:
    """Return settings of processes whose bus, store and state are in `folder`; the bus has all topics."""
    bus = connect(f"embedded:{folder}/bus.sqlite")
    bus.ensure(TOPICS)
    url = bus.url
    bus.close()
    return Settings.read({}, **{"bus": url, "database": f"duckdb:{folder}/kappawatt.duckdb", "state": folder, **more})


@contextmanager
def opened(name: str, settings: Settings) -> Iterator[Flask]:
    """The service's app, ready, with its loop where both are one process."""
    service = find_service(name)
    app = create_app(service, settings)
    with ExitStack() as stack:
        if EXTENSION in app.extensions:
            stack.callback(app.extensions[EXTENSION].stop)
        if service.work is not None and service.is_one_process:
            loop = service.work(app, app.extensions["kappawatt"])
            thread = threading.Thread(target=loop.run)
            thread.start()
            stack.callback(thread.join, 30.0)
            stack.callback(loop.stop)
        client = app.test_client()
        wait_until(lambda: client.get("/readyz").status_code == 200, what=f"{name} ready")
        yield app


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The app at an address of its own."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def behind_a_gateway(settings: Settings, **more: Any) -> Iterator[Flask]:
    """A gateway with every other service behind it."""
    with ExitStack() as stack:
        others = [name for name in service_names() if name != "gateway"]
        apps = {name: stack.enter_context(opened(name, settings)) for name in others}
        found = ",".join(f"{name}={stack.enter_context(served(app))}" for name, app in apps.items())
        values = {name: getattr(settings, name) for name in ("bus", "database", "state")}
        yield stack.enter_context(opened("gateway", Settings.read({}, **{**values, "services": found, **more})))
