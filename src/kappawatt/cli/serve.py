"""`kappawatt serve`: a service over HTTP."""

from __future__ import annotations

from typing import Any

import click

from kappawatt.cli.options import SERVICE, artifact_option, bus_option, client_option, version_option
from kappawatt.serving.service import Service
from kappawatt.settings import Settings

__all__ = ["serve"]


@click.command()
@click.argument("service", type=SERVICE)
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on; the service's own if absent.")
@click.option("--workers", type=click.IntRange(1, 64), help="Serving processes.")
@click.option("--threads", type=click.IntRange(1, 256), help="Threads a process answers with.")
@bus_option
@client_option
@artifact_option
@version_option
def serve(service: Service, **given: Any) -> None:
    """Serve SERVICE over HTTP until SIGTERM."""
    from kappawatt import logs
    from kappawatt.serving.server.server import metrics_folder
    from kappawatt.serving.server.server import serve as serve_app

    settings = Settings.read(**given)
    logs.set_up(settings)
    with metrics_folder(settings.workers):
        from kappawatt.serving.app import create_app

        serve_app(service, settings, lambda: create_app(service, settings))
