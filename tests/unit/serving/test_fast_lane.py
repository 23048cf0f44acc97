"""The lane beside Flask: what is out of the ordinary goes the ordinary way."""

from __future__ import annotations

import orjson
import pytest

from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from tests import fakes


@pytest.mark.parametrize("size", [0, 9_000])
def test_an_encoded_body_is_refused_however_small_it_is(settings: Settings, size: int) -> None:
    assert settings.artifacts is not None
    fakes.write_artifact(settings.artifacts)
    door = create_app(fakes.SERVICE, settings).test_client()
    body = orjson.dumps(fakes.EXAMPLE) + b" " * size

    def status(**headers: str) -> int:
        return door.post("/predict", data=body, content_type="application/json", headers=headers).status_code

    assert status() == 200
    assert status(**{"Content-Encoding": "identity"}) == 200
    assert status(**{"Content-Encoding": "gzip"}) == 415
