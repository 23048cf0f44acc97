"""`STREAMS`: all streams there are, and what can be asked of them together.

Those of this package are found by their module (each has one `STREAM`), those of others by the entry-point group
`kappawatt.streams`, so that a stream of one's own needs no line here.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points

import kappawatt.streams as package
from kappawatt.bus.promotions import PROMOTIONS
from kappawatt.bus.topic import Topic
from kappawatt.errors import SettingInvalid
from kappawatt.streams.stream import Form, Stream, load_entry

__all__ = ["FORMS", "GROUP", "STREAMS", "TOPICS", "checked", "stream_named"]

GROUP = "kappawatt.streams"
LEAST_ORDER = 100  # of streams of other packages: the first stream is what is shown where none is named


def _own() -> list[Stream]:
    names = [found.name for found in pkgutil.iter_modules(package.__path__) if found.name != "table"]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return [module.STREAM for module in modules if hasattr(module, "STREAM")]


def _brought() -> list[Stream]:
    found = []
    for entry in entry_points(group=GROUP):
        stream = load_entry(entry)
        if not isinstance(stream, Stream):
            raise SettingInvalid.of(f"entry point {entry.name} of {GROUP}", entry.value, "a Stream")
        if stream.order < LEAST_ORDER:
            raise SettingInvalid.of(f"stream {stream.name}: order", stream.order, f"{LEAST_ORDER} or more")
        found.append(stream)
    return found


def checked(streams: list[Stream]) -> tuple[Stream, ...]:
    """Return streams in order; SettingInvalid if two claim one name, path or topic."""
    claimed = {f"topic {PROMOTIONS.name}": "of promotions"}
    for stream in streams:
        claims = [f"name {stream.name}", f"path /{stream.path}", f"service {stream.service}"]
        claims += [f"topic {topic.name}" for topic in stream.topics]
        for claim in claims:
            if claim in claimed:
                raise SettingInvalid(f"stream {stream.name}: got {claim}, which stream {claimed[claim]} has already")
            claimed[claim] = stream.name
    return tuple(sorted(streams, key=lambda stream: (stream.order, stream.name)))


STREAMS = checked(_own() + _brought())
TOPICS: tuple[Topic, ...] = (*(topic for stream in STREAMS for topic in stream.topics), PROMOTIONS)
FORMS: dict[str, tuple[Stream, Form]] = {
    topic.name: (stream, form) for stream in STREAMS for topic, form in stream.forms
}


def stream_named(name: str) -> Stream:
    """Return a stream; SettingInvalid names those there are."""
    found = next((stream for stream in STREAMS if stream.name == name), None)
    if found is None:
        raise SettingInvalid.of("stream", repr(name), ", ".join(stream.name for stream in STREAMS))
    return found
