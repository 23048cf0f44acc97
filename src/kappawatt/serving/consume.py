"""`kappawatt consume`: a service's loop with its probes beside it."""

from __future__ import annotations

import gc
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask

from kappawatt.errors import SettingInvalid
from kappawatt.messages.envelopes import check_topics
from kappawatt.serving.app import create_app
from kappawatt.serving.server.limits import Limits
from kappawatt.serving.server.loop import Loop
from kappawatt.serving.service import Context, Service
from kappawatt.settings import Settings
from kappawatt.signals import stop_on_signals
from kappawatt.telemetry import Telemetry

__all__ = ["consume", "probes"]

GRACE_SECONDS = 1.0  # for answers at hand when the loop has ended
BACKLOG = 2048  # gunicorn's

log = logging.getLogger(__name__)


@contextmanager
def probes(app: Flask, settings: Settings) -> Iterator[None]:
    """Answer probes and metrics on a thread while the block runs.

    Raises
    ------
    SettingInvalid
        The port cannot be listened on; the message names the variable that says it.
    """
    context: Context = app.extensions["kappawatt"]
    service = context.service
    own = settings.port if service.is_one_process else 0  # KAPPAWATT_PORT is of what answers routes too
    port = settings.probe_port or own or service.work_port
    listener = _listener(settings.host, port, "KAPPAWATT_PORT" if port == own else "KAPPAWATT_PROBE_PORT")
    loop = Loop(
        [listener],
        app,
        Limits.of(settings),
        threads=settings.threads,
        ended=context.telemetry.ended,
    )
    ended = threading.Event()
    thread = threading.Thread(
        target=loop.run, args=(lambda: not ended.is_set(), lambda: None, GRACE_SECONDS), name="probes", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        loop.wake()
        thread.join()


def _listener(host: str, port: int, variable: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        got = f"{host}:{port} ({error.strerror})"
        raise SettingInvalid.of(variable, got, "an address that can be listened on") from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


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
    check_topics(settings.envelopes)
    telemetry = Telemetry(service.name)
    telemetry.will_poll()
    app = create_app(service, settings, telemetry=telemetry, serves=service.is_one_process)
    context: Context = app.extensions["kappawatt"]
    context.ready.append(lambda: None if telemetry.last_poll else "no poll of the bus yet")
    with probes(app, settings):
        loop = service.work(app, context)
        context.ready.append(loop.standing.why_not_ready)
        if not context.alive:  # a loop that waits for more than the bus says itself whether it hangs
            context.alive.append(poll_question(telemetry, settings))
        context.alive.append(loop.standing.why_not_alive)
        stop_on_signals(loop.stop)
        gc.freeze()  # what was loaded stays
        loop.run()
