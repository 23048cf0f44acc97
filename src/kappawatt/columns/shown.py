"""Values as an error message can afford them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["SHORTEST", "shorten"]

SHORTEST = 80  # characters of a bad value that are worth repeating to its sender


def shorten(value: Any) -> Any:
    """Return `value` as something JSON can hold and a message can afford."""
    if isinstance(value, np.datetime64):
        whole = value.astype("datetime64[ms]")
        return str(whole if whole == value else value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)[:SHORTEST]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = value if isinstance(value, str) else repr_short(value)
    return text if len(text) <= SHORTEST else text[: SHORTEST - 1] + "…"


def repr_short(value: Any) -> str:
    """Describe a list or an object without walking into it (it may be nested a thousand deep)."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    return str(value)
