"""How the forecast of a group looks in the answer of `POST /forecast`: the sum's document and each member's."""

from __future__ import annotations

from typing import Any

import numpy as np

from kappawatt.forecasting.forecaster import Issued
from kappawatt.forecasting.group import IssuedGroup
from kappawatt.forecasting.model import ForecastModel
from kappawatt.forecasting.reconciliation import fan_mean
from kappawatt.messages.forecasts import forecast_document, plain

__all__ = ["METHOD", "group_document"]

METHOD = "minimum trace, variances of the errors from the width of each forecast's interval"


def group_document(model: ForecastModel, issued: IssuedGroup, available_at: np.datetime64) -> dict[str, Any]:
    """Return the forecasts of a sum and its members.

    Returns
    -------
    dict
        `sum` and `members`: documents as of single series, each with the `mean` of each interval beside its quantiles
        and an id that ends in `+` and the sum's key, since it is another forecast than the series' alone.
        `reconciliation`: `method`, `adds_up` (`median` or `mean`: which of them does) and `discrepancy`, the sum less
        the members' total in each interval before.
    """

    def of_one(one: Issued) -> dict[str, Any]:
        found = forecast_document(model, one, available_at)
        fan = one.fan
        means = {name: plain(fan_mean(figure[None, :], fan.levels))[0] for name, figure in fan.day.items()}
        more = {"mean": plain(fan_mean(fan.quantiles, fan.levels)), "day_mean": means}
        return {**found, "id": f"{found['id']}+{issued.total.past.key}", **more}

    return {
        "sum": of_one(issued.total),
        "members": [of_one(member) for member in issued.members],
        "reconciliation": {
            "method": METHOD,
            "adds_up": issued.adds_up,
            "discrepancy": plain(issued.discrepancy),
        },
    }
