"""The Python that the function runs on, if this machine has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PYTHON", "find_python"]

PYTHON = "3.13"


def find_python() -> Path | None:
    """Return an interpreter of version `PYTHON`; None if there is none."""
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in _candidates():
        try:
            said = subprocess.run([candidate, "-c", question], capture_output=True, text=True, check=False)  # noqa: S603
        except OSError:
            continue
        if said.stdout.strip() == PYTHON:
            return candidate
    return None


def _candidates() -> Iterator[Path]:
    found = shutil.which(f"python{PYTHON}")
    if found is not None:
        yield Path(found)  # may be a shim that answers for another version, or for none
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted((pyenv / "versions").glob(f"{PYTHON}*/bin/python"), reverse=True)
