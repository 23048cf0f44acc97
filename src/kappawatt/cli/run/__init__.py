"""`kappawatt run`: the whole stream on one machine, as processes, until Ctrl-C.

processes  start, readiness, revival, end
watch      what passes on the bus, in one line
alone      one run in a folder
demos      the forecasting services and their series
stack      all of it
"""

from kappawatt.cli.run.alone import alone_in
from kappawatt.cli.run.processes import Child, Stack
from kappawatt.cli.run.stack import PARTS, run_stack, store_name
from kappawatt.cli.run.watch import ForecastWatch, Watch

__all__ = ["PARTS", "Child", "ForecastWatch", "Stack", "Watch", "alone_in", "run_stack", "store_name"]
