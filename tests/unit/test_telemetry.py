"""What the metrics of a consumer say, and when they stop saying it."""

from __future__ import annotations

import re

from kappawatt.telemetry import Telemetry


def values(telemetry: Telemetry, name: str) -> dict[str, float]:
    found = re.findall(rf"^{name}{{(.*)}} (\S+)$", telemetry.render().decode(), re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def test_the_lag_of_a_partition_that_moved_away_is_not_told_any_more() -> None:
    telemetry = Telemetry("model")
    telemetry.lags({("topic", 0): 5000, ("topic", 1): 5000})

    telemetry.lags({("topic", 0): 7})

    lags = values(telemetry, "kappawatt_consumer_lag")
    assert list(lags.values()) == [7]
    assert 'partition="0"' in next(iter(lags))


def test_a_partition_that_comes_back_is_told_again() -> None:
    telemetry = Telemetry("model")
    for held in ({("topic", 1): 1}, {}, {("topic", 1): 2}):
        telemetry.lags(held)

    assert list(values(telemetry, "kappawatt_consumer_lag").values()) == [2]


def test_the_age_of_a_poll_that_never_came_counts_from_the_start() -> None:
    telemetry = Telemetry("model")
    assert values(telemetry, "kappawatt_poll_age_seconds") == {}  # a process that reads no bus

    telemetry.will_poll()

    (age,) = values(telemetry, "kappawatt_poll_age_seconds").values()
    assert 0 <= age < 10
