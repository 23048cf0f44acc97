"""Connections to services, kept for the next request, but not for long.

A server may close a connection that nobody uses in the very moment a request is sent on it. Then nobody knows
whether the request was received, and one that changes something must not be sent again. A server that ends lets kept
connections live on for 2 s and says `Connection: close` on them, and idle ones are closed after 75 s; so
one that was used within the last second is safe, and an older one is closed here first.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import urllib3

__all__ = ["IDLE_SECONDS", "connections", "keep_only"]

IDLE_SECONDS = 1.0


class _FreshPool(urllib3.HTTPConnectionPool):
    """A pool whose connections are used again within IDLE_SECONDS, or opened anew."""

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)

    def _get_conn(self, timeout: float | None = None) -> Any:
        conn = super()._get_conn(timeout)
        if time.monotonic() - getattr(conn, "idle_since", 0.0) > IDLE_SECONDS:
            conn.close()  # it is opened again when it is used
        return conn


class _FreshTlsPool(_FreshPool, urllib3.HTTPSConnectionPool):
    """The same with TLS."""


def connections(kept: int, addresses: int) -> urllib3.PoolManager:
    """Return a manager that keeps up to `kept` connections to each of `addresses` hosts and ports."""
    manager = urllib3.PoolManager(num_pools=addresses, maxsize=kept, retries=False)
    manager.pool_classes_by_scheme = {"http": _FreshPool, "https": _FreshTlsPool}
    return manager


def keep_only(manager: urllib3.PoolManager, addresses: Collection[tuple[str, int]]) -> None:
    """Let go of connections to all other hosts and ports; one in use ends with its request."""
    for key in manager.pools.keys():  # noqa: SIM118 (it refuses to be iterated, and gives a copy of its keys)
        if (key.key_host, key.key_port) not in addresses:
            with suppress(KeyError):
                del manager.pools[key]
