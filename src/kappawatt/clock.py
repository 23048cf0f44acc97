"""Time that nobody sets: how long ago something was, told by the machine and not by the time of day.

The time of day is for people and for what is said of readings. How long ago another process of this machine was
heard of, or when a lease ends, must not be asked of it: set back by an hour, it would make either an hour longer.
"""

from __future__ import annotations

import time

__all__ = ["is_within", "machine_seconds"]


def machine_seconds() -> float:
    """Return seconds since the machine started, the same in all its processes."""
    return time.monotonic()


def is_within(seconds: float, then: float | None, now: float) -> bool:
    """Whether `then` was at most `seconds` ago by the machine's clock.

    A time in the future was noted before the machine started anew, or on another one: it counts as long ago, as does
    one that is not known.

    Examples
    --------
    >>> is_within(10, 95.0, 100.0), is_within(10, 85.0, 100.0), is_within(10, 105.0, 100.0)
    (True, False, False)
    """
    return then is not None and 0 <= now - then < seconds
