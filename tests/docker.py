"""Docker's command line, and whether there is an engine behind it."""

from __future__ import annotations

import shutil
import subprocess

__all__ = ["docker", "run_docker", "why_no_docker"]


def run_docker(
    *arguments: str, check: bool = True, seconds: float = 120, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run docker with `given` on its standard input; a failure fails the test with what was printed."""
    done = subprocess.run(
        ["docker", *arguments], input=given, capture_output=True, text=True, timeout=seconds, check=False
    )
    said = f"docker {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    assert not check or done.returncode == 0, said
    return done


def docker(*arguments: str, check: bool = True, seconds: float = 120, given: str | None = None) -> str:
    """The same, for what it printed."""
    return run_docker(*arguments, check=check, seconds=seconds, given=given).stdout.strip()


def why_no_docker() -> str | None:
    """Return why this machine cannot run containers; None if it can."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    done = run_docker("info", check=False, seconds=60)
    return None if done.returncode == 0 else f"docker does not answer: {done.stderr.strip()[:200]}"
