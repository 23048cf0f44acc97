"""Build the package of a service: `python -m serverless.build plant-power`.

    dist/lambda/plant-power.zip            what the function runs: handler, kappawatt, the service with its current
                                           model, and the libraries locked in requirements.txt
    dist/lambda/plant-power-model.tar.gz   the model alone, for S3

The same inputs give the same bytes: libraries are wheels locked by hash, entries are sorted and have the time in
SOURCE_DATE_EPOCH, or none.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from kappawatt import __version__
from kappawatt.deploy.aws.pack import ARCHIVE, pack_artifact
from kappawatt.errors import KappawattError, SettingInvalid
from kappawatt.models.artifact import CURRENT, find_artifact
from kappawatt.serving.service import Service, find_service, service_names
from serverless.interpreter import PYTHON, find_python

__all__ = ["ARCHITECTURES", "MOST_UNZIPPED", "MOST_ZIPPED", "SERVICES", "Package", "build", "main"]

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "serverless" / "requirements.txt"
OUT = ROOT / "dist" / "lambda"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# Those that need no library beyond every service's: only these are locked here.
SERVICES = tuple(name for name in service_names() if not EXTRAS.get(name) and find_service(name).predictor is not None)
# Amazon Linux 2023, which python3.13 runs on, has glibc 2.34; wheels for 2.28 and older run there.
ARCHITECTURES = {"x86_64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
MOST_ZIPPED = 50 * 1024 * 1024  # Lambda's limits of a direct upload, and unpacked
MOST_UNZIPPED = 250 * 1024 * 1024
OLDEST_ZIP_TIME = 315_532_800  # 1980-01-01: a zip knows nothing before
UNUSED = (  # of the libraries, found by looking for what is large and is never imported
    "bin",
    "**/__pycache__",
    "**/*.pyi",
    "**/*.pxd",
    "numpy/**/tests",
    "numpy/**/*.a",
    "numpy/_core/include",
    "numpy/f2py",
    "numpy/random/_examples",
    "kafka/cli",
    "tzdata/zoneinfo/posix",
    "tzdata/zoneinfo/right",
)
LEFT_OUT = ("broker", "cli", "services")  # of kappawatt: what commands do, and all services but one


@dataclass(frozen=True, slots=True)
class Package:
    """What was built."""

    service: str
    version: str
    architecture: str
    path: str
    model: str
    zipped: int
    unzipped: int
    sha256: str
    precompiled: bool


def build(service: Service, out: Path = OUT, architecture: str = "x86_64") -> Package:
    """Build the package and the model's archive.

    Raises
    ------
    SettingInvalid
        Libraries cannot be installed, or the package is larger than Lambda takes.
    """
    out.mkdir(parents=True, exist_ok=True)
    epoch = _epoch()
    artifact = find_artifact(service.folder / "artifacts")
    with tempfile.TemporaryDirectory(prefix="package-", dir=out) as name:
        folder = Path(name)
        _install(folder, architecture)
        _prune(folder)
        _copy_sources(folder, service, artifact.path)
        precompiled = _precompile(folder)
        unzipped = sum(path.stat().st_size for path in _files(folder))
        target = out / f"{service.name}.zip"
        _zip(folder, target, epoch)
    model = out / f"{service.name}-{ARCHIVE}"
    model.write_bytes(pack_artifact(artifact).content)
    zipped = target.stat().st_size
    for what, got, allowed in (("zipped", zipped, MOST_ZIPPED), ("unzipped", unzipped, MOST_UNZIPPED)):
        if got >= allowed:
            raise SettingInvalid(f"{target.name}: got {got} bytes {what}, allowed less than {allowed}")
    return Package(
        service.name,
        artifact.manifest.version,
        architecture,
        str(target),
        str(model),
        zipped,
        unzipped,
        hashlib.sha256(target.read_bytes()).hexdigest(),
        precompiled,
    )


def _epoch() -> int:
    text = os.environ.get("SOURCE_DATE_EPOCH", "") or str(OLDEST_ZIP_TIME)
    if not text.isdecimal():
        raise SettingInvalid(f"SOURCE_DATE_EPOCH: got {text!r}, allowed seconds since 1970")
    return max(int(text), OLDEST_ZIP_TIME)


def _install(folder: Path, architecture: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--python-version", PYTHON, "--python-platform", ARCHITECTURES[architecture]]
    command += ["--link-mode", "copy", "--target", str(folder), "-r", str(LOCK)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SettingInvalid(f"{LOCK.name}: uv could not install it: {done.stderr.strip()[-500:]}")


def _prune(folder: Path) -> None:
    found = [path for pattern in UNUSED for path in folder.glob(pattern)]
    data = folder / "botocore" / "data"  # of every service there is; only S3 is asked
    found += [path for path in data.iterdir() if path.is_dir() and path.name != "s3"]
    for path in found:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for name in ("direct_url.json", "INSTALLER", "RECORD", "REQUESTED"):  # of this installation, not of the library
        for path in folder.glob(f"*.dist-info/{name}"):
            path.unlink()
    (folder / ".lock").unlink(missing_ok=True)


def _copy_sources(folder: Path, service: Service, artifact: Path) -> None:
    own = ROOT / "src" / "kappawatt"

    def left_out(path: str, names: list[str]) -> set[str]:
        return {name for name in names if name == "__pycache__" or (Path(path) == own and name in LEFT_OUT)}

    shutil.copytree(own, folder / "kappawatt", ignore=left_out)
    shutil.copy(ROOT / "serverless" / "handler.py", folder)
    target = folder / "kappawatt" / "services" / service.folder.name
    target.mkdir(parents=True)
    shutil.copy(ROOT / "services" / "__init__.py", target.parent)
    for path in service.folder.glob("*.py"):
        shutil.copy(path, target)
    shutil.copytree(artifact, target / "artifacts" / artifact.name)
    (target / "artifacts" / CURRENT).write_text(artifact.name + "\n")
    metadata = folder / f"kappawatt-{__version__}.dist-info"  # where the version is read from
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kappawatt\nVersion: {__version__}\n")


def _precompile(folder: Path) -> bool:
    """Compile all modules, if the runtime's own Python is here: a function cannot keep what it compiles."""
    python = find_python()
    if python is None:
        return False
    command = [str(python), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(folder), "-p", "/var/task"]  # the path that tracebacks show
    environment = {"PYTHONHASHSEED": "0", "PATH": os.environ.get("PATH", "")}  # sets are written in the seed's order
    done = subprocess.run([*command, str(folder)], env=environment, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise SettingInvalid(f"compileall: {(done.stdout + done.stderr).decode(errors='replace').strip()[-500:]}")
    return True


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _zip(folder: Path, target: Path, epoch: int) -> None:
    moment = time.gmtime(epoch)[:6]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in _files(folder):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), moment)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes(), compresslevel=9)


def main(arguments: list[str] | None = None) -> int:
    """Build what the command line names, and say how large it is."""
    parser = argparse.ArgumentParser(prog="python -m serverless.build", description="Build a Lambda package.")
    parser.add_argument("service", choices=SERVICES, help="a model without libraries of its own; others have images")
    parser.add_argument("--architecture", choices=list(ARCHITECTURES), default="x86_64")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write into [default: dist/lambda]")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    given = parser.parse_args(arguments)
    try:
        package = build(find_service(given.service), given.out, given.architecture)
    except KappawattError as error:
        print(f"serverless.build: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(asdict(package)))
        return 0
    print(f"{package.path}  {package.zipped / 1e6:.1f} MB, unpacked {package.unzipped / 1e6:.1f} MB")
    print(f"{package.model}  {Path(package.model).stat().st_size / 1e6:.1f} MB, {package.version}")
    print(f"sha256 {package.sha256}")
    if not package.precompiled:
        print(f"python{PYTHON} is not here: modules are not compiled, a cold start takes about twice as long")
    return 0


if __name__ == "__main__":
    sys.exit(main())
