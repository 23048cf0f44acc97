"""Bodies of other doors: tensors, instances, histories, load."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np

from tests.hostile.arrow_bodies import MANY, of, text_bomb
from tests.hostile.text_bodies import GOOD, LARGE, numbered, repeated

__all__ = ["forecast_bodies", "infer_bodies", "invocation_bodies", "load_bodies"]

Make = Callable[[], bytes]
NAME = "ambient_temperature"


def tensor(name: str, shape: str, data: str) -> str:
    return f'{{"name":"{name}","shape":{shape},"datatype":"FP64","data":{data}}}'


def _infer() -> Iterator[tuple[str, Make]]:
    yield "one row", lambda: _inputs(1, "")
    yield "a tensor of small numbers", lambda: repeated("1", f'{{"inputs":[{{"name":"{NAME}","data":[', "]}]}")
    yield "a tensor of lists", lambda: repeated("[1]", f'{{"inputs":[{{"name":"{NAME}","data":[', "]}]}")
    yield "a shape of 2**62 rows", lambda: f'{{"inputs":[{tensor(NAME, f"[{2**62}]", "[1]")}]}}'.encode()
    yield "a shape of many", lambda: repeated("1", f'{{"inputs":[{{"name":"{NAME}","shape":[', "]}]}")
    yield "as many rows as pass", lambda: _inputs(60_000, "")
    yield "as many refused rows as pass", lambda: _inputs(60_000, '"x"')
    yield "partial answers of refused rows", lambda: b'{"parameters":{"partial":true},' + _inputs(60_000, '"x"')[1:]
    yield "many tensors of one name", lambda: repeated(tensor(NAME, "[1]", "[1]"), '{"inputs":[', "]}")
    yield "many tensors", lambda: numbered('{{"name":"{:x}","shape":[1]}}', '{"inputs":[', "]}", 150_000)
    yield (
        "one output a hundred thousand times",
        lambda: _inputs(1_000, "")[:-1] + repeated('{"name":"net_power"}', ',"outputs":[', "]}", size=2_000_000),
    )
    yield "a long id", lambda: b'{"id":"' + b"x" * 4_000_000 + b'",' + _inputs(1, "")[1:]


def _inputs(rows: int, value: str) -> bytes:
    """Tensors of one value each, or of good ones."""
    lists = {name: "[" + ",".join([value or str(good)] * rows) + "]" for name, good in GOOD.items()}
    return ('{"inputs":[' + ",".join(tensor(name, f"[{rows}]", data) for name, data in lists.items()) + "]}").encode()


def _invocations() -> Iterator[tuple[str, Make]]:
    row, values = json.dumps(GOOD), json.dumps(list(GOOD.values()))
    before, after = '{"instances":[', "]}"
    yield "rows", lambda: repeated(row, before, after)
    yield "features", lambda: repeated(f'{{"features":{values}}}', before, after)
    yield "data", lambda: repeated(f'{{"data":{row}}}', before, after)
    yield "lists", lambda: repeated("[1,2,3,4]", before, after)
    yield "empty lists", lambda: repeated("[]", before, after)
    yield "empty features", lambda: repeated('{"features":[]}', before, after)
    yield "numbers", lambda: repeated("1", before, after)
    yield "instances that are no list", lambda: repeated('"a":1', '{"instances":{', "}}")


def _forecast() -> Iterator[tuple[str, Make]]:
    history = '{"history":{"start":"2016-07-01T04:00:00Z","step_seconds":3600,"values":['
    yield "values, as many as pass", lambda: repeated("1", history, "]}}", size=400_000)
    yield "values, more than pass", lambda: repeated("1", history, "]}}", size=2_000_000)
    yield "values, as many as a body has", lambda: repeated("1.5", history, "]}}")
    yield "texts for values", lambda: repeated('"x"', history, "]}}", size=780_000)
    yield "values that are lists", lambda: repeated("[]", history, "]}}")
    yield "a zone of a megabyte", lambda: b'{"time_zone":"' + b"x" * 1_000_000 + b'"}'
    yield "a key of a megabyte", lambda: b'{"load_zone":"' + b"x" * 1_000_000 + b'"}'
    yield "unknown fields", lambda: numbered('"{:x}":1', "{", "}", 200_000)


def _load() -> Iterator[tuple[str, Make]]:
    start = '"interval_start":"2016-07-01T04:00:00Z","load":1'
    yield "each another zone", lambda: numbered(f'{{{{"load_zone":"Z{{}}",{start}}}}}', "[", "]", 110_000)
    yield (
        "each another time zone",
        lambda: numbered(f'{{{{"load_zone":"Z","time_zone":"T{{}}",{start}}}}}', "[", "]", 85_000),
    )
    yield (
        "revisions, each earlier",
        lambda: (
            "["
            + ",".join(f'{{"load_zone":"Z",{start},"available_at":{1_700_000_000_000 - i}}}' for i in range(80_000))
            + "]"
        ).encode(),
    )
    yield "off the grid", lambda: repeated('{"load_zone":"Z","interval_start":"2016-07-01T04:00:01Z","load":1}')
    yield "text under null rows", text_bomb
    yield "texts at their longest", lambda: text_bomb(rows=100_001, size=180)
    yield "zones and no more", lambda: of(load_zone=_same("PJME", MANY))
    yield (
        "constant rows",
        lambda: of(
            load_zone=_same("PJME", 150_000),
            time_zone=_same("America/New_York", 150_000),
            interval_start=_times(150_000),
            load=_numbers(150_000),
        ),
    )
    yield "a long name", lambda: b'{"load_zone":"' + b"x" * (LARGE - 1_000) + b'"}'


def _same(text: str, rows: int) -> object:
    import pyarrow as pa

    return pa.array([text] * rows)


def _times(rows: int) -> object:
    import pyarrow as pa

    return pa.array(np.arange(rows) * 3_600_000, pa.timestamp("ms", "UTC"))


def _numbers(rows: int) -> object:
    import pyarrow as pa

    return pa.array(np.full(rows, 30_000.0))


def _named(kind: str, cases: Iterator[tuple[str, Make]]) -> dict[str, Make]:
    return {f"{kind}: {name}": make for name, make in cases}


def infer_bodies() -> dict[str, Make]:
    """JSON for `/v2/models/NAME/infer`."""
    return _named("infer", _infer())


def invocation_bodies() -> dict[str, Make]:
    """JSON for `/invocations`."""
    return _named("invocations", _invocations())


def forecast_bodies() -> dict[str, Make]:
    """JSON for `/forecast`."""
    return _named("forecast", _forecast())


def load_bodies() -> dict[str, Make]:
    """Rows of load zones for the ingestor and `/predict` of a service that forecasts; Arrow where they are no text."""
    return _named("load", _load())
