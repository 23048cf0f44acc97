"""What is known of a topic: its name, key, partitions and how long it keeps messages."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kappawatt.columns.schema import Schema

__all__ = ["DAY", "TOPIC_NAME", "Topic", "dead_letter"]

TOPIC_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")  # as Kafka has it
HOUR = 3600
DAY = 24 * HOUR
LARGEST_MESSAGE = 4 * 1024 * 1024
DEAD_LETTER_SUFFIX = ".dead"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Parameters
    ----------
    name : str
    key : str
        What the message key is; messages of one key keep their order.
    message : Schema or None
        Schema of one row; None where messages are documents of kappawatt's own.
    partitions : int
    retention : int or None
        Seconds a message is kept; None keeps the newest message of each key for ever (compacted).
    producers, consumers : tuple of str
        Service and command names.
    meaning : str
    max_message_bytes : int
        Largest message.
    """

    name: str
    key: str
    message: Schema | None
    partitions: int
    retention: int | None
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    meaning: str
    max_message_bytes: int = 1_048_588  # Kafka's own default


def dead_letter(topic: Topic) -> Topic:
    """Return the topic that holds what could not be answered of `topic`."""
    return Topic(
        topic.name + DEAD_LETTER_SUFFIX,
        topic.key,
        None,
        1,
        30 * DAY,
        topic.consumers[:1],
        ("gateway", "sink"),
        f"messages and rows of {topic.name} that were refused, with reason, origin and original bytes",
        max_message_bytes=LARGEST_MESSAGE,  # the original, base64, and what was wrong with it
    )
