"""The floor: a Flask route that reads its body and answers constant bytes. No parsing, model or metrics."""

from __future__ import annotations

from flask import Flask, Response, request

ANSWER = b'{"net_power":463.3,"model":"none","version":"0"}'


def create_app() -> Flask:
    """Return the app."""
    app = Flask(__name__)

    @app.post("/predict")
    def predict() -> Response:
        request.get_data(cache=False)
        return Response(ANSWER, content_type="application/json")

    @app.get("/readyz")
    def readyz() -> str:
        return "ready"

    return app
