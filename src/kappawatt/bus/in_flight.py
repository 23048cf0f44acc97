"""A bound on the bytes a producer holds that the bus has not acknowledged yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kappawatt.errors import Overloaded


class InFlight:
    """A counting bound in bytes, shared by threads.

    kafka-python 3 has no bound of its own: with the broker paused it takes messages until memory ends.

    Parameters
    ----------
    limit : int
        Most bytes in flight. One reservation larger than the limit is let through when nothing else is
        in flight, so that it can never wait for ever.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._changed = threading.Condition()

    @property
    def used(self) -> int:
        """Bytes in flight now."""
        return self._used

    @contextmanager
    def reserve(self, size: int, *, wait: bool, timeout: float) -> Iterator[None]:
        """Hold `size` bytes for the duration of the block.

        Raises
        ------
        Overloaded
            The limit was not free within `timeout` seconds, or at once if `wait` is False.
        """
        with self._changed:
            fits = self._changed.wait_for(lambda: self._fits(size), timeout if wait else 0)
            if not fits:
                raise Overloaded(f"{self._used} bytes wait for the bus to acknowledge them, allowed {self.limit}")
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return self._used == 0 or self._used + size <= self.limit
