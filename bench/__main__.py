"""The command line: `python -m bench http|stream|blocks|footprint|all` and `python -m bench forecasts`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import blocks, footprint, forecasts, http, models, stream
from bench.environments import ROOT, machine
from bench.measure import Figure, say
from bench.processes import BenchError
from bench.report import markdown

PARTS = ("http", "stream", "blocks", "footprint")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for; 1 when one could not be measured, 2 when a target was missed with --strict."""
    given = _parser().parse_args(arguments)
    if given.part == "forecasts":
        return _forecasts(given)
    parts = PARTS if given.part == "all" else (given.part,)
    figures: list[Figure] = []
    failed = False
    before = machine()
    for part in parts:
        try:
            say(f"== {part}")
            figures += _run(part, given)
        except BenchError as error:
            say(f"{part}: {error}")
            failed = True
    table = markdown(figures, before)
    print(table)
    if given.json:
        document = {"machine": before, "figures": [figure.to_json() for figure in figures]}
        given.json.write_text(json.dumps(document, indent=2) + "\n")
    if given.markdown:
        given.markdown.write_text(table)
    if failed:
        return 1
    return 2 if given.strict and any(figure.met is False for figure in figures) else 0


def _forecasts(given: argparse.Namespace) -> int:
    """Not one of `all`: it takes data, and an hour."""
    try:
        document = forecasts.run(given)
    except BenchError as error:
        say(f"forecasts: {error}")
        return 1
    table = forecasts.markdown(document)
    print(table)
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    if given.markdown:
        given.markdown.write_text(table)
    return 1 if any("not_run" in row for case in document["cases"] for row in case["methods"]) else 0


def _run(part: str, given: argparse.Namespace) -> list[Figure]:
    every = {"cache": given.cache, "rounds": given.rounds, "artifact": given.artifact}
    if part == "http":
        load = {"seconds": given.seconds, "warmup": given.warmup}
        chosen = {"kinds": given.models, "workers": given.workers, "peers_only": given.peers_only}
        return http.run(http.HttpOptions(**every, **load, **chosen))
    if part == "footprint":
        return footprint.run(footprint.FootprintOptions(**every, peers_only=given.peers_only))
    every["bootstrap"] = _bootstrap(given)
    if part == "blocks":
        return blocks.run(blocks.BlockOptions(**every, blocks=given.blocks, peers_only=given.peers_only))
    sides = tuple(side for side in given.sides if side in stream.ENVIRONMENT or not given.peers_only)
    chosen = {"rows": given.rows, "sides": sides, "kind": given.stream_model, "before": given.before}
    return stream.run(stream.StreamOptions(**every, **chosen))


def _bootstrap(given: argparse.Namespace) -> str:
    if not given.bootstrap:
        raise BenchError("no broker: give --bootstrap HOST:PORT or set KAPPAWATT_TEST_KAFKA")
    return str(given.bootstrap)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench",
        description="Measure kappawatt beside its peers and print the Markdown of docs/performance.md.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("part", choices=(*PARTS, "forecasts", "all"))
    add(
        "--cache",
        type=lambda text: Path(text).resolve(),
        default=ROOT / ".bench",
        help="peers' environments, models, logs",
    )
    add("--json", type=Path, help="write figures and single rounds here")
    add("--markdown", type=Path, help="write the table here too")
    add("--rounds", type=int, default=3, help="alternating rounds of every side")
    add("--strict", action="store_true", help="exit 2 when a target is missed")
    add("--peers-only", action="store_true", help="leave kappawatt's side out")
    add("--artifact", type=Path, help="kappawatt artifact to serve instead of the peers' own model")
    part = parser.add_argument_group("http")
    part.add_argument("--seconds", type=int, default=10, help="of load a round")
    part.add_argument("--warmup", type=int, default=3, help="seconds of load before, not counted")
    part.add_argument("--models", type=_kinds, default=models.KINDS, help="scikit-learn models, comma separated")
    part.add_argument(
        "--workers",
        type=_pairs,
        default=((1, 0), (1, 1), (2, 2)),
        help="OURS:PARALLEL_WORKERS of MLServer, comma separated",
    )
    part = parser.add_argument_group("stream and blocks")
    part.add_argument(
        "--bootstrap",
        default=os.environ.get("KAPPAWATT_TEST_KAFKA", ""),
        help="broker (KAPPAWATT_TEST_KAFKA)",
    )
    part.add_argument("--rows", type=int, default=300_000, help="single CSV events")
    part.add_argument("--blocks", type=int, default=10_000, help="messages of 1,000 readings")
    part.add_argument("--stream-model", choices=models.KINDS, default="linear", help="of stream")
    part.add_argument(
        "--sides",
        type=_names,
        default=stream.DEFAULT_SIDES,
        help=f"of stream, comma separated: {', '.join(stream.SIDES)}",
    )
    part.add_argument(
        "--before",
        type=lambda text: Path(text).resolve(),
        help="another checkout, with a .venv of its own: stream measures its workers beside these",
    )
    forecasts.add_options(parser)
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(stream.SIDES):
        raise argparse.ArgumentTypeError(f"got {', '.join(sorted(unknown))}, allowed {', '.join(stream.SIDES)}")
    return names


def _kinds(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(models.KINDS):
        raise argparse.ArgumentTypeError(f"got {', '.join(sorted(unknown))}, allowed {', '.join(models.KINDS)}")
    return names


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    try:
        pairs = [pair.split(":") for pair in text.split(",")]
        return tuple((int(ours), int(theirs)) for ours, theirs in pairs)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, allowed pairs such as 1:0,1:1,2:2") from None


if __name__ == "__main__":
    sys.exit(main())
