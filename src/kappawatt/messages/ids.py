"""Ids that are made of coordinates."""

from __future__ import annotations

__all__ = ["message_id"]


def message_id(topic: str, log: str, partition: int, offset: int) -> str:
    """Return the id of a message, which no message of another log has.

    Examples
    --------
    >>> message_id("plant.readings", "5xB0xqDOQ9ukA7dY2wPNSw", 2, 1533)
    'plant.readings:5xB0xqDOQ9ukA7dY2wPNSw-2-1533'

    A bus that has no identities of logs (Kafka before 2.8):

    >>> message_id("plant.readings", "", 2, 1533)
    'plant.readings-2-1533'
    """
    return f"{topic}:{log}-{partition}-{offset}" if log else f"{topic}-{partition}-{offset}"
