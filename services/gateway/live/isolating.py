"""Whatever lies on a topic, a view and its clients go on: the message that reading fails on is left out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from kappawatt.bus.interface import Records

from .view import Events

__all__ = ["isolated"]

log = logging.getLogger(__name__)


def isolated(
    read: Callable[[Records, int], Events],
    records: Records,
    start: int,
    failed: Callable[[], None] = lambda: None,
) -> Iterator[Events]:
    """Yield what `read` makes of records that were polled from `start` on, without a message it fails on.

    What was read is halved until that message is found, so views are shown the others once more. A view keeps the
    newest and knows ids, so it does not mind.

    Parameters
    ----------
    failed : callable
        Told of each message that is left out.
    """
    try:
        events = read(records, start)
    except MemoryError:
        raise
    except Exception:
        if len(records) > 1:
            first, second = records.halves()
            yield from isolated(read, first, start, failed)
            yield from isolated(read, second, first.next_offset, failed)
            return
        place = {"partition": records.partition, "offset": records.offsets[0]}
        log.exception("a message is left out of the view", extra={"topic": records.topic, **place})
        failed()
        nothing: list[int] = []
        events = Events(records.topic, records.partition, start, records.next_offset, "", [], nothing, log=records.log)
    yield events
