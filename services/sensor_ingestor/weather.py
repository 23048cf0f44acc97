"""The ingestor's loop of weather: sources that a settings file names, to the topic of load readings."""

from __future__ import annotations

from flask import Flask

from kappawatt.bus import connect_as
from kappawatt.errors import ExtraMissing
from kappawatt.ingest.weather.loop import WeatherLoop, state_folder
from kappawatt.ingest.weather.stations import read_stations
from kappawatt.serving.service import Context
from kappawatt.settings import Settings

__all__ = ["EXTENSION", "check", "start"]

EXTENSION = "kappawatt.weather"  # where a test finds the loop of an app, to stop it


def check(settings: Settings) -> None:
    """Raise SettingInvalid if the settings file cannot be used, before anything is served."""
    if settings.weather is not None:
        read_stations(settings.weather)


def start(app: Flask, context: Context) -> None:
    """Start the loop, if settings name a file; a source that fails never ends the ingestor, nor makes it unready."""
    settings, telemetry, name = context.settings, context.telemetry, context.service.name
    if settings.weather is None:
        return
    try:
        import urllib3  # noqa: F401 (named here, at start, and not in a thread)
    except ImportError:
        raise ExtraMissing.of("urllib3", "sensor-ingestor") from None
    loop = WeatherLoop(
        read_stations(settings.weather),
        state_folder(settings.state, settings.bus),
        lambda: connect_as(settings),
        lambda source, result: telemetry.weather.labels(name, source, result).inc(),
    )
    app.extensions[EXTENSION] = loop
    loop.start()
