"""CycloneDX for an image: its Python packages, its base's Debian packages, and Python itself."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["bill", "write_bill"]

SCHEMA = SchemaVersion.V1_6
LABEL = "org.opencontainers.image."
PACKAGES = "/opt/kappawatt/lib"
NAMESPACE = uuid.UUID("6f1f3b1e-1a39-5ce5-9f0e-4d4b1c3ad7ee")  # any, but always the same: equal images, equal serials


def write_bill(image: str, engine: str, path: Path) -> int:
    """Write an image's bill of materials and return how many components are in it."""
    text = bill(image, engine)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return len(json.loads(text)["components"])


def bill(image: str, engine: str = "docker") -> str:
    """Return the bill as CycloneDX 1.6 JSON, the same text for the same image.

    Raises
    ------
    ValueError
        The bill does not pass CycloneDX's own schema; that would be a mistake here.
    """
    described = json.loads(_ask(engine, "image", "inspect", image))[0]
    labels: Mapping[str, str] = described["Config"]["Labels"] or {}
    made = Bom(serial_number=uuid.uuid5(NAMESPACE, described["Id"]))
    made.metadata.timestamp = datetime.fromisoformat(labels[f"{LABEL}created"]).astimezone(UTC)
    name, version = labels[f"{LABEL}title"], labels[f"{LABEL}version"]
    architecture = described["Architecture"]
    root = Component(
        type=ComponentType.CONTAINER,
        name=name,
        version=version,
        bom_ref=f"image:{name}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=described["Id"].removeprefix("sha256:"))],
        properties=[Property(name=key, value=value) for key, value in sorted(labels.items()) if value],
    )
    made.metadata.component = root
    with _files(image, engine) as folder:
        debian = list(_debian(folder, architecture))
        python = list(_python(folder))
    interpreter = _interpreter(image, engine)
    for component in (interpreter, *debian, *(component for component, _ in python)):
        made.components.add(component)
    by_name = {str(canonicalize_name(component.name)): component for component, _ in python}
    made.register_dependency(root, [by_name["kappawatt"], interpreter, *debian])
    for component, requires in python:
        made.register_dependency(component, [by_name[other] for other in requires if other in by_name])
    text: str = make_outputter(made, OutputFormat.JSON, SCHEMA).output_as_string(indent=1) + "\n"
    wrong = JsonStrictValidator(SCHEMA).validate_str(text)
    if wrong is not None:
        raise ValueError(f"{image}: {wrong}")
    return text


def _ask(engine: str, *arguments: str) -> str:
    done = subprocess.run([engine, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{engine} {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def _files(image: str, engine: str) -> Iterator[Path]:
    """Give what tells of an image's packages, in a folder: their metadata, dpkg's status, the name of the system."""
    container = _ask(engine, "create", image).strip()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for path in (PACKAGES, "/var/lib/dpkg/status", "/etc/os-release", "/usr/lib/os-release"):
                _copy(engine, container, path, Path(folder))
            yield Path(folder)
    finally:
        _ask(engine, "rm", "--volumes", container)


def _copy(engine: str, container: str, path: str, folder: Path) -> None:
    """Unpack metadata below `path`; nothing if it is not in the image."""
    command = [engine, "cp", f"{container}:{path}", "-"]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        return
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        wanted = [m for m in tar.getmembers() if m.isfile() and ("/" not in m.name or ".dist-info/" in m.name)]
        tar.extractall(folder, wanted, filter="data")


def _python(folder: Path) -> Iterator[tuple[Component, list[str]]]:
    """Yield each Python package and the names it requires here."""
    licenses = LicenseFactory()
    found = metadata.distributions(path=[str(path) for path in folder.rglob("site-packages")])
    for each in sorted(found, key=lambda each: canonicalize_name(each.name)):
        name = canonicalize_name(each.name)
        about = each.metadata.json  # a mapping; the message itself is none that types know
        stated = str(about.get("license_expression") or about.get("license") or "").strip()
        one_line = stated.splitlines()[0][:200] if stated else ""
        component = Component(
            name=each.name,
            version=each.version,
            bom_ref=f"python:{name}",
            purl=PackageURL("pypi", None, name, each.version),
            description=str(about["summary"]) if "summary" in about else None,
            licenses=[licenses.make_from_string(one_line)] if one_line else [],
        )
        yield component, sorted({*_required(each.requires or [])})


def _required(lines: list[str]) -> Iterator[str]:
    for requirement in map(Requirement, lines):
        # Extras are not remembered by what is installed; a package that is there is taken to be wanted.
        if requirement.marker is None or "extra" in str(requirement.marker) or requirement.marker.evaluate():
            yield canonicalize_name(requirement.name)


def _debian(folder: Path, architecture: str) -> Iterator[Component]:
    """Yield the packages that dpkg has installed; none for a base that is no Debian."""
    status, system = folder / "status", folder / "os-release"
    if not status.exists():
        return
    lines = system.read_text().splitlines() if system.exists() else []
    about = {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}
    distribution = f"{about.get('ID', 'debian')}-{about.get('VERSION_ID', '')}".rstrip("-")
    for paragraph in status.read_text().split("\n\n"):
        package = HeaderParser().parsestr(paragraph)
        if not str(package.get("Status", "")).endswith(" installed"):
            continue
        name, version = str(package["Package"]), str(package["Version"])
        qualifiers = {"arch": str(package.get("Architecture", architecture)), "distro": distribution}
        yield Component(
            name=name,
            version=version,
            bom_ref=f"debian:{name}:{qualifiers['arch']}",
            purl=PackageURL("deb", about.get("ID", "debian"), name, version, qualifiers),
            description=str(package.get("Description", "")).partition("\n")[0] or None,
        )


def _interpreter(image: str, engine: str) -> Component:
    program = "import platform; print(platform.python_version())"
    version = _ask(engine, "run", "--rm", "--network", "none", "--entrypoint", "python3", image, "-c", program).strip()
    return Component(
        type=ComponentType.PLATFORM,
        name="python",
        version=version,
        bom_ref="python",
        purl=PackageURL("generic", None, "python", version),
        licenses=[LicenseFactory().make_from_string("Python-2.0")],
    )
