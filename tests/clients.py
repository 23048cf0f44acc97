"""Clients that ask on threads of their own while a block runs."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self

__all__ = ["Clients"]


class Clients(ABC):
    """Begin with the block and end with it; a subclass says in `_client` what each does until `_stopped` is set.

    Parameters
    ----------
    count : int
        How many there are.
    patience : float or None
        Seconds that each is given to end; None is as long as it takes.
    """

    def __init__(self, count: int, patience: float | None = None) -> None:
        self._patience = patience
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(self._patience)

    @abstractmethod
    def _client(self, number: int) -> None: ...
