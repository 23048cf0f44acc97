"""The key of a message as text, whatever bytes it is."""

from __future__ import annotations

import re

__all__ = ["BINARY", "key_text"]

BINARY = "hex:"  # before the digits of a key that is no name
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def key_text(key: bytes) -> str:
    """Return a key as text: itself, or its bytes in hexadecimal digits after `hex:` if it is a number or the like.

    Numbers of four or eight bytes are often UTF-8, too, but with control characters in it, which no name has. No two
    keys have one text: a name that begins as these digits do is written in them, too.

    Examples
    --------
    >>> key_text(b"plant-1"), key_text(b"0x00158d0001234567"), key_text(bytes([0, 0, 1, 255]))
    ('plant-1', '0x00158d0001234567', 'hex:000001ff')
    """
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return BINARY + key.hex()
    return BINARY + key.hex() if text.startswith(BINARY) or CONTROL.search(text) else text
