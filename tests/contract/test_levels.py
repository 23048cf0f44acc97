"""A stream says the quantile levels that its service's forecaster has: tables and views are made from the stream."""

from __future__ import annotations

import pytest

from kappawatt.serving.service import find_service, service_names

FORECASTING = [name for name in service_names() if (kind := find_service(name).model) and kind.rolling]


@pytest.mark.parametrize("name", FORECASTING)
def test_a_stream_has_the_levels_of_its_forecaster(name: str) -> None:
    service = find_service(name)
    rolling = service.modelled().rolling

    assert rolling is not None
    assert service.streamed().levels == rolling.forecaster.levels
