"""Choose the store by its URL."""

from __future__ import annotations

from kappawatt.errors import SettingInvalid
from kappawatt.store.interface import Store
from kappawatt.store.table import Layout

__all__ = ["open_store"]


def open_store(url: str, layout: Layout) -> Store:
    """Return the store that `url` names; nothing is opened yet.

    Parameters
    ----------
    url : str
        `duckdb:FILE` or `postgresql://...`.
    layout : Layout
        Its tables and views.

    Raises
    ------
    SettingInvalid
        The URL names no known database, or its driver is not installed.
    """
    scheme, _, rest = url.partition(":")
    try:
        if scheme == "duckdb" and rest:
            from kappawatt.store.duckdb import DuckDBStore

            return DuckDBStore(rest, layout)
        if scheme in ("postgresql", "postgres") and rest.startswith("//"):
            from kappawatt.store.postgresql import PostgreSQLStore

            return PostgreSQLStore(url, layout)
    except ImportError as error:
        raise SettingInvalid(f"database: {error}; pip install 'kappawatt[sink]'") from error
    named = f"{scheme}:..." if "@" in url else url  # a password is nobody's business
    raise SettingInvalid(f"database: got {named!r}, allowed duckdb:FILE or postgresql://...")
