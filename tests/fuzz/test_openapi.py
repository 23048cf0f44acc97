"""schemathesis against every service: its examples, its coverage of each schema's borders, and what it makes up.

Nothing is a 5xx, every status and content type is a documented one, every answer has its schema, what a schema forbids
is refused, and a method that is not there is 405 with those that are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from flask import Flask
from hypothesis import strategies as st
from schemathesis import config as of
from schemathesis.engine import events, from_schema

from kappawatt.columns.arrow import write_columns
from kappawatt.columns.content import ARROW, CSV
from kappawatt.serving.service import service_names
from kappawatt.streams.table import STREAMS
from tests.fleet import behind_a_gateway, fleet_settings, opened

ENDLESS = "/api/stream"  # server-sent events; tested by hand in tests/unit/services/gateway
ROUNDS = 20
# Cases by service, in parts of all: the more its routes read, the more. The gateway has all of them behind it.
SHARES = {"gateway": 0.15, "sink": 0.005, "sensor-ingestor": 0.2}


def share_of(name: str) -> float:
    others = [each for each in service_names() if each not in SHARES]
    return SHARES[name] if name in SHARES else (1 - sum(SHARES.values())) / len(others)


@pytest.fixture(params=service_names())
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Flask]]:
    name, settings = request.param, fleet_settings(tmp_path)
    with ExitStack() as stack:
        opening = behind_a_gateway(settings) if name == "gateway" else opened(name, settings)
        yield name, stack.enter_context(opening)


# Threads of a service wait for a random while, which Hypothesis takes for a strategy's own.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.timeout(7_200)
def test_no_request_breaks_the_contract(service: tuple[str, Flask], cases: int) -> None:
    name, app = service
    schemathesis.openapi.format("date-time", moments())
    schemathesis.openapi.media_type(ARROW, arrow_streams())
    wanted = round(cases * share_of(name))
    made: Counter[str] = Counter()
    failures: dict[tuple[str, str, str], str] = {}

    run(app, made, failures, examples=True, coverage=True)
    for seed in range(ROUNDS):
        left = max(wanted - made.total(), wanted // 2 - made["fuzzing"])
        if left <= 0:
            break
        run(app, made, failures, seed=seed, fuzzing=max(5, left // routes(app)))

    print(f"{name}: {made.total()} cases {dict(made)}")
    assert made.total() >= wanted
    assert made["fuzzing"] >= wanted // 2
    assert not failures, "\n\n".join(f"{' '.join(what)}\n{how}" for what, how in failures.items())


def routes(app: Flask) -> int:
    """How many read something, so that there is no end to what can be sent to them."""
    paths = app.test_client().get("/openapi.json").get_json()["paths"]
    return sum("requestBody" in each or "parameters" in each for item in paths.values() for each in item.values())


def run(
    app: Flask,
    made: Counter[str],
    failures: dict[tuple[str, str, str], str],
    *,
    seed: int = 0,
    examples: bool = False,
    coverage: bool = False,
    fuzzing: int = 0,
) -> None:
    """Count cases by phase in `made`, and note the first failure of each kind, by route, check and reason."""
    project = of.ProjectConfig(
        continue_on_failure=True,
        # Lists of unequal length, CSV and Arrow are more than a JSON Schema can say: what it allows may be refused.
        checks=of.ChecksConfig(positive_data_acceptance=of.PositiveDataAcceptanceConfig(enabled=False)),
        generation=of.GenerationConfig(max_examples=max(1, fuzzing), no_shrink=True, database="none"),
        phases=of.PhasesConfig(
            examples=of.ExamplesPhaseConfig(enabled=examples),
            coverage=of.CoveragePhaseConfig(enabled=coverage),
            fuzzing=of.FuzzingPhaseConfig(enabled=fuzzing > 0),
            stateful=of.StatefulPhaseConfig(enabled=False),
        ),
    )
    config = of.SchemathesisConfig(projects=of.ProjectsConfig(default=project), seed=seed)
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app, config=config).exclude(path=ENDLESS)
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            recorder = event.recorder
            made[event.phase.value] += len(recorder.cases)
            for case, checks in recorder.checks.items():
                for check in checks:
                    if check.failure_info is None or is_text_all_the_same(recorder.cases[case].value):
                        continue
                    what = (recorder.label, check.name, str(check.failure_info.failure)[:200])
                    failures.setdefault(what, f"seed {seed}: {check.failure_info.code_sample[:1_000]}")
        elif isinstance(event, events.NonFatalError):
            failures.setdefault((event.label, "error", str(event.info)[:400]), f"seed {seed}")
        elif isinstance(event, events.FatalError):
            raise event.exception


def is_text_all_the_same(case: Any) -> bool:
    """A number in place of a CSV text is sent as its digits, which are a line of text."""
    return case.media_type == CSV and not isinstance(case.body, str)


def moments() -> st.SearchStrategy[str]:
    return st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat())


def arrow_streams() -> st.SearchStrategy[bytes]:
    """Streams that hold rows of any stream's readings, whole and with bytes changed, and bytes that are none."""
    whole = [
        write_columns({f.name: np.full(n, f.example) for f in stream.schema.fields if isinstance(f.example, float)})
        for stream in STREAMS
        for n in (1, 3)
    ]

    @st.composite
    def damaged(draw: st.DrawFn) -> bytes:
        content = bytearray(draw(st.sampled_from(whole)))
        for _ in range(draw(st.integers(0, 3))):
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
        return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)

    return st.one_of(damaged(), st.binary(max_size=200))
