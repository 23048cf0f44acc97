"""What words in the names of columns say: whose forecast, which clock, labels of starts or ends, a unit, a series."""

from __future__ import annotations

import re

from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.options import zone_at

__all__ = [
    "COMMON",
    "FORECAST",
    "WORD_BESIDE",
    "WORD_END",
    "WORD_EXTREME",
    "WORD_GENERATION",
    "WORD_HOUR",
    "WORD_KEY",
    "WORD_LOAD",
    "WORD_METER",
    "WORD_OFFSET",
    "WORD_OTHER_ENERGY",
    "WORD_START",
    "WORD_SUMMER_TIME",
    "WORD_TARIFF",
    "WORD_TIME",
    "WORD_TOTAL",
    "WORD_UNIT",
    "WORD_WEATHER_OR_PRICE",
    "is_of_load",
    "offset_in",
    "word_of_labels",
    "zone_in",
]

FORECAST = re.compile(
    r"forecast|fcst|frcst|predict|prognos|vorhersage|pr[ée]visi[oó]n|day.?ahead|schedul|fahrplan|pron[oó]stico"
    r"|intra.?day|(?:^|[_\W])(?:da|plan|planned|budget|yhat\w*|prog|prev(?:ista|isto|ue|u))(?:$|[_\W])",
    re.IGNORECASE,
)
WORD_START = re.compile(r"begin|start|anfang|from\b|(?:^|[_\W])(?:von|d[ée]but|desde|inicio)(?:$|[_\W])", re.IGNORECASE)
WORD_END = re.compile(
    r"ending|intervallende|(?<!week)(?<!week[ _-])(?:^|[_\W])"
    r"(?:end(?:e|s|time|zeit\w*)?|he|bis|until|till|fin|hasta|slut\w*|stop)(?:$|[_\W])",
    re.IGNORECASE,
)
WORD_UTC = re.compile(
    r"(?:^|[_\W])(?:utc|gmt|zulu)(?:$|[_\W])|(?:^|[_\W])(?:utc|gmt)_?(?:date|time|stamp)|[(\[] *z *[)\]]"
    r"|(?:time|date|stamp|zeit)(?:utc|gmt)(?:$|[_\W])|(?<=[a-z])(?-i:UTC|GMT)(?:$|[_\W])|universal|weltzeit",
    re.IGNORECASE,
)
WORD_OFFSET = re.compile(
    r"(?:(?:utc|gmt) *|[(\[] *(?=[+-]\d\d:?\d\d))([+-]) *(\d{1,2})(?!\d*/)(?::?([0-5]\d))?(?!\d)", re.IGNORECASE
)
WORD_SECOND_OFFSET = re.compile(r"\d *(?:/|or|oder|and|und|bzw\.?) *(?:utc|gmt)? *[+-] *\d", re.IGNORECASE)
WORD_NO_UTC = re.compile(r"local|lokal|not |nicht|bst|ce[st]t?(?![a-z])|mez|mesz|/|[+-] *\d", re.IGNORECASE)
WORD_GENERATION = re.compile(
    r"solar|wind|generation|erzeugung|einspeisung|feed.?in|r[üu]ckspeisung|(?:^|[_\W])(?:pv|gen|export(?:s|ed)?|surplus|"
    r"[üu]berschuss|produ(?:ction|ktion|cci[oó]n|zione|ced)|injection|injected|returned|teruglevering)(?:$|[_\W])",
    re.IGNORECASE,
)
WORD_OTHER_ENERGY = re.compile(
    r"(?:^|[_\W])(?:natural.?gas|gas|erdgas|gaz|water(?!.?heat)|wasser|district.?heat(?:ing)?|heat(?!.?pump|ing)|w[äa]rme|"
    r"fernw[äa]rme|steam|dampf)(?:$|[_\W])",
    re.IGNORECASE,
)
WORD_BESIDE = re.compile(
    r"(?:^|[_\W])(?:lag(?:ged)?_?\d*\w?|shift(?:ed)?_?\d*|rolling|capacity|capability|kapazit[äa]t|installed|installiert\w*|"
    r"limits?|grenze|reserves?|reserven?|ramp(?:s|ing|_?rate)?|loss(?:es)?|verluste?|netzverluste?|vortag\w*|previous|"
    r"yesterday|last.?week|vorwoche|errors?|residuals?|abweichung)(?:$|[_\W])",
    re.IGNORECASE,
)
WORD_EXTREME = re.compile(
    r"(?:(?:^|(?<!\d)[_\W])p?|(?<=[a-z])(?-i:(?=[MP])))"  # a load of 15 min is none
    r"(?:min|max|mini|maxi|minimum|maximum|m[ií]nim[ao]|m[áa]xim[ao]|peak|spitze|spitzenlast|h[öo]chst(?:last|wert)|"
    r"lowest|highest)(?:$|[_\W])|(?:^|[_\W])(?-i:(?:Max|Min|Peak)(?=[A-Z]))",
    re.IGNORECASE,
)
WORD_SUMMER_TIME = re.compile(
    r"(?:is[_ ]?)?(?:dst|daylight[_ ]?saving(?:s)?(?:[_ ]?time)?|summer[_ ]?time|sommerzeit)(?:[_ ]?flag)?|"
    r"repeated[_ ]?hour(?:[_ ]?flag)?",
    re.IGNORECASE,
)
WORD_TARIFF = re.compile(
    r"off.?peak|(?:^|[_\W])(?:peak|ht|nt|hp|hc|hochtarif|niedertarif|tariff?.?[12]|day|night)(?:$|[_\W])", re.IGNORECASE
)
WORD_TOTAL = re.compile(
    r"(?:gesamt|summe|sum|total|zwischensumme|subtotal|somme|suma|total[et]?|mittel|mittelwert|durchschnitt|average|mean|moyenne"
    r"|media|min|max|minimum|maximum)\b.*",
    re.IGNORECASE | re.DOTALL,
)
WORD_UNIT = re.compile(r"(?:^|[_\W])(?:units?|uom|einheit|unidad|unit[ée]|eenheid)(?:$|[_\W])", re.IGNORECASE)
WORD_TIME = re.compile(
    r"time|zeit|dat(?:e|um|a)|stamp|horodate|fecha|jour|heure|(?:^|[_\W])(?:ds|tag|day|hora|moment|uhr|when|t)(?:$|[_\W])",
    re.IGNORECASE,
)
WORD_HOUR = re.compile(r"(?:^|[_\W])(?:hour|hr|he|stunde|hour.?ending|hour.?end)(?:$|[_\W])", re.IGNORECASE)
WORD_KEY = re.compile(
    r"(?:^|[_\W])(?:zone|zone_id|load.?zone|area|load.?area|region|id|unique_id|name|key|series|station|location|site|"
    r"account|household|lclid|meter|meter.?id|meter.?number|mpan|mprn?|mpr|mpn|nmi|ean|cups|cpe|pod|prm|esiid)(?:$|[_\W])",
    re.IGNORECASE,
)
WORD_LOAD = re.compile(r"(?:^|[_\W])(?:load|demand|netzlast|last)(?:$|[_\W])", re.IGNORECASE)
WORD_METER = re.compile(r"(?:^|[_\W])(?:consumption|usage|verbrauch|consumo|consommation)(?:$|[_\W])", re.IGNORECASE)
WORD_WEATHER_OR_PRICE = re.compile(
    r"temp|humid|dew|cloud|irradi|pressure|rain|precip|price|preis|prix|precio|cost|tarif", re.IGNORECASE
)
# What a column of measurements is called that does not say whose they are.
COMMON = frozenset(
    [
        "actual", "actual_load", "average", "avg", "carga", "charge", "consumo", "consumption", "demand", "demanda",
        "electricity", "energy", "energy_kwh", "grid_import",
        "gw", "import", "imported", "kw", "kwh", "last", "lastgang", "leistung", "load", "load_actual",
        "mean", "measurement", "mittel", "mittelwert", "moy", "moyenne", "mw", "mwh", "netzlast", "pavg", "pmean",
        "pmittel", "pmoy", "power", "power_mw", "puissance", "reading", "readings",
        "system_load", "target", "total", "total_load", "usage", "usage_kwh", "valeur", "value", "values",
        "verbrauch", "wert", "wh", "y",
    ]
)  # fmt: skip


def is_of_load(name: str) -> bool:
    """Return whether a column that holds a forecast may be one of load, and not of something beside it.

    Examples
    --------
    >>> is_of_load("Day-ahead Total Load Forecast [MW]"), is_of_load("forecast"), is_of_load("Wind forecast [MW]")
    (True, True, False)
    >>> is_of_load("temperature_forecast"), is_of_load("forecast_error"), is_of_load("day-ahead price")
    (False, False, False)
    """
    others = (WORD_GENERATION, WORD_OTHER_ENERGY, WORD_BESIDE, WORD_EXTREME, WORD_WEATHER_OR_PRICE)
    return not any(word.search(name) for word in others)


def zone_in(name: str) -> str:
    """Return the clock that the name of a column of times tells; "" if none, or if it tells two.

    Examples
    --------
    >>> zone_in("Time (UTC)"), zone_in("Zeit (UTC+1)"), zone_in("Time (GMT/BST)"), zone_in("Local time (not UTC)")
    ('UTC', 'Etc/GMT-1', '', '')
    >>> zone_in("utcTime"), zone_in("ts (Z)"), zone_in("Time (UTC+05:30)"), zone_in("Time (UTC+1/UTC+2)")
    ('UTC', 'UTC', 'Asia/Kolkata', '')
    """
    fixed = offset_in(name)
    if fixed is not None:
        return zone_at(fixed)
    return "UTC" if WORD_UTC.search(name) and not WORD_NO_UTC.search(name) else ""


def offset_in(name: str) -> int | None:
    """Return the one offset from UTC [min] that the name of a column of times tells; None if none, or two.

    Examples
    --------
    >>> offset_in("Time (UTC-03:30)"), offset_in("Zeit (+02:00)"), offset_in("Time (UTC)")
    (-210, 120, None)
    """
    found = {match.groups() for match in WORD_OFFSET.finditer(name)}
    if len(found) != 1 or WORD_SECOND_OFFSET.search(name):
        return None
    sign, hours, minutes = found.pop()
    return (60 * int(hours) + int(minutes or 0)) * (-1 if sign == "-" else 1)


def word_of_labels(name: str) -> Labels | None:
    """Return what the name of a column of times says of its labels; None if nothing."""
    starts, ends = bool(WORD_START.search(name)), bool(WORD_END.search(name))
    return None if starts == ends else Labels.START if starts else Labels.END
