"""kafka-python's log, condensed: while no broker answers it writes a dozen lines a second."""

from __future__ import annotations

import logging

from kappawatt.bus.standing import say_away

__all__ = ["quieten"]

log = logging.getLogger(__name__)


def quieten() -> None:
    """Let one line in 15 s through of what kafka-python warns of; all its warnings with the log level DEBUG."""
    logger = logging.getLogger("kafka")
    logger.setLevel(max(logger.level, logging.WARNING))  # what it says below that has tokens and passwords in it
    logger.propagate = logging.getLogger().isEnabledFor(logging.DEBUG)
    if not any(isinstance(handler, _Condensed) for handler in logger.handlers):
        logger.addHandler(_Condensed(logging.WARNING))


class _Condensed(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say_away(log, "the Kafka client warns", error=record.getMessage()[:500])
