"""What several contracts of the load service are tried on."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from kappawatt.forecasting.model import ForecastModel
from kappawatt.serving.app import create_app
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings


@pytest.fixture(scope="module")
def service() -> FlaskClient:
    """The load service, which answers from what a request brings."""
    return create_app(find_service("hourly-load"), Settings.read({"KAPPAWATT_FOLLOW_HISTORIES": "false"})).test_client()


@pytest.fixture(scope="module")
def model() -> ForecastModel:
    """The load model that the package has."""
    found = find_service("hourly-load").open(Settings.read({}))
    assert isinstance(found, ForecastModel)
    return found
