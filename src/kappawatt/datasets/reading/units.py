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
    "multiplied",
    "to_celsius",
    "unit_in",
    "unit_named",
    "unknown_unit_in",
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
_BY_WORD |= {
    f"{long}watt{ending}": UNITS[f"{short}{quantity}"]
    for long, short in (("kilo", "k"), ("mega", "M"), ("giga", "G"))
    for endings, quantity in (
        (("", "s"), "W"),
        (("hour", "hours", "-hour", "-hours", " hour", " hours", "stunde", "stunden"), "Wh"),
    )
    for ending in endings
}
_WORDS = sorted(_BY_WORD, key=len, reverse=True)
# A unit stands alone: after a space, in brackets, behind an underscore, or as the name's capitals (LoadMW).
_IN_NAME = re.compile(
    r"(?:^|[\s_\-(\[/.])(" + "|".join(re.escape(word) for word in _WORDS) + r")(?=$|[\s_\-)\]/.,])", re.IGNORECASE
)


_MEAN = re.compile(r"([kMG]?W)h/h(?![a-z])", re.IGNORECASE)
_RATE = re.compile(
    r"(?:/|(?:^|[_\W])per[_\W]) *(?:[kMG]?Wh?)(?![a-z])|[kMG]?Wh? */ *(?:m|kg|t)(?![a-z])|gco2"
    r"|(?:^|[_\W])(?:eur|usd|gbp|aud|chf|ct|cents?|prices?|preise?|prix|precio|cost|kosten|tariff?)(?:$|[_\W])|[€$£]",
    re.IGNORECASE,
)
_MULTIPLE = re.compile(
    r"(?:tsd|tausend|thousand|mio|million|万|千)\W*(?:[kMG]?Wh?)(?![a-z])"
    r"|(?:(?<![\w.])|(?<=[^a-z]x)|(?<=^x))(?:1?0{2,}|10 *(?:\^|\*\*)? *[3-9³⁶⁹]|1e\+?\d+) *[x×*]? *"
    r"(?:[kMG]?Wh?)(?![a-z])",
    re.IGNORECASE,
)
_BRACKET = re.compile(r"[(\[]([^()\[\]]*)[)\]]")
# What brackets say that is no unit: how a value was made, its interval, whose it is.
_NO_UNIT = re.compile(
    r"(?:actual|total|sum|summe|mean|average|avg|mittel(?:wert)?|gross|net|brutto|netto|ist(?:wert)?|measured|gemessen|"
    r"hourly|quarter.?hourly|hour|h|load|last|demand|consumption|verbrauch|usage|power|energy|electricity|strom|"
    r"\d+ *(?:min(?:utes?|uten)?|h)|(?:19|20)\d\d|[\W_])+",
    re.IGNORECASE,
)
# Words for what is no power or energy of a load; a letter alone stands for one in brackets only.
_OTHER_UNIT = re.compile(
    r"%|‰|(?:^|[_\W])(percent(?:age)?|pct|prozent|p\.?u\.?|per.?unit|(?:load.?)?factor|faktor|pf|ratio|index|share|anteil|"
    r"normali[sz]ed|scaled|n?m3|m³|cbm|lit(?:er|re)s?|gal(?:lons?)?|[cm]?cf|therms?|(?:k|mm)?btu|[kmgt]j|joules?|k?cal|gcal|toe|"
    r"[km]?vah?|[km]?varh?|m?amps?|amperes?|k?volts?|kv|hz|kilograms?|tonnes?)(?:$|[_\W])|lastfaktor|auslastung",
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


def multiplied(text: str) -> str:
    """Return the unit that a multiple of another is; "" if there is none such.

    Examples
    --------
    >>> multiplied("10^3 MW"), multiplied("Tsd. kWh"), multiplied("1000 kW"), multiplied("100 MW")
    ('GW', 'MWh', 'MW', '')
    """
    match = re.search(r"([kMG]?)(Wh?)$", text, re.IGNORECASE)
    prefix = re.match(r"tsd|tausend|thousand|千|10 *(?:\^|\*\*)? *[3³]|1?000(?!0)|1e\+?0?3", text, re.IGNORECASE)
    millions = re.match(r"mio|million|10 *(?:\^|\*\*)? *[6⁶]|1?000000(?!0)|1e\+?0?6", text, re.IGNORECASE)
    if match is None or not (prefix or millions):
        return ""
    prefixes = ["", "k", "m", "g"]
    place = prefixes.index(match[1].lower()) + (2 if millions else 1)
    unit = unit_named(prefixes[place] + match[2]) if place < len(prefixes) else None
    return unit.name if unit else ""


def unknown_unit_in(name: str) -> str:
    """Return what stands for a unit in a column's name and is none of power or energy; "" if nothing does.

    Examples
    --------
    >>> unknown_unit_in("Demand (kVA)"), unknown_unit_in("consumption_m3"), unknown_unit_in("Load (A)")
    ('kVA', 'm3', 'A')
    >>> unknown_unit_in("Load (kilowatts)"), unknown_unit_in("load (actual, 15 min)"), unknown_unit_in("netzlast")
    ('', '', '')
    """
    if unit_in(name) is not None:
        return ""
    other = _OTHER_UNIT.search(name)
    if other is not None:
        return other[1] or other[0]
    told = (match[1].strip() for match in _BRACKET.finditer(name))
    return next((text for text in told if text and not _NO_UNIT.fullmatch(text)), "")


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
