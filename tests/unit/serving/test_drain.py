"""What a serving process says and does while it drains; `tests/integration/test_drain.py` has the processes."""

from __future__ import annotations

import pytest
from flask import Flask

from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from tests import fakes


@pytest.fixture
def app(settings: Settings) -> Flask:
    assert settings.artifacts is not None
    fakes.write_artifact(settings.artifacts)
    return create_app(fakes.SERVICE, settings)


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready", "/v2/models/fake-power/ready", "/ping"])
def test_readiness_ends_when_draining_begins(app: Flask, path: str) -> None:
    client = app.test_client()
    assert client.get(path).status_code == 200

    app.extensions["kappawatt"].drain.begin()

    answer = client.get(path)
    assert answer.status_code == 503
    assert "draining" in answer.text


@pytest.mark.parametrize("path", ["/healthz", "/v2/health/live", "/metrics", "/params"])
def test_a_draining_process_is_alive_and_answers(app: Flask, path: str) -> None:
    app.extensions["kappawatt"].drain.begin()

    assert app.test_client().get(path).status_code == 200
    assert app.test_client().post("/predict", json=fakes.EXAMPLE).status_code == 200


def test_who_asked_is_told_when_draining_begins(app: Flask) -> None:
    drain, told = app.extensions["kappawatt"].drain, []
    drain.when_begun(lambda: told.append(drain.has_begun))
    assert told == []

    drain.begin()

    assert told == [True]
