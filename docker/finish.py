"""Make an installed tree small, compiled, and the same bytes whenever it is made.

    python finish.py FOLDER [SECONDS]

Removes what nothing imports and debug information, compiles with hashes that are not checked (a time stamp in bytecode
would be today's), and sets modes and times. Standard library only: it runs while an image is built.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

ZIP_EPOCH = 315532800  # 1980, the earliest time that a wheel can hold
UNUSED_FOLDERS = {"__pycache__", "tests", "test", "testdata"}
UNUSED_SUFFIXES = {".a", ".c", ".h", ".pxd", ".pyi", ".pyx"}
UNUSED_PACKAGES = {"kubernetes/aio"}  # the same client once more, for asyncio: 64 MB
UNUSED_FILES = {"activate", "activate.csh", "activate.fish", "Activate.ps1", "direct_url.json"}


def main(folder: Path, seconds: int) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_symlink():
            continue
        if path.is_dir():
            if path.name in UNUSED_FOLDERS or "/".join(path.parts[-2:]) in UNUSED_PACKAGES:
                shutil.rmtree(path)
        elif path.suffix in UNUSED_SUFFIXES or path.name in UNUSED_FILES:
            path.unlink()
        elif path.suffix == ".so" and path.parent.suffix != ".libs":  # wheels' own copies in .libs are stripped already
            subprocess.run(["strip", "--strip-debug", path], check=True)  # noqa: S603, S607
    for packages in sorted(folder.rglob("site-packages")):
        elsewhere = not packages.is_relative_to("/opt")  # installed below a folder that stands for the root
        compiled = compileall.compile_dir(
            packages,
            maxlevels=50,
            quiet=1,
            stripdir=folder if elsewhere else None,
            prependdir="/" if elsewhere else None,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        if not compiled:
            sys.exit(f"{packages}: not all of it compiles")
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o111 else 0o644)
        os.utime(path, (seconds, seconds), follow_symlinks=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else ZIP_EPOCH)
