"""`.github/workflows`, read by actionlint: the one on PATH, else one that Go builds beside this Python, once.

Where there is neither, or Go cannot fetch it, nothing is read, which is said; GitHub's own machines have Go.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["MODULE", "find_actionlint", "main"]

ROOT = Path(__file__).parents[1]
WORKFLOWS = ROOT / ".github" / "workflows"
MODULE = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
BUILD_SECONDS = 300


def find_actionlint(folder: Path) -> tuple[str | None, str]:
    """Return the path of actionlint, built into `folder` if need be, or None and why there is none."""
    found = shutil.which("actionlint") or shutil.which("actionlint", path=str(folder))
    if found:
        return found, ""
    go = shutil.which("go")
    if go is None:
        return None, "neither actionlint nor go is on PATH"
    command, environment = [go, "install", MODULE], os.environ | {"GOBIN": str(folder)}
    try:
        done = subprocess.run(  # noqa: S603
            command, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"go install {MODULE}: not done after {BUILD_SECONDS} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return None, f"go install {MODULE}: {last[:200]}"
    return str(folder / "actionlint"), ""


def main() -> int:
    """Lint every workflow and return actionlint's exit code; 0 where there is none."""
    actionlint, why = find_actionlint(Path(sys.executable).parent)
    if actionlint is None:
        print(f"workflows: not linted: {why}")
        return 0
    return subprocess.run([actionlint, *sorted(map(str, WORKFLOWS.glob("*.yml")))], cwd=ROOT, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
