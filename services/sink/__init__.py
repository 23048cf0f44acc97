"""The sink: what passes on the bus into a database that people query.

rows        messages to columns
tables      the one description of the tables; DDL and SQL come from it
store       DuckDB file or PostgreSQL, chosen by URL
loop        poll, write, commit; database first, then offsets
queries     example queries, run by `routes`
"""

from kappawatt.store.interface import Store, StoreBusy
from kappawatt.store.open import open_store

from .loop import Sink, build

__all__ = ["Sink", "Store", "StoreBusy", "build", "open_store"]
