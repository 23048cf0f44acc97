"""What is remembered of a source over a restart: when it is due, what it said of itself, and what was published."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

__all__ = ["Remembered", "load", "save"]

log = logging.getLogger(__name__)

MOST_BYTES = 64 * 2**20
Published = Mapping[str, Mapping[str, Mapping[str, float]]]  # by station, field and start [ms since 1970]


@dataclass(frozen=True, slots=True)
class Remembered:
    """One source.

    Parameters
    ----------
    due : float
        When it may be asked again [s since 1970].
    asked : float
        When it was last asked.
    etag, last_modified : str
    failures : int
        In a row.
    log : str
        Identity of the topic's log that `published` is in.
    issued : dict of str to int
        By station: issue time of what was published last [ms since 1970].
    published : dict
        Newest values that the bus has.
    """

    due: float = 0.0
    asked: float = 0.0
    etag: str = ""
    last_modified: str = ""
    failures: int = 0
    log: str = ""
    issued: Mapping[str, int] = field(default_factory=dict)
    published: Published = field(default_factory=dict)


def _file(folder: Path, address: str) -> Path:
    return folder / f"{hashlib.sha256(address.encode()).hexdigest()[:32]}.json"


def load(folder: Path, address: str) -> Remembered:
    """Return what is remembered of a source; what cannot be read is forgotten, and the source asked again."""
    path = _file(folder, address)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("larger than what is written")
        return _checked(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Remembered()
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        log.warning("what was remembered of a weather source cannot be read", extra={"error": str(error)})
        return Remembered()


def _checked(document: Any) -> Remembered:
    found = Remembered(**document)
    absent = Remembered()
    for one in fields(Remembered):
        value, example = getattr(found, one.name), getattr(absent, one.name)
        if not isinstance(value, (int, float) if isinstance(example, float) else type(example)):
            raise ValueError(f"{one.name} is {type(value).__name__}")
    for columns in found.published.values():
        for values in columns.values():
            if not all(start.isdigit() and type(value) in (int, float) for start, value in values.items()):
                raise ValueError("published holds other than numbers")
    if not all(type(value) is int for value in found.issued.values()):
        raise ValueError("issued holds other than times")
    return found


def save(folder: Path, address: str, remembered: Remembered) -> None:
    """Remember; the file is whole at any moment."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _file(folder, address)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(asdict(remembered)))
    new.replace(path)
