"""`kappawatt consume`: a service's loop with its probes beside it."""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from werkzeug.serving import make_server

from kappawatt.errors import SettingInvalid
from kappawatt.serving.app import create_app
from kappawatt.serving.service import Context, Service
from kappawatt.settings import Settings
from kappawatt.telemetry import Telemetry

__all__ = ["consume", "probes", "stop_on_signals"]

log = logging.getLogger(__name__)


@contextmanager
def probes(app: Any, settings: Settings, port: int) -> Iterator[None]:
    """Answer probes and metrics on a thread while the block runs."""
    server = make_server(settings.host, settings.probe_port or port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="probes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def stop_on_signals(stop: Any) -> None:
    """Call `stop()` on SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())


def poll_question(telemetry: Telemetry, settings: Settings) -> Any:
    """Return the liveness question of a consumer: how old is the last poll?"""
    started = time.monotonic()

    def why_not_alive() -> str | None:
        age = time.monotonic() - (telemetry.last_poll or started)
        if age <= settings.poll_age_limit:
            return None
        return f"last poll: got {age:.0f} s ago, allowed {settings.poll_age_limit:g} s"

    return why_not_alive


def consume(service: Service, settings: Settings) -> None:
    """Run the service's loop until SIGTERM, with its probes beside it."""
    if service.work is None:
        raise SettingInvalid.of("service", f"{service.name}, which reads no topic", "one that does")
    telemetry = Telemetry(service.name)
    telemetry.will_poll()
    app = create_app(service, settings, telemetry=telemetry, serves=service.is_one_process)
    context: Context = app.extensions["kappawatt"]
    context.ready.append(lambda: None if telemetry.last_poll else "no poll of the bus yet")
    with probes(app, settings, service.work_port):
        loop = service.work(app, context)
        context.ready.append(loop.standing.why_not_ready)
        if not context.alive:  # a loop that waits for more than the bus says itself whether it hangs
            context.alive.append(poll_question(telemetry, settings))
        context.alive.append(loop.standing.why_not_alive)
        stop_on_signals(loop.stop)
        gc.freeze()  # what was loaded stays
        loop.run()
