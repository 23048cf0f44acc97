"""Whether this container answers: what an image's HEALTHCHECK asks."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Mapping

__all__ = ["health", "ports"]

PORT = 8080  # of every role in a container
PORT_NAMES = ("SAGEMAKER_BIND_TO_PORT", "KAPPAWATT_PORT", "KAPPAWATT_PROBE_PORT")
SECONDS = 3


def health(environ: Mapping[str, str]) -> int:
    """Return 0 if `/healthz` answers 200 on this machine, else 1 with the reason on standard error."""
    reasons = []
    for port in ports(environ):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        try:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"port {port}: {error}")
        else:
            if status == 200:
                return 0
            reasons.append(f"port {port}: got status {status}, allowed 200")
        finally:
            connection.close()
    print(f"kappawatt-container: {'; '.join(reasons)}", file=sys.stderr)
    return 1


def ports(environ: Mapping[str, str]) -> list[int]:
    """Return where to ask: which of these a process listens on depends on its role, and nobody says that here."""
    given = [int(text) for name in PORT_NAMES if (text := environ.get(name, "")).isdecimal() and int(text)]
    return list(dict.fromkeys([*given, PORT]))
