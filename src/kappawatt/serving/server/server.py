"""gunicorn, set up once: the app is made after the fork, so a model never crosses one."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from kappawatt import logs
from kappawatt.columns.memory import keep_few_heaps
from kappawatt.errors import SettingInvalid
from kappawatt.messages.envelopes import check_topics
from kappawatt.serving.server.door import end_at_sigterm
from kappawatt.serving.server.drain import HeldTermination
from kappawatt.serving.server.parent import end_with_parent
from kappawatt.serving.server.worker import LoopWorker
from kappawatt.serving.service import Service
from kappawatt.settings import Settings

__all__ = ["metrics_folder", "serve"]

log = logging.getLogger(__name__)

GRACE_SECONDS = 25  # platforms send SIGKILL 30 s after SIGTERM
LEAST_GRACE_SECONDS = 5
REQUEST_SECONDS = 60


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, make_app: Callable[[], Flask], options: dict[str, Any]) -> None:
        self._make_app = make_app
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._make_app()


class _DrainingServer(_Server):
    """A server that answers on for a while after SIGTERM."""

    def __init__(self, make_app: Callable[[], Flask], options: dict[str, Any], seconds: float) -> None:
        self._termination = HeldTermination(seconds)
        self._after_fork = options["post_fork"]
        hooks = {
            "when_ready": self._termination.hold_termination,
            "post_fork": self._begin_worker,
            "post_worker_init": self._begin_serving,
            "graceful_timeout": max(LEAST_GRACE_SECONDS, int(GRACE_SECONDS - seconds)),
        }
        super().__init__(make_app, options | hooks)

    def load(self) -> Flask:
        app = super().load()
        self._termination.listen(app.extensions["kappawatt"].drain)
        return app

    def _begin_worker(self, arbiter: Any, worker: Any) -> None:
        self._termination.forget_telling()
        self._after_fork(arbiter, worker)

    def _begin_serving(self, worker: Any) -> None:
        _freeze(worker)
        self._termination.note_serving()


@contextmanager
def metrics_folder(workers: int) -> Iterator[None]:
    """Give several processes a folder to add up their metrics in; prometheus_client asks for it when imported."""
    if workers == 1:
        yield
        return
    folder = tempfile.mkdtemp(prefix="kappawatt-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    owner = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == owner:  # a forked worker leaves through here too
            shutil.rmtree(folder, ignore_errors=True)


def serve(service: Service, settings: Settings, make_app: Callable[[], Flask]) -> None:
    """Serve `make_app()` until SIGTERM, and KAPPAWATT_DRAIN_SECONDS longer; requests at hand are finished first.

    Raises
    ------
    SettingInvalid
        The service cannot run with these settings; said before any process is forked.
    """
    if service.is_one_process:
        raise SettingInvalid(
            f"service: got {service.name}, which answers while it works: kappawatt consume {service.name}"
        )
    check_topics(settings.envelopes)
    if service.check is not None:
        service.check(settings)
    port = settings.port or service.port
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    options: dict[str, Any] = {
        "bind": f"{host}:{port}",
        "workers": settings.workers,
        "worker_class": LoopWorker,
        "threads": max(settings.threads, service.threads),
        "limit_request_line": 8190,
        "timeout": REQUEST_SECONDS,
        "graceful_timeout": GRACE_SECONDS,
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108
        "proc_name": f"kappawatt-{service.name}",
        "accesslog": None,
        "loglevel": "warning",
        "control_socket_disable": True,
        "when_ready": end_at_sigterm,
        "post_fork": lambda server, worker: _after_fork(settings),
        "post_worker_init": _freeze,
        "child_exit": _forget_child if settings.workers > 1 else lambda server, worker: None,
    }
    log.info("serving", extra={"service": service.name, "address": f"http://{host}:{port}"})
    if settings.drain_seconds:
        _DrainingServer(make_app, options, settings.drain_seconds).run()
    else:
        _Server(make_app, options).run()


def _freeze(worker: Any) -> None:
    gc.freeze()  # what was loaded stays: the garbage collector need not look at it again and again


def _after_fork(settings: Settings) -> None:
    keep_few_heaps()
    end_with_parent()  # a worker whose master was killed would keep the port and answer on
    logs.set_up(settings)


def _forget_child(server: Any, worker: Any) -> None:
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
