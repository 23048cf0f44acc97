"""One run in a folder: two would mix their readings on one bus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kappawatt.errors import SettingInvalid

__all__ = ["alone_in"]


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder while the block runs; SettingInvalid if another run does."""
    try:
        import fcntl
    except ImportError:  # not on Windows, where nothing holds it
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a+")
    except OSError as error:
        raise SettingInvalid(
            f"--folder: got {folder}, allowed a folder that can be written ({error.strerror})"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            other = file.read().strip() or "unknown"
            raise SettingInvalid(f"--folder: got {folder}, which run {other} uses, allowed another folder") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
