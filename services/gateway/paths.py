"""The gateway's own paths below /api: what routes are found under, what no service may be called, what views name."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["OWN_NAMES", "READ_ONLY", "Own"]


class Own(StrEnum):
    """A path of the gateway's own."""

    LATEST = "/api/latest"
    LATEST_OF = "/api/latest/<path:key>"
    RECENT = "/api/recent"
    SUMMARY = "/api/summary"
    REJECTIONS = "/api/rejections"
    VIEWS = "/api/views"
    VIEW = "/api/views/<name>"
    STREAM = "/api/stream"
    FORECASTS = "/api/forecasts"
    FORECASTS_OF = "/api/forecasts/<service>"
    FORECAST_OF = "/api/forecasts/<service>/<path:key>"
    FORECAST_SCORE = "/api/forecasts/score"
    SESSION = "/api/session"
    SERVICES = "/api/services"


OWN_NAMES = tuple(sorted({path.split("/")[2] for path in Own}))  # /api/NAME that is no service's
READ_ONLY = tuple(sorted({path.split("/")[2] for path in Own if "<" in path}))  # nothing below these is written to
