"""Virtual environments of the peers, made once under the cache folder, and versions of what was measured."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from bench.measure import say
from bench.processes import BenchError

__all__ = ["ENVIRONMENTS", "commit", "environment", "kappawatt", "kappawatt_version", "machine", "versions", "wrk"]

ROOT = Path(__file__).resolve().parent.parent
INSTALL_SECONDS = 900
NEWER_PYTHONS = 4  # minor versions that are looked for, from the oldest that would do on

SKLEARN = "scikit-learn==1.9.1"  # a joblib file is read by the version that wrote it

# MLServer 1.7.1 starts only with uvloop before 0.22 (else its workers die: no current event loop).
# Quix Streams pins its own confluent-kafka.
ENVIRONMENTS = {
    "mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop<0.22", SKLEARN),
    "quix": ("quixstreams==3.28.1", "onnxruntime", "numpy"),
    "floor": (
        "flask>=3.1,<4",
        "gunicorn>=23,<28",
        "numpy",
        "onnxruntime",
        "orjson",
        "confluent-kafka>=2.10,<3",
        "pyarrow",
    ),
    "models": (SKLEARN, "skl2onnx>=1.17,<2", "joblib", "numpy"),
    "statsforecast": ("statsforecast==2.1.1",),
    "openstef": ("openstef==4.7.0",),
}

PYTHONS = {"openstef": (3, 12)}  # oldest Python of an environment that needs a newer one than kappawatt


def environment(name: str, cache: Path) -> Path:
    """Return the folder of executables of the environment `name`, installing it the first time."""
    folder = cache / f"venv-{name}"
    wanted = "\n".join(ENVIRONMENTS[name])
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        say(f"installing {', '.join(ENVIRONMENTS[name])} into {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        _call([_python(name), "-m", "venv", str(folder)])
        _call([str(folder / "bin" / "pip"), "install", "--quiet", *ENVIRONMENTS[name]])
        stamp.write_text(wanted)
    return folder / "bin"


def _python(name: str) -> str:
    """Return an interpreter that the environment `name` can be made with: this one, or a newer one on PATH."""
    oldest = PYTHONS.get(name, (0, 0))
    if sys.version_info[:2] >= oldest:
        return sys.executable
    tried = [f"python{oldest[0]}.{minor}" for minor in range(oldest[1], oldest[1] + NEWER_PYTHONS)]
    for command in tried:
        found = shutil.which(command)
        # A command may be there and not run: a shim of pyenv for a version that is not chosen.
        if found and subprocess.run([found, "-V"], capture_output=True, timeout=60, check=False).returncode == 0:
            return found
    raise BenchError(f"{name} needs Python {oldest[0]}.{oldest[1]} or newer: none of {', '.join(tried)} on PATH runs")


def versions(python: Path, *packages: str) -> dict[str, str]:
    """Return the installed versions of `packages` as the interpreter `python` sees them."""
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    done = subprocess.run([str(python), "-c", code, *packages], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise BenchError(f"versions of {packages}: {done.stderr.strip()[-300:]}")
    return dict(zip(packages, done.stdout.split(), strict=True))


def kappawatt(checkout: Path | None = None) -> str:
    """Return the `kappawatt` command: of `checkout`, of this interpreter's environment, else of PATH."""
    if checkout is not None:
        command = checkout / ".venv" / "bin" / "kappawatt"
        if not command.exists():
            raise BenchError(f"{command} is not there: install that checkout, .venv/bin/pip install -e '.[run]'")
        return str(command)
    beside = Path(sys.executable).with_name("kappawatt")
    found = str(beside) if beside.exists() else shutil.which("kappawatt")
    if not found:
        raise BenchError("kappawatt is not installed: pip install -e '.[plant-power,fast-kafka]'")
    return found


def commit(checkout: Path = ROOT) -> str:
    """Return the commit that a checkout stands on."""
    described = subprocess.run(
        ["git", "-C", str(checkout), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return described.stdout.strip() or "no commit"


def kappawatt_version() -> str:
    """Return the installed version with the commit it stands on."""
    try:
        version = metadata.version("kappawatt")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return f"{version} ({commit()})"


def wrk() -> str:
    """Return the load generator's path."""
    found = shutil.which("wrk")
    if not found:
        raise BenchError("wrk is not installed (Debian: apt-get install wrk)")
    return found


def machine() -> str:
    """Return what the numbers were measured on, in one line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    release = platform.release().partition("-")[0]  # the distribution's own suffix says nothing
    software = f"Linux {release}, Python {platform.python_version()}"
    return f"{cores} cores {model}, {gigabytes:.0f} GiB, {software}, load {load:.1f}"


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip()[-1000:]}")
