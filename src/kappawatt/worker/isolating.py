"""The last resort of a worker: whatever answering a poll fails on, one message is refused and the stream goes on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from kappawatt.bus.interface import Records
from kappawatt.columns.batch import Rejection
from kappawatt.errors import BusError
from kappawatt.messages.dead_letters import dead_letter_message
from kappawatt.worker.interface import INTERNAL, Answers, Outcome

__all__ = ["RAISED", "Isolating"]

log = logging.getLogger(__name__)

RAISED = (BusError, MemoryError)  # what another try may mend, or the process has to end of


class Isolating:
    """Answers as another does, and halves a poll that it fails on until the message is found that it fails on.

    That message becomes a dead letter with reason `internal`. What the bus does, and memory that is used up, are
    nobody's message and raised as they are.

    Parameters
    ----------
    answers : Answers
    dead : str
        Topic of dead letters.
    model, version : str
        Who answers.
    """

    def __init__(self, answers: Answers, dead: str, model: str, version: str) -> None:
        self._answers = answers
        self._dead = dead
        self._model = model
        self._version = version

    @property
    def series(self) -> int:
        """How many series' histories are kept."""
        return self._answers.series

    def answer(self, polled: Sequence[Records]) -> Outcome:
        """Return everything to publish for `polled`."""
        try:
            return self._answers.answer(polled)
        except RAISED:
            raise
        except Exception as error:
            if len(polled) == 1 and len(polled[0]) == 1:
                return self._refuse(polled[0], error)
            if not polled:
                raise
        outcome = Outcome()
        for half in _halves(polled):
            outcome.add(self.answer(half))
        return outcome

    def _refuse(self, records: Records, error: Exception) -> Outcome:
        place = {"topic": records.topic, "partition": records.partition, "offset": records.offsets[0]}
        log.error("a message could not be answered", exc_info=error, extra=place)
        reason = f"could not be answered: {type(error).__name__}: {error}"[:400]
        refused = [Rejection(0, INTERNAL, None, None, f"a message that can be answered ({reason})")]
        outcome = Outcome(rows=1)
        outcome.refuse(records, 0, refused)
        outcome.outgoing.append(dead_letter_message(self._dead, records, 0, refused, self._model, self._version))
        return outcome


def _halves(polled: Sequence[Records]) -> list[list[Records]]:
    """The first half of the messages, and the second."""
    if len(polled) > 1:
        middle = len(polled) // 2
        return [list(polled[:middle]), list(polled[middle:])]
    (records,) = polled
    return [[half] for half in records.halves()]
