"""Leaving without a failed request: SIGTERM makes a server unready first, and ends it a while later.

A balancer needs a moment to see that a process is about to end; until then it sends new connections, and clients go
on using those they have. gunicorn closes its sockets at once. So its master holds SIGTERM back for that moment, in
which readiness says 503, everything is answered, and every answer says `Connection: close`.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from kappawatt.serving.server.door import end

__all__ = ["Drain", "HeldTermination"]

log = logging.getLogger(__name__)


class Drain:
    """What a serving process knows of it."""

    def __init__(self) -> None:
        self.has_begun = False
        self._then: list[Callable[[], None]] = []

    def when_begun(self, call: Callable[[], None]) -> None:
        """Have `call` called when draining begins; it must not raise."""
        self._then.append(call)

    def begin(self) -> None:
        """Be unready from now on."""
        if self.has_begun:
            return
        self.has_begun = True
        for call in self._then:
            call()

    def why_not_ready(self) -> str | None:
        """Return None, or that the process drains."""
        return "draining: this process was told to end" if self.has_begun else None


class HeldTermination:
    """gunicorn's master holds SIGTERM back, and tells its workers.

    A second SIGTERM, SIGQUIT or SIGINT does not wait, nor does the first one before any worker can answer.

    Parameters
    ----------
    seconds : float
        How long.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._serves = mmap.mmap(-1, 1)  # shared with the workers
        # Closing the writing end tells every worker at once, also one that is forked later in place of another.
        self._told, self._tell = os.pipe()
        self._is_told = False

    def hold_termination(self, arbiter: Any) -> None:
        """Take SIGTERM from gunicorn in its master (its hook `when_ready`)."""
        master = os.getpid()

        def terminate(number: int, frame: FrameType | None) -> None:
            if self._is_told or not self._serves[0] or os.getpid() != master:
                end(arbiter, frame)
                return
            self._is_told = True
            os.close(self._tell)
            signal.setitimer(signal.ITIMER_REAL, self._seconds)

        signal.signal(signal.SIGALRM, lambda number, frame: end(arbiter, frame))
        signal.signal(signal.SIGTERM, terminate)

    def forget_telling(self) -> None:
        """Leave telling to the master, in a worker that was just forked: it is said once nobody could say it."""
        if not self._is_told:
            os.close(self._tell)

    def listen(self, drain: Drain) -> None:
        """Let `drain` begin when the master says so, in a worker that has loaded its app."""
        threading.Thread(target=self._wait, args=(drain,), name="drain", daemon=True).start()

    def note_serving(self) -> None:
        """Tell the master that a worker answers."""
        self._serves[0] = 1

    def _wait(self, drain: Drain) -> None:
        os.read(self._told, 1)
        log.info("draining", extra={"seconds": self._seconds})
        drain.begin()
