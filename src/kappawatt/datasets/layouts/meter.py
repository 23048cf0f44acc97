"""Layouts of files of smart meters."""

from __future__ import annotations

from kappawatt.datasets.layouts.day_rows import DAY_ROWS
from kappawatt.datasets.layouts.downloads import OPOWER, SDGE
from kappawatt.datasets.layouts.green_button import GREEN_BUTTON
from kappawatt.datasets.layouts.linky import LINKY
from kappawatt.datasets.layouts.meters import FLUVIUS, LONDON, OCTOPUS
from kappawatt.datasets.layouts.nem12 import NEM12
from kappawatt.datasets.layouts.own import OWN_ROWS
from kappawatt.datasets.layouts.smart_meter_texas import SMART_METER_TEXAS

__all__ = ["LAYOUTS"]

LAYOUTS = (SMART_METER_TEXAS, LONDON, NEM12, GREEN_BUTTON, LINKY, OPOWER, SDGE, OCTOPUS, FLUVIUS, OWN_ROWS, DAY_ROWS)
