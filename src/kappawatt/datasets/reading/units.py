"""Units of power, energy and price: which quantity a unit is of, and what one of it is in the stream's own unit."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ENERGY",
    "FAHRENHEIT",
    "POWER",
    "PRICE",
    "UNITS",
    "Unit",
    "convert",
    "is_rate",
    "multiple_in",
    "to_celsius",
    "unit_in",
    "unit_named",
]

POWER, ENERGY, PRICE = "power", "energy", "price"
FAHRENHEIT = "degF"  # of a covariate that is kept in degC


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit, as a factor of MW, kWh or a currency a MWh.

    Parameters
    ----------
    name : str
        As it is written: `MW`.
    quantity : str
        `power`, `energy` or `price`.
    factor : float
        How many MW, kWh or currency a MWh one of it is.
    """

    name: str
    quantity: str
    factor: float


UNITS = {
    unit.name: unit
    for unit in (
        Unit("W", POWER, 1e-6),
        Unit("kW", POWER, 1e-3),
        Unit("MW", POWER, 1.0),
        Unit("GW", POWER, 1e3),
        Unit("Wh", ENERGY, 1e-3),
        Unit("kWh", ENERGY, 1.0),
        Unit("MWh", ENERGY, 1e3),
        Unit("GWh", ENERGY, 1e6),
        Unit("EUR/MWh", PRICE, 1.0),
        Unit("USD/MWh", PRICE, 1.0),
        Unit("GBP/MWh", PRICE, 1.0),
        Unit("AUD/MWh", PRICE, 1.0),
    )
}
_BY_WORD = {name.lower(): unit for name, unit in UNITS.items()} | {
    "€/mwh": UNITS["EUR/MWh"],
    "$/mwh": UNITS["USD/MWh"],
    "£/mwh": UNITS["GBP/MWh"],
    "kw": UNITS["kW"],
    "watt": UNITS["W"],
    "watts": UNITS["W"],
}
_WORDS = sorted(_BY_WORD, key=len, reverse=True)
# A unit stands alone: after a space, in brackets, behind an underscore, or as the name's capitals (LoadMW).
_IN_NAME = re.compile(
    r"(?:^|[\s_\-(\[/.])(" + "|".join(re.escape(word) for word in _WORDS) + r")(?=$|[\s_\-)\]/.,])", re.IGNORECASE
)


_MEAN = re.compile(r"([kMG]?W)h/h(?![a-z])", re.IGNORECASE)
_RATE = re.compile(
    r"/ *(?:[kMG]?Wh?)(?![a-z])|[kMG]?Wh? */ *(?:m|kg|t)(?![a-z])|gco2"
    r"|(?:^|[_\W])(?:eur|usd|gbp|aud|chf|ct|cents?|prices?|preise?|prix|precio|cost|kosten|tariff?)(?:$|[_\W])|[€$£]",
    re.IGNORECASE,
)
_MULTIPLE = re.compile(
    r"(?:tsd|tausend|thousand|mio|million|万|千)\W*(?:[kMG]?Wh?)(?![a-z])|(?<![\w.])1?0{2,} *(?:[kMG]Wh?)(?![a-z])",
    re.IGNORECASE,
)


def is_rate(name: str) -> bool:
    """Return whether a column's name is that of a price, or of something a unit of energy or area.

    Examples
    --------
    >>> is_rate("price_eur_mwh"), is_rate("GHI [W/m2]"), is_rate("energy(kWh/hh)"), is_rate("Load [MWh/h]")
    (True, True, False, False)
    """
    return _RATE.search(_MEAN.sub(lambda match: match[1], name)) is not None


def multiple_in(name: str) -> str:
    """Return the multiple of a unit that a column's name holds, such as `Tsd. kWh`; "" if it holds none."""
    match = _MULTIPLE.search(name)
    return match[0] if match else ""


def unit_named(text: str) -> Unit | None:
    """Return the unit a text names, in letters of either case; None if it is none.

    Examples
    --------
    >>> unit_named("kwh").name
    'kWh'
    """
    return _BY_WORD.get(text.strip().lower())


def unit_in(name: str) -> Unit | None:
    """Return the unit that a column's name holds; None if it holds none. The one letter W counts in brackets only.

    Examples
    --------
    >>> unit_in("energy(kWh/hh)").name, unit_in("load_mw").name, unit_in("Actual Total Load [MW] - BZN|EE").name
    ('kWh', 'MW', 'MW')
    >>> unit_in("Valeur (W)").name, unit_in("zone_W")
    ('W', None)
    """
    name = _MEAN.sub(lambda match: match[1], name)  # MWh/h is MW
    if is_rate(name):
        return next((_BY_WORD[word] for word in _BY_WORD if "/" in word and word in name.lower()), None)
    found = [match[1].lower() for match in _IN_NAME.finditer(name) if len(match[1]) > 1 or match[0][0] in "(["]
    longest = max(found, key=len, default="")
    return _BY_WORD.get(longest)


def to_celsius(values: NDArray[np.float64], unit: str) -> NDArray[np.float64]:
    """Return temperatures in degC; they are already unless the unit is degF.

    Examples
    --------
    >>> to_celsius(np.array([32.0, 212.0]), FAHRENHEIT).tolist()
    [0.0, 100.0]
    """
    return (values - 32.0) / 1.8 if unit == FAHRENHEIT else values


def convert(unit: Unit, quantity: str, step: int) -> float | None:
    """Return the factor from a unit to a quantity's own unit over an interval; None if there is none.

    Power and energy are one another's by the length of the interval: 1 MWh in a quarter-hour is 4 MW of mean load.

    Parameters
    ----------
    quantity : str
        `power` [MW], `energy` [kWh] or `price` [currency a MWh].
    step : int
        Length of an interval [s].

    Examples
    --------
    >>> convert(UNITS["MWh"], POWER, 900), convert(UNITS["W"], ENERGY, 1800)
    (4.0, 0.0005)
    """
    if unit.quantity == quantity:
        return unit.factor
    hours = step / 3600
    if (unit.quantity, quantity) == (ENERGY, POWER):
        return unit.factor / 1000 / hours
    if (unit.quantity, quantity) == (POWER, ENERGY):
        return unit.factor * 1000 * hours
    return None
