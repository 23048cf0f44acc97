"""Memory in the chart: what is said, or what the expected series want."""

from __future__ import annotations

import pytest
import yaml

from kappawatt.serving.service import find_service
from tests.charts.rendering import CHART, helm_template, rendered
from tools import render_marathon

ROLES = ("serve", "consume")


def memory(service: str, role: str, *settings: str) -> tuple[int, int]:
    """What a role asks for and may use [MiB]."""
    (found,) = [
        d for d in rendered(*settings) if d["kind"] == "Deployment" and d["metadata"]["name"] == f"kw-{service}-{role}"
    ]
    resources = found["spec"]["template"]["spec"]["containers"][0]["resources"]
    requested, limit = (int(resources[kind]["memory"].removesuffix("Mi")) for kind in ("requests", "limits"))
    return requested, limit


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("service", ["smart-meter", "hourly-load"])
def test_the_chart_reckons_with_what_a_series_takes(service: str, role: str) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())[service]["seriesKilobytes"][role]
    kind = find_service(service).modelled()
    assert kind.series_bytes is not None

    said = kind.series_bytes(role == "consume") / 1000

    assert said <= values <= 1.05 * said


@pytest.mark.parametrize("role", ROLES)
def test_expected_series_raise_the_memory_where_they_have_to(role: str) -> None:
    as_said = memory("smart-meter", role)
    kilobytes = yaml.safe_load((CHART / "values.yaml").read_text())["smart-meter"]["seriesKilobytes"][role]

    few = memory("smart-meter", role, "smart-meter.expectedSeries=10")
    many = memory("smart-meter", role, "smart-meter.expectedSeries=20000")

    assert few == as_said == (256, 768)
    needed = (200e6 + 20_000 * kilobytes * 1000) / 2**20
    assert many[0] == pytest.approx(needed, abs=1)
    assert many[1] == pytest.approx(needed / 0.7, abs=1)
    assert memory("hourly-load", role, "smart-meter.expectedSeries=20000") == (256, 768)


def test_marathon_reckons_with_expected_series_as_the_chart_does() -> None:
    values = render_marathon.values_of("open")
    values["smart-meter"] |= {"expectedSeries": 20_000}
    roles = [role for role in render_marathon.roles_of(values) if role.service == "smart-meter"]

    assert len(roles) == 2
    for role in roles:
        _, limit = memory("smart-meter", role.role, "smart-meter.expectedSeries=20000")
        assert render_marathon.memory_of(role) == limit


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("plant-power.expectedSeries=5",), "plant-power.expectedSeries: got 5, allowed 0"),
        (("smart-meter.expectedSeries=-1",), "expectedSeries"),
        (("smart-meter.expectedSeries=1.5",), "expectedSeries"),
        (
            ("smart-meter.expectedSeries=5", "smart-meter.serve.resources.limits.memory=1G"),
            'resources: memory: got "1G", allowed with expectedSeries a whole number of Mi or Gi',
        ),
    ],
)
def test_expected_series_that_mean_nothing_are_refused(settings: tuple[str, ...], said: str) -> None:
    made = helm_template(*settings)

    assert made.returncode != 0
    assert said in made.stderr
