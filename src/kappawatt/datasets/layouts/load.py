"""Layouts of files of load zones, those first that no other could be taken for."""

from __future__ import annotations

from kappawatt.datasets.layouts import operators
from kappawatt.datasets.layouts.britain import BRITISH_DEMAND
from kappawatt.datasets.layouts.day_rows import DAY_ROWS
from kappawatt.datasets.layouts.entsoe import TRANSPARENCY
from kappawatt.datasets.layouts.ercot import ERCOT_LOAD
from kappawatt.datasets.layouts.iso_new_england import ISO_NEW_ENGLAND
from kappawatt.datasets.layouts.own import OWN_ROWS
from kappawatt.datasets.layouts.pjm import DATA_MINER, HOURLY
from kappawatt.datasets.layouts.smard import SMARD

__all__ = ["LAYOUTS"]

LAYOUTS = (
    OWN_ROWS,
    DATA_MINER,
    TRANSPARENCY,
    SMARD,
    operators.OPSD,
    ERCOT_LOAD,
    operators.NYISO,
    ISO_NEW_ENGLAND,
    operators.CAISO_OASIS,
    operators.EIA_930,
    operators.IESO,
    BRITISH_DEMAND,
    operators.AEMO_DEMAND,
    operators.GRIDSTATUS,
    operators.COMPETITIONS,
    HOURLY,
    DAY_ROWS,
)
