"""`POST /forecast` of a group: a name for the sum, its members with a history each, or by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kappawatt.columns.schema import shorten
from kappawatt.errors import FieldError, HistoryInsufficient, PayloadInvalid, PayloadTooLarge
from kappawatt.forecasting.calendar import Instant, Times
from kappawatt.forecasting.forecaster import Forecaster, Lookup
from kappawatt.forecasting.group import SumHistory
from kappawatt.forecasting.history import History
from kappawatt.forecasting.holidays import HOLIDAYS
from kappawatt.forecasting.reconciliation import POINTS
from kappawatt.forecasting.request import example_request, read_history, read_time_zone, read_window, request_schema

__all__ = [
    "MEMBERS",
    "MOST_INTERVALS",
    "MOST_MEMBERS",
    "GroupRequest",
    "example_group",
    "group_schema",
    "read_group_request",
]

MEMBERS = "members"
MOST_MEMBERS = 100
MOST_INTERVALS = 30_000  # of all forecasts of an answer: 5 MB of JSON
OF_MEMBER = ("history", "covariates")  # and its name; all else is the group's


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """What is asked of a group.

    Parameters
    ----------
    key : str
        Name of the sum.
    members : tuple of History
    targets : ndarray of datetime64[ms], shape (n,)
    issue_time : datetime64[ms]
    adds_up : str
        What of the fans is to add up, `median` or `mean`.
    """

    key: str
    members: tuple[History, ...]
    targets: Times
    issue_time: Instant
    adds_up: str


def group_schema(forecaster: Forecaster) -> dict[str, Any]:
    """Return the JSON Schema of a request for a group."""
    of_one = request_schema(forecaster)
    fields = of_one["properties"]
    member = {
        "type": "object",
        "properties": {name: fields[name] for name in (forecaster.key, *OF_MEMBER)},
        "required": [forecaster.key],
        "additionalProperties": False,
    }
    return {
        **of_one,
        "properties": {
            **{name: field for name, field in fields.items() if name not in OF_MEMBER},
            MEMBERS: {
                "type": "array",
                "items": member,
                "minItems": 2,
                "maxItems": MOST_MEMBERS,
                "description": f"the series whose sum {forecaster.key} names",
            },
            "adds_up": {
                "type": "string",
                "enum": list(POINTS),
                "default": forecaster.adds_up,
                "description": "what of the forecasts adds up: their medians, or their means",
            },
        },
        "required": [forecaster.key, MEMBERS],
    }


def read_group_request(
    document: Mapping[str, Any], forecaster: Forecaster, lookup: Lookup | None = None
) -> GroupRequest:
    """Read a parsed request with `members`.

    Raises
    ------
    PayloadInvalid
        A field cannot be used, or a member has another time zone, length of interval or grid; the message names it.
    PayloadTooLarge
        It asks for more intervals than an answer may hold.
    HistoryInsufficient
        A member brings no history and none is known of it; the message names it.
    """
    fields = group_schema(forecaster)["properties"]
    for name in document:
        if name not in fields:
            got = f"{name} of the sum" if name in OF_MEMBER else "an unknown field"
            raise PayloadInvalid.of(str(name)[:80], got, f"{', '.join(fields)} of a group")
    key = document.get(forecaster.key)
    if not (isinstance(key, str) and 0 < len(key) <= 200):
        got = "nothing" if key is None else repr(shorten(key))
        raise PayloadInvalid.of(forecaster.key, got, "text of 1 to 200 characters that names the sum")
    adds_up = document.get("adds_up", forecaster.adds_up)
    if adds_up not in POINTS:
        raise PayloadInvalid.of("adds_up", repr(shorten(adds_up)), " or ".join(POINTS))
    read_time_zone(document.get("time_zone"), forecaster.time_zone)
    given = document.get(MEMBERS)
    if not isinstance(given, list) or not 2 <= len(given) <= MOST_MEMBERS:
        got = f"{len(given)} members" if isinstance(given, list) else repr(shorten(given))
        raise PayloadInvalid.of(MEMBERS, got, f"a list of 2 to {MOST_MEMBERS} series")
    members: list[History] = []
    for i, one in enumerate(given):
        members.append(_member(f"{MEMBERS}[{i}]", one, document, forecaster, lookup))
        if members[-1].key in (key, *(member.key for member in members[:-1])):
            raise PayloadInvalid.of(
                f"{MEMBERS}[{i}].{forecaster.key}", repr(members[-1].key), "a name that neither sum nor others have"
            )
    total = SumHistory(key, members, forecaster)
    targets, issue_time = read_window(document, total, forecaster)
    asked = (len(members) + 1) * len(targets)
    if asked > MOST_INTERVALS:
        got = f"{asked:,} intervals of {len(members)} members and their sum"
        raise PayloadTooLarge.of(MEMBERS, got, f"{MOST_INTERVALS:,} in an answer")
    return GroupRequest(key, tuple(members), targets, issue_time, adds_up)


def _member(name: str, given: Any, group: Mapping[str, Any], forecaster: Forecaster, lookup: Lookup | None) -> History:
    """The history of one member; an error says whose it is."""
    allowed = (forecaster.key, *OF_MEMBER)
    if not isinstance(given, dict):
        raise PayloadInvalid.of(name, repr(shorten(given)), f"an object with {', '.join(allowed)}")
    for field in given:
        if field not in allowed:
            got = "one of its own" if field in group_schema(forecaster)["properties"] else "an unknown field"
            said = f"{', '.join(allowed)}; all else is said once, of the group"
            raise PayloadInvalid.of(f"{name}.{str(field)[:80]}", got, said)
    if given.get(forecaster.key) is None:
        raise PayloadInvalid.of(f"{name}.{forecaster.key}", "nothing", "text of 1 to 200 characters")
    whose = {name: group[name] for name in ("time_zone", HOLIDAYS) if name in group}
    try:
        history = read_history({**given, **whose}, forecaster, lookup)
    except FieldError as error:
        if error.field is None:
            raise
        raise type(error).of(f"{name}.{error.field}", error.got, error.allowed) from error
    if history.clock is None:
        raise HistoryInsufficient.of(f"{name}.history", "no value", f"{forecaster.target} of some weeks")
    if history.off_grid(np.array([history.first])).any():
        grid = f"whole multiples of {history.step} s by the local clock"
        raise PayloadInvalid.of(f"{name}.history.start", f"{history.first}Z", grid)
    return history


def example_group(forecaster: Forecaster, key: str) -> dict[str, Any]:
    """Return a request for a group that is accepted: two made-up members of three weeks."""
    members = [example_request(forecaster, f"{key}-{name}", seed) for seed, name in enumerate(("east", "west"))]
    return {forecaster.key: key, MEMBERS: members}
