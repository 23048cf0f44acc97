"""Parts of an HTML report: one file, figures inline as SVG, readable in light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["BLUE", "INK", "ORANGE", "canvas", "figure", "table", "write_page"]

BLUE, ORANGE = "#3d85c6", "#d9822b"  # contrast 3:1 and more on white and on the dark ground
INK = "#010203"  # replaced by the page's own text colour
STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14181d; --ink: #e6edf3; --soft: #9da7b1; --line: #3d444d; } }
body { background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 64rem; padding: 0 1rem; }
h1, h2 { line-height: 1.2; overflow-wrap: anywhere; } h2 { margin-top: 2.5rem; }
p.note, figcaption { color: var(--soft); } figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } code { overflow-wrap: anywhere; }
.words td, .words th { text-align: left; vertical-align: top; } figure.wide svg { min-width: 40rem; }
.synthetic { border: 2px solid #d9822b; padding: .5rem 1rem; }
"""


def write_page(path: Path, title: str, sections: Sequence[str]) -> None:
    """Write a report; its folder is made."""
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body>\n{chr(10).join(sections)}\n</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; numbers come as text."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"


def canvas(rows: int, columns: int, height: float) -> tuple[Any, Any]:
    """Return a figure and its axes, all drawn in INK on no ground."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, height), layout="constrained")
    drawing.patch.set_alpha(0)
    axes = drawing.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.patch.set_alpha(0)
        axis.tick_params(colors=INK)
        axis.spines[["top", "right"]].set_visible(False)
        for part in (*axis.spines.values(), axis.xaxis.label, axis.yaxis.label):
            (part.set_edgecolor if hasattr(part, "set_edgecolor") else part.set_color)(INK)
    return drawing, axes


def figure(name: str, caption: str, drawing: Any) -> str:
    """Return a figure as inline SVG whose ink is the page's text colour and whose ids are its own."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        drawing.savefig(buffer, format="svg", transparent=True, dpi=120, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\1{name}-", svg)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
