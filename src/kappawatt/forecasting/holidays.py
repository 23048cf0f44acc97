"""Whose public holidays a series has: a country, a subdivision of one, or none; said apart from its clock.

What is not said follows from the time zone, where a model has a use for holidays at all. The library that knows them
belongs to the models: where it is not installed (the ingestor), a name is held to its form alone, and whoever forecasts
says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from kappawatt.errors import SettingInvalid

__all__ = ["HOLIDAYS", "NO_HOLIDAYS", "OF_THE_ZONE", "holidays_named", "holidays_set"]

HOLIDAYS = "holidays"  # field, of streams that have it
NO_HOLIDAYS = "none"
OF_THE_ZONE = ""
FORM = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")
ALLOWED = "none, a country (ISO 3166-1, DE) or a subdivision of one (ISO 3166-2, DE-BY)"


@lru_cache(maxsize=512)
def holidays_named(name: str, field: str = HOLIDAYS) -> str:
    """Return a name of holidays if they are known.

    Parameters
    ----------
    name : str
        `DE`, `DE-BY`, or `none`.
    field : str
        Where it stands, for the error.

    Raises
    ------
    SettingInvalid
        It is no such name, or nobody knows the holidays of that country or subdivision; it says what is allowed.
    """
    if name == NO_HOLIDAYS:
        return name
    if not FORM.fullmatch(name):
        raise SettingInvalid.of(field, repr(name[:80]), ALLOWED)
    known = _known()
    if not known:
        return name
    country, _, subdivision = name.partition("-")
    if country not in known:
        raise SettingInvalid.of(field, repr(name), f"none, or one of {', '.join(sorted(known))}")
    if subdivision and subdivision not in known[country]:
        own = "".join(f", {country}-{part}" for part in sorted(known[country]))
        raise SettingInvalid.of(field, repr(name), f"{country}{own}")
    return name


def holidays_set(said: Mapping[str | None, str]) -> Mapping[str | None, str]:
    """Return what the setting says of series, by key; SettingInvalid if it names what nobody knows."""
    return {key: holidays_named(name, "KAPPAWATT_HOLIDAYS") for key, name in said.items()}


@lru_cache(maxsize=1)
def _known() -> Mapping[str, frozenset[str]]:
    """Subdivisions by country, as the library has them; nothing where it is not installed."""
    try:
        from holidays import list_supported_countries
    except ImportError:
        return {}
    found = list_supported_countries(include_aliases=False)
    return {country: frozenset(parts) for country, parts in found.items() if len(country) == 2}
