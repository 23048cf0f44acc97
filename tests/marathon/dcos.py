"""The real `dcos` command line, in an environment of the old Python that it runs on."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["Dcos", "find_dcos"]

REQUIREMENTS = Path(__file__).with_name("requirements-dcos.txt")
INSTALL_SECONDS = 300


def find_dcos() -> Path:
    """Return the path of `dcos`, installed once into the user's cache; skip where no Python 3.6 or index is."""
    python = _python()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kappawatt"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + str(python).encode()).hexdigest()[:8]
    folder = cache / f"dcoscli-{digest}"
    dcos = folder / "bin" / "dcos"
    if (folder / "complete").exists():
        return dcos
    shutil.rmtree(folder, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    steps = (
        [str(python), "-m", "venv", str(folder)],
        [str(folder / "bin" / "pip"), "install", "--quiet", "-r", str(REQUIREMENTS)],
    )
    for step in steps:
        done = subprocess.run(
            step, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS, env=environment
        )
        if done.returncode:
            pytest.skip(f"dcoscli could not be installed with {python}: {done.stderr.strip()[-300:]}")
    (folder / "complete").touch()
    return dcos


def _python() -> Path:
    given = os.environ.get("KAPPAWATT_DCOS_PYTHON")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    known = sorted((pyenv / "versions").glob("3.6.*/bin/python"), reverse=True)
    for candidate in (given, *known, shutil.which("python3.6")):
        if candidate is not None and _is_36(candidate):
            return Path(candidate)
    if given:
        pytest.fail(f"KAPPAWATT_DCOS_PYTHON: got {given!r}, allowed a Python 3.6")
    pytest.skip("no Python 3.6 for dcoscli: KAPPAWATT_DCOS_PYTHON, ~/.pyenv or PATH may have one")


def _is_36(python: str | Path) -> bool:
    asked = subprocess.run([str(python), "--version"], capture_output=True, text=True, check=False)
    return asked.stdout.startswith("Python 3.6.")


class Dcos:
    """`dcos` with a home of its own, pointed at one Marathon.

    Parameters
    ----------
    program : Path
    home : Path
        Folder for its configuration.
    url : str, optional
        Of the cluster; Marathon answers at the same. Without it no cluster is known.
    """

    def __init__(self, program: Path, home: Path, url: str = "") -> None:
        self._program = program
        self._environment = {
            "PATH": f"{program.parent}:/usr/bin:/bin",
            "HOME": str(home),
            "DCOS_DIR": str(home / ".dcos"),
            "LC_ALL": "C.UTF-8",
        }
        (home / ".dcos").mkdir(parents=True)
        if not url:
            return
        config = home / ".dcos" / "dcos.toml"
        config.write_text(f'[core]\ndcos_url = "{url}"\ntimeout = 60\n\n[marathon]\nurl = "{url}"\n')
        config.chmod(0o600)

    def run(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `dcos ARGUMENTS...`, with `given` on standard input."""
        return subprocess.run(
            [str(self._program), *arguments],
            env=self._environment,
            input=given or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    def marathon(self, *arguments: str, given: str | None = None) -> str:
        """What `dcos marathon ARGUMENTS...` prints; it has to succeed."""
        done = self.run("marathon", *arguments, given=given)
        assert done.returncode == 0, f"dcos marathon {' '.join(arguments)}: {done.stdout}{done.stderr}"
        print(f"$ dcos marathon {' '.join(arguments)}\n{done.stdout}", file=sys.stderr)
        return done.stdout

    def refused(self, *arguments: str, given: str | None = None) -> str:
        """What `dcos marathon ARGUMENTS...` prints; it has to fail."""
        done = self.run("marathon", *arguments, given=given)
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr
