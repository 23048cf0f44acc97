"""Cleaning up without hiding what went wrong before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["afterwards"]

log = logging.getLogger(__name__)


@contextmanager
def afterwards(clean_up: Callable[[], object]) -> Iterator[None]:
    """Run the block, then clean up; an error of the clean-up is logged and never raised.

    Raised, it would hide the block's own error, or make a failure of what has been committed already.
    """
    try:
        yield
    finally:
        try:
            clean_up()
        except Exception as error:
            log.warning("cleaning up after the database failed", extra={"error": f"{type(error).__name__}: {error}"})
