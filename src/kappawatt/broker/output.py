"""Where the node listens, and what is said of it on the way."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["HOST", "say", "tail", "write_private"]

HOST = "127.0.0.1"


def say(text: str) -> None:
    print(f"kappawatt.broker: {text}", file=sys.stderr, flush=True)


def tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
