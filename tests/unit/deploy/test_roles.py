"""What the platform's variables mean to a container; that it keeps the contract is in the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from kappawatt.deploy.roles import serve_settings
from kappawatt.errors import SettingInvalid


def test_without_a_word_it_is_port_8080_everywhere_and_opt_ml_model() -> None:
    settings = serve_settings({})

    assert (settings.host, settings.port, settings.artifacts) == ("0.0.0.0", 8080, Path("/opt/ml/model"))
    assert settings.workers == 1


def test_the_platforms_words_stand_above_our_own() -> None:
    environment = {
        "SAGEMAKER_BASE_DIR": "/mnt",
        "SAGEMAKER_BIND_TO_PORT": "9000",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "3",
        "SAGEMAKER_CONTAINER_LOG_LEVEL": "10",
        "KAPPAWATT_PORT": "1",
        "KAPPAWATT_WORKERS": "2",
        "KAPPAWATT_HOST": "127.0.0.1",
        "KAPPAWATT_THREADS": "7",
    }

    settings = serve_settings(environment)

    assert (settings.host, settings.port, settings.artifacts) == ("0.0.0.0", 9000, Path("/mnt/model"))
    assert (settings.workers, settings.log_level, settings.threads) == (3, "DEBUG", 7)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "0", "from 1 to 65535"),
        ("SAGEMAKER_BIND_TO_PORT", "http", "from 1 to 65535"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "65", "from 1 to 64"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "15", "10, 20, 30, 40, 50"),
        ("SAGEMAKER_MULTI_MODEL", "true", "one container serves one model"),
        ("KAPPAWATT_THREADS", "many", "a whole number"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        serve_settings({name: value})

    assert str(refused.value).startswith(f"{name}: got {value!r}")
    assert allowed in str(refused.value)
