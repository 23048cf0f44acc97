"""Survivors that a person has looked at: tests/mutants/judged.toml says of each why no test has to notice it.

`equivalent`: no input shows the difference. `accepted`: one does, and a test of it would cost more than the fault.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import click

__all__ = ["JUDGEMENTS", "read_judged"]

JUDGEMENTS = ("equivalent", "accepted")


def read_judged(path: Path) -> Mapping[tuple[str, str, str, str], str]:
    """Return the judgement of each mutant by its key.

    Raises
    ------
    click.ClickException
        An entry has no reason, or another judgement than those there are.
    """
    found = {}
    for entry in tomllib.loads(path.read_text()).get("survivor", []):
        name = f"{path.name}: {entry['file']}, {entry['function']}, {entry['line']}"
        if entry.get("judged") not in JUDGEMENTS or len(entry.get("why", "")) < 10:
            raise click.ClickException(f"{name}: got {entry}, allowed judged = {' or '.join(JUDGEMENTS)}, and a why")
        for after in entry["mutants"]:
            found[entry["file"], entry["function"], entry["line"], after] = entry["judged"]
    return found
