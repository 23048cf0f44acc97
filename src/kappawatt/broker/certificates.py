"""The certificates of the SASL_SSL listener."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from kappawatt.broker.output import HOST, tail, write_private
from kappawatt.errors import SettingInvalid

__all__ = ["make_certificates"]


def make_certificates(folder: Path) -> None:
    """Write a certificate authority and a certificate for localhost into `folder`, once."""
    server = folder / "server.pem"
    if server.exists():
        return
    openssl = shutil.which("openssl")
    if openssl is None:
        raise SettingInvalid("the SASL_SSL listener's certificates are made by openssl, which is not on PATH")
    folder.mkdir(parents=True, exist_ok=True)
    new = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
    authority = ["-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.pem")]
    names = f"subjectAltName=DNS:localhost,IP:{HOST}"
    steps = (
        [*new, "-subj", "/CN=kappawatt development CA", *authority],
        [
            *new,
            *("-subj", "/CN=localhost", "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"),
            *("-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key")),
            *("-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt")),
        ],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise SettingInvalid(f"openssl (3.0 or newer) could not make certificates:\n{tail(done.stderr)}")
    (folder / "server.key").chmod(0o600)
    (folder / "ca.key").chmod(0o600)
    write_private(server, (folder / "server.key").read_text() + (folder / "server.crt").read_text())
