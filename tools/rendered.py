"""A folder of files that are made, some beside them written by hand: what is stale in it, and writing it anew."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

__all__ = ["Rendered"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The folder.

    Parameters
    ----------
    folder : Path
        Where the files are.
    kept : tuple of str
        Files in it that are written by hand.
    """

    folder: Path
    kept: tuple[str, ...]

    def stale(self, wanted: Mapping[str, str]) -> list[str]:
        """Return paths that are missing, differ, or should not be there."""
        there = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}
        there -= set(self.kept)
        differ = {path for path in there & wanted.keys() if (self.folder / path).read_text() != wanted[path]}
        return sorted((there ^ wanted.keys()) | differ)

    def write(self, wanted: Mapping[str, str]) -> list[str]:
        """Write what is stale, remove what should not be there, and return the paths of both."""
        old = self.stale(wanted)
        for path in old:
            if path not in wanted:
                (self.folder / path).unlink()
                continue
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(wanted[path])
        return old

    def command(self, help_: str | None, files: Callable[[], Mapping[str, str]]) -> click.Command:
        """Return the command that writes the folder, or checks it."""

        @click.command(help=(help_ or "").split("\n\n")[0])
        @click.option("--check", is_flag=True, help=f"Write nothing; exit 1 if {self.folder.name}/ is stale.")
        def main(check: bool) -> None:
            wanted = files()
            if check:
                old = self.stale(wanted)
                for path in old:
                    click.echo(f"{self.folder.name}/{path} is stale", err=True)
                sys.exit(1 if old else 0)
            click.echo(f"{self.folder.name}: {len(wanted)} files, {len(self.write(wanted))} written")

        return main
