"""pytest with another source in place of one file's: `python -m tools.mutants.importing FILE SOURCE [OPTION...]`."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType


class OtherSource(importlib.machinery.SourceFileLoader):
    """Loads a module's file from elsewhere, and keeps no bytecode of it."""

    def __init__(self, name: str, path: str, source: Path) -> None:
        super().__init__(name, path)
        self._source = source

    def get_data(self, path: str) -> bytes:
        return self._source.read_bytes()

    def path_stats(self, path: str) -> dict[str, int]:
        raise OSError("not kept")


class Finder(importlib.abc.MetaPathFinder):
    """Finds what Python finds, but one file's module with its other source."""

    def __init__(self, file: Path, source: Path) -> None:
        self._file, self._source = file.resolve(), source

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.rpartition(".")[2] not in (self._file.stem, self._file.parent.name):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None or Path(spec.origin).resolve() != self._file:
            return None
        spec.loader = OtherSource(name, spec.origin, self._source)
        return spec


if __name__ == "__main__":
    sys.meta_path.insert(0, Finder(Path(sys.argv[1]), Path(sys.argv[2])))
    import pytest

    from tools.mutants.profile import Profile

    sys.exit(pytest.main(sys.argv[3:], plugins=[Profile()]))
