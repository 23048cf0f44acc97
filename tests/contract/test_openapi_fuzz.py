"""schemathesis against the OpenAPI document of every service: no 500, nothing undocumented, bad input refused."""

from __future__ import annotations

import threading
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from kappawatt.bus import connect
from kappawatt.serving.app import create_app
from kappawatt.serving.service import find_service, service_names
from kappawatt.settings import Settings
from kappawatt.streams.table import TOPICS
from tests.conftest import wait_until

# Lists of unequal length, CSV and Arrow are more than a JSON Schema can say: what it allows may still be refused.
NOT_SAYABLE = [positive_data_acceptance]
CSV = "text/csv"
EXAMPLES = 30  # of each operation; `make fuzz` sends the same doors as many as it is told
ENDLESS = "/api/stream"  # server-sent events; tested by hand in tests/unit/services/gateway


@pytest.mark.parametrize("name", service_names())
def test_no_request_breaks_the_contract(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"embedded:{tmp_path}/bus.sqlite"
    bus = connect(url)
    bus.ensure(TOPICS)
    bus.close()
    own = Settings.read({}, bus=url, database=f"duckdb:{tmp_path}/kappawatt.duckdb")
    service = find_service(name)
    app = create_app(service, own)
    if service.work is not None and service.is_one_process:
        loop = service.work(app, app.extensions["kappawatt"])
        request.addfinalizer(loop.stop)
        threading.Thread(target=loop.run).start()
    client = app.test_client()
    wait_until(lambda: client.get("/readyz").status_code == 200, what="ready")
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    schemathesis.openapi.format("date-time", _moments())
    failures: list[str] = []

    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == ENDLESS:
            continue

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)))
        def claim(case: Any) -> None:
            assume(case.media_type != CSV or isinstance(case.body, str))  # sent, a number is a line of text
            case.call_and_validate(excluded_checks=NOT_SAYABLE)

        try:
            claim()
        except Exception as error:  # all operations are looked at before the test fails
            failures.append(f"{operation.method.upper()} {operation.path}: {error}")

    assert not failures, "\n\n".join(failures)


def _moments() -> Any:
    return st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat())
