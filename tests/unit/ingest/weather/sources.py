"""Answers as Open-Meteo and DWD give them, and a local server that gives them."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import orjson

HOUR = np.timedelta64(1, "h")
NAMESPACES = (
    'xmlns:dwd="https://opendata.dwd.de/weather/lib/pointforecast_dwd_extension_V1_0.xsd" '
    'xmlns:gx="http://www.google.com/kml/ext/2.2" xmlns:kml="http://www.opengis.net/kml/2.2"'
)


def open_meteo(start: str, temperature: list[float | None], **more: Any) -> bytes:
    """An answer for hours from a local start on."""
    n = len(temperature)
    hourly = {
        "time": [str(np.datetime64(start, "m") + i * HOUR) for i in range(n)],
        "temperature_2m": temperature,
        "relative_humidity_2m": [60] * n,
        "wind_speed_10m": [18.0] * n,
        "cloud_cover": [50] * n,
        "shortwave_radiation": [100.0] * n,
    }
    units = {
        "time": "iso8601",
        "temperature_2m": "°C",
        "relative_humidity_2m": "%",
        "wind_speed_10m": "km/h",
        "cloud_cover": "%",
        "shortwave_radiation": "W/m²",
    }
    document = {"latitude": 40, "longitude": -75, "utc_offset_seconds": 0, "timezone": "GMT"}
    return orjson.dumps({**document, "hourly_units": units, "hourly": hourly, **more})


def kml(issue: str, start: str, stations: dict[str, dict[str, str]], n: int) -> bytes:
    """MOSMIX's document of some stations, in the element order and form of DWD's files."""
    steps = "".join(f"<dwd:TimeStep>{np.datetime64(start, 'ms') + i * HOUR}Z</dwd:TimeStep>" for i in range(n))
    marks = "".join(
        f"<kml:Placemark><kml:name>{name}</kml:name><kml:description>SOMEWHERE</kml:description><kml:ExtendedData>"
        + "".join(
            f'<dwd:Forecast dwd:elementName="{element}"><dwd:value> {values} </dwd:value></dwd:Forecast>'
            for element, values in elements.items()
        )
        + "</kml:ExtendedData><kml:Point><kml:coordinates>13.4,52.5,51.0</kml:coordinates></kml:Point></kml:Placemark>"
        for name, elements in stations.items()
    )
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<kml:kml {NAMESPACES}>
<kml:Document><kml:ExtendedData><dwd:ProductDefinition><dwd:Issuer>Deutscher Wetterdienst</dwd:Issuer>
<dwd:ProductID>MOSMIX</dwd:ProductID><dwd:GeneratingProcess>DWD MOSMIX hourly, Version 1.0</dwd:GeneratingProcess>
<dwd:IssueTime>{issue}</dwd:IssueTime><dwd:ReferencedModel><dwd:Model dwd:name="ICON" dwd:referenceTime="{issue}"/>
</dwd:ReferencedModel><dwd:ForecastTimeSteps>{steps}</dwd:ForecastTimeSteps>
<dwd:FormatCfg><dwd:DefaultUndefSign>-</dwd:DefaultUndefSign></dwd:FormatCfg></dwd:ProductDefinition>
</kml:ExtendedData>{marks}</kml:Document></kml:kml>""".encode()


def kmz(document: bytes, *names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ("MOSMIX_L_2026112718_10384.kml",):
            archive.writestr(name, document)
    return out.getvalue()


@dataclass
class Publisher:
    """What the server gives next, and what it was asked."""

    url: str = ""
    body: bytes = b""
    bodies: dict[str, bytes] = field(default_factory=dict)  # by path, where they differ
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def publisher() -> Iterator[Publisher]:
    """A real HTTP server on a free port, which knows ETags."""
    state = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append((self.path, dict(self.headers)))
            tag = state.headers.get("ETag")
            same = state.status == 200 and tag is not None and self.headers.get("If-None-Match") == tag
            self.send_response(304 if same else state.status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            body = b"" if same else state.bodies.get(self.path, state.body)
            if not same:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
