"""The HTML of every run whose scores are in docs/results, made again: `python -m tools.reports [RUN...]`.

A report draws every day of a run, and scores are all that is kept of one, so each run is done again by the command that
docs/results/forecasts.md names. An interrupted one goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from tools.render_docs import RESULTS, backtest_arguments

__all__ = ["PLANT", "data_file", "differences", "main", "runs"]

ROOT = Path(__file__).parents[1]
OUT = ROOT / "dist" / "reports"
PLANT = "plant-power"
KAPPAWATT = (str(Path(sys.executable).with_name("kappawatt")),)
NOT_COMPARED = {"seconds", "version", "weather"}  # of a run, not of its forecasts
TOLERANCE = 1e-6  # libraries of another machine may sum in another order


def runs() -> list[str]:
    """Return every run with scores by name: `plant-power`, `hourly-load/PJME-1200` and so on."""
    return sorted(str(path.parent.relative_to(RESULTS)) for path in RESULTS.rglob("scores.json"))


def data_file(folder: Path, name: str, sha256: str) -> Path:
    """Return the file that a run was made from.

    Raises
    ------
    click.ClickException
        It is not below `folder`, or is another one of that name.
    """
    found = sorted(folder.rglob(name))
    for path in found:
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return path
    got = f"{found[0]}, which is another one" if found else f"{folder}, where there is none"
    raise click.ClickException(f"KAPPAWATT_DATA: got {got}, allowed a folder with {name} of SHA-256 {sha256}")


def differences(kept: Any, made: Any, name: str = "") -> Iterator[str]:
    """Yield what is not the same in two documents of scores, figures compared to 1e-6 of their size."""
    if isinstance(kept, Mapping) and isinstance(made, Mapping):
        for key in sorted(kept.keys() | made.keys()):
            if name or key not in NOT_COMPARED:
                yield from differences(kept.get(key), made.get(key), f"{name}.{key}" if name else key)
    elif isinstance(kept, list) and isinstance(made, list) and len(kept) == len(made):
        for place, (one, other) in enumerate(zip(kept, made, strict=True)):
            yield from differences(one, other, f"{name}[{place}]")
    elif isinstance(kept, float) and isinstance(made, float):
        if not math.isclose(kept, made, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{name}: {made:.6g} instead of {kept:.6g}"
    elif kept != made:
        yield f"{name}: {made!r} instead of {kept!r}"


def command(run: str, data: Path, report: Path) -> list[str]:
    """Return the arguments of `kappawatt` that make a run and its report."""
    if run == PLANT:
        return ["train", PLANT, "--out", str(report.parent), "--report", str(report)]
    scores = json.loads((RESULTS / run / "scores.json").read_text())
    path = data_file(data, scores["data"]["file"], scores["data"]["sha256"])
    return [*backtest_arguments(scores, path), "--report", str(report)]


@click.command()
@click.argument("wanted", nargs=-1, metavar="[RUN]...")
@click.option("--out", type=click.Path(path_type=Path), default=OUT, help="Folder of reports; dist/reports if absent.")
def main(wanted: tuple[str, ...], out: Path) -> None:
    """Make reports: of the runs named, or of all that have scores in docs/results."""
    known = runs()
    unknown = [run for run in wanted if run not in known]
    if unknown:
        raise click.ClickException(f"RUN: got {unknown[0]!r}, allowed {', '.join(known)}")
    data = Path(os.environ.get("KAPPAWATT_DATA") or "")
    if not os.environ.get("KAPPAWATT_DATA") or not data.is_dir():
        got = os.environ.get("KAPPAWATT_DATA") or "nothing"
        raise click.ClickException(
            f"KAPPAWATT_DATA: got {got}, allowed the folder of data sets the runs were made from"
        )
    planned = {run: command(run, data, out.resolve() / run / "report.html") for run in wanted or known}
    other = False
    for run, arguments in planned.items():
        click.echo(f"== {run}")
        done = subprocess.run([*KAPPAWATT, *arguments], cwd=ROOT, check=False)  # noqa: S603
        if done.returncode:
            raise SystemExit(done.returncode)
        made = json.loads((out / run / "scores.json").read_text())
        found = list(differences(json.loads((RESULTS / run / "scores.json").read_text()), made))
        other = other or bool(found)
        click.echo("the scores of docs/results" if not found else f"{len(found)} other scores, first {found[0]}")
    sys.exit(1 if other else 0)


if __name__ == "__main__":
    main()
