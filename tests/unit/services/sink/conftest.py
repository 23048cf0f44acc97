"""Here rows wait for the database, and looks at it, a tenth of the time that they do in service."""

from __future__ import annotations

from functools import partial

import pytest

from kappawatt.services.sink import loop
from kappawatt.services.sink.loop import Sink


@pytest.fixture(autouse=True)
def _soon_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "POLL_SECONDS", loop.POLL_SECONDS / 10)  # also how long `stop` may take to be seen
    monkeypatch.setattr(loop, "LOOK_SECONDS", loop.LOOK_SECONDS / 10)
    monkeypatch.setattr(loop, "Sink", partial(Sink, write_seconds=loop.WRITE_SECONDS / 10))
