"""The key of a message as text, whatever bytes it is."""

from __future__ import annotations

import re

__all__ = ["key_text"]

HEX = re.compile(r"0x(?:[0-9a-f]{2})+")


def key_text(key: bytes) -> str:
    """Return a key as text: itself if it is UTF-8, else its bytes in hexadecimal digits after `0x`.

    No two keys have one text: a key that is such digits itself is written in hexadecimal digits, too.

    Examples
    --------
    >>> key_text(b"plant-1"), key_text(bytes([0, 0, 1, 255])), key_text(b"0xff")
    ('plant-1', '0x000001ff', '0x30786666')
    """
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return f"0x{key.hex()}"
    return f"0x{key.hex()}" if HEX.fullmatch(text) else text
