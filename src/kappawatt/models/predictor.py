"""Predictor: the one object that answers, whatever door the rows came through."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Answer, Batch, Columns, Rejection
from kappawatt.columns.json_rows import decode_objects
from kappawatt.columns.plain import texts_column
from kappawatt.columns.schema import Field, Kind, Schema, nothing, shorten
from kappawatt.errors import ArtifactInvalid
from kappawatt.models.artifact import Artifact, Manifest
from kappawatt.models.opening import opening

__all__ = ["Model", "Predictor"]

log = logging.getLogger(__name__)

BLOCK_ROWS = 16_384  # that a model is asked at a time
EXAMPLE_TOLERANCE = 1e-6  # relative; another CPU may round a sum differently, nothing more


@dataclass(frozen=True, slots=True)
class Predictor:
    """How a service answers: schemas and two functions, no state.

    Parameters
    ----------
    name : str
        As users write it, `plant-power`.
    request, response : Schema
    target : str
        The response field that measurements are compared with. Where the request schema has an optional
        field of this name, it is the measurement and never reaches the model.
    feature_names : tuple of str
        What `predict` computes, in order; an artifact made for other features is refused.
    load : callable
        Artifact to fitted model (anything `predict` understands).
    predict : callable
        (fitted, columns of shape (n,)) to response columns of shape (n,), pure.
    """

    name: str
    request: Schema
    response: Schema
    target: str
    feature_names: tuple[str, ...]
    load: Callable[[Artifact], Any]
    predict: Callable[[Any, Columns], Columns]

    def open(self, artifact: Artifact) -> Model:
        """Load a model and have it answer its own example.

        Raises
        ------
        ArtifactInvalid
            It was made for another model or other features, is damaged, or answers its example differently.
        """
        with opening(self, artifact.manifest):
            model = Model(self, self.load(artifact), artifact.manifest)
            model.check_example()
        return model


@dataclass(frozen=True, slots=True)
class Model:
    """A predictor with a fitted model in it."""

    predictor: Predictor
    fitted: Any
    manifest: Manifest

    @property
    def name(self) -> str:
        """The predictor's name."""
        return self.predictor.name

    @property
    def version(self) -> str:
        """The artifact's version."""
        return self.manifest.version

    def answer(self, batch: Batch) -> Answer:
        """Answer all valid rows of `batch`; never fails as a whole for one bad row.

        Returns
        -------
        Answer
            As many rows as the batch; NaN (False, None) where the row was rejected.
        """
        if not batch.rejections:
            return self._answer_valid(batch)
        valid = np.flatnonzero(batch.valid)
        inner = self._answer_valid(batch.take(valid))
        columns = {name: _scatter(column, valid, len(batch)) for name, column in inner.columns.items()}
        mask = np.zeros(len(batch), dtype=np.bool_)
        mask[valid] = inner.valid
        more = [r.at(int(valid[r.row])) for r in inner.rejections]
        rejections = tuple(sorted((*batch.rejections, *more), key=lambda r: r.row))
        return Answer(columns, mask, rejections, self.name, self.version, batch.unlisted)

    def check_example(self) -> None:
        """Raise ArtifactInvalid unless the manifest's example row is answered as the manifest says."""
        example = self.manifest.example
        answer = self.answer(decode_objects([dict(example["request"])], self.predictor.request))
        if answer.rejections:
            raise ArtifactInvalid(f"example: {answer.rejections[0].message}")
        for name, expected in example["answer"].items():
            got = answer.columns[name][0]
            if not _is_close(got, expected):
                raise ArtifactInvalid(
                    f"example: {name}: got {got}, allowed {expected} as the manifest of {self.version} says"
                )

    def _answer_valid(self, batch: Batch) -> Answer:
        n = len(batch)
        if n > BLOCK_ROWS:
            return self._answer_blocks(batch)
        if n == 0:
            empty = {f.name: _unanswered(f, 0) for f in self.predictor.response.fields}
            return Answer(empty, np.ones(0, dtype=np.bool_), (), self.name, self.version)
        try:
            found = self.predictor.predict(self.fitted, batch.columns)
            columns = {f.name: _answered(f, found[f.name]) for f in self.predictor.response.fields}
            if any(len(column) != n for column in columns.values()):
                raise ValueError(f"the model gave columns of another length than {n}")
        except MemoryError:
            raise
        except Exception as error:
            failure = error
        else:
            return Answer(columns, batch.valid, (), self.name, self.version)
        return self._isolate(batch, failure)

    def _isolate(self, batch: Batch, error: Exception) -> Answer:
        """Find the rows a model fails on by halving, so that the others are answered all the same."""
        n = len(batch)
        if n == 1:
            who = {"model": self.name, "version": self.version}
            log.error("model failed on a row", exc_info=error, extra=who)
            refused = Rejection(0, "model_failed", None, shorten(str(error)), "a row the model can answer")
            unknown = {f.name: _unanswered(f, 1) for f in self.predictor.response.fields}
            return Answer(unknown, np.zeros(1, dtype=np.bool_), (refused,), self.name, self.version)
        parts = [np.arange(n // 2), np.arange(n // 2, n)]
        return self._together([self._answer_valid(batch.take(part)) for part in parts])

    def _answer_blocks(self, batch: Batch) -> Answer:
        """What a model computes on the way takes ten times the answer: that of a block, instead of all rows."""
        starts = range(0, len(batch), BLOCK_ROWS)
        return self._together([self._answer_valid(_cut(batch, slice(start, start + BLOCK_ROWS))) for start in starts])

    def _together(self, parts: list[Answer]) -> Answer:
        first = 0
        rejections: list[Rejection] = []
        for part in parts:
            rejections += [r.at(r.row + first) for r in part.rejections]
            first += len(part)
        valid = np.concatenate([part.valid for part in parts])
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
        return Answer(columns, valid, tuple(rejections), self.name, self.version)


def _cut(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch that has no rejections, not copied."""
    return Batch({name: column[rows] for name, column in batch.columns.items()}, batch.valid[rows])


def _scatter(column: NDArray[Any], rows: NDArray[np.intp], n: int) -> NDArray[Any]:
    """Spread a column of the valid rows over all n rows."""
    nothing = {"f": np.nan, "O": None, "M": np.datetime64("NaT")}.get(column.dtype.kind, 0)
    full = np.full(n, nothing, dtype=column.dtype)
    full[rows] = column
    return full


def _answered(field: Field, column: NDArray[Any]) -> NDArray[Any]:
    """A column as the model gave it; text of whatever string type as `str`."""
    return texts_column(column.tolist()) if field.kind is Kind.TEXT else column


def _unanswered(field: Field, n: int) -> NDArray[Any]:
    return np.zeros(n, dtype=np.bool_) if field.kind is Kind.BOOLEAN else nothing(field, n)


def _is_close(got: Any, expected: Any) -> bool:
    if isinstance(expected, str) or expected is None:
        return bool(got == expected)
    return bool(np.isclose(float(got), float(expected), rtol=EXAMPLE_TOLERANCE, atol=0))
