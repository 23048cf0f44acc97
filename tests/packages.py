"""A package of somebody else's, installed in a folder of its own."""

from __future__ import annotations

from pathlib import Path

__all__ = ["install_stream"]


def install_stream(site: Path, package: str, stream: str, text: str) -> None:
    """Install a module into `site`; its STREAM is found under the name `stream` by who has `site` on its path."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{package}.py").write_text(text)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[kappawatt.streams]\n{stream} = {package}:STREAM\n")
