"""Views that set what was expected beside what was measured."""

from __future__ import annotations

from kappawatt.columns.schema import Kind
from kappawatt.store.table import Table, View, quoted
from kappawatt.streams.stream import Stream

__all__ = ["scored", "scored_forecasts"]


def scored(stream: Stream, readings: Table, predictions: Table) -> View | None:
    """Return the view of predictions beside the measurements in their readings; None if a reading holds none.

    It has the reading's other fields, `measured`, `predicted`, the answer's other fields, and `error` and `abs_error`
    of a number, `is_right` of anything else.
    """
    target, answer = stream.target, stream.answer
    if target not in readings.names or target not in answer.names:
        return None
    taken = {"id", "key", "event_time", target}
    conditions = [f.name for f in stream.schema.fields if f.name in readings.names and f.name not in taken]
    others = [name for name in answer.names if name != target]
    measured, predicted = f"r.{quoted(target)}", f"p.{quoted(target)}"
    if answer.field(target).kind in (Kind.NUMBER, Kind.INTEGER):
        scores = [f"{predicted} - {measured} AS error", f"abs({predicted} - {measured}) AS abs_error"]
    else:
        scores = [f"{predicted} = {measured} AS is_right"]
    columns = [
        *("p.id", "p.key", "p.event_time"),
        *(f"r.{quoted(name)}" for name in conditions),
        f"{measured} AS measured",
        f"{predicted} AS predicted",
        *(f"p.{quoted(n)}" + (f" AS {quoted(f'predicted_{n}')}" if n in conditions else "") for n in others),
        *scores,
        *("p.model", "p.version", "p.topic", "p.published"),
    ]
    of_one_log = "r.source_log = p.source_log"
    if stream.arrival in readings.names:
        # A release before named no log. A prediction of then belongs to the reading of its place and its time.
        of_one_log += f" OR '' IN (r.source_log, p.source_log) AND r.{quoted(stream.arrival)} = p.event_time"
    sql = f"""\
SELECT {", ".join(columns)}
FROM {quoted(predictions.name)} p
JOIN {quoted(readings.name)} r ON r.source_partition = p.source_partition AND r.source_offset = p.source_offset
     AND r.source_row = p.source_row AND r.source_topic = p.source_topic AND ({of_one_log})
WHERE {measured} IS NOT NULL"""  # noqa: S608 (our own names)
    meaning = f"view: `{predictions.name}` beside what was measured"
    return View(stream.scored_name, sql, meaning, _former(predictions))


def scored_forecasts(forecasts: Table, errors: Table) -> View:
    """Return the view of realised errors with the local time, lead and unit of their forecast."""
    # The local hour and day of an interval come from the forecast it is an interval of: errors have its id.
    sql = f"""\
SELECT e.id, e.key, e.issue_time, e.available_at, e.target_time, f.time_zone, f.target, f.unit,
       e.target_time AT TIME ZONE f.time_zone AS local_time,
       CAST(extract(epoch FROM e.target_time - e.issue_time) / 3600 AS DOUBLE PRECISION) AS lead_hours,
       e.measured, e.forecast, e.error, abs(e.error) AS abs_error, e.naive, abs(e.naive_error) AS naive_abs_error,
       e.forecast_lower, e.forecast_upper, e.covered, e.crps, e.fallback, f.corrected, e.model, e.version,
       e.published
FROM {errors.name} e
JOIN {forecasts.name} f ON f.id = e.id"""  # noqa: S608
    meaning = "view: errors with local time, lead and unit of their forecast"
    return View("scored_forecasts", sql, meaning, _former(errors))


def _former(table: Table) -> tuple[tuple[str, str], ...]:
    """A view has its columns' former names where its table had them."""
    return tuple((old, column.name) for column in table.columns for old in column.former)
