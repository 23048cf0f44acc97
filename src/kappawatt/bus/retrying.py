"""A thread that goes on whatever happens to the bus."""

from __future__ import annotations

import logging
import random
import threading
import time

from kappawatt.bus.standing import Standing, say_away
from kappawatt.errors import BusError

__all__ = ["RetryingThread"]

log = logging.getLogger(__name__)

RETRY_SECONDS = 30.0  # longest wait between two tries to reach the bus


class RetryingThread:
    """A loop that survives failures of the bus and can be stopped."""

    def __init__(self, name: str) -> None:
        self.stopped = threading.Event()
        self.failure: str | None = None
        self.standing = Standing()
        self._thread = threading.Thread(target=self._survive, name=name, daemon=True)

    def start(self) -> None:
        """Start the loop."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Have the loop end, and wait for it."""
        self.stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def why_dead(self) -> str | None:
        """Return None while the thread runs, and before no batch that cannot be read, or was stopped on purpose."""
        if self.stopped.is_set():
            return None
        if self._thread.is_alive():
            return self.standing.why_not_alive()
        return f"thread {self._thread.name} has ended"

    def _survive(self) -> None:
        wait = 0.5
        while not self.stopped.is_set():
            began = time.monotonic()
            try:
                self._run()
                continue
            except BusError as error:
                self.failure = str(error)
                self.standing.failed(error)
                say_away(log, "bus failed; trying again", reader=self._thread.name, error=self.failure)
            except Exception as error:  # the loop that must survive: the page stays, with its age beside it
                self.failure = f"{type(error).__name__}: {error}"
                log.exception("reading failed; trying again", extra={"reader": self._thread.name})
            wait = 0.5 if time.monotonic() - began > RETRY_SECONDS else min(2 * wait, RETRY_SECONDS)
            self.stopped.wait(wait * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, not a secret)

    def _run(self) -> None:
        raise NotImplementedError
