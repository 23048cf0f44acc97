"""The last resort: one message that nobody thought of is refused, and everything else is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from kappawatt.bus import Bus
from kappawatt.bus.interface import Outgoing, Records
from kappawatt.bus.promotions import Serving, promote
from kappawatt.errors import BusUnreachable, HistoriesBehind
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.predictions import read_predictions
from kappawatt.models.artifact import find_artifact
from kappawatt.settings import Settings
from kappawatt.streams.plant import PLANT_PREDICTIONS
from kappawatt.worker import predicting
from kappawatt.worker.interface import Answers, Outcome
from kappawatt.worker.isolating import Isolating
from tests import fakes
from tests.conftest import everything, publish, wait_until
from tests.fakes import PREDICTOR
from tests.unit.worker.test_worker import DEAD, PREDICTIONS, READINGS, as_records, make_worker, records, running

POISON = b"poison"


@dataclass
class Fragile:
    """Answers each message by itself, and fails as a whole on poison."""

    error: BaseException = field(default_factory=lambda: ZeroDivisionError("nobody thought of it"))
    polls: list[int] = field(default_factory=list)

    def answer(self, polled: Sequence[Records]) -> Outcome:
        self.polls.append(sum(map(len, polled)))
        outcome = Outcome()
        for part in polled:
            for offset, value in zip(part.offsets, part.values, strict=True):
                if value == POISON:
                    raise self.error
                outcome.outgoing.append(Outgoing("out", b"%d" % offset, part.keys[0]))
                outcome.rows += 1
        return outcome


def isolating(answers: Answers) -> Isolating:
    return Isolating(answers, DEAD, "fake", "1")


@pytest.mark.parametrize("places", [(0,), (7,), (3,), (0, 1), (2, 6), range(8)])
def test_the_message_it_fails_on_is_refused_and_the_others_are_answered_in_order(places: Sequence[int]) -> None:
    values = [POISON if i in places else b"%d" % i for i in range(8)]
    polled = [records(*values[:3]), records(*values[3:])]

    outcome = isolating(Fragile()).answer(polled)

    good = [m.value for m in outcome.outgoing if m.topic == "out"]
    offsets = [*range(100, 103), *range(100, 105)]
    assert good == [b"%d" % offset for i, offset in enumerate(offsets) if i not in places]
    letters = read_dead_letters([as_records(outcome.outgoing, DEAD)])
    assert [(x["reason"], x["offset"], x["original"]) for x in letters] == [
        ("internal", offsets[i], "poison") for i in places
    ]
    assert all("ZeroDivisionError: nobody thought of it" in x["message"] for x in letters)
    assert all([error["row"] for error in x["errors"]] == [0] and x["rejected_rows"] == 1 for x in letters)
    assert outcome.internal == len(places)
    assert outcome.rows == 8


def test_it_keeps_as_many_histories_as_what_it_isolates() -> None:
    fragile = Fragile()
    fragile.series = 7  # type: ignore[attr-defined]

    assert isolating(fragile).series == 7  # type: ignore[arg-type]


def test_what_comes_all_day_is_answered_at_once() -> None:
    fragile = Fragile()

    isolating(fragile).answer([records(b"1", b"2"), records(b"3")])

    assert fragile.polls == [3]


@pytest.mark.parametrize(
    "error", [BusUnreachable("away"), HistoriesBehind("reading"), MemoryError(), KeyboardInterrupt()]
)
def test_what_is_no_fault_of_a_message_is_raised(error: BaseException) -> None:
    with pytest.raises(type(error)):
        isolating(Fragile(error)).answer([records(b"1", POISON)])


def broken_at(temperature: float, original: Callable[..., Any]) -> Callable[..., Any]:
    def broken(prediction: Any) -> Any:
        if 500.0 - 2.0 * temperature in prediction.columns["net_power"]:
            raise RuntimeError("a bug")
        return original(prediction)

    return broken


def isolated_worker(bus: Bus, settings: Settings) -> Any:
    def open_answers(version: str | None, output: str) -> tuple[Answers, str, str]:
        model = PREDICTOR.open(find_artifact(settings.artifacts or Path(), version))
        answering = predicting.Answering(model, output, DEAD, 0)
        return isolating(answering), model.name, model.version

    worker = make_worker(bus, settings)
    worker._open_answers = open_answers
    return worker


def test_a_worker_with_a_bug_refuses_what_it_fails_on_and_is_ready(
    bus: Bus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.write_artifact(settings.artifacts)
    monkeypatch.setattr(predicting, "prediction_event", broken_at(7.0, predicting.prediction_event))
    publish(bus, [Outgoing(READINGS, value, b"plant-1") for value in fakes.json_rows(range(20))])
    worker = isolated_worker(bus, settings)

    with running(worker):
        wait_until(lambda: sum(bus.committed("fake-power", READINGS).values()) == 20)

    assert sorted(p["net_power"] for p in read_predictions(everything(bus, PREDICTIONS))) == sorted(
        500.0 - 2 * t for t in range(20) if t != 7
    )
    (letter,) = read_dead_letters(everything(bus, DEAD))
    assert (letter["reason"], letter["offset"]) == ("internal", 7)
    assert worker.why_not_ready() is None


def test_a_worker_that_fails_on_everything_says_so_until_it_answers_again(
    bus: Bus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.write_artifact(settings.artifacts)
    original = predicting.prediction_event
    monkeypatch.setattr(predicting, "prediction_event", broken_at(1.0, original))
    publish(bus, [Outgoing(READINGS, value, b"plant-1") for value in fakes.json_rows([1.0] * 12)])
    worker = isolated_worker(bus, settings)

    with running(worker):
        reason = wait_until(worker.why_not_ready)
        publish(bus, [Outgoing(READINGS, value, b"plant-1") for value in fakes.json_rows([2.0])])
        wait_until(lambda: worker.why_not_ready() is None)

    assert reason.startswith("messages: got 12 in a row that could not be answered")
    assert "a bug" in reason


@pytest.mark.parametrize(
    ("topic", "version", "why"),
    [
        ("nowhere", "2", "one that is on"),
        ("side", "no-such-version", "version"),
        ("side", "../../etc", "version"),
        (READINGS, "2", "one of a replay's own"),
        (DEAD, "2", "one of a replay's own"),
    ],
)
@pytest.mark.parametrize("is_early", [True, False])
def test_a_promotion_that_cannot_be_followed_leaves_the_worker_as_it_was_and_not_ready(
    bus: Bus, settings: Settings, topic: str, version: str, why: str, is_early: bool
) -> None:
    fakes.write_artifact(settings.artifacts, "2", 10.0)
    fakes.write_artifact(settings.artifacts, "1", 0.0)
    bus.ensure([replace(PLANT_PREDICTIONS, name="side")])
    unfollowable = Serving(PREDICTIONS, topic, version, {})
    if is_early:
        promote(bus, unfollowable, "fake-power", READINGS)
    worker = make_worker(bus, settings)

    with running(worker):
        if not is_early:
            promote(bus, unfollowable, "fake-power", READINGS)
        reason = wait_until(worker.why_not_ready)
        publish(bus, [Outgoing(READINGS, value, b"plant-1") for value in fakes.json_rows([1.0])])
        wait_until(lambda: everything(bus, PREDICTIONS), what="answered where it was")
        promote(bus, Serving(PREDICTIONS, "side", "2", {}), "fake-power", READINGS)
        wait_until(lambda: worker.why_not_ready() is None)

    assert "cannot be followed" in reason
    assert why in reason
