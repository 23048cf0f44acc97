"""A worker of gunicorn: its master forks, watches and ends it; our loop serves."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.workers.base import Worker

from kappawatt.serving.server.limits import Limits
from kappawatt.serving.server.loop import Loop
from kappawatt.serving.service import Context

__all__ = ["LoopWorker"]


class LoopWorker(Worker):  # type: ignore[misc]
    """See the module's words."""

    _loop: Loop | None = None

    def run(self) -> None:
        """Serve until the master, or its end, says otherwise."""
        app: Flask = self.wsgi
        context: Context = app.extensions["kappawatt"]
        loop = self._loop = Loop(
            [listener.sock for listener in self.sockets],
            app,
            Limits.of(context.settings),
            threads=self.cfg.threads,
            settings=self.cfg,
            is_inline=context.service.model is not None,
            is_alone=self.cfg.workers == 1,
            ended=context.telemetry.ended,
        )
        signal.set_wakeup_fd(loop.waking)  # of the handlers below, which only set a flag
        context.drain.when_begun(loop.close_after_answers)
        loop.run(self._is_wanted, self._tick, self.cfg.graceful_timeout)
        signal.set_wakeup_fd(-1)

    def handle_quit(self, sig: int, frame: FrameType | None) -> Any:
        """End at once; gunicorn's own handler, but no thread begins another answer."""
        if self._loop is not None:
            self._loop.give_up()
        super().handle_quit(sig, frame)

    def _is_wanted(self) -> bool:
        if self.alive:
            return True
        context: Context = self.wsgi.extensions["kappawatt"]
        context.drain.begin()  # answers without an end have one now
        return False

    def _tick(self) -> None:
        self.notify()
        if self.ppid != os.getppid():  # nobody is left who would end this process
            self.alive = False
