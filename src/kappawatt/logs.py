"""Logging set up once for a process: one JSON object a line, or text for people."""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

from kappawatt.settings import Settings

__all__ = ["set_up"]

ORDINARY = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
RENAMED = {"asctime": "time", "levelname": "level", "name": "logger"}


class _TextFormatter(logging.Formatter):
    """A line for people: the message, then whatever else was said."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        more = " ".join(f"{name}={value}" for name, value in vars(record).items() if name not in ORDINARY)
        return f"{super().formatMessage(record)}{'  ' + more if more else ''}"


def set_up(settings: Settings) -> None:
    """Send every logger to standard error, in the format and from the level that settings name."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        formatter: logging.Formatter = JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=RENAMED
        )
    else:
        formatter = _TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for chatty in ("kafka", "werkzeug", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
