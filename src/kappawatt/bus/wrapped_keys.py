"""Keys of messages whose topic has an envelope: Kafka Connect and schema registries wrap keys as they wrap values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import orjson

__all__ = ["FRAME", "bare_keys"]

FRAME = 5  # bytes before JSON, of a key as of a value: a zero, and the id of a schema
MOST = 10_000  # bytes of a key with its schema; a longer one stays as it is


def bare_keys(keys: Sequence[bytes | None], envelope: str) -> Sequence[bytes | None]:
    """Return keys as names: those that are wrapped as the envelope says without it, all others as they are.

    Both systems also write keys as plain text (`StringConverter`, `StringSerializer`), and so does whoever writes bare
    messages to the same topic. A text or a whole number inside is the name, nothing is no key; a key of several fields
    or in Avro is no name and stays as it is.

    Parameters
    ----------
    envelope : str
        What settings say that the topic's messages are wrapped in, "" nothing.
    """
    inside = INSIDE.get(envelope)
    if inside is None:
        return keys
    opened = {key: _opened(key, inside) for key in set(keys) if key}
    return [opened[key] if key else key for key in keys]


def _opened(key: bytes, inside: Callable[[bytes], object]) -> bytes | None:
    if len(key) > MOST:
        return key
    try:
        found = inside(key)
    except (orjson.JSONDecodeError, LookupError):
        return key
    if found is None:
        return None
    return str(found).encode() if type(found) in (str, int) else key


def _of_connect(key: bytes) -> object:
    parsed = orjson.loads(key) if key[:1] == b"{" else key
    return parsed["payload"] if isinstance(parsed, dict) and parsed.keys() == {"schema", "payload"} else key


def _of_registry(key: bytes) -> object:
    return orjson.loads(key[FRAME:]) if key[:1] == b"\0" else key


INSIDE: Mapping[str, Callable[[bytes], object]] = {"connect": _of_connect, "registry": _of_registry}
