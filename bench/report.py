"""Figures as the Markdown of docs/performance.md."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from bench.measure import Figure

__all__ = ["markdown"]

HEAD = (
    "| figure | kappawatt | peer | peer's value | ratio | target | met |",
    "| --- | ---: | --- | ---: | ---: | --- | --- |",
)


def markdown(figures: Iterable[Figure], machine: str) -> str:
    """Return a table of all figures, then how each was measured and with which versions."""
    figures = list(figures)
    protocols = {figure.protocol: f"[{n}]" for n, figure in enumerate(_first_of_each_protocol(figures), 1)}
    lines = [f"Measured {datetime.date.today().isoformat()} on {machine}.", "", *HEAD]
    lines += [_row(figure, protocols[figure.protocol]) for figure in figures]
    lines += ["", *(f"- {mark} {protocol}" for protocol, mark in protocols.items())]
    known = {name: version for figure in figures for name, version in figure.versions.items()}
    lines += [
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(known.items())) + ".",
    ]
    return "\n".join(lines) + "\n"


def _first_of_each_protocol(figures: Iterable[Figure]) -> list[Figure]:
    return list({figure.protocol: figure for figure in figures}.values())


def _row(figure: Figure, mark: str) -> str:
    met = {None: "", True: "yes", False: "**no**"}[figure.met]
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    target = figure.target.removeprefix("ours ")
    return (
        f"| {figure.name} {mark} | {_value(figure.ours, figure.unit)} | {figure.peer} "
        f"| {_value(figure.theirs, figure.unit)} | {ratio} | {target} | {met} |"
    )


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "not run"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
