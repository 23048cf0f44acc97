"""Polls of readings to predictions, row by row. This is where a message becomes a prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Records
from kappawatt.columns.batch import Answer, Batch
from kappawatt.columns.content import ManyDecoded
from kappawatt.messages.dead_letters import dead_letter_message
from kappawatt.messages.predictions import Prediction, prediction_block, prediction_event
from kappawatt.messages.readings import (
    BLOCK_ROWS_MOST,
    by_content_type,
    carried_headers,
    decode_records,
    with_known_times,
)
from kappawatt.models.predictor import Model
from kappawatt.worker.interface import Outcome

__all__ = ["Answering"]


@dataclass(frozen=True, slots=True)
class Answering:
    """How a poll of one source topic is answered.

    Parameters
    ----------
    model : Model
    output, dead : str
        Topic names.
    block_rows : int
        From how many answers of one key on they travel as one block; 0 never.
    arrival : str
        Field of a reading that says its time; when it arrived, if absent.
    """

    model: Model
    output: str
    dead: str
    block_rows: int
    arrival: str = "event_time"

    @property
    def series(self) -> int:
        """None: each row is answered by itself."""
        return 0

    def answer(self, polled: Sequence[Records]) -> Outcome:
        """Return everything to publish for `polled`; depends on nothing but its argument and the model."""
        outcome = Outcome()
        for kind, parts in by_content_type(polled).items():
            decoded = decode_records(parts, kind, self.model.predictor.request)
            decoded = with_known_times(decoded, parts, self.arrival)
            self._publish_part(parts, decoded, self.model.answer(decoded.batch), outcome)
        return outcome

    def _publish_part(self, parts: Sequence[Records], decoded: ManyDecoded, answer: Answer, outcome: Outcome) -> None:
        starts = np.concatenate(([0], np.cumsum([len(records) for records in parts])))
        if answer.rejections:
            self._refuse(parts, starts, decoded, answer, outcome)
        outcome.rows += len(answer)
        whole = bool(answer.valid.all())
        for part, (first, last) in zip(parts, pairwise(starts), strict=True):
            low, high = np.searchsorted(decoded.message, (first, last))
            for key, members in _by_key(part):
                rows = np.arange(low, high)
                if members is not None:
                    rows = rows[members[decoded.message[low:high] - first]]
                if not whole:
                    rows = rows[answer.valid[rows]]
                if len(rows):
                    local = decoded.message[rows] - first
                    self._publish_key(part, key, rows, local, decoded, answer, outcome)

    def _publish_key(
        self,
        part: Records,
        key: bytes | None,
        rows: NDArray[np.intp],
        local: NDArray[np.intp],
        decoded: ManyDecoded,
        answer: Answer,
        outcome: Outcome,
    ) -> None:
        arrived = np.asarray(part.timestamps, dtype=np.int64)[local]
        outcome.event_times.append(arrived)
        offsets = np.asarray(part.offsets, dtype=np.int64)
        for start in range(0, len(rows), BLOCK_ROWS_MOST):
            cut = slice(start, start + BLOCK_ROWS_MOST)
            prediction = Prediction(
                self.output,
                key,
                self._columns(rows[cut], arrived[cut], decoded.batch, answer),
                offsets[local[cut]],
                decoded.row[rows[cut]].astype(np.int32),
                part.topic,
                part.partition,
                self.model.name,
                self.model.version,
                carried_headers(part.headers[int(local[start])]),
                part.log,
            )
            if self.block_rows and len(prediction.offsets) >= self.block_rows:
                outcome.outgoing.append(prediction_block(prediction))
            else:
                outcome.outgoing += prediction_event(prediction)

    def _columns(
        self, rows: NDArray[np.intp], arrived: NDArray[np.int64], batch: Batch, answer: Answer
    ) -> dict[str, NDArray[np.generic]]:
        moments = arrived.astype("datetime64[ms]")
        if self.arrival in batch.columns:
            given = batch.columns[self.arrival][rows]
            moments = np.where(np.isnat(given), moments, given)
        columns = {"event_time": moments}
        columns |= {name: column[rows] for name, column in answer.columns.items()}
        target = self.model.predictor.target
        if target in batch.columns:
            columns[f"measured_{target}"] = batch.columns[target][rows]
        return columns

    def _refuse(
        self,
        parts: Sequence[Records],
        starts: NDArray[np.intp],
        decoded: ManyDecoded,
        answer: Answer,
        outcome: Outcome,
    ) -> None:
        outcome.unlisted.update(answer.unlisted)
        for message, group in groupby(answer.rejections, key=lambda r: int(decoded.message[r.row])):
            place = int(np.searchsorted(starts, message, side="right")) - 1
            reasons = [r.at(int(decoded.row[r.row])) for r in group]
            records, at = parts[place], message - int(starts[place])
            low, high = np.searchsorted(decoded.message, (message, message + 1))
            count = int((~answer.valid[low:high]).sum())
            outcome.refuse(records, at, reasons, count)
            outcome.outgoing.append(
                dead_letter_message(self.dead, records, at, reasons, self.model.name, self.model.version, count)
            )


def _by_key(records: Records) -> Iterator[tuple[bytes | None, NDArray[np.bool_] | None]]:
    """Yield each key with the mask of its messages; a single key with None."""
    keys = dict.fromkeys(records.keys)
    if len(keys) == 1:
        yield records.keys[0], None
        return
    codes = {key: code for code, key in enumerate(keys)}
    coded = np.fromiter((codes[key] for key in records.keys), dtype=np.int64, count=len(records))
    for key, code in codes.items():
        yield key, coded == code
